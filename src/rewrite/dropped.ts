/** Instances for a chunk that loses tokens at every boundary: what the stage keeps is gathered, and the model's own nodes run on it. */
import type { Node, Value } from '../ir/graph.js';
import { DataType } from '../ir/graph.js';
import { InternalError } from '../diagnostics.js';
import { shapeFromAxes } from './content-shapes.js';
import { noteCopy, once } from './copies.js';
import type { FramesView } from './frames-view.js';
import { short } from './gathering.js';
import { pastOfStage } from './roots.js';
import { isShapeOf } from './standing.js';
import { at, settle, type Step } from '../ir/settle.js';

export class DroppedView {
  readonly #frames: FramesView;
  readonly #memo: Map<Value, Value>[];
  readonly #cache = new Map<string, Value>();

  constructor(frames: FramesView) {
    this.#frames = frames;
    this.#memo = Array.from({ length: frames.stages.count + 1 }, () => new Map());
  }

  instantiate(value: Value, j: number): Value {
    return settle(value, this.#memo[j] as Map<Value, Value>, (v) => this.#step(v, j));
  }

  #step(value: Value, j: number): Step<Value, Value> {
    const direct = this.#direct(value, j);
    if (direct) return at(() => direct);
    const { builder, selections } = this.#frames;
    const selection = selections.of(value);
    if (selection) return { needs: [selection.from], make: () => selections.make(builder, `${short(value)}_s${j}`, selection, this.instantiate(selection.from, j)) };
    const node = value.producer as Node;
    return { needs: [...node.inputs.filter((v) => v !== null), ...node.captures], make: () => this.#clone(value, node, j) };
  }

  /** What is had without cloning the value's node. */
  #direct(value: Value, j: number): Value | undefined {
    const frames = this.#frames;
    const { dependent, facts, positionValues, standing, gathering } = frames;
    if (!dependent.has(value)) return value;
    if (positionValues.has(value)) {
      const axes = facts.probes.axes(value);
      const whole = frames.instantiate(value, 0);
      return axes?.includes('S') ? gathering.fromChunk(whole, axes, j, value) : whole;
    }
    const past = facts.roles.pasts.find((p) => p.value === value);
    if (past) return pastOfStage(frames, past, j);
    if (!value.producer) return this.#root(value, j);
    if (standing.stageOf(value) === j && standing.isContentFree(value)) return value;
    const constant = frames.fold(value);
    if (constant) return constant;
    if (isShapeOf(value, facts.content)) return shapeFromAxes(frames, value.producer, j, (a) => (a === 'S' ? this.#length(j) : a === 'T' || a === 'BS' ? this.#product(a, j) : frames.lengths.axis(a, j)));
    if (facts.content.has(value)) throw new InternalError('content is gathered by the frames', value.name);
    return undefined;
  }

  #clone(value: Value, node: Node, j: number): Value {
    const memo = this.#memo[j] as Map<Value, Value>;
    const copy = this.#frames.cloneNode(node, (v) => this.instantiate(v, j));
    if (this.#frames.form === 'flat') this.#frames.noteClone(node, copy);
    return noteCopy(node, copy, memo, value);
  }

  #once(key: string, make: () => Value): Value {
    return once(this.#cache, key, make);
  }

  /** int64 [1]: S_j, known before anything of stage j is there. */
  #length(j: number): Value {
    return this.#frames.tokens(j).length1;
  }

  #product(axis: 'T' | 'BS', j: number): Value {
    const { builder: b, lengths, chunk } = this.#frames;
    if (this.#frames.form === 'flat') return lengths.axis(axis, j);
    if (axis === 'T' && !lengths.hasCache) return this.#length(j);
    return this.#once(`${axis}${j}`, () => (axis === 'T' ? b.op('Add', `total_kept_s${j}`, [lengths.past(j), this.#length(j)]) : b.op('Mul', `count_kept_s${j}`, [chunk.batch1, this.#length(j)])));
  }

  #range(j: number): Value {
    const { builder: b, lengths } = this.#frames;
    if (this.#frames.form === 'flat') return lengths.range(j);
    return this.#once(`range${j}`, () => b.op('Range', `range_kept_s${j}`, [b.int(0), b.scalar(`kept_s${j}`, this.#length(j)), b.int(1)]));
  }

  // ---- roots -------------------------------------------------------------------------------------------------

  #root(value: Value, j: number): Value {
    const { roles, probes } = this.#frames.facts;
    if (value === roles.attentionMask) return this.#attentionMask(value, j);
    if (value === roles.positionIds) return this.#positionIds(value, j);
    if (value === roles.cachePosition) return this.#cachePosition(value, j);
    return this.#frames.gathering.fromChunk(value, probes.axes(value), j, value);
  }

  /**
   * [B, P_j + S_j]: P_j entries of the incoming mask's past part, the first ones where the row starts with padding,
   * else the last ones; then the entries of the tokens that are left.
   */
  #attentionMask(mask: Value, j: number): Value {
    const { builder: b, lengths, tokens } = { builder: this.#frames.builder, lengths: this.#frames.lengths, tokens: this.#frames.tokens(j) };
    const origin = tokens.origin as Value;
    if (!lengths.hasCache) return b.gatherElements(`attention_mask_s${j}`, mask, origin, 1);
    const width = this.#once('mask_width', () => b.size('mask_width', mask, 1));
    const past = this.#once('mask_past', () => b.op('Sub', 'mask_past', [width, lengths.chunk(0)]));
    const skip = b.op('Where', `mask_skip_s${j}`, [this.#frames.maskStart.valid(), b.op('Sub', `mask_excess_s${j}`, [past, lengths.past(j)]), b.ints([0])]);
    const pastRange = b.op('Range', `past_range_s${j}`, [b.int(0), lengths.scalar('past', j), b.int(1)]);
    const pastIndex = b.op('Add', `mask_past_index_s${j}`, [skip, pastRange]);
    const index = b.concat(`mask_index_s${j}`, [pastIndex, b.op('Add', `mask_chunk_index_s${j}`, [origin, past])], 1);
    return b.gatherElements(`attention_mask_s${j}`, mask, index, 1);
  }

  /** int64 [B, S_j]: tokens dropped before each token in its row, plus P_0 − P_j. */
  #compaction(j: number): Value {
    return this.#once(`compaction${j}`, () => {
      const { builder: b, lengths } = this.#frames;
      const before = b.op('Sub', `dropped_before_s${j}`, [this.#frames.tokens(j).origin as Value, this.#range(j)]);
      return lengths.hasCache ? b.op('Add', `compaction_s${j}`, [before, lengths.pastShift(j)]) : before;
    });
  }

  #positionIds(positions: Value, j: number): Value {
    const { builder: b, facts, gathering } = this.#frames;
    const kept = gathering.fromChunk(positions, facts.probes.axes(positions), j, positions);
    if (this.#frames.positions === 'keep') return kept;
    const dtype = facts.probes.dtype(positions);
    const shift = dtype === DataType.INT64 ? this.#compaction(j) : b.cast(`compaction_cast_s${j}`, this.#compaction(j), dtype);
    // Padding may carry any position; a negative one would be out of range for ops that look positions up.
    return b.op('Max', `position_ids_s${j}`, [b.op('Sub', `position_ids_signed_s${j}`, [kept, shift]), b.constant(dtype, [0], [])]);
  }

  /** The stage's slots in its own cache: contiguous, from the first slot minus P_0 − P_j. */
  #cachePosition(value: Value, j: number): Value {
    const { builder: b, lengths } = this.#frames;
    const first = b.slice('cache_position_first', value, b.ints([0]), b.ints([1]), 0);
    const start = b.op('Sub', `cache_position_start_s${j}`, [first, lengths.pastShift(j)]);
    return b.op('Add', `cache_position_s${j}`, [start, this.#range(j)]);
  }
}
