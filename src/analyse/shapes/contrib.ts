/**
 * Outputs of fused attention in every dialect, and the rest of the com.microsoft operators that decoders use.
 * Input orders are those of ORT's ContribOperators document.
 */

import { DataType } from '../../ir/graph.js';
import { type AttentionGeometry, attentionGeometry, presentShape } from './attention.js';
import { broadcast, type Call, type HandlerTable } from './call.js';
import { conv, nhwcConv } from './convolution.js';
import { contribLinear } from './linear.js';
import { quantization, sameAsInput, statisticsShape } from './normalization.js';
import { contribRecurrence } from './recurrent.js';
import type { Dims, Fact } from './types.js';

function geometry(call: Call): AttentionGeometry {
  const found = attentionGeometry(call.node, (i) => (call.has(i) ? call.input(i) : undefined));
  if (found === undefined) throw new Error(`no attention dialect for ${call.node.domain}.${call.node.opType}`);
  return found;
}

function product(a: number | null, b: number | null): number | null {
  return a === null || b === null ? null : a * b;
}

/** Y, present_key, present_value, qk_matmul_output. */
function standardAttention(call: Call): Fact[] {
  for (const [i, name] of ['query', 'key', 'value'].entries()) {
    const rank = call.rank(i);
    if (rank !== undefined && rank !== 3 && rank !== 4) call.conflict(`its ${name} has ${rank} axes, not 3 or 4`);
  }
  const g = geometry(call);
  const dtype = call.dtype(0);
  const flat = call.rank(0) === 3;
  const shape: Dims | null = call.shape(0) === null ? null
    : flat ? [g.batch, g.queryLength, product(g.heads, g.valueHeadSize)] : [g.batch, g.heads, g.queryLength, g.valueHeadSize];
  const keySize = flat ? (call.dim(4, 3) ?? g.headSize) : call.dim(1, 3);
  return [
    { dtype, shape },
    { dtype: call.dtype(1), shape: presentShape(g, keySize) },
    { dtype: call.dtype(2), shape: presentShape(g, g.valueHeadSize) },
    { dtype, shape: [g.batch, g.heads, g.queryLength, g.keyLength] },
  ];
}

/** output, present_key, present_value, output_qk. */
function groupQueryAttention(call: Call): Fact[] {
  const g = geometry(call);
  const dtype = call.dtype(0);
  const cache = call.dtype(3) || dtype;
  const scores: Fact = { dtype, shape: [g.batch, g.heads, g.queryLength, g.keyLength] };
  // A quantized cache may pack two elements a byte: its own last size wins.
  return [
    { dtype, shape: [g.batch, g.queryLength, product(g.heads, g.headSize)] },
    { dtype: cache, shape: presentShape(g, call.dim(3, 3) ?? g.headSize) },
    { dtype: cache, shape: presentShape(g, call.dim(4, 3) ?? g.headSize) },
    scores,
  ];
}

/** output, present_key, present_value, qk. */
function multiHeadAttention(call: Call): Fact[] {
  const g = geometry(call);
  const dtype = call.dtype(0);
  return [
    { dtype, shape: [g.batch, g.queryLength, product(g.heads, g.valueHeadSize)] },
    { dtype, shape: presentShape(g, g.headSize) },
    { dtype, shape: presentShape(g, g.valueHeadSize) },
    { dtype, shape: [g.batch, g.heads, g.queryLength, g.keyLength] },
  ];
}

/** output, present [2, batch, heads, tokens, head size]. */
function projectedAttention(call: Call): Fact[] {
  const g = geometry(call);
  const dtype = call.dtype(0);
  return [
    { dtype, shape: [g.batch, g.queryLength, product(g.heads, g.valueHeadSize)] },
    { dtype, shape: [2, ...presentShape(g, g.headSize)] },
  ];
}

/** Skip(Simplified)LayerNormalization: output, mean, inv_std_var, input_skip_bias_sum. */
function skipNorm(call: Call): Fact[] {
  const whole: Fact = { dtype: call.dtype(0), shape: call.shape(0) };
  const skip = call.shape(1);
  // The skip may lack the batch, or have it as 1; sizes of the last axis must agree.
  if (skip !== null && whole.shape !== null) call.same(skip.at(-1) ?? null, whole.shape.at(-1) ?? null, 'hidden sizes of a skip norm');
  const statistics: Fact = { dtype: DataType.FLOAT, shape: statisticsShape(whole.shape, -1) };
  return [whole, statistics, statistics, whole];
}

/** (input_ids, segment_ids?, word_embedding, position_embedding, ..): output, mask_index, embedding_sum. */
function embedNorm(call: Call): Fact[] {
  const [batch, length] = [call.dim(0, 0), call.dim(0, 1)];
  const whole: Fact = { dtype: call.dtype(2), shape: [batch, length, call.dim(2, 1)] };
  return [whole, { dtype: DataType.INT32, shape: [batch] }, whole];
}

/** (data, indices, scales, zero_points?): rows are gathered and dequantized. */
function gatherBlockQuantized(call: Call): Fact {
  const data = call.shape(0);
  const indices = call.shape(1);
  const dtype = call.dtype(2);
  if (data === null || indices === null) return { dtype, shape: null };
  // uint8 data packs 8 / bits elements a byte along the last axis.
  const packing = call.dtype(0) === DataType.UINT8 ? 8 / call.node.int('bits', 4) : 1;
  const full = data.map((d, i) => (d !== null && i === data.length - 1 ? d * packing : d));
  const axis = call.axis(call.node.int('gather_axis', 0), data.length) ?? 0;
  return { dtype, shape: [...full.slice(0, axis), ...indices, ...full.slice(axis + 1)] };
}

/** Activation of x + bias. */
function biased(call: Call): Fact {
  return { dtype: call.dtype(0), shape: call.has(1) ? broadcast(call, [call.shape(0), call.shape(1)]) : call.shape(0) };
}

/** Standard-domain attention ops. */
export const standardAttentionOps: HandlerTable = {
  Attention: standardAttention,
  RotaryEmbedding: sameAsInput,
};

export const contrib: HandlerTable = {
  ...contribLinear,
  ...contribRecurrence,
  ...quantization,
  GroupQueryAttention: groupQueryAttention,
  MultiHeadAttention: multiHeadAttention,
  DecoderMaskedMultiHeadAttention: multiHeadAttention,
  Attention: projectedAttention,
  RotaryEmbedding: sameAsInput,
  MRotaryEmbedding: sameAsInput,
  GemmaRotaryEmbedding: (call) => [{ dtype: call.dtype(1), shape: call.shape(1) }, { dtype: call.dtype(2), shape: call.shape(2) }],
  SkipLayerNormalization: skipNorm,
  SkipSimplifiedLayerNormalization: skipNorm,
  EmbedLayerNormalization: embedNorm,
  GroupNorm: sameAsInput,
  // output and the sum of input, skip and bias.
  SkipGroupNorm: (call) => [sameAsInput(call), sameAsInput(call)],
  GatherBlockQuantized: gatherBlockQuantized,
  FastGelu: biased,
  BiasGelu: biased,
  Gelu: sameAsInput,
  QuickGelu: sameAsInput,
  BiasAdd: sameAsInput,
  // (X, bias): the halves of the last axis gate each other.
  BiasSplitGelu: (call) => ({ dtype: call.dtype(0), shape: call.shape(0)?.map((d, i, all) => (d !== null && i === all.length - 1 ? d / 2 : d)) ?? null }),
  BiasSoftmax: sameAsInput,
  BiasDropout: (call) => [sameAsInput(call), { dtype: DataType.BOOL, shape: call.shape(0) }],
  MoE: sameAsInput,
  QMoE: sameAsInput,
  FusedConv: conv,
  NhwcConv: nhwcConv,
  NhwcFusedConv: nhwcConv,
  // (X, scale, gate), (X, Y, gate), (X, scale?)
  GatedRMSNorm: sameAsInput,
  GatedAdd: sameAsInput,
  BranchwiseRMSNorm: sameAsInput,
  QLinearAdd: (call) => ({ dtype: call.dtype(0), shape: broadcast(call, [call.shape(0), call.shape(3)]) }),
  QLinearMul: (call) => ({ dtype: call.dtype(0), shape: broadcast(call, [call.shape(0), call.shape(3)]) }),
  QLinearSigmoid: sameAsInput,
  QLinearLeakyRelu: sameAsInput,
  QLinearSoftmax: sameAsInput,
  Inverse: sameAsInput,
};

/** The preview domain. */
export const preview: HandlerTable = { FlexAttention: standardAttention };
