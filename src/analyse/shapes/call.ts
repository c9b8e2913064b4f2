/**
 * One operator call as its handler sees it: facts of the inputs, attributes, and where to report a contradiction.
 */

import type { Node, Tensor } from '../../ir/graph.js';
import { holdsElements, isIntegral, tensorElements } from './numbers.js';
import type { Dims, Fact } from './types.js';

/** One fact per output slot; a missing entry is an output of unknown rank. */
export type HandlerResult = Fact | readonly (Fact | undefined)[];

/** Handlers by op type, for one domain. */
export type HandlerTable = Readonly<Record<string, (call: Call) => HandlerResult>>;

const UNKNOWN: Fact = { dtype: 0, shape: null };

/** Number of elements, or null when a size is unknown. */
export function countOf(shape: Dims | null): number | null {
  if (shape === null) return null;
  let count = 1;
  for (let i = 0; i < shape.length; i++) {
    const dim = shape[i] as number | null;
    if (dim === null) return null;
    count *= dim;
  }
  return count;
}

/**
 * Elements that work on a value of these sizes may touch: as many as it has, a size of 0 counted as 1 (a file may state
 * [10⁹, 0]). Infinite for sizes that are none, which a broken graph can lead to.
 */
export function workOf(shape: Dims | null): number {
  let work = 1;
  if (shape === null) return Number.POSITIVE_INFINITY;
  for (let i = 0; i < shape.length; i++) {
    const dim = shape[i] as number | null;
    if (dim === null || !isSize(dim)) return Number.POSITIVE_INFINITY;
    work *= Math.max(dim, 1);
  }
  return work;
}

export function isSize(dim: number): boolean {
  return Number.isSafeInteger(dim) && dim >= 0;
}

/** Row-major strides, in elements. */
export function stridesOf(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length);
  let stride = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    strides[axis] = stride;
    stride *= shape[axis] as number;
  }
  return strides;
}

/** Reads a strided view of `source` into a new row-major array of `shape`. */
export function stridedCopy(source: readonly number[], shape: readonly number[], strides: readonly number[], offset = 0): number[] {
  const rank = shape.length;
  let count = 1;
  for (const dim of shape) count *= dim;
  const out = new Array<number>(count);
  const index = new Array<number>(rank).fill(0);
  const inner = rank === 0 ? 1 : (shape[rank - 1] as number);
  const step = rank === 0 ? 0 : (strides[rank - 1] as number);
  let at = offset;
  for (let i = 0; i < count; ) {
    for (let k = 0, from = at; k < inner; k++, from += step) out[i++] = source[from] as number;
    for (let axis = rank - 2; axis >= 0; axis--) {
      const next = (index[axis] as number) + 1;
      at += strides[axis] as number;
      if (next < (shape[axis] as number)) {
        index[axis] = next;
        break;
      }
      at -= next * (strides[axis] as number);
      index[axis] = 0;
    }
  }
  return out;
}

/** All sizes of `shape` when every one is known. */
export function known(shape: Dims | null): readonly number[] | undefined {
  return shape === null || shape.includes(null) ? undefined : (shape as readonly number[]);
}

/** More axes than any real value has. */
const MOST_AXES = 64;

/** Unknown sizes of a known rank, or an unknown rank. */
export function unknownDims(rank: number | null | undefined): Dims | null {
  // A rank that is read out of a broken graph may be anything.
  return rank === null || rank === undefined || rank < 0 || rank > MOST_AXES ? null : new Array<null>(rank).fill(null);
}

/** Sizes from the elements of a shape-like tensor; NaN and negative elements are unknown sizes. */
export function dimsFrom(elements: readonly number[]): (number | null)[] {
  return elements.map((e) => (e >= 0 ? e : null));
}

/** Up to how many elements contents are followed. */
export interface DataLimits {
  readonly integers: number;
  readonly floats: number;
}

export function limitFor(limits: DataLimits, dtype: number): number {
  return isIntegral(dtype) ? limits.integers : limits.floats;
}

/** Fact of an initializer: most are weights whose contents nobody asks for, so they are decoded when first read. */
export class ConstantFact implements Fact {
  readonly dtype: number;
  readonly shape: Dims;
  readonly holdsData: boolean;
  #elements: readonly number[] | undefined;
  #key: string | null | undefined;

  constructor(
    private readonly tensor: Tensor,
    readonly limit: number,
  ) {
    this.dtype = tensor.dataType;
    this.shape = tensor.dims;
    this.holdsData = holdsElements(tensor, limit);
  }

  get data(): readonly number[] | undefined {
    if (this.holdsData) this.#elements ??= tensorElements(this.tensor, this.limit);
    return this.#elements;
  }

  get elementCount(): number {
    return countOf(this.shape) as number;
  }

  /** What `make` makes of this fact, made once. */
  key(make: (fact: Fact) => string | null): string | null {
    if (this.#key === undefined) this.#key = make(this);
    return this.#key;
  }
}

const constants = new WeakMap<Tensor, ConstantFact[]>();

/** The fact of a constant, the same one in every evaluation with this limit: its elements are decoded once. */
export function constantFact(tensor: Tensor, limit: number): Fact {
  const known = constants.get(tensor) ?? [];
  let fact = known.find((f) => f.limit === limit);
  if (!fact) {
    fact = new ConstantFact(tensor, limit);
    constants.set(tensor, [...known, fact]);
  }
  return fact;
}

export class Call {
  constructor(
    readonly node: Node,
    private readonly facts: readonly (Fact | null)[],
    readonly limits: DataLimits,
    private readonly report: (reason: string) => void,
  ) {}

  get inputCount(): number {
    return this.facts.length;
  }

  get outputCount(): number {
    return this.node.outputs.length;
  }

  /** True when input `i` is connected. */
  has(i: number): boolean {
    return (this.facts[i] ?? null) !== null;
  }

  /** Fact of input `i`; everything is unknown for one that is not connected. */
  input(i: number): Fact {
    return this.facts[i] ?? UNKNOWN;
  }

  dtype(i: number): number {
    return this.input(i).dtype;
  }

  shape(i: number): Dims | null {
    return this.input(i).shape;
  }

  rank(i: number): number | undefined {
    return this.input(i).shape?.length;
  }

  /** Size of axis `axis` (negative counts from the end) of input `i`; null when unknown. */
  dim(i: number, axis: number): number | null {
    return this.input(i).shape?.at(axis) ?? null;
  }

  /** All elements of input `i`, when every one is known. */
  data(i: number): readonly number[] | undefined {
    return this.input(i).data;
  }

  /** Elements of input `i`; of an integer input some may be NaN, "not known". */
  elements(i: number): readonly number[] | undefined {
    const fact = this.input(i);
    return fact.data ?? fact.partial;
  }

  /** True when `elements(i)` would give something, without decoding a constant to find out. */
  hasElements(i: number): boolean {
    const fact = this.input(i);
    return fact instanceof ConstantFact ? fact.holdsData : (fact.data ?? fact.partial) !== undefined;
  }

  /** The only element of input `i`, when known. */
  scalar(i: number): number | undefined {
    const data = this.input(i).data;
    return data?.length === 1 ? data[0] : undefined;
  }

  /**
   * Integers that older opsets hold in attribute `name` and newer ones in input `i`.
   * undefined: given neither way; null: given but not known.
   */
  intsOf(name: string, i: number): readonly number[] | null | undefined {
    const attribute = this.node.ints(name);
    if (attribute !== undefined) return attribute;
    if (!this.has(i)) return undefined;
    return this.data(i) ?? null;
  }

  /** Non-negative form of `axis`, reporting one outside the rank. */
  axis(axis: number, rank: number): number | null {
    const at = axis < 0 ? axis + rank : axis;
    if (at >= 0 && at < rank) return at;
    this.conflict(`axis ${axis} is outside rank ${rank}`);
    return null;
  }

  conflict(reason: string): void {
    this.report(reason);
  }

  /** Reports two sizes that must be equal; returns the one that is known. */
  same(a: number | null, b: number | null, what: string): number | null {
    if (a !== null && b !== null && a !== b) this.conflict(`${what}: ${a} and ${b} differ`);
    return a ?? b;
  }

  /** True when contents of a value of this dtype and shape are to be followed. */
  follows(dtype: number, shape: Dims | null): boolean {
    return workOf(shape) <= limitFor(this.limits, dtype);
  }

  /** A fact; `elements` are kept as full or partial contents, or dropped when they are too many or unknown. */
  fact(dtype: number, shape: Dims | null, elements?: readonly number[] | undefined): Fact {
    if (elements === undefined || !this.follows(dtype, shape) || elements.length !== countOf(shape)) return { dtype, shape };
    if (!isIntegral(dtype)) return { dtype, shape, data: elements };
    let unknown = 0;
    for (let i = 0; i < elements.length; i++) if (Number.isNaN(elements[i])) unknown++;
    if (unknown === 0) return { dtype, shape, data: elements };
    return unknown === elements.length ? { dtype, shape } : { dtype, shape, partial: elements };
  }
}

/** Result sizes of multidirectional broadcasting; null when a rank is unknown. */
export function broadcast(call: Call, shapes: readonly (Dims | null)[]): Dims | null {
  const first = shapes[0];
  if (shapes.length === 1) return first ?? null;
  let rank = 0;
  for (const shape of shapes) {
    if (shape === null) return null;
    rank = Math.max(rank, shape.length);
  }
  const out: (number | null)[] = new Array(rank);
  for (let back = 1; back <= rank; back++) {
    let size: number | null = 1;
    for (const shape of shapes as readonly Dims[]) {
      const dim = back > shape.length ? 1 : (shape[shape.length - back] as number | null);
      if (dim === 1 || dim === size) continue;
      if (size === 1) size = dim;
      else if (size === null) size = dim;
      else if (dim !== null) {
        call.conflict(`cannot broadcast sizes ${size} and ${dim} (axis -${back})`);
        size = null;
        break;
      }
    }
    out[rank - back] = size;
  }
  return out;
}

/** Elements of `source` (of `from`) repeated by broadcasting to `to`. */
export function expandElements(source: readonly number[], from: readonly number[], to: readonly number[]): readonly number[] {
  if (from.length === to.length && from.every((d, i) => d === to[i])) return source;
  if (source.length === 1) return new Array<number>(countOf(to) as number).fill(source[0] as number);
  const strides = stridesOf(from);
  const lead = to.length - from.length;
  return stridedCopy(source, to, to.map((_, axis) => (axis < lead || from[axis - lead] === 1 ? 0 : (strides[axis - lead] as number))));
}
