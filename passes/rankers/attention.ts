/**
 * PyramidDrop's rank: the last instruction token's attention in the layer that follows.
 *
 *   q (one token) ─┐
 *                  ├─ MatMul ─ scale, cap, padding ─ Softmax ─ mean over heads
 *   k (all tokens) ┘
 */
import { DataType, type Value } from '../../src/ir/graph.js';
import type { AttentionCore, HeadOperand } from '../../src/analyse/facts.js';
import type { PassContext } from '../../src/rewrite/pass.js';
import { LastToken } from '../../src/rewrite/last-token.js';
import { rotateInside, normalizeInside, slicePacked } from '../../src/rewrite/fused-operands.js';
import { lastOf, ofStage, type Ranker } from './ranker.js';

/** float32 [B, S_j]: mean over heads of the last valid token's attention to each token of stage j. */
export const attention: Ranker = ({ context, stage, layer, decline }) => {
  const { builder: b, frames } = context;
  const core = layer.core;
  const picked = new LastToken(frames, stage).pick(core.q.value);
  if (!picked.restricted) decline(`layer ${layer.index}: the query is computed for all tokens, its layout could not be restricted to one`);
  const past = core.rotary && pastOfRows(context, core, stage);
  const query = operand(context, core, core.q, picked.value, core.heads, 'q', past && { past, offset: lastOf(context, stage) }, stage);
  const keys = operand(context, core, core.k, frames.instantiate(core.k.value, stage), core.kvHeads, 'k', past && { past, offset: frames.range(stage) }, stage);
  // With one query token the heads of a group are the rows of one product: no repetition of keys.
  const grouped = b.reshape('query', query, [-1, core.kvHeads, core.heads / core.kvHeads, core.headDim]);
  const scaled = b.op('Mul', 'query_scaled', [grouped, b.float(core.scale)]);
  let logits = b.op('MatMul', 'logits', [scaled, keys]);
  if (core.softcap > 0) {
    const cap = b.float(core.softcap);
    logits = b.op('Mul', 'logits_capped', [b.op('Tanh', 'logits_tanh', [b.op('Div', 'logits_over_cap', [logits, cap])]), cap]);
  }
  const bias = paddingOf(context, stage);
  if (bias) logits = b.op('Add', 'logits_masked', [logits, b.unsqueeze('padding', bias, [1, 2])]);
  const weights = b.op('Softmax', 'attention', [logits], { axis: { kind: 'int', value: b.opset >= 13 ? -1 : 3 } });
  return b.reduce('ReduceMean', 'score', weights, [1, 2], false);
};

function paddingOf(context: PassContext, stage: number): Value | undefined {
  const bias = context.frames.drops.paddingBias;
  return bias && ofStage(context, stage, 'padding_bias', bias);
}

/** int64 [B, 1]: positions in the cache before the chunk, as GroupQueryAttention counts them. */
function pastOfRows({ builder: b, frames }: PassContext, core: AttentionCore, stage: number): Value {
  if (!core.seqlensK) return frames.pastLength(stage);
  const seqlens = frames.instantiate(core.seqlensK, stage);
  const total = b.op('Add', 'cached_total', [b.cast('seqlens', b.reshape('seqlens_column', seqlens, [-1, 1]), DataType.INT64), b.ints([1])]);
  // A right-padded prompt has fewer valid tokens than S: it starts at 0.
  return b.op('Max', 'cached', [b.op('Sub', 'cached_signed', [total, frames.tokens(stage).length1]), b.ints([0])]);
}

/** q as [B, H, 1, D]-ordered data, k as [B, kv heads, D, S], both float32, normed and rotated if the op does that itself. */
function operand(
  context: PassContext,
  core: AttentionCore,
  which: HeadOperand,
  value: Value,
  heads: number,
  label: 'q' | 'k',
  positions: { past: Value; offset: Value } | undefined,
  stage: number,
): Value {
  const { builder: b, facts, frames } = context;
  let v = slicePacked(b, which, value, heads * core.headDim, label);
  if (core.norm) v = normalizeInside(b, core, v, heads, label, facts.probes.dtype(which.value));
  if (core.rotary && positions) {
    const ids = b.op('Add', `${label}_positions`, [positions.past, positions.offset]);
    // Tables may be chosen by length (long RoPE), so they are the stage's own as well.
    const tables = { ...core.rotary, cos: frames.instantiate(core.rotary.cos, stage), sin: frames.instantiate(core.rotary.sin, stage) };
    v = rotateInside(b, tables, v, label === 'k' ? expandRows(context, ids) : ids, heads, label);
  }
  if (facts.probes.dtype(which.value) !== DataType.FLOAT) v = b.cast(`${label}_float`, v, DataType.FLOAT);
  if (label === 'q') return v;
  switch (which.layout) {
    case 'bhsd':
      return b.transpose('keys', v, [0, 1, 3, 2]);
    case 'bshd':
      return b.transpose('keys', v, [0, 2, 3, 1]);
    case 'bsx':
      return b.transpose('keys', b.reshape('keys_by_head', v, [0, 0, heads, core.headDim]), [0, 2, 3, 1]);
  }
}

/** [1 or B, S] as [B, S]. */
function expandRows({ builder: b, frames }: PassContext, ids: Value): Value {
  return b.op('Add', 'k_position_ids', [ids, b.op('Mul', 'zero_rows', [frames.chunk.rows, b.int(0)])]);
}
