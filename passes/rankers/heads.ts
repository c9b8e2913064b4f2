/**
 * HAWK's criterion: attention without positions, each head brought to unit length over the tokens, summed with a weight a
 * head. The weights come from a file and are one small initializer a boundary.
 */
import { InternalError } from '../../src/diagnostics.js';
import { DataType } from '../../src/ir/graph.js';
import { imageAttention } from './norope.js';
import { TINY, type Ranker } from './ranker.js';

export const heads: Ranker = (site) => {
  const { context, layer, stage } = site;
  const { builder: b, plan } = context;
  const { core } = layer;
  const weights = plan.headWeights?.[stage];
  if (!weights) throw new InternalError('the plan has no head weights');
  const sum = weights.reduce((a, w) => a + w, 0);
  const attention = imageAttention(site);
  const square = b.reduce('ReduceSum', 'attention_square', b.op('Mul', 'attention_squared', [attention, attention]), [3], true);
  const unit = b.op('Div', 'attention_unit', [attention, b.op('Sqrt', 'attention_norm', [b.op('Add', 'attention_square_positive', [square, b.float(TINY)])])]);
  const shape = [1, core.kvHeads, core.heads / core.kvHeads, 1];
  const shares = b.constant(DataType.FLOAT, weights.map((w) => w / sum), shape);
  return b.reduce('ReduceSum', 'score', b.op('Mul', 'attention_weighted', [unit, shares]), [1, 2], false);
};
