/** What takes part in a layer's softmax besides queries and keys: a bias a head (ALiBi), sinks. */
import { DataType, type Value } from '../../src/ir/graph.js';
import type { AttentionCore } from '../../src/analyse/facts.js';
import type { PassContext } from '../../src/rewrite/pass.js';
import { lastOf } from './ranker.js';

/** Below every logit, and finite. */
const LOWEST = -3e38;

/** float32 [B | 1, kv heads, group, S_j]: the bias of each row's last valid token to the chunk's own tokens. */
export function biasOfLast(context: PassContext, core: AttentionCore, stage: number): Value | undefined {
  if (!core.bias) return undefined;
  const { builder: b, facts, frames } = context;
  const original = core.bias.value;
  const sizes = facts.probes.facts[0].shape(original);
  const axes = facts.probes.axes(original);
  let v = frames.instantiate(original, stage);
  if (facts.probes.dtype(original) !== DataType.FLOAT) v = b.cast('bias_float', v, DataType.FLOAT);
  if (sizes?.length === 3) {
    // [B·heads | heads, S | 1, K]
    const tail = b.slice('bias_tail', b.op('Shape', 'bias_shape', [v]), b.ints([1]), b.ints([3]), 0);
    v = b.op('Reshape', 'bias_by_head', [v, b.concat('bias_heads', [b.ints([-1, core.heads]), tail], 0)]);
  }
  if (axes?.at(-2) === 'S') {
    const isLast = b.op('Equal', 'bias_is_last', [frames.lengths.range(stage), lastOf(context, stage)]);
    v = b.op('Where', 'bias_of_last', [b.unsqueeze('bias_is_last_row', isLast, [1, 3]), v, b.float(LOWEST)]);
    v = b.reduce('ReduceMax', 'bias_row', v, [2], true);
  }
  // Symbolic shape inference gives up on a start of minus a stage's length.
  const start = axes?.at(-1) === 'T' ? frames.lengths.past(stage) : b.op('Neg', 'bias_minus_length', [frames.lengths.chunk(stage)]);
  const own = b.slice('bias_of_chunk', v, start, b.ints([2 ** 31 - 1]), 3);
  const grouped = b.reshape('bias_grouped', own, [0, core.kvHeads, core.heads / core.kvHeads, -1]);
  return core.bias.factor === 1 ? grouped : b.op('Mul', 'bias_scaled', [grouped, b.float(core.bias.factor)]);
}

/** Softmax of logits [B, kv heads, group, S_j]; sinks take their share of it. */
export function softmaxWithSinks({ builder: b, facts, frames }: PassContext, core: AttentionCore, logits: Value): Value {
  const softmax = (x: Value): Value => b.op('Softmax', 'attention', [x], { axis: { kind: 'int', value: b.opset >= 13 ? -1 : 3 } });
  if (!core.sinks) return softmax(logits);
  const group = core.heads / core.kvHeads;
  const parameter = core.sinks.value;
  const float = parameter && facts.probes.dtype(parameter) !== DataType.FLOAT ? b.cast('sinks_float', parameter, DataType.FLOAT) : parameter;
  const column = float ? b.reshape('sinks', float, [1, core.kvHeads, group, 1]) : b.constant(DataType.FLOAT, [0], [1, 1, 1, 1]);
  const shape = b.concat('sinks_shape', [frames.chunk.batch1, b.ints([core.kvHeads, group, 1])], 0);
  const joined = b.concat('logits_and_sinks', [logits, b.op('Expand', 'sinks_of_rows', [column, shape])], 3);
  return b.slice('attention_without_sinks', softmax(joined), b.ints([0]), b.ints([-1]), 3);
}
