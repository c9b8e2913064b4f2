/**
 * Marks the image tokens of the chunk and counts, once, how many are dropped at each boundary.
 *
 *   in:   the graph as it was
 *   out:  image_token_mask ─┐
 *         attention_mask ───┴─ marked & valid ─ n ─ floor(n·r_i + 1e-6) ─ D_i = min over rows ─ S − D_i
 */
import { InternalError } from '../src/diagnostics.js';
import { DataType, type Value } from '../src/ir/graph.js';
import { IMAGE_TOKEN_MASK, TRAINING } from '../src/analyse/added-names.js';
import { parseRatio } from '../src/cost/keep.js';
import { fixedDrops } from '../src/plan/fixed.js';
import { carryDropped } from '../src/rewrite/carried.js';
import { recogniseMarks } from '../src/rewrite/marks.js';
import type { Pass, PassContext } from '../src/rewrite/pass.js';
import type { Builder } from '../src/rewrite/builder.js';
import type { GraphEditor } from '../src/rewrite/editor.js';
import { addInput } from '../src/rewrite/inputs.js';

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
    const batch1 = b.size('batch', anchor, 0);
    const length1 = b.size('length', anchor, 1);
    const batch = b.scalar('batch_scalar', batch1);
    const rows = b.unsqueeze('rows', b.op('Range', 'row_range', [b.int(0), batch, b.int(1)]), [1]);
    const nothing = { length1, origin: undefined, rowsInPrevious: undefined, last: undefined, protect: undefined, paddingBias: undefined };
    if (plan.imageMask.kind === 'none') {
      frames.setChunk({ batch, batch1, rows, length: length1, drops: undefined });
      frames.addStage(nothing);
      return { applied: ['no image tokens: nothing is ever dropped'], declined: [] };
    }
    const { marked: image, any } = markImages(graph, context, { length1, batch1 });

    // Validity of the chunk's own tokens: the last S entries of the mask.
    const valid = validTokens(context, length1);
    const range = b.op('Range', 'range', [b.int(0), b.scalar('length_scalar', length1), b.int(1)]);
    const query = plan.training ? queryOf(graph, context) : undefined;
    const last = query ?? (valid
      ? b.op('ArgMax', 'last_valid', [b.op('Mul', 'valid_index', [valid.number, range])], { axis: { kind: 'int', value: 1 }, keepdims: { kind: 'int', value: 1 } })
      : b.op('Expand', 'last', [b.op('Sub', 'length_minus_1', [length1, b.ints([1])]), b.concat('column_shape', [batch1, b.ints([1])], 0)]));
    // What comes after the token that ranks is not seen by it, and not dropped: in training that is the answer, and later turns.
    const upToQuery = query && asNumber(b, 'up_to_query_number', b.op('LessOrEqual', 'up_to_query', [range, query]));
    const seen = upToQuery && valid ? b.op('Mul', 'seen', [valid.number, upToQuery]) : (upToQuery ?? valid?.number);
    const paddingBias =
      seen && b.op('Mul', 'padding_bias', [b.op('Sub', 'invalid', [b.constant(DataType.FLOAT, [1], []), b.cast('valid_float', seen, DataType.FLOAT)]), b.float(PADDING)]);

    const marked = seen ? b.op('Mul', 'image_and_valid', [image, seen]) : image;
    const notLast = b.op('Where', 'not_last', [b.op('Equal', 'is_last', [range, last]), b.int(0), b.int(1)]);
    const droppable = b.op('Mul', 'droppable', [marked, notLast]);
    const count = b.reduce('ReduceSum', 'image_count', marked, [1], true);
    const limit = b.reduce('ReduceSum', 'droppable_count', droppable, [1], true);

    const dropped = plan.fix ? b.ints(fixedDrops(plan, plan.fix)) : countDrops(context, count, limit);
    const lengths = b.op('Sub', 'lengths', [length1, dropped]);
    const left = b.op('ConstantOfShape', 'lengths_as_shape', [b.concat('lengths_after_0', [b.ints([0]), lengths], 0)]);
    const protect = b.op('Mul', 'protect', [
      b.op('Sub', 'not_droppable', [b.constant(DataType.FLOAT, [1], []), b.cast('droppable_float', droppable, DataType.FLOAT)]),
      b.float(PROTECTION),
    ]);
    frames.setChunk({ batch, batch1, rows, length: length1, drops: { any, protect, droppable, paddingBias, last, dropped, left } });
    frames.addStage({ ...nothing, last, protect, paddingBias });
    if (plan.runtime === 'genai') carryDropped(graph, context);
    return { applied: [`image tokens from ${plan.imageMask.kind}`], declined: [] };
  },
};

/** int64 [B, 1]: index of the token that ranks, from an input of its own. */
function queryOf(graph: GraphEditor, context: PassContext): Value {
  const query = addInput(graph, context, TRAINING.query, DataType.INT64, 1);
  return context.builder.unsqueeze('query_column', query, [1]);
}

/** int64 [m]: tokens that every row loses after each boundary, counted in the graph. */
function countDrops({ plan, builder: b }: PassContext, count: Value, limit: Value): Value {
  // floor(n·num/den + 1e-6) = (n·num + den/10⁶) / den, exactly, in int64.
  const ratios = plan.keep.map((k) => parseRatio(k));
  const numbers = (pick: (r: { num: bigint; den: bigint }) => bigint): Value => b.ints(ratios.map((r) => Number(pick(r))));
  const scaled = b.op('Add', 'keep_numerator', [b.op('Mul', 'keep_scaled', [count, numbers((r) => r.num)]), numbers((r) => r.den / 1000000n)]);
  const keep = b.op('Div', 'keep', [scaled, numbers((r) => r.den)]);
  const perRow = b.op('Min', 'drop_per_row', [b.op('Sub', 'drop_wanted', [count, keep]), limit]);
  // The smallest of the rows. Shape tools downstream stumble over ReduceMin of int64.
  const [least] = b.multi('TopK', 'dropped', [perRow, b.ints([1])], 2, { axis: { kind: 'int', value: 0 }, largest: { kind: 'int', value: 0 } });
  return b.reshape('dropped_vector', least as Value, [-1]);
}

/** The chunk's own entries of the attention mask, [B, S], as booleans and as int64; undefined without a mask. */
function validTokens({ facts, builder: b }: PassContext, length1: Value): { bool: Value; number: Value } | undefined {
  const { roles, probes } = facts;
  if (!roles.attentionMask) return undefined;
  const own = roles.pasts.length > 0 ? b.slice('mask_of_chunk', roles.attentionMask, b.op('Neg', 'minus_length', [length1]), b.ints([2 ** 31 - 1]), 1) : roles.attentionMask;
  const bool = probes.dtype(roles.attentionMask) === DataType.BOOL ? own : b.cast('valid', own, DataType.BOOL);
  return { bool, number: asNumber(b, 'valid_number', bool) };
}

/**
 * bool as int64 0 and 1. Not by a Cast: WebGPU has one from bool to int64, but no arithmetic of int64, so that all that is
 * counted would go to the device and back.
 */
function asNumber(b: Builder, label: string, flags: Value): Value {
  return b.op('Where', label, [flags, b.int(1), b.int(0)]);
}

/** bool scalar: true when anything of int64 [B, S] is marked. */
function anyOf(b: Builder, marked: Value): Value {
  return b.cast('drops_any', b.op('ReduceMax', 'any_number', [marked], { keepdims: { kind: 'int', value: 0 } }), DataType.BOOL);
}

/**
 * Where the image tokens are, and whether the chunk can lose any at all, for little: that is worked out in every run.
 *
 * @returns marked: int64 [B, S], 1 at image tokens; any: bool scalar
 */
function markImages(
  graph: GraphEditor,
  context: PassContext,
  chunk: { length1: Value; batch1: Value },
): { marked: Value; any: Value } {
  const { facts, plan, builder: b, frames } = context;
  const { roles } = facts;
  const declare = (name: string, elemType: number): Value => addInput(graph, context, name, elemType, 2);
  const source = plan.imageMask;
  const counted = (flags: Value): { marked: Value; any: Value } => {
    const marked = asNumber(b, 'marked_number', flags);
    return { marked, any: anyOf(b, marked) };
  };
  switch (source.kind) {
    case 'input':
      return counted(roles.imageMask ?? declare(IMAGE_TOKEN_MASK, DataType.BOOL));
    case 'input-ids': {
      const ids = roles.inputIds ?? declare('input_ids', DataType.INT64);
      const [op, id] = source.id === 'negative' ? ['Less', 0] : ['Equal', source.id];
      return counted(b.op(op, 'is_image_id', [ids, b.constant(ids.type?.elemType ?? DataType.INT64, [id], [])]));
    }
    case 'span': {
      // Counted in valid tokens, so that left padding moves the span along; only for a prompt that starts a conversation.
      const end = source.start + source.count;
      const valid = validTokens(context, chunk.length1)?.number;
      const ordinal = valid
        ? b.op('Sub', 'valid_ordinal', [b.op('CumSum', 'valid_so_far', [valid, b.int(1)]), b.int(1)])
        : b.op('Expand', 'ordinal', [b.op('Range', 'ordinals', [b.int(0), b.scalar('ordinal_end', chunk.length1), b.int(1)]), b.concat('ordinal_shape', [chunk.batch1, chunk.length1], 0)]);
      const total = valid ? b.reduce('ReduceSum', 'valid_total', valid, [1], true) : chunk.length1;
      const inside = b.op('And', 'in_span', [
        b.op('Not', 'not_before_span', [b.op('Less', 'before_span', [ordinal, b.int(source.start)])]),
        b.op('Less', 'not_after_span', [ordinal, b.int(end)]),
      ]);
      // With sizes fixed the plan says that the prompt has its image there.
      if (plan.fix) return { marked: asNumber(b, 'marked_number', inside), any: b.constant(DataType.BOOL, [1], []) };
      const longEnough = b.op('Not', 'long_enough', [b.op('Less', 'too_short', [total, b.int(end)])]);
      const first = b.op('Equal', 'nothing_cached', [frames.lengths.past(0), b.ints([0])]);
      const marked = asNumber(b, 'marked_number', b.op('And', 'span', [inside, b.op('And', 'span_applies', [longEnough, first])]));
      const fits = b.op('Not', 'chunk_is_long_enough', [b.op('Less', 'chunk_is_too_short', [chunk.length1, b.int(end)])]);
      return { marked, any: b.scalar('drops_any', b.op('And', 'span_may_apply', [fits, first])) };
    }
    case 'marks':
      return counted(recogniseMarks(b, roles.source, source));
    case 'none':
      throw new InternalError('nothing is marked without image tokens');
  }
}
