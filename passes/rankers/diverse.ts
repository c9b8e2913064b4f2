/**
 * DART's criterion: a few pivots, the image tokens with the longest keys, and then the tokens least like them by mean
 * cosine similarity of keys, without positions. Needs no query. (Wen et al., 2025. Its code sums absolute values for the
 * length; the Euclidean one does not depend on how a key was rotated.)
 */
import { DataType } from '../../src/ir/graph.js';
import { keysWithoutPositions } from './keys.js';
import { candidates, TINY, type Ranker } from './ranker.js';

const PIVOTS = 8;

/** float32 [B, S_j]: 1 − similarity, halved; pivots above all others. */
export const diverse: Ranker = (site) => {
  const { context, layer, stage } = site;
  const { builder: b, frames } = context;
  const { core } = layer;
  const candidate = candidates(site);
  // [B, kv heads · D, S]
  const keys = b.reshape('keys_flat', keysWithoutPositions(site), [0, core.kvHeads * core.headDim, -1]);
  const square = b.reduce('ReduceSum', 'key_square', b.op('Mul', 'key_squared', [keys, keys]), [1], true);
  const length = b.op('Sqrt', 'key_norm', [b.op('Add', 'key_square_positive', [square, b.float(TINY)])]);
  const unit = b.op('Div', 'key_unit', [keys, length]);
  // What is no candidate has −1, below any norm.
  const size = b.op('Add', 'pivot_key', [b.op('Mul', 'key_norm_of_image', [b.reduce('ReduceMax', 'key_norm_flat', length, [1], false), candidate]), b.op('Sub', 'candidate_or_minus_1', [candidate, b.float(1)])]);
  const count = b.op('Min', 'pivot_count', [frames.lengths.chunk(stage), b.ints([PIVOTS])]);
  const [, places] = b.multi('TopK', 'pivots', [size, count], 2, { axis: { kind: 'int', value: -1 } });
  const place = b.unsqueeze('pivot_places', places ?? size, [2]);
  // [B, pivots, S], a row all 0 where a row of the batch has fewer image tokens than pivots.
  const hot = b.op('Mul', 'is_pivot', [b.cast('at_pivot', b.op('Equal', 'equals_pivot', [frames.lengths.range(stage), place]), DataType.FLOAT), b.unsqueeze('candidate_row', candidate, [1])]);
  const pivots = b.op('MatMul', 'pivot_units', [hot, b.transpose('key_unit_rows', unit, [0, 2, 1])]);
  const similar = b.reduce('ReduceSum', 'similarity_sum', b.op('MatMul', 'similarity', [pivots, unit]), [1], false);
  const pivotCount = b.op('Max', 'pivots_or_1', [b.reduce('ReduceSum', 'pivots_found', hot, [1, 2], false), b.float(1)]);
  const mean = b.op('Div', 'similarity_mean', [similar, b.unsqueeze('pivots_found_column', pivotCount, [1])]);
  const unlike = b.op('Mul', 'unlike', [b.op('Sub', 'dissimilarity', [b.float(1), mean]), b.float(0.25)]);
  return b.op('Add', 'score', [unlike, b.op('Mul', 'pivot_bonus', [b.reduce('ReduceMax', 'is_any_pivot', hot, [1], false), b.float(0.5)])]);
};
