/** A baseline: evenly spaced among the image tokens that are left. */
import { DataType, type Value } from '../../src/ir/graph.js';
import { ofStage, type Ranker } from './ranker.js';

/** Evenly spaced: of m tokens, K stay; token t does when ⌊(t+1)·K/m⌋ > ⌊t·K/m⌋. */
export const uniform: Ranker = ({ context, stage }) => {
  const { builder: b, frames } = context;
  const chunk = frames.drops;
  const droppable = ofStage(context, stage, 'droppable', chunk.droppable);
  const m = b.reduce('ReduceSum', 'candidates', droppable, [1], true);
  const dropped = b.gather('dropped_here', chunk.dropped, b.ints([stage]), 0);
  const before = stage === 0 ? b.ints([0]) : b.gather('dropped_before', chunk.dropped, b.ints([stage - 1]), 0);
  const kept = b.op('Sub', 'kept', [m, b.op('Sub', 'to_drop', [dropped, before])]);
  const after = b.op('CumSum', 'ordinal_after', [droppable, b.int(1)]);
  const at = b.op('Sub', 'ordinal', [after, droppable]);
  const divisor = b.op('Max', 'candidates_or_1', [m, b.ints([1])]);
  const step = (label: string, t: Value): Value => b.op('Div', `${label}_step`, [b.op('Mul', `${label}_scaled`, [t, kept]), divisor]);
  return b.cast('score', b.op('Sub', 'steps', [step('after', after), step('at', at)]), DataType.FLOAT);
};
