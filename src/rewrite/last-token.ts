/**
 * The query of the rank: a value as stage j sees it, restricted to each row's last valid token.
 *
 * This is not an instance on a one-token sequence: positions that the graph computes would start over. What is content
 * is computed for the one token; what is aligned with tokens but is not content (positions, cos, sin) is the stage's
 * own instance, picked at the last valid token; shape parameters are worked out for a length of one.
 */
import { Refusal } from '../diagnostics.js';
import { DataType, type Node, type Value } from '../ir/graph.js';
import type { Axis } from '../analyse/probes.js';
import { isFloat } from '../ir/data-type.js';
import { shapePart } from './content-shapes.js';
import { noteCopy, once } from './copies.js';
import type { Frames } from './frames.js';
import { hasTokenRows, isRotaryOp, isShapeSlot } from './stages.js';
import { at, settle, type Step } from '../ir/settle.js';

/** Thrown (and caught here) when a query cannot be restricted before it is computed. */
class CannotRestrict extends Error {}

export class LastToken {
  readonly #frames: Frames;
  readonly #stage: number;
  readonly #memo = new Map<Value, Value>();
  readonly #cache = new Map<string, Value>();
  readonly #withoutRotaryOps: boolean;

  /** @param options.withoutRotaryOps leaves rotary embedding ops out; an embedding that is spelled out stays (see unrotated.ts) */
  constructor(frames: Frames, stage: number, options: { withoutRotaryOps?: boolean } = {}) {
    this.#frames = frames;
    this.#stage = stage;
    this.#withoutRotaryOps = options.withoutRotaryOps ?? false;
  }

  /**
   * `value` ([B, S, …] or [B, H, S, D]) at the last valid token of each row, its token axis of size 1. Where that
   * cannot be done before computing it, it is computed for all tokens and picked afterwards; `restricted` tells.
   */
  pick(value: Value): { value: Value; restricted: boolean } {
    try {
      return { value: this.#content(value), restricted: true };
    } catch (error) {
      if (!(error instanceof CannotRestrict)) throw error;
      return { value: this.#pickComputed(value), restricted: false };
    }
  }

  /** What `consumer` reads at `slot` and is no content (cos, sin, positions) at the last valid token; undefined where it cannot be picked. */
  dataAt(value: Value, consumer: Node, slot: number): Value | undefined {
    try {
      return this.#data(value, consumer, slot);
    } catch (error) {
      if (!(error instanceof CannotRestrict)) throw error;
      return undefined;
    }
  }

  #content(value: Value): Value {
    return settle(value, this.#memo, (v) => this.#contentStep(v));
  }

  #contentStep(value: Value): Step<Value, Value> {
    const { stages, facts, builder } = this.#frames;
    if (stages.homeOf(value) <= this.#stage) {
      return at(() => {
        const here = this.#frames.instantiate(value, this.#stage);
        const axes = facts.probes.axes(value);
        if (!hasTokenRows(axes)) throw new CannotRestrict();
        return builder.gather('last_token', this.#frames.gathering.flatten(here, axes, value), this.#lastRow(), 0);
      });
    }
    const node = value.producer as Node;
    if (this.#withoutRotaryOps && isRotaryOp(node)) {
      const plain = node.inputs[0] as Value;
      return { needs: [plain], make: () => this.#memo.get(plain) as Value };
    }
    if (node.captures.length > 0) throw new CannotRestrict();
    return { needs: node.inputs.filter((v) => v !== null && facts.content.has(v)) as Value[], make: () => this.#copy(value, node) };
  }

  #copy(value: Value, node: Node): Value {
    const { facts, builder } = this.#frames;
    const inputs = node.inputs.map((v, i) => {
      if (!v) return null;
      if (facts.content.has(v)) return this.#memo.get(v) as Value;
      return isShapeSlot(node, i) ? this.#shape(v) : this.#data(v, node, i);
    });
    return noteCopy(node, builder.clone(node, inputs), this.#memo, value);
  }

  /** int64 [B, 1]: row of the last valid token in [B·S_j, …]. */
  #lastRow(): Value {
    return this.#once('row', () => {
      const b = this.#frames.builder;
      const { chunk } = this.#frames;
      const offset = b.op('Mul', 'last_row_offset', [chunk.rows, this.#frames.lengths.chunk(this.#stage)]);
      return b.op('Add', 'last_row', [offset, this.#last()]);
    });
  }

  #last(): Value {
    return this.#frames.tokens(this.#stage).last ?? this.#frames.drops.last;
  }

  #once(key: string, make: () => Value): Value {
    return once(this.#cache, key, make);
  }

  /** 1 at the last valid token, 0 elsewhere: [B, S_j]. A weighted sum picks the token whatever the layout is. */
  #oneHot(dtype: number): Value {
    return this.#once(`onehot${dtype}`, () => {
      const b = this.#frames.builder;
      const equal = b.op('Equal', 'is_last', [this.#frames.lengths.range(this.#stage), this.#last()]);
      return b.cast('is_last_number', equal, dtype);
    });
  }

  /** cos, sin, position ids: the stage's own instance at the last valid token. */
  #data(value: Value, consumer: Node, slot: number): Value {
    const { facts, dependent } = this.#frames;
    if (!dependent.has(value)) return value;
    const known = this.#memo.get(value);
    if (known) return known;
    const here = this.#frames.instantiate(value, this.#stage);
    const axes = facts.probes.axes(value);
    // Tables of the fused op are looked up by its position ids, which are the ones to pick.
    if (consumer.opType === 'RotaryEmbedding' && consumer.domain !== '' && slot > 1) return here;
    if (!axes || axes.some((a) => a === '?' || a === 'T' || a === 'BS' || a === 'P')) throw new CannotRestrict();
    const at = axes.indexOf('S');
    if (at < 0) {
      // A scalar offset of positions ([1] for contrib RotaryEmbedding) counts on from it: not restrictable.
      if (/RotaryEmbedding$/.test(consumer.opType)) throw new CannotRestrict();
      return here;
    }
    if (axes.lastIndexOf('S') !== at) throw new CannotRestrict();
    const dtype = facts.probes.dtype(value);
    const made = this.#weighted(here, axes, at, dtype, consumer);
    this.#memo.set(value, made);
    return made;
  }

  #weighted(value: Value, axes: readonly Axis[], at: number, dtype: number, consumer: Node): Value {
    const b = this.#frames.builder;
    if (axes.length === 2 && at === 1 && axes[0] === 'B') {
      return b.gatherElements('last_position', value, this.#last(), 1);
    }
    if (!isFloat(dtype) && dtype !== DataType.INT64 && dtype !== DataType.INT32) throw new CannotRestrict();
    // The batch comes from the one-hot; where the value has no axis for it, the consumer's rank gives one.
    let rank = axes.length;
    let token = at;
    if (at === 0) {
      const target = consumer.inputs.map((v) => (v && this.#frames.facts.content.has(v) ? this.#frames.facts.probes.axes(v) : null)).find((a) => a?.includes('S'));
      if (!target) throw new CannotRestrict();
      rank = target.length;
      token = target.indexOf('S');
      if (rank - token !== axes.length - at) throw new CannotRestrict();
    }
    const batch = token >= 1 && rank === 3 && axes.length === 3 && at === 2 ? 1 : 0;
    const missing = Array.from({ length: rank }, (_, i) => i).filter((i) => i !== token && i !== batch);
    const hot = this.#once(`hot|${dtype}|${rank}|${token}|${batch}`, () => (missing.length > 0 ? b.unsqueeze('is_last_aligned', this.#oneHot(dtype), missing) : this.#oneHot(dtype)));
    return b.reduce('ReduceSum', 'last_token_data', b.op('Mul', 'last_token_weighted', [value, hot]), [token], true);
  }

  /** Shape parameters for a sequence of one token. */
  #shape(value: Value): Value {
    return settle(value, this.#memo, (v) => this.#shapeStep(v));
  }

  #shapeStep(value: Value): Step<Value, Value> {
    const { builder: b, dependent } = this.#frames;
    if (!dependent.has(value)) return at(() => value);
    const constant = this.#frames.fold(value);
    if (constant) return at(() => constant);
    const node = value.producer;
    if (!node || node.captures.length > 0) throw new CannotRestrict();
    if (node.is('Shape')) return at(() => this.#shapeOf(node));
    const make = (): Value => {
      const copy = b.clone(
        node,
        node.inputs.map((v) => v && (this.#memo.get(v) as Value)),
      );
      return copy.outputs[value.outputIndex] as Value;
    };
    return { needs: node.inputs.filter((v) => v !== null), make };
  }

  #shapeOf(node: Node): Value {
    const { facts, builder: b, chunk } = this.#frames;
    const wanted = shapePart(node, facts.probes.axes(node.inputs[0] as Value));
    // Sizes that involve the cache are not needed for one query; should one be, the query is computed for all tokens.
    if (!wanted || wanted.some((a) => a === '?')) throw new CannotRestrict();
    const sizes = wanted.map((a) => {
      if (typeof a === 'number') return b.ints([a]);
      if (a === 'S') return b.ints([1]);
      if (a === 'B' || a === 'BS') return chunk.batch1;
      const past = this.#frames.lengths.past(this.#stage);
      return a === 'P' ? past : this.#once('total', () => b.op('Add', 'last_total', [past, b.ints([1])]));
    });
    return this.#once(`shape|${wanted.join()}`, () => b.concat('last_shape', sizes, 0));
  }

  /** The fallback: compute the query for all tokens of the stage, then pick. */
  #pickComputed(value: Value): Value {
    const { facts, builder: b } = this.#frames;
    const axes = facts.probes.axes(value);
    const all = this.#frames.instantiate(value, this.#stage);
    if (hasTokenRows(axes)) return b.gather('last_token', this.#frames.gathering.flatten(all, axes, value), this.#lastRow(), 0);
    if (axes?.length === 4 && axes[2] === 'S') {
      const hot = b.unsqueeze('is_last_row', this.#oneHot(facts.probes.dtype(value)), [1, 2]);
      return b.op('MatMul', 'last_token', [hot, all]);
    }
    throw new Refusal({
      code: 'PD321',
      message: `the query of the layer behind the boundary is laid out as [${axes?.join(', ') ?? 'unknown'}], of which the last token cannot be taken`,
      culprit: value.name,
      hint: 'drop tokens before other layers (--layers), or report this graph with `pdrop-compile inspect --json` of it',
    });
  }
}
