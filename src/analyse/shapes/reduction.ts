/**
 * Reductions and scans along axes.
 */

import { DataType } from '../../ir/graph.js';
import type { Call, HandlerTable } from './call.js';
import { known, unknownDims } from './dims.js';
import { stridesOf } from './strided.js';
import { isIntegral, rounder } from './numbers.js';
import type { Dims, Fact } from './types.js';

const sum = (v: readonly number[]): number => v.reduce((a, b) => a + b, 0);
const logSumExp = (v: readonly number[]): number => {
  const top = v.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  return Number.isFinite(top) ? top + Math.log(sum(v.map((x) => Math.exp(x - top)))) : top;
};

function reduce(fn: (values: readonly number[]) => number): (call: Call) => Fact {
  return (call) => {
    const dtype = call.dtype(0);
    const source = call.shape(0);
    const keep = call.node.int('keepdims', 1) === 1;
    if (source === null) return { dtype, shape: null };
    const given = call.intsOf('axes', 1);
    if (given === null) {
      // Which axes go is not known; their number may be.
      const gone = call.dim(1, 0);
      const rank = keep ? source.length : gone === null ? null : source.length - gone;
      return { dtype, shape: unknownDims(rank) };
    }
    const none = given === undefined || given.length === 0;
    if (none && call.node.int('noop_with_empty_axes', 0) === 1) return call.input(0);
    const axes = new Set(none ? source.keys() : given.map((a) => call.axis(a, source.length)));
    const shape: Dims = keep ? source.map((d, i) => (axes.has(i) ? 1 : d)) : source.filter((_, i) => !axes.has(i));
    const data = call.data(0);
    const from = known(source);
    if (data === undefined || from === undefined) return { dtype, shape };
    const groups = groupsOf(data, from, axes);
    const round = rounder(dtype);
    const finish = isIntegral(dtype) ? (x: number): number => round(Math.trunc(x)) : round;
    return call.fact(dtype, shape, groups.map((g) => finish(fn(g))));
  };
}

/** What is reduced to one element each, in the order of the result. */
function groupsOf(data: readonly number[], from: readonly number[], axes: ReadonlySet<number | null>): readonly (readonly number[])[] {
  const kept = from.map((d, i) => (axes.has(i) ? 1 : d));
  const count = kept.reduce((a, b) => a * b, 1);
  // Mostly the last axes: what belongs together lies together.
  const first = from.findIndex((d, i) => axes.has(i) && d !== 1);
  const together = first < 0 || from.every((d, i) => i < first || d === 1 || axes.has(i));
  if (together && count > 0) {
    const size = data.length / count;
    return Array.from({ length: count }, (_, i) => data.slice(i * size, (i + 1) * size));
  }
  const strides = stridesOf(from);
  const keptStrides = stridesOf(kept);
  const groups: number[][] = Array.from({ length: count }, () => []);
  data.forEach((x, flat) => {
    let at = 0;
    for (let i = 0; i < from.length; i++) {
      if (!axes.has(i)) at += (Math.floor(flat / (strides[i] as number)) % (from[i] as number)) * (keptStrides[i] as number);
    }
    (groups[at] as number[]).push(x);
  });
  return groups;
}

/** ArgMax and ArgMin: the first of equal elements, or the last with `select_last_index`. */
function argBest(sign: 1 | -1): (call: Call) => Fact {
  return (call) => {
    const source = call.shape(0);
    if (source === null) return { dtype: DataType.INT64, shape: null };
    const axis = call.axis(call.node.int('axis', 0), source.length) ?? 0;
    const keep = call.node.int('keepdims', 1) === 1;
    const shape = keep ? source.map((d, i) => (i === axis ? 1 : d)) : source.filter((_, i) => i !== axis);
    const data = call.data(0);
    const from = known(source);
    if (data === undefined || from === undefined) return { dtype: DataType.INT64, shape };
    const last = call.node.int('select_last_index', 0) === 1;
    const size = from[axis] as number;
    const inner = from.slice(axis + 1).reduce((a, b) => a * b, 1);
    const outer = from.slice(0, axis).reduce((a, b) => a * b, 1);
    const out: number[] = [];
    for (let o = 0; o < outer; o++) {
      for (let i = 0; i < inner; i++) {
        let best = 0;
        let top = Number.NEGATIVE_INFINITY;
        for (let j = 0; j < size; j++) {
          const x = sign * (data[(o * size + j) * inner + i] as number);
          if (x > top || (last && x === top)) {
            best = j;
            top = x;
          }
        }
        out.push(best);
      }
    }
    return call.fact(DataType.INT64, shape, out);
  };
}

/** CumSum and CumProd. */
function cumulative(step: (total: number, x: number) => number, start: number): (call: Call) => Fact {
  return (call) => scan(call, step, start);
}

function scan(call: Call, step: (total: number, x: number) => number, initial: number): Fact {
  const { dtype, shape, data } = call.input(0);
  const from = known(shape);
  const wanted = call.scalar(1);
  if (data === undefined || from === undefined || wanted === undefined) return { dtype, shape };
  const axis = call.axis(wanted, from.length);
  if (axis === null) return { dtype, shape };
  const exclusive = call.node.int('exclusive', 0) === 1;
  const reverse = call.node.int('reverse', 0) === 1;
  const size = from[axis] as number;
  const inner = stridesOf(from)[axis] as number;
  const round = rounder(dtype);
  const out = [...data];
  for (let start = 0; start < data.length; start += size * inner) {
    for (let i = 0; i < inner; i++) {
      let total = initial;
      for (let j = 0; j < size; j++) {
        const at = start + (reverse ? size - 1 - j : j) * inner + i;
        const before = total;
        total = round(step(total, data[at] as number));
        out[at] = exclusive ? before : total;
      }
    }
  }
  return call.fact(dtype, shape, out);
}

function trilu(call: Call): Fact {
  const { dtype, shape, data } = call.input(0);
  const from = known(shape);
  const k = call.has(1) ? call.scalar(1) : 0;
  if (data === undefined || from === undefined || k === undefined) return { dtype, shape };
  const upper = call.node.int('upper', 1) === 1;
  const columns = from.at(-1) ?? 1;
  const rows = from.at(-2) ?? 1;
  const out = data.map((x, flat) => {
    const distance = (flat % columns) - (Math.floor(flat / columns) % rows) - k;
    return (upper ? distance >= 0 : distance <= 0) ? x : 0;
  });
  return call.fact(dtype, shape, out);
}

export const reduction: HandlerTable = {
  ReduceSum: reduce(sum),
  ReduceMean: reduce((v) => sum(v) / v.length),
  ReduceMax: reduce((v) => v.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY)),
  ReduceMin: reduce((v) => v.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY)),
  ReduceProd: reduce((v) => v.reduce((a, b) => a * b, 1)),
  ReduceL1: reduce((v) => sum(v.map(Math.abs))),
  ReduceL2: reduce((v) => Math.sqrt(sum(v.map((x) => x * x)))),
  ReduceSumSquare: reduce((v) => sum(v.map((x) => x * x))),
  ReduceLogSum: reduce((v) => Math.log(sum(v))),
  ReduceLogSumExp: reduce(logSumExp),
  ArgMax: argBest(1),
  ArgMin: argBest(-1),
  CumSum: cumulative((total, x) => total + x, 0),
  CumProd: cumulative((total, x) => total * x, 1),
  Trilu: trilu,
};
