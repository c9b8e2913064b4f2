/** Ops that fetch and put elements by indices, on terms. */
import { CannotEvaluate, type Element } from './term.js';
import { normal, sumOf } from './arithmetic.js';
import type { Call, Handler } from './call.js';
import { laid, taken } from './movement.js';
import { countOf, each, isEmpty, numbersOf, opened, openSizes, openTensor, stepsOf, type Tensor } from './tensor.js';

export const gather: Handler = (call) => {
  const x = call.tensor(0);
  const axis = normal(call.node.int('axis', 0), x.shape.length);
  const at = call.tensor(1);
  const size = x.shape[axis] as number;
  const places = numbersOf(call.terms, at, 'an index').map((p) => normal(p, size));
  const rows = opened(call.terms, x, [axis]);
  const flat = taken(call, rows, axis, places, '');
  return [laid(call, flat, [...x.shape.slice(0, axis), ...at.shape, ...x.shape.slice(axis + 1)])];
};

/** The leading axes of x that a tuple of indices picks from, open, and the offset of each picked block. */
function tuples(call: Call, x: Tensor, indices: Tensor): { x: Tensor; offsets: number[]; lead: number[]; depth: number } {
  const depth = indices.shape.at(-1) as number;
  const all = numbersOf(call.terms, indices, 'an index');
  const ready = opened(call.terms, x, Array.from({ length: depth }, (_, i) => i));
  const steps = stepsOf(ready);
  const count = all.length / depth;
  const offsets = Array.from({ length: count }, (_, i) => {
    let offset = 0;
    for (let d = 0; d < depth; d++) {
      const size = ready.shape[d] as number;
      const p = normal(all[i * depth + d] as number, size);
      if (p < 0 || p >= size) throw new CannotEvaluate('an index out of range');
      offset += p * (steps[d] as number);
    }
    return offset;
  });
  return { x: ready, offsets, lead: indices.shape.slice(0, -1), depth };
}

export const gatherND: Handler = (call) => {
  if (call.node.int('batch_dims', 0) !== 0) throw new CannotEvaluate('a GatherND in batches');
  const { x, offsets, lead, depth } = tuples(call, call.tensor(0), call.tensor(1));
  const tail = x.shape.slice(depth);
  const shape = [...lead, ...tail];
  if (shape.includes(0)) return [openTensor(shape, [])];
  const inner = countOf(tail.filter((_, i) => x.open[depth + i]));
  const data = offsets.flatMap((o) => x.data.slice(o, o + inner));
  return [{ shape, open: [...lead.map(() => true), ...x.open.slice(depth)], data }];
};

/** What several updates of one place come to. */
function update(call: Call, old: Element, fresh: Element): Element {
  const how = call.node.string('reduction', 'none');
  if (how === 'none') return fresh;
  if (how === 'add') return sumOf(call, [old, fresh]);
  if (typeof old === 'number' && typeof fresh === 'number') {
    if (how === 'mul') return old * fresh;
    return how === 'max' ? Math.max(old, fresh) : Math.min(old, fresh);
  }
  throw new CannotEvaluate('terms that are written over');
}

export const scatterND: Handler = (call) => {
  const indices = call.tensor(1);
  if (isEmpty(indices)) return [call.tensor(0)];
  const found = tuples(call, call.tensor(0), indices);
  const { offsets, depth } = found;
  const given = call.tensor(2);
  const lead = indices.shape.length - 1;
  const written = [...indices.shape.slice(0, -1), ...found.x.shape.slice(depth)];
  if (given.shape.length !== written.length || given.shape.some((d, i) => d !== written[i])) throw new CannotEvaluate('updates that do not fit');
  // The blocks that are written and what is written to them are laid out alike.
  const openTail = found.x.shape.slice(depth).map((size, i) => size === 1 || (found.x.open[depth + i] as boolean) || (given.open[lead + i] as boolean));
  const tailAxes = openTail.flatMap((o, i) => (o ? [i] : []));
  const x = opened(call.terms, found.x, tailAxes.map((i) => depth + i));
  const updates = opened(call.terms, given, [...Array.from({ length: lead }, (_, i) => i), ...tailAxes.map((i) => lead + i)]);
  const inner = countOf(x.shape.slice(depth).filter((_, i) => openTail[i]));
  const scale = inner / countOf(found.x.shape.slice(depth).filter((_, i) => found.x.open[depth + i]));
  const data = [...x.data];
  offsets.forEach((o, n) => {
    for (let i = 0; i < inner; i++) data[o * scale + i] = update(call, data[o * scale + i] as Element, updates.data[n * inner + i] as Element);
  });
  return [{ ...x, data }];
};

/** Opens `axis` everywhere, and every other axis that one of the tensors has open. */
function alike(call: Call, tensors: readonly Tensor[], axis: number): Tensor[] {
  const rank = (tensors[0] as Tensor).shape.length;
  const axes = Array.from({ length: rank }, (_, i) => i).filter((i) => i === axis || tensors.some((t) => t.open[i] && t.shape[i] !== 1) || new Set(tensors.map((t) => t.shape[i])).size > 1);
  return tensors.map((t) => opened(call.terms, t, axes));
}

/** Where in `x` an entry of the indices `at` points: at its own place, but for `axis`. */
function placesIn(x: Tensor, at: Tensor, axis: number): (index: readonly number[], to: Element | undefined) => number {
  const steps = stepsOf(x);
  const size = x.shape[axis] as number;
  const axes = at.shape.flatMap((_, i) => (at.open[i] ? [i] : []));
  return (index, to) => {
    if (typeof to !== 'number') throw new CannotEvaluate('an index is not known');
    if (to >= size || to < -size) throw new CannotEvaluate('an index out of range');
    let offset = normal(to, size) * (steps[axis] as number);
    axes.forEach((a, i) => {
      if (a !== axis) offset += (index[i] as number) * (steps[a] as number);
    });
    return offset;
  };
}

export const gatherElements: Handler = (call) => {
  const data = call.tensor(0);
  const axis = normal(call.node.int('axis', 0), data.shape.length);
  const [x, at] = alike(call, [data, call.tensor(1)], axis) as [Tensor, Tensor];
  const shape = at.shape;
  if (shape.includes(0)) return [openTensor(shape, [])];
  const place = placesIn(x, at, axis);
  const out: Element[] = [];
  each(openSizes(at), (index, n) => {
    const offset = place(index, at.data[n]);
    out.push(x.data[offset] as Element);
  });
  return [{ shape, open: at.open, data: out }];
};

export const scatterElements: Handler = (call) => {
  const given = call.tensor(0);
  const axis = normal(call.node.int('axis', 0), given.shape.length);
  if (isEmpty(call.tensor(1))) return [given];
  const [x, at, updates] = alike(call, [given, call.tensor(1), call.tensor(2)], axis) as [Tensor, Tensor, Tensor];
  if (at.shape.join() !== updates.shape.join() || at.shape.some((d, i) => i !== axis && d > (x.shape[i] as number))) throw new CannotEvaluate('updates that do not fit');
  const place = placesIn(x, at, axis);
  const out = [...x.data];
  each(openSizes(at), (index, n) => {
    const offset = place(index, at.data[n]);
    out[offset] = update(call, out[offset] as Element, updates.data[n] as Element);
  });
  return [{ ...x, data: out }];
};
