/**
 * At each boundary: scores the tokens of the finished stage (by the plan's ranker, passes/rankers) and picks the ones
 * that stay.
 *
 *   score ─ +protect ─ TopK ─ sort ─ kept indices
 */
import { DataType, type Value } from '../src/ir/graph.js';
import type { AttentionLayer } from '../src/analyse/facts.js';
import { describeRank } from '../src/plan/plan.js';
import type { Pass, PassContext } from '../src/rewrite/pass.js';
import { withGrid } from './rankers/grid.js';
import { RANKERS } from './rankers/index.js';

export const rank: Pass = {
  name: 'rank',
  summary: 'score the image tokens of the finished stage and pick the ones that stay',
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
      const layer = facts.layers[index] as AttentionLayer;
      b.scope('rank', boundary);
      const first = b.created.length;
      const site = { context, stage: i, layer, decline: (reason: string) => declined.push({ reason }), made: new Map<string, Value>() };
      const ranked = RANKERS[plan.rank](site);
      const score = plan.grid === undefined ? ranked : withGrid(site, plan.grid, ranked);
      for (const n of b.created.slice(first)) results.rankNodes.add(n);
      b.scope('select', boundary);
      select(context, i, score);
      results.kept.push(frames.tokens(boundary).origin as Value);
      applied.push(`boundary ${boundary} before layer ${index}: ${describeRank(plan)} rank, keep ${plan.keep[i]}`);
    });
    return { applied, declined };
  },
};

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
