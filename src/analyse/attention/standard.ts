/** The standard `Attention` op (opset 23 and 24): Q, K, V 4-D or 3-D, cache inside or concatenated outside. */
import type { Node } from '../../ir/graph.js';
import type { AttentionCore, HeadOperand } from '../facts.js';
import { type DialectContext, pastBehind, perHeadBias, presentOf, walkOperand } from './context.js';

export function matchStandard(ctx: DialectContext, node: Node): AttentionCore | undefined {
  if (!node.is('Attention')) return undefined;
  const [query, key, value, mask, pastKey, pastValue] = node.inputs;
  const biasOf = (heads: number): AttentionCore['bias'] => {
    const value = mask && perHeadBias(ctx, mask, heads);
    return value ? { value, factor: 1 } : undefined;
  };
  if (!query || !key || !value || !ctx.content.has(query)) return undefined;
  const qAxes = ctx.probes.axes(query);
  if (!qAxes) {
    ctx.decline(node, 'the rank of its query is not known');
    return undefined;
  }
  const explicitScale = node.attributes.has('scale') ? node.float('scale', 0) : undefined;
  const softcap = node.float('softcap', 0);
  const inside = { key: pastBehind(ctx, pastKey), value: pastBehind(ctx, pastValue) };
  const [, presentKey, presentValue] = node.outputs;
  if (qAxes.length === 3) {
    const heads = node.int('q_num_heads', 0);
    const kvHeads = node.int('kv_num_heads', 0);
    const width = qAxes[2];
    if (typeof width !== 'number' || heads === 0 || kvHeads === 0) {
      ctx.decline(node, 'a 3-D query needs q_num_heads, kv_num_heads and a known hidden size');
      return undefined;
    }
    const headDim = width / heads;
    const operand = (v: typeof query): HeadOperand => ({ value: v, layout: 'bsx', offset: undefined });
    return {
      dialect: 'Attention',
      anchor: node,
      nodes: [node],
      q: operand(query),
      k: operand(key),
      heads,
      kvHeads,
      headDim,
      scale: explicitScale ?? 1 / Math.sqrt(headDim),
      softcap,
      bias: biasOf(heads),
      sinks: undefined,
      rotary: undefined,
      norm: undefined,
      seqlensK: undefined,
      past: inside.key && { key: inside.key, value: inside.value },
      present: presentKey?.isOutput ? { key: presentKey, value: presentValue ?? undefined } : undefined,
      croppedCache: false,
    };
  }
  const q = walkOperand(ctx, query);
  const k = walkOperand(ctx, key);
  const v = walkOperand(ctx, value);
  if (!q.operand || !k.operand || q.headDim !== k.headDim || q.heads % k.heads !== 0 || !k.grouped) {
    ctx.decline(node, 'its queries and keys are not laid out as [batch, heads, sequence, head size] with pairing heads');
    return undefined;
  }
  const keyPresent = presentKey?.isOutput ? { output: presentKey, cropped: false } : presentOf(k.joined ?? k.operand.value);
  const valuePresent = presentValue?.isOutput ? { output: presentValue, cropped: false } : presentOf(v.joined ?? v.operand?.value);
  const keyPast = inside.key ?? k.past;
  return {
    dialect: 'Attention',
    anchor: node,
    nodes: [node],
    q: q.operand,
    k: k.operand,
    heads: q.heads,
    kvHeads: k.heads,
    headDim: q.headDim,
    scale: (explicitScale ?? 1 / Math.sqrt(q.headDim)) * q.factor * k.factor,
    softcap,
    bias: biasOf(q.heads),
    sinks: undefined,
    rotary: undefined,
    norm: undefined,
    seqlensK: undefined,
    past: keyPast && { key: keyPast, value: inside.value ?? v.past },
    present: keyPresent && { key: keyPresent.output, value: valuePresent?.output },
    croppedCache: keyPresent?.cropped ?? false,
  };
}
