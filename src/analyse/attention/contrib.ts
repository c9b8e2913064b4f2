/** ONNX Runtime's fused attention: GroupQueryAttention (packed or separate, rotary inside or not) and MultiHeadAttention. */
import type { Node, Value } from '../../ir/graph.js';
import type { AttentionCore, HeadOperand } from '../facts.js';
import { type DialectContext, type OperandWalk, pastBehind, perHeadBias, presentOf, walkOperand } from './context.js';

const DOMAIN = 'com.microsoft';

export function matchContrib(ctx: DialectContext, node: Node): AttentionCore | undefined {
  if (node.is('GroupQueryAttention', DOMAIN)) return matchGroupQuery(ctx, node);
  if (node.is('MultiHeadAttention', DOMAIN)) return matchMultiHead(ctx, node);
  return undefined;
}

function widthOf(ctx: DialectContext, value: Value): number | undefined {
  const last = ctx.probes.axes(value)?.at(-1);
  return typeof last === 'number' ? last : undefined;
}

function matchGroupQuery(ctx: DialectContext, node: Node): AttentionCore | undefined {
  const [query, key, , pastKey, pastValue, seqlensK, , cos, sin, positions, , headSink] = node.inputs;
  if (!query || !ctx.content.has(query)) return undefined;
  const heads = node.int('num_heads', 0);
  const kvHeads = node.int('kv_num_heads', 0);
  const width = widthOf(ctx, query);
  if (heads === 0 || kvHeads === 0 || width === undefined) {
    ctx.decline(node, 'num_heads, kv_num_heads or the width of the query is not known');
    return undefined;
  }
  const bias = node.inputs[10] && perHeadBias(ctx, node.inputs[10], heads);
  const headDim = key ? width / heads : width / (heads + 2 * kvHeads);
  const rotaryInside = node.int('do_rotary', 0) === 1;
  if (rotaryInside && (!cos || !sin)) {
    ctx.decline(node, 'do_rotary is set but there is no cos_cache or sin_cache');
    return undefined;
  }
  const qNorm = node.inputs[14];
  const kNorm = node.inputs[15];
  const q: HeadOperand = { value: query, layout: 'bsx', offset: key ? undefined : 0 };
  const k: HeadOperand = key ? { value: key, layout: 'bsx', offset: undefined } : { value: query, layout: 'bsx', offset: heads * headDim };
  const keyPast = pastBehind(ctx, pastKey);
  const [, presentKey, presentValue] = node.outputs;
  const scale = node.float('scale', 0);
  return {
    dialect: 'GroupQueryAttention',
    anchor: node,
    nodes: [node],
    q,
    k,
    heads,
    kvHeads,
    headDim,
    scale: scale === 0 ? 1 / Math.sqrt(headDim) : scale,
    softcap: node.float('softcap', 0),
    bias: bias ? { value: bias, factor: 1 } : undefined,
    sinks: headSink || node.int('smooth_softmax', 0) === 1 ? { value: headSink ?? undefined } : undefined,
    rotary:
      rotaryInside && cos && sin
        ? {
            cos,
            sin,
            interleaved: node.int('rotary_interleaved', 0) === 1,
            rotaryDim: rotaryWidth(cos, headDim),
            positions: positions ?? undefined,
          }
        : undefined,
    norm: qNorm && kNorm ? { q: qNorm, k: kNorm, epsilon: node.float('qk_norm_epsilon', 1e-6) } : undefined,
    seqlensK: seqlensK ?? undefined,
    past: keyPast && { key: keyPast, value: pastBehind(ctx, pastValue) },
    present: presentKey?.isOutput ? { key: presentKey, value: presentValue ?? undefined } : undefined,
    // A ring of window length: what it holds does not tell how many tokens the layer has seen.
    croppedCache: node.int('sliding_window_cache', 0) === 1,
  };
}

/** Partial rotary (Phi): the tables are narrower than half a head. 0 means the whole head. */
function rotaryWidth(cos: Value, headDim: number): number {
  const half = cos.tensor?.dims[1];
  return half !== undefined && half * 2 < headDim ? half * 2 : 0;
}

function matchMultiHead(ctx: DialectContext, node: Node): AttentionCore | undefined {
  const [query, key, value, bias, , added, pastKey, pastValue] = node.inputs;
  if (!query || !ctx.content.has(query)) return undefined;
  const heads = node.int('num_heads', 0);
  const width = widthOf(ctx, query);
  if (!key || !value || heads === 0 || width === undefined || ctx.probes.axes(query)?.length !== 3) {
    ctx.decline(node, 'only separate 3-D query, key and value are understood (no packed QKV or KV)');
    return undefined;
  }
  if (bias) {
    ctx.decline(node, 'its QKV bias input is not supported');
    return undefined;
  }
  const headDim = width / heads;
  const perHead = added && perHeadBias(ctx, added, heads);
  const keyAxes = ctx.probes.axes(key);
  let k: HeadOperand = { value: key, layout: 'bsx', offset: undefined };
  let outer = pastBehind(ctx, pastKey);
  let factor = 1;
  let kvHeads = heads;
  let joined: Value | undefined;
  let valueWalk: OperandWalk | undefined;
  if (keyAxes?.length !== 3 || keyAxes[1] !== 'S') {
    // Keys joined with the cache (and repeated for grouped queries) before they reach the op.
    const walked = walkOperand(ctx, key);
    if (!walked.operand || !walked.grouped) {
      ctx.decline(node, 'its keys cannot be followed back to before the cache');
      return undefined;
    }
    k = walked.operand;
    outer ??= walked.past;
    joined = walked.joined;
    valueWalk = walkOperand(ctx, value);
    factor = walked.factor;
    kvHeads = walked.heads;
  }
  const [, presentKey, presentValue] = node.outputs;
  const outside = presentOf(joined);
  const scale = node.float('scale', 0);
  return {
    dialect: 'MultiHeadAttention',
    anchor: node,
    nodes: [node],
    q: { value: query, layout: 'bsx', offset: undefined },
    k,
    heads,
    kvHeads,
    headDim,
    scale: (scale === 0 ? 1 / Math.sqrt(headDim) : scale) * factor,
    softcap: 0,
    bias: perHead ? { value: perHead, factor: 1 } : undefined,
    sinks: undefined,
    rotary: undefined,
    norm: undefined,
    seqlensK: undefined,
    past: outer && { key: outer, value: pastBehind(ctx, pastValue) ?? valueWalk?.past },
    present: presentKey?.isOutput
      ? { key: presentKey, value: presentValue ?? undefined }
      : outside && { key: outside.output, value: presentOf(valueWalk?.joined)?.output },
    croppedCache: outside?.cropped ?? false,
  };
}
