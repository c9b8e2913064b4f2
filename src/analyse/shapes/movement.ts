/**
 * Operators that move elements without looking at them: reshaping, transposing, slicing, joining, repeating.
 * All of them carry contents, partly known ones included.
 */

import { DataType } from '../../ir/graph.js';
import { broadcast, type Call, countOf, dimsFrom, expandElements, type HandlerTable, known, stridedCopy, stridesOf } from './call.js';
import type { Dims, Fact } from './types.js';

/** Input 0 with another shape and the same elements in the same order. */
function reshaped(call: Call, shape: Dims | null): Fact {
  return call.fact(call.dtype(0), shape, call.elements(0));
}

/** Unknown sizes of a known rank, or an unknown rank. */
function unknownDims(rank: number | null | undefined): Dims | null {
  return rank === null || rank === undefined ? null : new Array<null>(rank).fill(null);
}

function reshape(call: Call): Fact {
  const dtype = call.dtype(0);
  const source = call.shape(0);
  const target = call.node.ints('shape') ?? call.elements(1);
  if (target === undefined) return { dtype, shape: unknownDims(call.dim(1, 0)) };
  const allowZero = call.node.int('allowzero', 0) === 1;
  const shape: (number | null)[] = target.map((t, axis) => {
    if (t === 0 && !allowZero) return source?.[axis] ?? null;
    return t >= 0 ? t : null;
  });
  // One open size (-1, or one not known) follows from the element count.
  const open = shape.indexOf(null);
  const total = countOf(source);
  if (open >= 0 && open === shape.lastIndexOf(null)) {
    let rest = 1;
    for (const dim of shape) rest *= dim ?? 1;
    if (total !== null && rest > 0) {
      if (total % rest !== 0) call.conflict(`cannot reshape [${source}] to [${target}]`);
      else shape[open] = total / rest;
    } else if (source !== null && total === null) {
      shape[open] = sizeLeft(source, shape);
    }
  } else if (open < 0 && total !== null && countOf(shape) !== total) {
    call.conflict(`cannot reshape [${source}] to [${target}]`);
  }
  return reshaped(call, shape);
}

/** The open size when the known sizes of source and target cancel but for one: [null, 8, 64] to [-1, 512] leaves null. */
function sizeLeft(source: Dims, target: Dims): number | null {
  return source.includes(0) || target.includes(0) ? 0 : null;
}

function flatten(call: Call): Fact {
  const shape = call.shape(0);
  if (shape === null) return { dtype: call.dtype(0), shape: [null, null] };
  const axis = call.node.int('axis', 1);
  const at = axis < 0 ? axis + shape.length : axis;
  return reshaped(call, [countOf(shape.slice(0, at)), countOf(shape.slice(at))]);
}

function squeeze(call: Call): Fact {
  const shape = call.shape(0);
  const dtype = call.dtype(0);
  if (shape === null) return { dtype, shape };
  const axes = call.intsOf('axes', 1);
  if (axes === null) return { dtype, shape: null };
  if (axes === undefined) {
    // Every size of one goes: with an unknown size the rank is unknown.
    return shape.includes(null) ? { dtype, shape: null } : reshaped(call, shape.filter((d) => d !== 1));
  }
  const gone = new Set(axes.map((a) => call.axis(a, shape.length)));
  for (const axis of gone) {
    const dim = axis === null ? null : (shape[axis] as number | null);
    if (dim !== null && dim !== 1) call.conflict(`cannot squeeze axis ${axis} of [${shape}]`);
  }
  return reshaped(call, shape.filter((_, axis) => !gone.has(axis)));
}

function unsqueeze(call: Call): Fact {
  const shape = call.shape(0);
  const axes = call.intsOf('axes', 1);
  if (shape === null || axes === null || axes === undefined) return { dtype: call.dtype(0), shape: null };
  const rank = shape.length + axes.length;
  const added = new Set(axes.map((a) => call.axis(a, rank)));
  const out: (number | null)[] = [];
  let next = 0;
  for (let axis = 0; axis < rank; axis++) out.push(added.has(axis) ? 1 : (shape[next++] ?? null));
  return reshaped(call, out);
}

function transpose(call: Call): Fact {
  const shape = call.shape(0);
  const dtype = call.dtype(0);
  if (shape === null) return { dtype, shape };
  const order = call.node.ints('perm') ?? shape.map((_, i) => shape.length - 1 - i);
  if (order.length !== shape.length) {
    call.conflict(`perm [${order}] does not fit rank ${shape.length}`);
    return { dtype, shape: null };
  }
  const out = order.map((axis) => shape[axis] ?? null);
  const elements = call.elements(0);
  const sizes = known(shape);
  if (elements === undefined || sizes === undefined) return { dtype, shape: out };
  const strides = stridesOf(sizes);
  return call.fact(dtype, out, stridedCopy(elements, out as number[], order.map((axis) => strides[axis] as number)));
}

function expand(call: Call): Fact {
  const dtype = call.dtype(0);
  const target = call.elements(1);
  if (target === undefined) {
    const rank = call.dim(1, 0);
    const own = call.rank(0);
    return { dtype, shape: rank === null || own === undefined ? null : unknownDims(Math.max(rank, own)) };
  }
  const shape = broadcast(call, [call.shape(0), dimsFrom(target)]);
  const elements = call.elements(0);
  const from = known(call.shape(0));
  const to = known(shape);
  if (elements === undefined || from === undefined || to === undefined || !call.follows(to)) return { dtype, shape };
  return call.fact(dtype, shape, expandElements(elements, from, to));
}

function tile(call: Call): Fact {
  const shape = call.shape(0);
  const dtype = call.dtype(0);
  const repeats = call.elements(1);
  if (shape === null || repeats === undefined) return { dtype, shape: unknownDims(shape?.length ?? call.dim(1, 0)) };
  const out = shape.map((d, axis) => {
    const r = repeats[axis] ?? Number.NaN;
    return d === null || Number.isNaN(r) ? null : d * r;
  });
  const elements = call.elements(0);
  const sizes = known(shape);
  if (elements === undefined || sizes === undefined || !call.follows(out)) return { dtype, shape: out };
  // A repeat is an axis of stride 0 in front of the axis it repeats.
  const strides = stridesOf(sizes);
  const view = sizes.flatMap((d, axis) => [repeats[axis] as number, d]);
  return call.fact(dtype, out, stridedCopy(elements, view, strides.flatMap((s) => [0, s])));
}

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
  if (sizes === undefined || !call.follows(sizes)) return { dtype, shape: out };
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
  if (given === null || count === null || count === undefined) return { dtype, shape: unknownDims(shape.length) };
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
  if (elements === undefined || known(out) === undefined) return { dtype, shape: out };
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
    if (elements === undefined || sizes === undefined || part === null) return { dtype, shape: out };
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
  if (!constant || value === undefined || data === undefined || from === undefined || to === undefined || !call.follows(to)) {
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

/** DepthToSpace and SpaceToDepth on [N, C, H, W]. */
function blocks(call: Call, toSpace: boolean): Fact {
  const b = call.node.int('blocksize', 1);
  const [n, c, h, w] = [0, 1, 2, 3].map((i) => call.dim(0, i));
  const scale = (d: number | null | undefined, f: number): number | null => (d === null || d === undefined ? null : d * f);
  const s = toSpace ? b : 1 / b;
  return { dtype: call.dtype(0), shape: [n ?? null, scale(c, toSpace ? 1 / (b * b) : b * b), scale(h, s), scale(w, s)] };
}

export const movement: HandlerTable = {
  Identity: (call) => call.input(0),
  Dropout: (call) => [call.input(0), { dtype: DataType.BOOL, shape: call.shape(0) }],
  Reshape: reshape,
  Flatten: flatten,
  Squeeze: squeeze,
  Unsqueeze: unsqueeze,
  Transpose: transpose,
  Expand: expand,
  Tile: tile,
  Concat: concat,
  Slice: slice,
  Split: split,
  Pad: pad,
  DepthToSpace: (call) => blocks(call, true),
  SpaceToDepth: (call) => blocks(call, false),
  ReverseSequence: (call) => ({ dtype: call.dtype(0), shape: call.shape(0) }),
};
