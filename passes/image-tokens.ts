/**
 * Marks the image tokens of the chunk and counts, once, how many are dropped at each boundary.
 *
 *   in:   the graph as it was
 *   out:  image_token_mask ─┐
 *         attention_mask ───┴─ marked & valid ─ n ─ floor(n·r_i + 1e-6) ─ D_i = min over rows ─ S − D_i
 */
import { InternalError, Refusal } from '../src/diagnostics.js';
import { DataType, Value } from '../src/ir/graph.js';
import { IMAGE_TOKEN_MASK } from '../src/analyse/roles.js';
import { parseRatio } from '../src/cost/keep.js';
import { carryDropped } from '../src/rewrite/carried.js';
import { recogniseMarks } from '../src/rewrite/marks.js';
import type { Pass, PassContext } from '../src/rewrite/pass.js';
import type { GraphEditor } from '../src/rewrite/editor.js';

/** Added to the score of tokens that must stay: scores of the others are probabilities. */
const PROTECTION = 4;

/** As good as minus infinity for a softmax in float32, without making NaN of a row that is all padding. */
const PADDING = -1e30;

export const imageTokens: Pass = {
  name: 'image-tokens',
  summary: 'mark the image tokens of the chunk and count how many each boundary drops',
  run(graph, context) {
    const { facts, plan, builder: b, frames } = context;
    const { roles } = facts;
    b.scope('image-tokens');
    const anchor = roles.sourceKind === 'inputs_embeds' ? roles.source : (roles.inputIds as Value);
    const shape = b.op('Shape', 'chunk_shape', [anchor]);
    const batch1 = b.slice('batch', shape, b.ints([0]), b.ints([1]), 0);
    const length1 = b.slice('length', shape, b.ints([1]), b.ints([2]), 0);
    const batch = squeeze(context, 'batch_scalar', batch1);
    const length = squeeze(context, 'length_scalar', length1);
    const rowRange = b.op('Range', 'row_range', [b.int(0), batch, b.int(1)]);
    const rows = b.unsqueeze('rows', rowRange, [1]);
    const range = b.op('Range', 'range', [b.int(0), length, b.int(1)]);
    const shape2 = b.concat('mask_shape', [batch1, length1], 0);
    if (plan.imageMask.kind === 'none') {
      frames.setChunk({ batch, batch1, rows, length, drops: undefined });
      frames.addStage({ length1, origin: b.op('Expand', 'places', [range, shape2]), rowsInPrevious: undefined, last: undefined });
      return { applied: ['no image tokens: nothing is ever dropped'], declined: [] };
    }

    // Validity of the chunk's own tokens: the last S entries of the mask.
    let valid: Value | undefined;
    if (roles.attentionMask) {
      const own = roles.pasts.length > 0 ? b.slice('mask_of_chunk', roles.attentionMask, b.op('Neg', 'minus_length', [length1]), b.ints([2 ** 31 - 1]), 1) : roles.attentionMask;
      valid = facts.probes.dtype(roles.attentionMask) === DataType.BOOL ? own : b.cast('valid', own, DataType.BOOL);
    }
    const validCount = valid && b.cast('valid_number', valid, DataType.INT64);
    const last = validCount
      ? b.reduce('ReduceMax', 'last_valid', b.op('Mul', 'valid_index', [validCount, range]), [1], true)
      : b.op('Expand', 'last', [b.op('Sub', 'length_minus_1', [length1, b.ints([1])]), b.concat('column_shape', [batch1, b.ints([1])], 0)]);
    const paddingBias =
      validCount &&
      b.op('Mul', 'padding_bias', [b.op('Sub', 'invalid', [b.constant(DataType.FLOAT, [1], []), b.cast('valid_float', validCount, DataType.FLOAT)]), b.float(PADDING)]);

    const image = markImages(graph, context, { validCount, range, length1, shape2 });
    const marked = valid ? b.op('And', 'image_and_valid', [image, valid]) : image;
    const markedCount = b.cast('image_number', marked, DataType.INT64);
    const notLast = b.op('Not', 'not_last', [b.op('Equal', 'is_last', [range, last])]);
    const droppable = b.cast('droppable', b.op('And', 'image_not_last', [marked, notLast]), DataType.INT64);
    const count = b.reduce('ReduceSum', 'image_count', markedCount, [1], true);
    const limit = b.reduce('ReduceSum', 'droppable_count', droppable, [1], true);

    // floor(n·num/den + 1e-6) = (n·num + den/10⁶) / den, exactly, in int64.
    const ratios = plan.keep.map((k) => parseRatio(k));
    const numbers = (pick: (r: { num: bigint; den: bigint }) => bigint): Value => b.ints(ratios.map((r) => Number(pick(r))));
    const scaled = b.op('Add', 'keep_numerator', [b.op('Mul', 'keep_scaled', [count, numbers((r) => r.num)]), numbers((r) => r.den / 1000000n)]);
    const keep = b.op('Div', 'keep', [scaled, numbers((r) => r.den)]);
    const perRow = b.op('Min', 'drop_per_row', [b.op('Sub', 'drop_wanted', [count, keep]), limit]);
    const dropped = b.reduce('ReduceMin', 'dropped', perRow, [0], false);
    const lengths = b.op('Sub', 'lengths', [length1, dropped]);
    const protect = b.op('Mul', 'protect', [
      b.op('Sub', 'not_droppable', [b.constant(DataType.FLOAT, [1], []), b.cast('droppable_float', droppable, DataType.FLOAT)]),
      b.float(PROTECTION),
    ]);
    frames.setChunk({ batch, batch1, rows, length, drops: { protect, droppable, paddingBias, last, dropped, lengths } });
    frames.addStage({ length1, origin: undefined, rowsInPrevious: undefined, last });
    if (plan.runtime === 'genai') carryDropped(graph, context);
    return { applied: [`image tokens from ${plan.imageMask.kind}`], declined: [] };
  },
};

function squeeze({ builder: b }: PassContext, label: string, value: Value): Value {
  return b.op('Squeeze', label, b.opset >= 13 ? [value, b.ints([0])] : [value]);
}

/** bool [B, S]: true at image tokens. */
function markImages(
  graph: GraphEditor,
  { facts, plan, builder: b, frames, results }: PassContext,
  chunk: { validCount: Value | undefined; range: Value; length1: Value; shape2: Value },
): Value {
  const { roles } = facts;
  const anchor = roles.sourceKind === 'inputs_embeds' ? roles.source : (roles.inputIds as Value);
  const dims = [anchor.type?.dims?.[0] ?? null, anchor.type?.dims?.[1] ?? null];
  const declare = (name: string, elemType: number): Value => {
    if (graph.graph.values.has(name)) {
      throw new Refusal({
        code: 'PD312',
        message: `the graph already has a value named "${name}"`,
        culprit: name,
        hint: 'compile the original graph; or choose another --image-mask source',
      });
    }
    const value = new Value(name);
    value.type = { elemType, dims };
    graph.graph.values.set(name, value);
    graph.addInput(value);
    results.inputs.push(value);
    return value;
  };
  const source = plan.imageMask;
  switch (source.kind) {
    case 'input':
      return declare(IMAGE_TOKEN_MASK, DataType.BOOL);
    case 'input-ids': {
      const ids = roles.inputIds ?? declare('input_ids', DataType.INT64);
      return b.op('Equal', 'is_image_id', [ids, b.constant(ids.type?.elemType ?? DataType.INT64, [source.id], [])]);
    }
    case 'span': {
      // Counted in valid tokens, so that left padding moves the span along; only for a prompt that starts a conversation.
      const end = source.start + source.count;
      const ordinal = chunk.validCount
        ? b.op('Sub', 'valid_ordinal', [b.op('CumSum', 'valid_so_far', [chunk.validCount, b.int(1)]), b.int(1)])
        : b.op('Expand', 'ordinal', [chunk.range, chunk.shape2]);
      const total = chunk.validCount ? b.reduce('ReduceSum', 'valid_total', chunk.validCount, [1], true) : chunk.length1;
      const inside = b.op('And', 'in_span', [
        b.op('Not', 'not_before_span', [b.op('Less', 'before_span', [ordinal, b.int(source.start)])]),
        b.op('Less', 'not_after_span', [ordinal, b.int(end)]),
      ]);
      const longEnough = b.op('Not', 'long_enough', [b.op('Less', 'too_short', [total, b.int(end)])]);
      const first = b.op('Equal', 'nothing_cached', [frames.pastLength(0), b.ints([0])]);
      return b.op('And', 'span', [inside, b.op('And', 'span_applies', [longEnough, first])]);
    }
    case 'marks':
      return recogniseMarks(b, roles.source, source);
    case 'none':
      throw new InternalError('nothing is marked without image tokens');
  }
}
