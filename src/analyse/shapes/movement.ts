/**
 * Operators that rearrange elements without looking at them: reshaping, transposing, repeating.
 * They carry contents, partly known ones included.
 */

import { DataType } from '../../ir/graph.js';
import { broadcast, type Call, type HandlerTable } from './call.js';
import { countOf, dimsFrom, known, unknownDims } from './dims.js';
import { expandElements, stridedCopy, stridesOf } from './strided.js';
import { joining } from './joining.js';
import type { Dims, Fact } from './types.js';

/** Input 0 with another shape and the same elements in the same order. */
function reshaped(call: Call, shape: Dims | null): Fact {
  return call.reshaped(0, shape);
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
  if (axes === null) {
    // Which axes go is not known; their number may be.
    const gone = call.dim(1, 0);
    return { dtype, shape: gone === null ? null : unknownDims(shape.length - gone) };
  }
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
  if (shape === null || axes === null || axes === undefined) {
    const added = call.dim(1, 0);
    return { dtype: call.dtype(0), shape: shape === null || added === null ? null : unknownDims(shape.length + added) };
  }
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
  if (elements === undefined || sizes === undefined || !call.follows(dtype, out)) return { dtype, shape: out };
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
  if (elements === undefined || from === undefined || to === undefined || !call.follows(dtype, to)) return { dtype, shape };
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
  if (elements === undefined || sizes === undefined || !call.follows(dtype, out)) return { dtype, shape: out };
  // A repeat is an axis of stride 0 in front of the axis it repeats.
  const strides = stridesOf(sizes);
  const view = sizes.flatMap((d, axis) => [repeats[axis] as number, d]);
  return call.fact(dtype, out, stridedCopy(elements, view, strides.flatMap((s) => [0, s])));
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
  // (data, ratio, training_mode): in training the contents are random.
  Dropout: (call) => [call.has(2) && call.scalar(2) !== 0 ? { dtype: call.dtype(0), shape: call.shape(0) } : call.input(0), { dtype: DataType.BOOL, shape: call.shape(0) }],
  Reshape: reshape,
  Flatten: flatten,
  Squeeze: squeeze,
  Unsqueeze: unsqueeze,
  Transpose: transpose,
  Expand: expand,
  Tile: tile,
  ...joining,
  DepthToSpace: (call) => blocks(call, true),
  SpaceToDepth: (call) => blocks(call, false),
  ReverseSequence: (call) => ({ dtype: call.dtype(0), shape: call.shape(0) }),
};
