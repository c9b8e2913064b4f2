/**
 * At each boundary: scores the tokens of the finished stage by the last instruction token's attention in the next
 * layer, and picks the ones that stay.
 *
 *   q (one token) ─┐
 *                  ├─ MatMul ─ scale, cap, padding ─ Softmax ─ mean over heads ─ +protect ─ TopK ─ sort ─ kept indices
 *   k (all tokens) ┘
 */
import { DataType, type Value } from '../src/ir/graph.js';
import type { AttentionCore, HeadOperand, Layer } from '../src/analyse/facts.js';
import type { Pass, PassContext } from '../src/rewrite/pass.js';
import { LastToken } from '../src/rewrite/last-token.js';
import { rotateInside, normalizeInside, slicePacked } from '../src/rewrite/fused-operands.js';

export const rank: Pass = {
  name: 'rank',
  summary: 'score image tokens by the last token’s attention in the next layer and pick the ones that stay',
  run(_graph, context) {
    const { plan, facts, builder: b, frames, results } = context;
    const applied: string[] = [];
    const declined: { reason: string }[] = [];
    if (plan.imageMask.kind === 'none') {
      // The other half of a split pair ranks; here every stage sees the whole chunk, over its own shorter cache.
      for (const _ of plan.layers) frames.addStage(frames.tokens(0));
      return { applied: [], declined };
    }
    plan.layers.forEach((index, i) => {
      const boundary = i + 1;
      const layer = facts.layers[index] as Layer;
      b.scope('rank', boundary);
      const first = b.created.length;
      const score = plan.rank === 'attention' ? attentionScore(context, layer, i, declined) : plan.rank === 'uniform' ? uniformScore(context, i) : randomScore(context, i);
      for (const n of b.created.slice(first)) results.rankNodes.add(n);
      b.scope('select', boundary);
      select(context, i, score);
      results.kept.push(frames.tokens(boundary).origin as Value);
      applied.push(`boundary ${boundary} before layer ${index}: ${plan.rank} rank, keep ${plan.keep[i]}`);
    });
    return { applied, declined };
  },
};

/** int64 [B, 1]: index of the last valid token of stage j. */
function lastOf({ frames }: PassContext, stage: number): Value {
  return frames.tokens(stage).last ?? frames.drops.last;
}

/** float32 [B, S_j]: mean over heads of the last valid token's attention to each token of stage j. */
function attentionScore(context: PassContext, layer: Layer, stage: number, declined: { reason: string }[]): Value {
  const { builder: b, frames } = context;
  const core = layer.core;
  const picked = new LastToken(frames, stage).pick(core.q.value);
  if (!picked.restricted) declined.push({ reason: `layer ${layer.index}: the query is computed for all tokens, its layout could not be restricted to one` });
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
  const attention = b.op('Softmax', 'attention', [logits], { axis: { kind: 'int', value: b.opset >= 13 ? -1 : 3 } });
  return b.reduce('ReduceMean', 'score', attention, [1, 2], false);
}

function paddingOf({ builder: b, frames }: PassContext, stage: number): Value | undefined {
  const bias = frames.drops.paddingBias;
  if (!bias || stage === 0) return bias;
  return b.gatherElements('padding_bias', bias, frames.tokens(stage).origin as Value, 1);
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

/** Evenly spaced: of m tokens, K stay; token t does when ⌊(t+1)·K/m⌋ > ⌊t·K/m⌋. */
function uniformScore({ builder: b, frames }: PassContext, stage: number): Value {
  const chunk = frames.drops;
  const origin = frames.tokens(stage).origin;
  const droppable = origin ? b.gatherElements('droppable', chunk.droppable, origin, 1) : chunk.droppable;
  const m = b.reduce('ReduceSum', 'candidates', droppable, [1], true);
  const dropped = b.gather('dropped_here', chunk.dropped, b.ints([stage]), 0);
  const before = stage === 0 ? b.ints([0]) : b.gather('dropped_before', chunk.dropped, b.ints([stage - 1]), 0);
  const kept = b.op('Sub', 'kept', [m, b.op('Sub', 'to_drop', [dropped, before])]);
  const after = b.op('CumSum', 'ordinal_after', [droppable, b.int(1)]);
  const at = b.op('Sub', 'ordinal', [after, droppable]);
  const divisor = b.op('Max', 'candidates_or_1', [m, b.ints([1])]);
  const step = (label: string, t: Value): Value => b.op('Div', `${label}_step`, [b.op('Mul', `${label}_scaled`, [t, kept]), divisor]);
  return b.cast('score', b.op('Sub', 'steps', [step('after', after), step('at', at)]), DataType.FLOAT);
}

/** A seeded hash of the token's place in the chunk, in [0, 1): two rounds of a Lehmer generator. */
function randomScore({ builder: b, frames, plan }: PassContext, stage: number): Value {
  const modulus = 2147483647;
  const origin = frames.tokens(stage).origin ?? b.op('Expand', 'places', [frames.range(0), b.concat('places_shape', [frames.chunk.batch1, frames.tokens(0).length1], 0)]);
  let h = b.op('Add', 'hash_seeded', [origin, b.int(1 + ((plan.seed * 7919 + stage * 104729) % 1000003))]);
  for (const multiplier of [1583458089, 784588716]) {
    h = b.op('Mod', 'hash', [b.op('Mul', 'hash_multiplied', [h, b.int(multiplier)]), b.int(modulus)]);
  }
  return b.op('Div', 'score', [b.cast('hash_float', h, DataType.FLOAT), b.float(modulus)]);
}

/** The S_i highest of stage i−1, in order of place. Ties go to the lower place (TopK's own rule). */
function select({ builder: b, frames }: PassContext, stage: number, score: Value): void {
  const { chunk, drops } = frames;
  const previous = frames.tokens(stage);
  const protect = previous.origin ? b.gatherElements('protect', drops.protect, previous.origin, 1) : drops.protect;
  const length1 = b.gather('length', drops.lengths, b.ints([stage]), 0);
  const key = b.op('Add', 'key', [score, protect]);
  const [, best] = b.multi('TopK', 'best', [key, length1], 2, { axis: { kind: 'int', value: -1 } });
  // Sorted as float32, which GPUs can: places stay exact up to 2^24.
  const places = b.cast('best_float', best as Value, DataType.FLOAT);
  const [ordered] = b.multi('TopK', 'ordered', [places, length1], 2, { axis: { kind: 'int', value: -1 }, largest: { kind: 'int', value: 0 } });
  const index = b.cast('index', ordered as Value, DataType.INT64);
  const origin = previous.origin ? b.gatherElements('origin', previous.origin, index, 1) : index;
  const rowOffset = b.op('Mul', 'row_offset', [chunk.rows, previous.length1]);
  const rowsInPrevious = b.op('Add', 'rows', [index, rowOffset]);
  const last = b.op('Sub', 'last', [drops.last, b.gather('dropped', drops.dropped, b.ints([stage]), 0)]);
  frames.addStage({ length1, origin, rowsInPrevious, last });
}
