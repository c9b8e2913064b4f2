/** In-band marks (src/plan/marks.ts) as nodes: put on image features, and recognised in the decoder's embeddings. */
import { InternalError } from '../diagnostics.js';
import { DataType, type Value } from '../ir/graph.js';
import { type MarkType, markType, SIGNIFICANT_BITS } from '../plan/marks.js';
import type { Marks } from '../plan/plan.js';
import { IS_MARKED } from '../analyse/added-names.js';
import type { Builder } from './builder.js';

/**
 * bool [B, S]: true at rows of `embeds` [B, S, hidden] that are marked in all channels.
 *
 *   embeds ─ Gather(channels) ─ |·|·2^(m−1) ─ fraction == ½ ─ all of k
 */
export function recogniseMarks(b: Builder, embeds: Value, marks: Marks): Value {
  const type = markType(embeds.type?.elemType, embeds.name);
  const picked = b.gather('mark_channels', embeds, b.ints(marks.channels), 2);
  const float = type === 'float32' ? picked : b.cast('mark_float', picked, DataType.FLOAT);
  const scaled = b.op('Mul', 'mark_scaled', [b.op('Abs', 'mark_magnitude', [float]), b.float(2 ** (marks.bits[type] - 1))]);
  const fraction = b.op('Sub', 'mark_fraction', [scaled, b.op('Floor', 'mark_floor', [scaled])]);
  // Equal takes floats from opset 11 on; what a fraction is left of 1 after it, exactly, is told without it.
  const odd = b.opset >= 11 ? b.op('Equal', 'mark_is_odd', [fraction, b.float(0.5)]) : b.op('Not', 'mark_is_odd', [b.cast('mark_is_other', b.op('Sub', 'mark_off', [fraction, b.float(0.5)]), DataType.BOOL)]);
  // In floats, which devices add up and compare.
  const count = b.reduce('ReduceSum', 'mark_count', b.cast('mark_number', odd, DataType.FLOAT), [2], false);
  const marked = b.op('Greater', 'is_marked', [count, b.float(marks.channels.length - 0.5)]);
  if (marked.name !== IS_MARKED) throw new InternalError('the graph has a value named as one of a compiled graph', IS_MARKED);
  return marked;
}

/**
 * Marked `features` [..., hidden], in their own type.
 *
 *   features ─ Cast float32 ─ ·2^(m−1) ─ clip ─ floor ─ +½ ─ ·2^(1−m) ─ Cast ─┐
 *          └──────────────────────────────────────────────────────────── Where(channel)
 */
export function markFeatures(b: Builder, features: Value, hidden: number, marks: Marks, type: MarkType): Value {
  const bits = marks.bits[type];
  const limit = 2 ** (SIGNIFICANT_BITS[type] - 1);
  const float = type === 'float32' ? features : b.cast('float', features, DataType.FLOAT);
  const scaled = b.op('Mul', 'scaled', [float, b.float(2 ** (bits - 1))]);
  const clipped = b.op('Min', 'not_above', [b.op('Max', 'not_below', [scaled, b.float(-limit)]), b.float(limit - 1)]);
  const odd = b.op('Add', 'odd', [b.op('Floor', 'floor', [clipped]), b.float(0.5)]);
  const marked = b.op('Mul', 'marked', [odd, b.float(2 ** (1 - bits))]);
  const back = type === 'float32' ? marked : b.cast('typed', marked, DataType.FLOAT16);
  const channels = b.constant(
    DataType.BOOL,
    Array.from({ length: hidden }, (_, i) => (marks.channels.includes(i) ? 1 : 0)),
  );
  return b.op('Where', 'features', [channels, back, features]);
}
