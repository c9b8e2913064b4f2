/**
 * Operators that read or write by index: the Gather and Scatter families, NonZero, TopK, OneHot, Compress.
 */

import { DataType } from '../../ir/graph.js';
import type { Call, HandlerTable } from './call.js';
import { countOf, known } from './dims.js';
import { stridesOf } from './strided.js';
import { isIntegral } from './numbers.js';
import type { Dims, Fact } from './types.js';

const product = (sizes: readonly number[]): number => sizes.reduce((a, b) => a * b, 1);

/** A negative index counts from the end; one that is unknown or out of range gives NaN. */
function wrapped(index: number, size: number): number {
  const at = index < 0 ? index + size : index;
  return at >= 0 && at < size ? at : Number.NaN;
}

/** Elements of input 0 may be partly known only if it holds integers; an index that is not known needs that too. */
function readable(call: Call, indices: readonly number[]): readonly number[] | undefined {
  const elements = call.elements(0);
  return elements !== undefined && !isIntegral(call.dtype(0)) && indices.some(Number.isNaN) ? undefined : elements;
}

function gather(call: Call): Fact {
  const dtype = call.dtype(0);
  const source = call.shape(0);
  const index = call.shape(1);
  if (source === null || index === null) return { dtype, shape: null };
  const axis = call.axis(call.node.int('axis', 0), source.length);
  if (axis === null) return { dtype, shape: null };
  const shape = [...source.slice(0, axis), ...index, ...source.slice(axis + 1)];
  const indices = call.elements(1);
  const from = known(source);
  const elements = indices && readable(call, indices);
  if (indices === undefined || elements === undefined || from === undefined || !call.follows(dtype, shape)) return { dtype, shape };
  const size = from[axis] as number;
  const inner = product(from.slice(axis + 1));
  const outer = product(from.slice(0, axis));
  const places = indices.map((i) => {
    const at = wrapped(i, size);
    if (Number.isNaN(at) && !Number.isNaN(i)) call.conflict(`index ${i} is outside ${size} (axis ${axis})`);
    return at;
  });
  const out = new Array<number>(outer * places.length * inner);
  for (let o = 0, to = 0; o < outer; o++) {
    for (let p = 0; p < places.length; p++) {
      const from = (o * size + (places[p] as number)) * inner;
      for (let k = 0; k < inner; k++) out[to++] = elements[from + k] ?? Number.NaN;
    }
  }
  return call.fact(dtype, shape, out);
}

function gatherElements(call: Call): Fact {
  const dtype = call.dtype(0);
  const shape = call.shape(1);
  const from = known(call.shape(0));
  const to = known(shape);
  const indices = call.data(1);
  const data = call.data(0);
  if (!from || !to || !indices || !data || !call.follows(dtype, to)) return { dtype, shape };
  const axis = call.axis(call.node.int('axis', 0), from.length);
  if (axis === null) return { dtype, shape };
  const strides = stridesOf(from);
  const outStrides = stridesOf(to);
  const out = indices.map((index, flat) => {
    let at = 0;
    for (let k = 0; k < to.length; k++) {
      const own = Math.floor(flat / (outStrides[k] as number)) % (to[k] as number);
      at += (k === axis ? wrapped(index, from[axis] as number) : own) * (strides[k] as number);
    }
    return data[at] ?? Number.NaN;
  });
  return call.fact(dtype, shape, out);
}

function gatherND(call: Call): Fact {
  const dtype = call.dtype(0);
  const source = call.shape(0);
  const index = call.shape(1);
  const depth = call.dim(1, -1);
  const batch = call.node.int('batch_dims', 0);
  if (source === null || index === null || depth === null) return { dtype, shape: null };
  if (batch + depth > source.length) {
    call.conflict(`GatherND indexes ${batch + depth} axes of rank ${source.length}`);
    return { dtype, shape: null };
  }
  const shape: Dims = [...index.slice(0, -1), ...source.slice(batch + depth)];
  const from = known(source);
  const rows = known(index);
  const indices = call.data(1);
  const data = call.data(0);
  if (!from || !rows || !indices || !data || !call.follows(dtype, shape)) return { dtype, shape };
  const strides = stridesOf(from);
  const inner = product(from.slice(batch + depth));
  const perBatch = product(rows.slice(batch, -1));
  const batchStride = product(from.slice(batch));
  const out: number[] = [];
  for (let row = 0; row < indices.length / Math.max(depth, 1); row++) {
    let at = Math.floor(row / perBatch) * batchStride;
    for (let k = 0; k < depth; k++) {
      at += wrapped(indices[row * depth + k] as number, from[batch + k] as number) * (strides[batch + k] as number);
    }
    for (let k = 0; k < inner; k++) out.push(data[at + k] ?? Number.NaN);
  }
  return call.fact(dtype, shape, out);
}

/** The shape of input 0; contents only when they are plainly overwritten. */
function scatterND(call: Call): Fact {
  const dtype = call.dtype(0);
  const shape = call.shape(0);
  const from = known(shape);
  const [data, indices, updates] = [call.data(0), call.data(1), call.data(2)];
  const depth = call.dim(1, -1);
  const plain = call.node.string('reduction', 'none') === 'none';
  if (!from || !data || !indices || !updates || !depth || !plain) return { dtype, shape };
  const strides = stridesOf(from);
  const inner = product(from.slice(depth));
  const out = [...data];
  for (let row = 0; row < indices.length / depth; row++) {
    let at = 0;
    for (let k = 0; k < depth; k++) at += wrapped(indices[row * depth + k] as number, from[k] as number) * (strides[k] as number);
    for (let k = 0; k < inner; k++) if (!Number.isNaN(at)) out[at + k] = updates[row * inner + k] as number;
  }
  return call.fact(dtype, shape, out);
}

function scatterElements(call: Call): Fact {
  const dtype = call.dtype(0);
  const shape = call.shape(0);
  const from = known(shape);
  const rows = known(call.shape(1));
  const [data, indices, updates] = [call.data(0), call.data(1), call.data(2)];
  const plain = call.node.string('reduction', 'none') === 'none';
  const axis = from ? call.axis(call.node.int('axis', 0), from.length) : null;
  if (!from || !rows || !data || !indices || !updates || !plain || axis === null) return { dtype, shape };
  const strides = stridesOf(from);
  const own = stridesOf(rows);
  const out = [...data];
  indices.forEach((index, flat) => {
    let at = 0;
    for (let k = 0; k < rows.length; k++) {
      const place = Math.floor(flat / (own[k] as number)) % (rows[k] as number);
      at += (k === axis ? wrapped(index, from[axis] as number) : place) * (strides[k] as number);
    }
    if (!Number.isNaN(at)) out[at] = updates[flat] as number;
  });
  return call.fact(dtype, shape, out);
}

function nonZero(call: Call): Fact {
  const shape = known(call.shape(0));
  const data = call.data(0);
  const rank = call.rank(0) ?? null;
  if (shape === undefined || data === undefined) return { dtype: DataType.INT64, shape: [rank, null] };
  const strides = stridesOf(shape);
  const hits: number[] = [];
  data.forEach((x, flat) => { if (x !== 0) hits.push(flat); });
  const out = shape.flatMap((dim, axis) => hits.map((flat) => Math.floor(flat / (strides[axis] as number)) % dim));
  return call.fact(DataType.INT64, [shape.length, hits.length], out);
}

function topK(call: Call): Fact[] {
  const source = call.shape(0);
  const dtype = call.dtype(0);
  const k = call.has(1) ? call.scalar(1) : (call.node.ints('k')?.[0] ?? (call.node.attributes.has('k') ? call.node.int('k', 0) : undefined));
  if (source === null) return [{ dtype, shape: null }, { dtype: DataType.INT64, shape: null }];
  const axis = call.axis(call.node.int('axis', -1), source.length) ?? 0;
  const dim = source[axis] ?? null;
  if (k !== undefined && dim !== null && k > dim) call.conflict(`TopK asks for ${k} of ${dim}`);
  const shape = source.map((d, i) => (i === axis ? (k ?? null) : d));
  const from = known(source);
  const data = call.data(0);
  if (!from || !data || k === undefined || !call.follows(dtype, shape)) return [{ dtype, shape }, { dtype: DataType.INT64, shape }];
  const size = from[axis] as number;
  const inner = product(from.slice(axis + 1));
  const outer = product(from.slice(0, axis));
  const sign = call.node.int('largest', 1) === 1 ? -1 : 1;
  const values = new Array<number>(outer * k * inner);
  const indices = new Array<number>(outer * k * inner);
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < inner; i++) {
      const at = (j: number): number => data[(o * size + j) * inner + i] as number;
      const order = Array.from({ length: size }, (_, j) => j).sort((a, b) => sign * (at(a) - at(b)) || a - b);
      for (let j = 0; j < k; j++) {
        const slot = (o * k + j) * inner + i;
        const pick = order[j] ?? 0;
        values[slot] = at(pick);
        indices[slot] = pick;
      }
    }
  }
  return [call.fact(dtype, shape, values), call.fact(DataType.INT64, shape, indices)];
}

function oneHot(call: Call): Fact {
  const source = call.shape(0);
  const dtype = call.dtype(2);
  if (source === null) return { dtype, shape: null };
  const axis = call.node.int('axis', -1);
  const at = axis < 0 ? axis + source.length + 1 : axis;
  const depth = call.scalar(1) ?? null;
  const shape = [...source.slice(0, at), depth, ...source.slice(at)];
  const data = call.data(0);
  const choice = call.data(2);
  const sizes = known(shape);
  if (!data || !choice || !sizes || depth === null || !call.follows(dtype, shape)) return { dtype, shape };
  const inner = product(sizes.slice(at + 1));
  const out = Array.from({ length: product(sizes) }, (_, flat) => {
    const hot = data[Math.floor(flat / (inner * depth)) * inner + (flat % inner)] as number;
    const here = Math.floor(flat / inner) % depth;
    return choice[wrapped(hot, depth) === here ? 1 : 0] as number;
  });
  return call.fact(dtype, shape, out);
}

function compress(call: Call): Fact {
  const source = call.shape(0);
  const dtype = call.dtype(0);
  const kept = call.data(1)?.filter((x) => x !== 0).length ?? null;
  const axis = call.node.attributes.has('axis') ? call.node.int('axis', 0) : undefined;
  if (axis === undefined || source === null) return { dtype, shape: axis === undefined ? [kept] : null };
  const at = call.axis(axis, source.length);
  return { dtype, shape: source.map((d, i) => (i === at ? kept : d)) };
}

function unique(call: Call): Fact[] {
  const axis = call.node.attributes.has('axis') ? call.node.int('axis', 0) : undefined;
  const source = call.shape(0);
  const shape = axis === undefined ? [null] : (source?.map((d, i) => (i === (axis + source.length) % source.length ? null : d)) ?? null);
  const index: Fact = { dtype: DataType.INT64, shape: [null] };
  return [{ dtype: call.dtype(0), shape }, index, { dtype: DataType.INT64, shape: axis === undefined ? [countOf(source)] : [null] }, index];
}

export const indexing: HandlerTable = {
  Gather: gather,
  GatherElements: gatherElements,
  GatherND: gatherND,
  ScatterND: scatterND,
  ScatterElements: scatterElements,
  Scatter: scatterElements,
  // (past cache, update, write_indices): the cache keeps its size.
  TensorScatter: (call) => ({ dtype: call.dtype(0), shape: call.shape(0) }),
  NonZero: nonZero,
  TopK: topK,
  OneHot: oneHot,
  Compress: compress,
  Unique: unique,
};
