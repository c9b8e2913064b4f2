/**
 * Multiply-accumulates of one operator call, as the dense product it computes.
 */

import { attentionGeometry } from '../analyse/shapes/attention.js';
import { countOf } from '../analyse/shapes/dims.js';
import { einsumTerms } from '../analyse/shapes/einsum.js';
import type { Dims, Fact } from '../analyse/shapes/index.js';
import { fusedOperand } from '../analyse/shapes/linear.js';
import type { Node } from '../ir/graph.js';

/** Facts of a node's inputs and outputs by slot; undefined where nothing is connected or nothing is known. */
export interface Operands {
  input(i: number): Fact | undefined;
  output(i: number): Fact | undefined;
}

/** What a product op costs. `elementOps` is what it does besides (the softmax inside an attention op). null: not known. */
export interface ProductCost {
  readonly macs: number | null;
  readonly elementOps: number | null;
}

type Size = number | null;

function times(...sizes: readonly Size[]): Size {
  let product = 1;
  for (const size of sizes) {
    if (size === null) return null;
    product *= size;
  }
  return product;
}

const shapeOf = (fact: Fact | undefined): Dims | null => fact?.shape ?? null;

/** Elements of output 0, each a sum of `inner` products. */
function perOutput(o: Operands, inner: Size): ProductCost {
  return { macs: times(countOf(shapeOf(o.output(0))), inner), elementOps: 0 };
}

/** Weights [features, channels / group, kernel..]: all axes but the first are summed over. */
function convolution(weights: number) {
  return (_: Node, o: Operands): ProductCost => perOutput(o, countOf(shapeOf(o.input(weights))?.slice(1) ?? null));
}

function matmul(_: Node, o: Operands): ProductCost {
  return perOutput(o, shapeOf(o.input(0))?.at(-1) ?? null);
}

function einsum(node: Node, o: Operands): ProductCost {
  const shapes = node.inputs.map((_, i) => shapeOf(o.input(i)));
  const terms = einsumTerms(node.string('equation', ''), shapes);
  if (terms === null) return { macs: null, elementOps: null };
  const all = times(...terms.sizes.values());
  const summed = [...terms.sizes.keys()].some((label) => !terms.output.includes(label));
  // Without a summed label, or with a single operand, it multiplies or adds elements and is no product of matrices.
  return summed && node.inputs.length > 1 ? { macs: all, elementOps: 0 } : { macs: 0, elementOps: all };
}

/**
 * Q·Kᵀ and P·V over all keys, S_q × S_kv, as kernels execute them: nothing is subtracted for causality, windows or
 * padding. With a preallocated cache the keys are the filled part. The softmax is element work.
 */
function attention(node: Node, o: Operands): ProductCost {
  const g = attentionGeometry(node, (i) => o.input(i));
  if (g === undefined) return { macs: null, elementOps: null };
  const scores = times(g.batch, g.heads, g.queryLength, g.keyLength);
  const qk = times(scores, g.headSize);
  const pv = times(scores, g.valueHeadSize);
  const macs = qk === null || pv === null || g.projectionMacs === null ? null : qk + pv + g.projectionMacs;
  return { macs, elementOps: scores };
}

/** Linear attention: each token updates every state (once more under a delta rule) and every query head reads one. */
function linearAttention(node: Node, o: Operands): ProductCost {
  const state = shapeOf(o.output(1)) ?? shapeOf(o.input(3));
  const cells = times(state?.at(-1) ?? null, state?.at(-2) ?? null);
  const x = shapeOf(o.input(0));
  const updates = node.string('update_rule', 'gated_delta').includes('delta') ? 2 : 1;
  const kvHeads = node.int('kv_num_heads', 0);
  const uses = kvHeads * updates + Math.max(node.int('q_num_heads', 0), kvHeads);
  return { macs: times(x?.[0] ?? null, x?.[1] ?? null, cells, uses), elementOps: times(x?.[0] ?? null, x?.[1] ?? null, cells) };
}

/** Tokens of input 0 × K × the features of its projections. */
function nBits(...features: readonly [name: string, count: number][]) {
  return (node: Node, o: Operands): ProductCost => {
    const tokens = countOf(shapeOf(o.input(0))?.slice(0, -1) ?? null);
    const n = features.reduce((sum, [name, count]) => sum + count * node.int(name, 0), 0);
    return { macs: times(tokens, node.int('K', 0), n), elementOps: 0 };
  };
}

/** RNN, GRU, LSTM: both weight matrices at every step. */
function recurrent(_: Node, o: Operands): ProductCost {
  const x = shapeOf(o.input(0));
  const [w, r] = [countOf(shapeOf(o.input(1))), countOf(shapeOf(o.input(2)))];
  return { macs: times(x?.[0] ?? null, x?.[1] ?? null, w === null || r === null ? null : w + r), elementOps: 0 };
}

/** Tokens × chosen experts × their weights. `slots` are the inputs that hold weights [experts, rows, columns]. */
function experts(slots: readonly number[], quantized: boolean) {
  return (node: Node, o: Operands): ProductCost => {
    const tokens = countOf(shapeOf(o.input(0))?.slice(0, -1) ?? null);
    let weights: Size = 0;
    for (const [layer, slot] of slots.entries()) {
      if ((node.inputs[slot] ?? null) === null) continue;
      const bits = node.int(`fc${layer + 1}_expert_weight_bits`, 0) || node.int('expert_weight_bits', 4);
      const packing = quantized ? 8 / bits : 1;
      const one = countOf(shapeOf(o.input(slot))?.slice(1) ?? null);
      weights = weights === null || one === null ? null : weights + one * packing;
    }
    return { macs: times(tokens, node.int('k', 1), weights), elementOps: 0 };
  };
}

const PRODUCTS: ReadonlyMap<string, (node: Node, o: Operands) => ProductCost> = new Map([
  ['.MatMul', matmul],
  ['.MatMulInteger', matmul],
  ['.QLinearMatMul', matmul],
  ['.Gemm', gemm],
  ['.Einsum', einsum],
  ['.Conv', convolution(1)],
  ['.ConvInteger', convolution(1)],
  ['.QLinearConv', convolution(3)],
  // Every input element is spread over the kernel.
  ['.ConvTranspose', (_: Node, o: Operands) => ({
    macs: times(countOf(shapeOf(o.input(0))), countOf(shapeOf(o.input(1))?.slice(1) ?? null)), elementOps: 0,
  })],
  ['.Attention', attention],
  ['.LinearAttention', linearAttention],
  ['.CausalConvWithState', convolution(1)],
  ['.RNN', recurrent],
  ['.GRU', recurrent],
  ['.LSTM', recurrent],
  ['ai.onnx.preview.FlexAttention', attention],
  ['com.microsoft.MatMulNBits', nBits(['N', 1])],
  ['com.microsoft.MatMulBnb4', nBits(['N', 1])],
  ['com.microsoft.MatMulNBitsMlp', nBits(['N', 2])],
  ['com.microsoft.MatMulNBitsQkv', nBits(['Nq', 1], ['Nkv', 2])],
  ['com.microsoft.FusedMatMul', fused],
  ['com.microsoft.TransposeMatMul', fused],
  ['com.microsoft.FusedGemm', gemm],
  ['com.microsoft.MatMulIntegerToFloat', matmul],
  ['com.microsoft.DynamicQuantizeMatMul', matmul],
  ['com.microsoft.FusedConv', convolution(1)],
  ['com.microsoft.NhwcConv', convolution(1)],
  ['com.microsoft.NhwcFusedConv', convolution(1)],
  ['com.microsoft.Attention', attention],
  ['com.microsoft.MultiHeadAttention', attention],
  ['com.microsoft.GroupQueryAttention', attention],
  ['com.microsoft.DecoderMaskedMultiHeadAttention', attention],
  ['com.microsoft.LinearAttention', linearAttention],
  ['com.microsoft.CausalConvWithState', convolution(1)],
  // (input, router_probs, fc1, bias, fc2, bias, fc3, bias) and, quantized, with scales between weights and biases.
  ['com.microsoft.MoE', experts([2, 4, 6], false)],
  ['com.microsoft.QMoE', experts([2, 5, 8], true)],
]);

function gemm(node: Node, o: Operands): ProductCost {
  return perOutput(o, shapeOf(o.input(0))?.[node.int('transA', 0) ? 0 : 1] ?? null);
}

function fused(node: Node, o: Operands): ProductCost {
  return perOutput(o, fusedOperand(node, shapeOf(o.input(0)), 'A')?.at(-1) ?? null);
}

/** Cost of `node` if it is a product op, else undefined. */
export function productCost(node: Node, operands: Operands): ProductCost | undefined {
  return PRODUCTS.get(`${node.domain}.${node.opType}`)?.(node, operands);
}
