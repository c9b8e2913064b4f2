/** Queries and keys of the layer behind a boundary, as rankers compare them. */
import { Refusal } from '../../src/diagnostics.js';
import { DataType, type Value } from '../../src/ir/graph.js';
import type { AttentionCore, HeadOperand } from '../../src/analyse/facts.js';
import type { PassContext } from '../../src/rewrite/pass.js';
import { LastToken } from '../../src/rewrite/last-token.js';
import { type HeadsOf, normalizeInside, rotateInside, slicePacked } from '../../src/rewrite/fused-operands.js';
import { Unrotated } from '../../src/rewrite/unrotated.js';
import { lastOf, type RankSite } from './ranker.js';

/**
 * The logits of the last valid token's attention to each token of the finished stage: float32 [B, kv heads, heads of a
 * group, S_j], scaled and capped, nothing masked.
 *
 * @param rotated with the positions' rotation, as the layer itself attends; or without
 */
export function lastTokenLogits(site: RankSite, rotated: boolean): Value {
  const { context, layer, stage, decline } = site;
  const { builder: b } = context;
  const { core } = layer;
  const picked = new LastToken(context.frames, stage, { withoutRotaryOps: !rotated }).pick(core.q.value);
  if (!picked.restricted) decline(`layer ${layer.index}: the query is computed for all tokens, its layout could not be restricted to one`);
  const past = rotated && core.rotary ? pastOfRows(context, core, stage) : undefined;
  const query = operand(site, core.q, { value: picked.value, heads: core.heads, label: 'q' }, past && { past, offset: lastOf(context, stage) });
  const keys = rotated ? operand(site, core.k, { value: context.frames.instantiate(core.k.value, stage), heads: core.kvHeads, label: 'k' }, past && { past, offset: context.frames.lengths.range(stage) }) : keysWithoutPositions(site);
  // With one query token the heads of a group are the rows of one product: no repetition of keys.
  const grouped = b.reshape('query', query, [-1, core.kvHeads, core.heads / core.kvHeads, core.headDim]);
  const scaled = b.op('Mul', 'query_scaled', [grouped, b.float(core.scale)]);
  const logits = b.op('MatMul', 'logits', [scaled, keys]);
  if (core.softcap === 0) return logits;
  const cap = b.float(core.softcap);
  return b.op('Mul', 'logits_capped', [b.op('Tanh', 'logits_tanh', [b.op('Div', 'logits_over_cap', [logits, cap])]), cap]);
}

/** Keys of all tokens of the finished stage, not rotated: float32 [B, kv heads, head size, S_j]. */
export function keysWithoutPositions(site: RankSite): Value {
  const { context, layer, stage } = site;
  const { core } = layer;
  if (core.k.layout === 'bhtd') {
    throw new Refusal({
      code: 'PD327',
      message: 'keys without positions cannot be told in multi-head latent attention: they are made of what the cache holds',
      culprit: core.k.value.name,
      hint: 'use --rank attention',
    });
  }
  const last = new LastToken(context.frames, stage, { withoutRotaryOps: true });
  const value = new Unrotated(context.frames, last, stage).value(core.k.value);
  return operand(site, core.k, { value, heads: core.kvHeads, label: 'k' }, undefined);
}

/** The softmax over the tokens, the last axis. */
export function softmax({ context: { builder: b } }: RankSite, label: string, logits: Value, rank: number): Value {
  return b.op('Softmax', label, [logits], { axis: { kind: 'int', value: b.opset >= 13 ? -1 : rank - 1 } });
}

/** int64 [B, 1]: positions in the cache before the chunk, as GroupQueryAttention counts them. */
function pastOfRows({ builder: b, frames, facts }: PassContext, core: AttentionCore, stage: number): Value {
  if (!core.seqlensK) return frames.lengths.past(stage);
  // The op takes int32; where that is cast from int64, the lengths of int64 are on the host, and stay there.
  const before = core.seqlensK.producer?.is('Cast') ? core.seqlensK.producer.inputs[0] : undefined;
  const wide = before && facts.probes.dtype(before) === DataType.INT64 ? before : undefined;
  const column = b.reshape('seqlens_column', frames.instantiate(wide ?? core.seqlensK, stage), [-1, 1]);
  const total = b.op('Add', 'cached_total', [wide ? column : b.cast('seqlens', column, DataType.INT64), b.ints([1])]);
  // A right-padded prompt has fewer valid tokens than S: it starts at 0.
  return b.op('Max', 'cached', [b.op('Sub', 'cached_signed', [total, frames.lengths.chunk(stage)]), b.ints([0])]);
}

/** q as [B, H, 1, D]-ordered data, k as [B, kv heads, D, S], both float32, normed and rotated if the op does that itself. */
function operand({ context, layer: { core }, stage }: RankSite, which: HeadOperand, { value, heads, label }: HeadsOf, positions: { past: Value; offset: Value } | undefined): Value {
  const { builder: b, facts, frames } = context;
  let v = slicePacked(b, which, value, heads * core.headDim, label);
  if (core.norm) v = normalizeInside(b, core, { value: v, heads, label }, facts.probes.dtype(which.value));
  if (core.rotary && positions) {
    const ids = b.op('Add', `${label}_positions`, [positions.past, positions.offset]);
    // Tables may be chosen by length (long RoPE), so they are the stage's own as well.
    const tables = { ...core.rotary, cos: frames.instantiate(core.rotary.cos, stage), sin: frames.instantiate(core.rotary.sin, stage) };
    v = rotateInside(b, tables, { value: v, heads, label }, label === 'k' ? expandRows(context, ids) : ids);
  }
  if (facts.probes.dtype(which.value) !== DataType.FLOAT) v = b.cast(`${label}_float`, v, DataType.FLOAT);
  if (label === 'q') return v;
  switch (which.layout) {
    case 'bhsd':
      return b.transpose('keys', v, [0, 1, 3, 2]);
    case 'bhtd':
      // What the cache holds comes first, the chunk's own keys last.
      return b.transpose('keys', b.slice('keys_of_chunk', v, b.op('Neg', 'minus_length', [frames.lengths.chunk(stage)]), b.ints([2 ** 31 - 1]), 2), [0, 1, 3, 2]);
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
