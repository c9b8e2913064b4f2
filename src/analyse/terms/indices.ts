/** Ops that make indices: the places of the largest, of what is not zero, of a range; and sizes, which are numbers as well. */
import type { Node } from '../../ir/graph.js';
import { type Element, orderOf, Term } from './term.js';
import { normal } from './arithmetic.js';
import type { Call, Handler } from './call.js';
import { laid } from './movement.js';
import { countOf, each, fullyOpened, numbersOf, opened, openTensor, stepsOf, stridesOf, type Tensor } from './tensor.js';

/** The places of the `k` first in order along an open axis, or drawn along a closed one. */
function best(call: Call, entries: readonly Element[], k: number, largest: boolean): number[] {
  const alone = call.terms.alike && entries.every((e) => e instanceof Term);
  const order = (e: Element, i: number): number => (alone ? call.terms.draw(i) : orderOf(e));
  return entries
    .map((e, i) => ({ i, order: order(e, i) }))
    .sort((a, b) => (largest ? b.order - a.order : a.order - b.order) || a.i - b.i)
    .slice(0, k)
    .map((e) => e.i);
}

function drawn(call: Call, e: Element, size: number, k: number, node: Node): number[] {
  const places = Array.from({ length: size }, (_, i) => i);
  if (typeof e === 'number') return places.slice(0, k);
  const base = call.terms.alike ? 0 : e.id * 4099;
  return places
    .map((i) => ({ i, order: call.terms.draw(base + i + (node.is('ArgMin') ? 7 : 0)) }))
    .sort((a, b) => b.order - a.order)
    .slice(0, k)
    .map((p) => p.i);
}

export const topK: Handler = (call) => {
  const { node, terms } = call;
  const k = numbersOf(terms, call.tensor(1), 'k')[0] as number;
  const axis = normal(node.int('axis', -1), call.tensor(0).shape.length);
  return picked(call, axis, k, node.int('largest', 1) === 1, true);
};

export const argMax: Handler = (call) => {
  const rank = call.tensor(0).shape.length;
  const axis = normal(call.node.int('axis', 0), rank);
  const [, places] = picked(call, axis, 1, call.node.is('ArgMax'), false) as [Tensor, Tensor];
  return [call.node.int('keepdims', 1) === 1 ? places : laid(call, places, places.shape.filter((_, i) => i !== axis))];
};

function picked(call: Call, axis: number, k: number, largest: boolean, values: boolean): readonly Tensor[] {
  const { terms, node } = call;
  const given = call.tensor(0);
  // Every other axis is told apart: each row has an order of its own.
  const x = opened(terms, given, given.shape.flatMap((_, i) => (i === axis ? [] : [i])));
  const shape = x.shape.map((d, i) => (i === axis ? k : d));
  if (shape.includes(0)) return [openTensor(shape, []), openTensor(shape, [])];
  const size = x.shape[axis] as number;
  const strides = stridesOf(shape);
  const chosen = new Array<Element>(countOf(shape));
  const places = new Array<Element>(chosen.length);
  const lead = x.shape.map((d, i) => (i === axis ? 1 : d));
  const steps = stepsOf(x);
  each(lead, (index) => {
    let from = 0;
    let to = 0;
    index.forEach((n, i) => {
      from += n * (steps[i] as number);
      to += n * (strides[i] as number);
    });
    const step = steps[axis] as number;
    const entries = x.open[axis] ? Array.from({ length: size }, (_, i) => x.data[from + i * step] as Element) : undefined;
    const row = x.data[from] as Element;
    const order = entries ? best(call, entries, k, largest) : drawn(call, row, size, k, node);
    order.forEach((p, i) => {
      const o = to + i * (strides[axis] as number);
      places[o] = p;
      chosen[o] = values ? (entries ? (entries[p] as Element) : typeof row === 'number' ? row : terms.of(`top ${p} ${size} ${row.id}`)) : 0;
    });
  });
  return [openTensor(shape, chosen), openTensor(shape, places)];
}

export const range: Handler = (call) => {
  const [start = 0, limit = 0, step = 1] = [0, 1, 2].map((i) => numbersOf(call.terms, call.tensor(i), 'a range')[0] as number);
  const n = Math.max(0, Math.ceil((limit - start) / step));
  return [openTensor([n], Array.from({ length: countOf([n]) }, (_, i) => start + i * step))];
};

export const shapeOf: Handler = (call) => {
  const { shape } = call.tensor(0);
  const part = shape.slice(call.node.int('start', 0), call.node.attributes.has('end') ? call.node.int('end', 0) : undefined);
  return [openTensor([part.length], part)];
};

export const sizeOf: Handler = (call) => [openTensor([], [call.tensor(0).shape.reduce((a, b) => a * b, 1)])];

export const nonZero: Handler = (call) => {
  const x = call.tensor(0);
  const numbers = numbersOf(call.terms, x, 'what is counted');
  const strides = stridesOf(x.shape);
  const found = numbers.flatMap((n, i) => (n ? [i] : []));
  const rows = x.shape.map((size, axis) => found.map((at) => Math.floor(at / (strides[axis] as number)) % size));
  return [openTensor([x.shape.length, found.length], rows.flat())];
};

export const oneHot: Handler = (call) => {
  const { terms } = call;
  const at = fullyOpened(terms, call.tensor(0));
  const indices = numbersOf(terms, at, 'an index');
  const depth = numbersOf(terms, call.tensor(1), 'the depth')[0] as number;
  const [off = 0, on = 1] = numbersOf(terms, call.tensor(2), 'the values');
  const rank = at.shape.length + 1;
  const axis = normal(call.node.int('axis', -1), rank);
  const shape = [...at.shape.slice(0, axis), depth, ...at.shape.slice(axis)];
  const inner = at.shape.slice(axis).reduce((a, b) => a * b, 1);
  const data = new Array<Element>(countOf(shape)).fill(off);
  indices.forEach((p, i) => {
    const place = normal(p, depth);
    if (place >= 0 && place < depth) data[(Math.floor(i / inner) * depth + place) * inner + (i % inner)] = on;
  });
  return [openTensor(shape, data)];
};
