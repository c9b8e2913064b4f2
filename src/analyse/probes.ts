/**
 * Which axis of a value is what: the graph is evaluated at two sets of sizes, and an axis is the batch, the sequence
 * or the past when its size moves with it. Two evaluations are a proof where a declared symbol is only a claim.
 */
import type { Graph, Value } from '../ir/graph.js';
import { evaluateLanes, type ShapeBindings, type ShapeFacts } from './shapes/index.js';

/** B batch, S sequence of the chunk, P past, T = P + S, BS = B·S; a number is a constant size; `?` anything else. */
export type Axis = 'B' | 'S' | 'P' | 'T' | 'BS' | '?' | number;

export interface ProbeSizes {
  readonly batch: number;
  readonly sequence: number;
  readonly past: number;
}

/** Large distinct primes: no weight has such an extent, so a match is no accident. */
export const PROBE_SIZES: readonly [ProbeSizes, ProbeSizes] = [
  { batch: 61, sequence: 1009, past: 1511 },
  { batch: 67, sequence: 1201, past: 1723 },
];

/** Smaller sizes for compiled graphs, whose masks are followed element by element. */
export const COMPILED_PROBE_SIZES: readonly [ProbeSizes, ProbeSizes] = [
  { batch: 7, sequence: 211, past: 307 },
  { batch: 11, sequence: 239, past: 353 },
];

export class Probes {
  readonly facts: readonly [ShapeFacts, ShapeFacts];
  readonly #sizes: readonly [ProbeSizes, ProbeSizes];
  readonly #axes = new Map<Value, readonly Axis[] | null>();

  constructor(graph: Graph, bindingsAt: (sizes: ProbeSizes) => ShapeBindings, pinned: { readonly batch: number | undefined; readonly sequence: number | undefined }, sizes = PROBE_SIZES) {
    const fixed = sizes.map((s) => ({ ...s, batch: pinned.batch ?? s.batch, sequence: pinned.sequence ?? s.sequence })) as [ProbeSizes, ProbeSizes];
    this.#sizes = fixed;
    this.facts = evaluateLanes(graph, fixed.map(bindingsAt)) as [ShapeFacts, ShapeFacts];
  }

  /** Meaning of each axis, or null when the rank is unknown. */
  axes(value: Value): readonly Axis[] | null {
    let axes = this.#axes.get(value);
    if (axes === undefined) {
      axes = this.#derive(value);
      this.#axes.set(value, axes);
    }
    return axes;
  }

  #derive(value: Value): readonly Axis[] | null {
    const a = this.facts[0].get(value)?.shape;
    const b = this.facts[1].get(value)?.shape;
    if (!a || !b || a.length !== b.length) return null;
    return a.map((x, i) => this.meaning(x, b[i]));
  }

  /** What a size is that came out as x and y in the two evaluations. */
  meaning(x: number | null, y: number | null | undefined): Axis {
    const [s, t] = this.#sizes;
    if (x === null || y === null || y === undefined) return '?';
    if (x === y) return x;
    if (x === s.sequence && y === t.sequence) return 'S';
    if (x === s.batch && y === t.batch) return 'B';
    if (x === s.past && y === t.past) return 'P';
    if (x === s.sequence + s.past && y === t.sequence + t.past) return 'T';
    if (x === s.batch * s.sequence && y === t.batch * t.sequence) return 'BS';
    return '?';
  }

  /** Meaning of each element of a vector of sizes, as far as arithmetic made it; undefined when its contents are not known. */
  contents(value: Value): readonly Axis[] | undefined {
    const both = this.both(value);
    return both && both[0].length === both[1].length ? both[0].map((x, i) => this.meaning(x, both[1][i])) : undefined;
  }

  /** Sizes of an evaluation. */
  sizes(evaluation: 0 | 1): ProbeSizes {
    return this.#sizes[evaluation];
  }

  dtype(value: Value): number {
    return this.facts[0].get(value)?.dtype || value.type?.elemType || 0;
  }

  /** Contents of a value that are the same whatever the sizes are. */
  constant(value: Value): readonly number[] | undefined {
    const a = this.facts[0].get(value)?.data;
    const b = this.facts[1].get(value)?.data;
    if (!a || !b || a.length !== b.length) return undefined;
    return a.every((x, i) => Object.is(x, b[i])) ? a : undefined;
  }

  constantScalar(value: Value): number | undefined {
    const data = this.constant(value);
    return data?.length === 1 ? data[0] : undefined;
  }

  /** Contents that move with the sizes, for shape parameters: one list per evaluation. */
  both(value: Value): readonly [readonly number[], readonly number[]] | undefined {
    const a = this.facts[0].get(value)?.data;
    const b = this.facts[1].get(value)?.data;
    return a && b ? [a, b] : undefined;
  }
}
