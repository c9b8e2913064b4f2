/** Sizes by themselves: how many elements they are, what of them is known, which numbers are none. */
import type { Dims } from './types.js';

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
