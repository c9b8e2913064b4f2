/**
 * One operator call as its handler sees it: facts of the inputs, attributes, and where to report a contradiction.
 */
import type { Node } from '../../ir/graph.js';
import { isIntegral } from './numbers.js';
import type { Dims, Fact } from './types.js';
import { countOf, workOf } from './dims.js';
import { ConstantFact } from './constant-fact.js';

/** One fact per output slot; a missing entry is an output of unknown rank. */
export type HandlerResult = Fact | readonly (Fact | undefined)[];

/** Handlers by op type, for one domain. */
export type HandlerTable = Readonly<Record<string, (call: Call) => HandlerResult>>;

const UNKNOWN: Fact = { dtype: 0, shape: null };

/** Up to how many elements contents are followed. */
export interface DataLimits {
  readonly integers: number;
  readonly floats: number;
}

export function limitFor(limits: DataLimits, dtype: number): number {
  return isIntegral(dtype) ? limits.integers : limits.floats;
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
    // Cheaper than a look at each: a sum of what is known is a number.
    let sum = 0;
    for (let i = 0; i < elements.length; i++) sum += elements[i] as number;
    if (!Number.isNaN(sum)) return { dtype, shape, data: elements };
    let unknown = 0;
    for (let i = 0; i < elements.length; i++) if (Number.isNaN(elements[i])) unknown++;
    if (unknown === 0) return { dtype, shape, data: elements };
    return unknown === elements.length ? { dtype, shape } : { dtype, shape, partial: elements };
  }

  /** A fact with elements of which none is unknown: they are not looked through. Dropped when they are too many, or not as many as the shape says. */
  whole(dtype: number, shape: Dims | null, elements: readonly number[]): Fact {
    return this.follows(dtype, shape) && elements.length === countOf(shape) ? { dtype, shape, data: elements } : { dtype, shape };
  }

  /** Contents of input `i` in another shape: what is known of them is not looked through again. */
  reshaped(i: number, shape: Dims | null): Fact {
    const { dtype, data } = this.input(i);
    return data === undefined ? this.fact(dtype, shape, this.elements(i)) : this.whole(dtype, shape, data);
  }
}

/** Result sizes of multidirectional broadcasting; null when a rank is unknown. */
export function broadcast(call: Call, shapes: readonly (Dims | null)[]): Dims | null {
  const first = shapes[0];
  if (shapes.length === 1) return first ?? null;
  let rank = 0;
  for (let i = 0; i < shapes.length; i++) {
    const shape = shapes[i] as Dims | null;
    if (shape === null) return null;
    rank = Math.max(rank, shape.length);
  }
  const out: (number | null)[] = new Array(rank);
  for (let back = 1; back <= rank; back++) {
    let size: number | null = 1;
    for (let i = 0; i < shapes.length; i++) {
      const shape = shapes[i] as Dims;
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
