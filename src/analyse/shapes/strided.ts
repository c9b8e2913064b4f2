/** Where the elements of a row-major value lie, and how they are read in another order: transposed, sliced, broadcast. */
import { countOf } from './dims.js';

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

/** Elements of `source` (of `from`) repeated by broadcasting to `to`. */
export function expandElements(source: readonly number[], from: readonly number[], to: readonly number[]): readonly number[] {
  if (from.length === to.length && from.every((d, i) => d === to[i])) return source;
  if (source.length === 1) return new Array<number>(countOf(to) as number).fill(source[0] as number);
  const strides = stridesOf(from);
  const lead = to.length - from.length;
  return stridedCopy(source, to, to.map((_, axis) => (axis < lead || from[axis - lead] === 1 ? 0 : (strides[axis - lead] as number))));
}
