/**
 * Which tokens are in a cache? Without rotary embedding a row of the value cache says which token it came from, so the
 * order and the set of kept tokens can be read off the model's own outputs, whatever its graph claims to do.
 */
import { floats, type HostTensor } from '../running/tensor.js';
import { Random } from '../feeding/random.js';

/** Rows of one batch row: token t's values of all heads. */
export interface TokenRows {
  readonly count: number;
  readonly width: number;
  readonly values: Float32Array;
}

/** Takes the token rows out of a cache or out of logits. */
export function tokenRows(tensor: HostTensor, batchRow: number, tokenAxis: number): TokenRows {
  const dims = tensor.dims;
  const count = dims[tokenAxis] ?? 0;
  const outer = dims.slice(1, tokenAxis).reduce((a, b) => a * b, 1);
  const inner = dims.slice(tokenAxis + 1).reduce((a, b) => a * b, 1);
  const all = floats(tensor);
  const start = batchRow * outer * count * inner;
  const width = outer * inner;
  const values = new Float32Array(count * width);
  for (let o = 0; o < outer; o++) {
    for (let t = 0; t < count; t++) {
      const from = start + (o * count + t) * inner;
      values.set(all.subarray(from, from + inner), t * width + o * inner);
    }
  }
  return { count, width, values };
}

function close(a: TokenRows, i: number, b: TokenRows, j: number, tolerance: number): boolean {
  let difference = 0;
  let norm = 0;
  for (let k = 0; k < a.width; k++) {
    const x = a.values[i * a.width + k] ?? 0;
    const y = b.values[j * b.width + k] ?? 0;
    difference += (x - y) ** 2;
    norm += y * y;
  }
  return difference <= tolerance * tolerance * Math.max(norm, 1e-12);
}

/**
 * For each row of `found`, the row of `reference` it equals, -1 for none. `expected[t]` is tried first, so that equal
 * rows (padding) do not look like disorder.
 */
export function matchRows(found: TokenRows, reference: TokenRows, expected: readonly number[], tolerance: number): number[] {
  if (found.width !== reference.width) return new Array<number>(found.count).fill(-1);
  const order = projectionOrder(reference);
  const scale = tolerance * Math.sqrt(reference.width);
  return Array.from({ length: found.count }, (_, t) => {
    const guess = expected[t];
    if (guess !== undefined && guess >= 0 && guess < reference.count && close(found, t, reference, guess, tolerance)) return guess;
    const p = project(found, t, order.direction);
    const norm = Math.hypot(...found.values.subarray(t * found.width, (t + 1) * found.width));
    const reach = scale * Math.max(norm, 1e-6) + 1e-6;
    for (let i = lowerBound(order.sorted, p - reach); i < order.sorted.length && (order.sorted[i]?.[0] ?? 0) <= p + reach; i++) {
      const j = order.sorted[i]?.[1] ?? -1;
      if (close(found, t, reference, j, tolerance)) return j;
    }
    return -1;
  });
}

function project(rows: TokenRows, t: number, direction: Float64Array): number {
  let sum = 0;
  for (let k = 0; k < rows.width; k++) sum += (rows.values[t * rows.width + k] ?? 0) * (direction[k] ?? 0);
  return sum;
}

/** Rows sorted along a random direction: equal rows are neighbours, and thousands are searched quickly. */
function projectionOrder(rows: TokenRows): { direction: Float64Array; sorted: (readonly [number, number])[] } {
  const random = new Random(20241017);
  const direction = Float64Array.from({ length: rows.width }, () => random.normal());
  const sorted = Array.from({ length: rows.count }, (_, t) => [project(rows, t, direction), t] as const).sort((a, b) => a[0] - b[0]);
  return { direction, sorted };
}

function lowerBound(sorted: readonly (readonly [number, number])[], value: number): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((sorted[middle]?.[0] ?? 0) < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

export interface KeptVerdict {
  /** Pairs of neighbours in the cache that stand in the wrong order: [earlier place's token, later place's token]. */
  readonly disorder: readonly (readonly [number, number])[];
  /** Tokens that must stay (text, padding, the last one) and are not there. */
  readonly lost: readonly number[];
  /** Image tokens that a fresh compile keeps and this model does not. */
  readonly otherChoice: readonly number[];
  /** Rows that equal no token a fresh compile keeps. */
  readonly unknown: number;
}

/** Judges what was recovered. `recovered` and `expected` are token indices of the chunk; -1 is unknown. */
export function judgeKept(recovered: readonly number[], expected: readonly number[], mustStay: (token: number) => boolean): KeptVerdict {
  const known = recovered.filter((t) => t >= 0);
  const present = new Set(known);
  const disorder: [number, number][] = [];
  for (let i = 1; i < known.length; i++) {
    const [a, b] = [known[i - 1] ?? 0, known[i] ?? 0];
    if (a >= b) disorder.push([a, b]);
  }
  const absent = expected.filter((t) => !present.has(t));
  return { disorder, lost: absent.filter(mustStay), otherChoice: absent.filter((t) => !mustStay(t)), unknown: recovered.length - known.length };
}
