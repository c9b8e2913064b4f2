/** The contract of a ranker, and what rankers share. One file a ranker; passes/rank.ts picks by the scores. */
import { DataType, type Value } from '../../src/ir/graph.js';
import type { AttentionLayer } from '../../src/analyse/facts.js';
import type { PassContext } from '../../src/rewrite/pass.js';

/** Where tokens are ranked: the finished stage and the layer that follows. */
export interface RankSite {
  readonly context: PassContext;
  /** The finished stage j: its tokens are scored. */
  readonly stage: number;
  /** The layer behind the boundary; one that has attention, where the ranker needs keys. */
  readonly layer: AttentionLayer;
  /** Notes for the report: what could not be done the cheap way. */
  readonly decline: (reason: string) => void;
  /** What was made here once and is wanted again. */
  readonly made: Map<string, Value>;
}

/**
 * Scores the tokens of a stage: float32 [B, S_j] in [0, 1], the higher the more worth keeping. Only the scores of image
 * tokens that may be dropped count. What it reads of the graph is told in src/plan/ranks.ts.
 */
export type Ranker = (site: RankSite) => Value;

/** int64 [B, 1]: index of the last valid token of stage j. */
export function lastOf({ frames }: PassContext, stage: number): Value {
  return frames.tokens(stage).last ?? frames.drops.last;
}

/** A value about the chunk's tokens, [B, S], at the tokens of stage j: [B, S_j]. */
export function ofStage({ builder: b, frames }: PassContext, stage: number, label: string, value: Value): Value {
  const origin = frames.tokens(stage).origin;
  return origin ? b.gatherElements(label, value, origin, 1) : value;
}

/** Keeps a division by a length or a sum from being one by nothing. */
export const TINY = 1e-30;

/** float32 [B, S_j]: 1 for image tokens that may be dropped, 0 for all others. */
export function candidates(site: RankSite): Value {
  const { context, stage } = site;
  const { builder: b, frames } = context;
  return once(site, 'candidates', () => b.cast('candidate', ofStage(context, stage, 'droppable', frames.drops.droppable), DataType.FLOAT));
}

/** float32 [B, S_j]: 0 for candidates, as good as minus infinity for all others (without making NaN of a row without candidates). */
export function outside(site: RankSite): Value {
  const { builder: b } = site.context;
  return once(site, 'outside', () => b.op('Mul', 'outside', [b.op('Sub', 'candidate_or_minus_1', [candidates(site), b.float(1)]), b.float(1e30)]));
}

function once({ made }: RankSite, key: string, make: () => Value): Value {
  const known = made.get(key);
  if (known) return known;
  const value = make();
  made.set(key, value);
  return value;
}

/** float32 [B, S_j] scores ≥ 0 of image tokens as shares of the row's largest: [0, 1]; 0 for all other tokens. */
export function overMax(site: RankSite, score: Value): Value {
  const { builder: b } = site.context;
  const own = b.op('Mul', 'score_of_image', [score, candidates(site)]);
  const most = b.reduce('ReduceMax', 'score_most', own, [1], true);
  return b.op('Div', 'score_share', [own, b.op('Add', 'score_most_positive', [most, b.float(TINY)])]);
}

/**
 * int64 [B, S_j], 1 at evenly spaced candidates: of a row's m, `wanted` ([B, 1]) of them; t does when
 * ⌊(t+1)·w/m⌋ > ⌊t·w/m⌋.
 */
export function evenly({ context, stage }: RankSite, wanted: (kept: Value) => Value): Value {
  const { builder: b, frames } = context;
  const chunk = frames.drops;
  const droppable = ofStage(context, stage, 'droppable', chunk.droppable);
  const m = b.reduce('ReduceSum', 'candidates', droppable, [1], true);
  const kept = wanted(b.op('Sub', 'kept', [m, b.op('Sub', 'to_drop', [frames.lengths.chunk(stage), leftAfter(context, stage)])]));
  const after = b.op('CumSum', 'ordinal_after', [droppable, b.int(1)]);
  const at = b.op('Sub', 'ordinal', [after, droppable]);
  const divisor = b.op('Max', 'candidates_or_1', [m, b.ints([1])]);
  const step = (label: string, t: Value): Value => b.op('Div', `${label}_step`, [b.op('Mul', `${label}_scaled`, [t, kept]), divisor]);
  return b.op('Sub', 'steps', [step('after', after), step('at', at)]);
}

/** int64 [1]: tokens left after boundary i, counted from 0. */
export function leftAfter({ builder: b, frames }: PassContext, boundary: number): Value {
  return b.size('left', frames.drops.left, boundary + 1);
}
