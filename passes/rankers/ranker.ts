/** The contract of a ranker, and what rankers share. One file a ranker; passes/rank.ts picks by the scores. */
import type { Value } from '../../src/ir/graph.js';
import type { Layer } from '../../src/analyse/facts.js';
import type { PassContext } from '../../src/rewrite/pass.js';

/** Where tokens are ranked: the finished stage and the layer that follows. */
export interface RankSite {
  readonly context: PassContext;
  /** The finished stage j: its tokens are scored. */
  readonly stage: number;
  /** The layer behind the boundary. */
  readonly layer: Layer;
  /** Notes for the report: what could not be done the cheap way. */
  readonly decline: (reason: string) => void;
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
