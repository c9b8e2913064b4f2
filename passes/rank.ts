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
import { lastOf, leftAfter } from './rankers/ranker.js';

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
      if (plan.probe) results.kept.push(frames.placesIn(boundary));
      applied.push(`boundary ${boundary} before layer ${index}: ${describeRank(plan)} rank, keep ${plan.keep[i]}`);
    });
    return { applied, declined };
  },
};

/** The S_i highest of stage i−1, in order of place. Ties go to the lower place (TopK's own rule). */
function select(context: PassContext, stage: number, score: Value): void {
  const { builder: b, frames, results } = context;
  const { chunk, drops } = frames;
  const length = frames.lengths.chunk(stage);
  const first = b.created.length;
  const previous = frames.tokens(stage);
  const left = leftAfter(context, stage);
  const key = b.op('Add', 'key', [score, previous.protect as Value]);
  const [, best] = b.multi('TopK', 'best', [key, left], 2, { axis: { kind: 'int', value: -1 } });
  // Sorted and turned into rows as float32, which GPUs can, and without a Cast from int64, which WebGPU cannot: exact up to 2^24.
  const places = b.gather('best_float', b.cast('places_float', frames.lengths.range(stage), DataType.FLOAT), best as Value, 0);
  const [ordered] = b.multi('TopK', 'ordered', [places, left], 2, { axis: { kind: 'int', value: -1 }, largest: { kind: 'int', value: 0 } });
  const index = b.cast('index', ordered as Value, DataType.INT64);
  const origin = previous.origin ? b.gatherElements('origin', previous.origin, index, 1) : index;
  const rowOffset = b.cast('row_offset_float', b.op('Mul', 'row_offset', [chunk.rows, length]), DataType.FLOAT);
  const rowsInPrevious = b.cast('rows', b.op('Add', 'rows_float', [ordered as Value, rowOffset]), DataType.INT64);
  const gathered = (label: string, value: Value | undefined): Value | undefined => value && b.gatherElements(label, value, index, 1);
  const protect = gathered('protect', previous.protect);
  const paddingBias = gathered('padding_bias', previous.paddingBias);
  // Shape tools downstream follow the length of what was selected, not the count it was selected by.
  const length1 = b.size('length', index, 1);
  for (const n of b.created.slice(first)) results.pinned.set(n, stage + 1);
  const last = context.plan.training
    ? b.op('Sub', 'query', [b.reduce('ReduceSum', 'kept_up_to_query', b.cast('up_to_query_number', b.op('LessOrEqual', 'up_to_query', [index, lastOf(context, stage)]), DataType.INT64), [1], true), b.int(1)])
    : b.op('Sub', 'last', [drops.last, b.op('Sub', 'dropped', [frames.lengths.chunk(0), left])]);
  frames.addStage({ length1, origin, rowsInPrevious, last, protect, paddingBias });
}
