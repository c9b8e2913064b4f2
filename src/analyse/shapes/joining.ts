/**
 * Operators that join and cut along axes: Concat, Slice, Split, Pad. They carry contents, partly known ones included.
 */

import { DataType } from '../../ir/graph.js';
import type { Call, HandlerTable } from './call.js';
import { countOf, dimsFrom, known, unknownDims } from './dims.js';
import { stridedCopy, stridesOf } from './strided.js';
import type { Fact } from './types.js';

function concat(call: Call): Fact {
  const dtype = call.dtype(0);
  const shapes = Array.from({ length: call.inputCount }, (_, i) => call.shape(i));
  const first = shapes.find((s) => s !== null);
  if (first === undefined || first === null) return { dtype, shape: null };
  const rank = first.length;
  const axis = call.axis(call.node.int('axis', 0), rank);
  if (axis === null) return { dtype, shape: null };
  const out: (number | null)[] = new Array<null>(rank).fill(null);
  let joined: number | null = 0;
  for (const shape of shapes) {
    if (shape !== null && shape.length !== rank) {
      call.conflict(`cannot concatenate ranks ${rank} and ${shape.length}`);
      return { dtype, shape: null };
    }
    const dim: number | null = shape?.[axis] ?? null;
    joined = joined === null || dim === null ? null : joined + dim;
    for (let k = 0; shape !== null && k < rank; k++) {
      if (k !== axis) out[k] = call.same(out[k] ?? null, shape[k] ?? null, `Concat axis ${k}`);
    }
  }
  out[axis] = joined;
  const sizes = known(out);
  if (sizes === undefined || !call.follows(dtype, sizes)) return { dtype, shape: out };
  const parts: (readonly number[])[] = [];
  for (let i = 0; i < shapes.length; i++) {
    const count = countOf(shapes[i] ?? null) as number;
    // In a shape vector, a part that is not known leaves the others known.
    const elements = call.elements(i) ?? (rank === 1 ? new Array<number>(count).fill(Number.NaN) : undefined);
    if (elements === undefined || (call.data(i) === undefined && count > 0 && !isShapeLike(call, i))) return { dtype, shape: out };
    parts.push(elements);
  }
  const outer = sizes.slice(0, axis).reduce((a, b) => a * b, 1);
  const elements: number[] = [];
  for (let o = 0; o < outer; o++) {
    for (const part of parts) {
      const block = part.length / outer;
      for (let k = 0; k < block; k++) elements.push(part[o * block + k] as number);
    }
  }
  return call.fact(dtype, out, elements);
}

/** Integers can be partly known; NaN in a float is a number like any other. */
function isShapeLike(call: Call, i: number): boolean {
  return call.dtype(i) === DataType.INT64 || call.dtype(i) === DataType.INT32;
}

function slice(call: Call): Fact {
  const shape = call.shape(0);
  const dtype = call.dtype(0);
  if (shape === null) return { dtype, shape };
  const starts = call.node.ints('starts') ?? call.elements(1);
  const ends = call.node.ints('ends') ?? call.elements(2);
  const given = call.intsOf('axes', 3);
  const steps = call.has(4) ? call.data(4) : [];
  const count = starts?.length ?? call.dim(1, 0);
  if (given === null || count === null || count === undefined || count > shape.length) return { dtype, shape: unknownDims(shape.length) };
  const axes = given ?? Array.from({ length: count }, (_, i) => i);
  const out: (number | null)[] = [...shape];
  const sizes = known(shape);
  const strides = sizes ? stridesOf(sizes) : [];
  let offset = 0;
  for (const [k, a] of axes.entries()) {
    const axis = call.axis(a, shape.length);
    if (axis === null) return { dtype, shape: null };
    const dim = shape[axis] ?? null;
    const step = steps === undefined ? Number.NaN : (steps[k] ?? 1);
    const start = starts?.[k] ?? Number.NaN;
    const end = ends?.[k] ?? Number.NaN;
    if (dim === null && start === 0 && step === 1 && end >= 2 ** 31 - 1) continue;
    if (dim === null || Number.isNaN(start + end + step)) {
      out[axis] = null;
      continue;
    }
    const [from, length] = sliceRange(dim, start, end, step);
    out[axis] = length;
    if (sizes) {
      offset += from * (strides[axis] as number);
      strides[axis] = (strides[axis] as number) * step;
    }
  }
  const elements = call.elements(0);
  if (elements === undefined || !call.follows(dtype, out)) return { dtype, shape: out };
  return call.fact(dtype, out, stridedCopy(elements, out as number[], strides, offset));
}

/** First index and length of `start:end:step` over `dim` elements, clamped as ONNX and numpy do. */
function sliceRange(dim: number, start: number, end: number, step: number): [from: number, length: number] {
  const clamp = (x: number, low: number, high: number): number => Math.min(Math.max(x < 0 ? x + dim : x, low), high);
  if (step > 0) {
    const from = clamp(start, 0, dim);
    return [from, Math.max(0, Math.ceil((clamp(end, 0, dim) - from) / step))];
  }
  const from = clamp(start, 0, dim - 1);
  return [from, Math.max(0, Math.ceil((clamp(end, -1, dim - 1) - from) / step))];
}

function split(call: Call): Fact[] {
  const shape = call.shape(0);
  const dtype = call.dtype(0);
  const outputs = call.outputCount;
  if (shape === null) return Array.from({ length: outputs }, () => ({ dtype, shape }));
  const axis = call.axis(call.node.int('axis', 0), shape.length) ?? 0;
  const dim = shape[axis] ?? null;
  const given = call.node.ints('split') ?? (call.has(1) ? call.elements(1) : undefined);
  let parts: readonly (number | null)[];
  if (given !== undefined) parts = dimsFrom(given);
  else if (call.has(1) || dim === null) parts = new Array<null>(outputs).fill(null);
  else {
    const chunk = Math.ceil(dim / outputs);
    parts = Array.from({ length: outputs }, (_, i) => Math.max(0, Math.min(chunk, dim - i * chunk)));
  }
  const whole = countOf(parts) === null ? null : (parts as number[]).reduce((a, b) => a + b, 0);
  call.same(whole, dim, 'sum of the parts of a Split and its axis');
  const elements = call.elements(0);
  const sizes = known(shape);
  let start = 0;
  return parts.map((part) => {
    const out = shape.map((d, k) => (k === axis ? part : d));
    if (elements === undefined || sizes === undefined || part === null || !call.follows(dtype, out)) return { dtype, shape: out };
    const strides = stridesOf(sizes);
    const taken = stridedCopy(elements, out as number[], strides, start * (strides[axis] as number));
    start += part;
    return call.fact(dtype, out, taken);
  });
}

function pad(call: Call): Fact {
  const shape = call.shape(0);
  const dtype = call.dtype(0);
  if (shape === null) return { dtype, shape };
  const pads = call.node.ints('pads') ?? call.elements(1);
  const axes = call.has(3) ? call.data(3) : shape.map((_, i) => i);
  if (pads === undefined || axes === undefined) return { dtype, shape: unknownDims(shape.length) };
  const out: (number | null)[] = [...shape];
  const before = shape.map(() => 0);
  for (const [k, a] of axes.entries()) {
    const axis = call.axis(a, shape.length);
    if (axis === null) return { dtype, shape: null };
    const low = pads[k] ?? Number.NaN;
    const sum = low + (pads[k + axes.length] ?? Number.NaN);
    const dim = shape[axis] ?? null;
    out[axis] = dim === null || Number.isNaN(sum) ? null : dim + sum;
    before[axis] = low;
  }
  const value = call.has(2) ? call.scalar(2) : call.node.float('value', 0);
  const data = call.data(0);
  const from = known(shape);
  const to = known(out);
  const constant = call.node.string('mode', 'constant') === 'constant';
  if (!constant || value === undefined || data === undefined || from === undefined || to === undefined || !call.follows(dtype, to)) {
    return { dtype, shape: out };
  }
  const strides = stridesOf(from);
  const outStrides = stridesOf(to);
  const elements = Array.from({ length: countOf(to) as number }, (_, flat) => {
    let at = 0;
    for (let axis = 0; axis < to.length; axis++) {
      const index = (Math.floor(flat / (outStrides[axis] as number)) % (to[axis] as number)) - (before[axis] as number);
      if (index < 0 || index >= (from[axis] as number)) return value;
      at += index * (strides[axis] as number);
    }
    return data[at] as number;
  });
  return call.fact(dtype, out, elements);
}

export const joining: HandlerTable = { Concat: concat, Slice: slice, Split: split, Pad: pad };
