/**
 * Instances for a chunk that loses nothing: a stage sees the first stage's tokens over its own, shorter cache. Much of
 * what the first stage has worked out is right as it stands or with the cache's missing columns left out.
 */
import { type AttributeValue, DataType, type Graph, type Node, type Value } from '../ir/graph.js';
import { type Builder, encodeElements } from './builder.js';
import { shapeFromAxes } from './content-shapes.js';
import { noteCopy } from './copies.js';
import type { FramesView } from './frames-view.js';
import { short } from './gathering.js';
import { pastOfStage } from './roots.js';
import type { Selection } from './selections.js';
import { isShapeOf } from './standing.js';
import { at, settle, type Step } from '../ir/settle.js';

/** "To the end", as the end of a Slice. */
const END = 2 ** 31 - 1;

export class WholeView {
  readonly #frames: FramesView;
  readonly #memo: Map<Value, Value>[];

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
    const selection = this.#frames.selections.of(value);
    if (selection) return { needs: [selection.from], make: () => this.#select(value, selection, j) };
    const node = value.producer as Node;
    return { needs: [...node.inputs.filter((v) => v !== null), ...node.captures], make: () => this.#clone(value, node, j) };
  }

  /** What is had without cloning the value's node. */
  #direct(value: Value, j: number): Value | undefined {
    const frames = this.#frames;
    const { dependent, facts, lengths, positionValues, standing, relations } = frames;
    if (!dependent.has(value)) return value;
    const first = (): Value => frames.instantiate(value, 0);
    if (positionValues.has(value)) return first();
    const past = facts.roles.pasts.find((p) => p.value === value);
    if (past) return pastOfStage(frames, past, j);
    if (!value.producer) return this.#root(value, j);
    if (standing.stageOf(value) === j && standing.isContentFree(value)) return value;
    const constant = frames.fold(value);
    if (constant) return constant;
    const relation = frames.isInFirst(value) ? relations.whole(value) : undefined;
    switch (relation?.kind) {
      case 'same':
        return first();
      case 'moved':
        return lengths.shifted('moved', first(), { s: 0, p: relation.p }, j, { dtype: facts.probes.dtype(value), rank: facts.probes.axes(value)?.length ?? 1 });
      case 'columns':
        if (this.#isCastMask(value)) break;
        return this.#columns(first(), value, relation.axis, relation.rows, j);
      case 'first':
        return frames.builder.slice(`first_s${j}`, first(), frames.builder.ints([0]), lengths.wholeAxis(relation.size, j), relation.axis);
    }
    if (isShapeOf(value, facts.content)) return shapeFromAxes(frames, value.producer, j, (a) => lengths.wholeAxis(a, j));
    return undefined;
  }

  /**
   * The other side of the If reads the mask itself, so its columns are cast: ONNX Runtime asks of every Cast (and Slice) whether its readers
   * may read what it is made of before it looks whether it does anything, and warns at each load where an If reads both.
   */
  #isCastMask(value: Value): boolean {
    const { facts, form } = this.#frames;
    return form === 'branches' && value.producer?.is('Cast') === true && value.producer.inputs[0] === facts.roles.attentionMask;
  }

  #clone(value: Value, node: Node, j: number): Value {
    const frames = this.#frames;
    const unchanged = frames.isInFirst(value) && node.inputs.every((v) => v === null || this.instantiate(v, j) === frames.instantiate(v, 0));
    if (unchanged && node.captures.length === 0) return frames.instantiate(value, 0);
    const copy = frames.cloneNode(node, (v) => this.instantiate(v, j));
    if (frames.form === 'whole') frames.noteClone(node, copy);
    return noteCopy(node, copy, this.#memo[j] as Map<Value, Value>, value);
  }

  #select(value: Value, selection: Selection, j: number): Value {
    const { builder, selections } = this.#frames;
    const from = this.instantiate(selection.from, j);
    if (this.#frames.isInFirst(value) && from === this.#frames.instantiate(selection.from, 0)) return this.#frames.instantiate(value, 0);
    return selections.make(builder, `${short(value)}_whole_s${j}`, selection, from);
  }

  #root(value: Value, j: number): Value {
    const { facts, builder: b, lengths, positions } = this.#frames;
    const { roles } = facts;
    if (!lengths.hasCache) return value;
    if (value === roles.attentionMask) return this.#columns(value, value, 1, true, j);
    const dtype = facts.probes.dtype(value);
    const moved = (label: string): Value => lengths.shifted(label, value, { s: 0, p: 1 }, j, { dtype, rank: 1 });
    if (value === roles.positionIds && positions === 'compact') return b.op('Max', `position_ids_whole_s${j}`, [moved('position_ids_moved'), b.constant(dtype, [0], [])]);
    if (value === roles.cachePosition) return moved('cache_position_whole');
    return value;
  }

  /**
   * Without the columns of P_0 − P_j tokens of the cache: the first ones, or, with `rows`, in a row that starts with
   * padding the last ones of the cache. Batches with such rows are rare, and told apart by one flag for the whole run.
   */
  #columns(first: Value, original: Value, axis: number, rows: boolean, j: number): Value {
    const { builder: b, lengths } = this.#frames;
    const shift = lengths.pastShift(j);
    if (!rows) return b.slice(`columns_s${j}`, first, shift, b.ints([END]), axis);
    const out = b.newValue(`columns_by_row_s${j}`);
    const then = b.subgraph('no row starts with padding');
    const type = { elemType: this.#frames.facts.probes.dtype(original), dims: undefined };
    const tail = b.inside(then, 'Slice', `columns_s${j}`, [first, shift, intsInside(b, then, [END]), intsInside(b, then, [axis])]);
    tail.type = type;
    then.outputs.push(tail);
    const other = b.subgraph('a row starts with padding');
    const picked = this.#byRow(other, first, original, axis, j);
    picked.type = type;
    other.outputs.push(picked);
    b.control('If', `columns_s${j}`, this.#frames.maskStart.nonePadded(), { then_branch: then, else_branch: other }, [out]);
    return out;
  }

  #byRow(sub: Graph, first: Value, original: Value, axis: number, j: number): Value {
    const { builder: b, lengths, facts } = this.#frames;
    const [zero, end, axes] = [[0], [END], [axis]].map((values) => intsInside(b, sub, values)) as [Value, Value, Value];
    const make = (op: string, label: string, inputs: readonly Value[], attributes: Record<string, AttributeValue> = {}): Value => b.inside(sub, op, `${label}_s${j}`, inputs, attributes);
    const cast = (label: string, value: Value, to: number): Value => make('Cast', label, [value], { to: { kind: 'int', value: to } });
    // ONNX Runtime has no Where of booleans, and its symbolic inference does not follow And and Or.
    const flags = facts.probes.dtype(original) === DataType.BOOL;
    const all = flags ? cast('columns_number', first, DataType.INT32) : first;
    const cached = make('Slice', 'columns_cached', [all, zero, lengths.past(j), axes]);
    const own = make('Slice', 'columns_own', [all, lengths.past(0), end, axes]);
    const padded = make('Concat', 'columns_padded', [cached, own], { axis: { kind: 'int', value: axis } });
    const tail = make('Slice', 'columns_last', [all, lengths.pastShift(j), end, axes]);
    const rank = facts.probes.axes(original)?.length ?? 2;
    const starts = make('Reshape', 'starts_valid', [this.#frames.maskStart.valid(), intsInside(b, sub, [-1, ...new Array<number>(rank - 1).fill(1)])]);
    const picked = make('Where', 'columns_picked', [starts, tail, padded]);
    return flags ? cast('columns', picked, DataType.BOOL) : picked;
  }
}

/** An int64 vector of a branch's own, as a node: ONNX Runtime's transformers optimizer takes out initializers that only a branch of a branch reads. */
function intsInside(b: Builder, sub: Graph, values: readonly number[]): Value {
  const data = encodeElements(DataType.INT64, values);
  return b.inside(sub, 'Constant', 'ints', [], { value: { kind: 'tensor', value: { dataType: DataType.INT64, dims: [values.length], data, byteLength: data.length, external: undefined } } });
}
