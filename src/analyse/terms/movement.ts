/** Ops that move elements, on terms. */
import type { Node } from '../../ir/graph.js';
import { CannotEvaluate, type Element, orderOf, Term } from './term.js';
import { normal, sumOf } from './arithmetic.js';
import type { Call, Handler } from './call.js';
import {
  apply,
  broadcastShape,
  closedAxes,
  countOf,
  each,
  fullyOpened,
  isEmpty,
  numbersOf,
  opened,
  openSizes,
  openTensor,
  stepsOf,
  stridesOf,
  tensor,
  type Tensor,
} from './tensor.js';

/** Copies of a term are told apart up to here; beyond it they are one block. */
const MOST_COPIES = 32;

export const reshape: Handler = (call) => {
  const x = call.tensor(0);
  const given = numbersOf(call.terms, call.tensor(1), 'a shape');
  const zeros = call.node.int('allowzero', 0) === 0;
  const sizes = given.map((d, i) => (d === 0 && zeros ? (x.shape[i] as number) : d));
  const count = x.shape.reduce((a, b) => a * b, 1);
  const others = sizes.filter((d) => d !== -1).reduce((a, b) => a * b, 1);
  return [laid(call, x, sizes.map((d) => (d === -1 ? (others === 0 ? 0 : count / others) : d)))];
};

export const squeeze: Handler = (call) => {
  const x = call.tensor(0);
  const given = call.node.ints('axes') ?? (call.optional(1) ? numbersOf(call.terms, call.tensor(1), 'the axes') : undefined);
  const axes = given?.map((a) => normal(a, x.shape.length)) ?? x.shape.flatMap((d, i) => (d === 1 ? [i] : []));
  return [laid(call, x, x.shape.filter((_, i) => !axes.includes(i)))];
};

export const unsqueeze: Handler = (call) => {
  const x = call.tensor(0);
  const given = call.node.ints('axes') ?? numbersOf(call.terms, call.tensor(1), 'the axes');
  const rank = x.shape.length + given.length;
  const axes = given.map((a) => normal(a, rank));
  let next = 0;
  return [laid(call, x, Array.from({ length: rank }, (_, i) => (axes.includes(i) ? 1 : (x.shape[next++] as number))))];
};

export const flatten: Handler = (call) => {
  const x = call.tensor(0);
  const axis = normal(call.node.int('axis', 1), x.shape.length);
  const product = (part: readonly number[]): number => part.reduce((a, b) => a * b, 1);
  return [laid(call, x, [product(x.shape.slice(0, axis)), product(x.shape.slice(axis))])];
};

/** The same elements in another shape: groups of axes of equal extent are all open or all closed. */
function laid(call: Call, start: Tensor, shape: readonly number[]): Tensor {
  let x = start;
  const count = shape.reduce((a, b) => a * b, 1);
  if (count !== x.shape.reduce((a, b) => a * b, 1) || shape.some((d) => d < 0 || !Number.isInteger(d))) throw new CannotEvaluate('a Reshape that does not fit');
  if (count === 0) return openTensor(shape, []);
  const groups: { from: number[]; to: number[] }[] = [];
  const a = x.shape.flatMap((d, i) => (d === 1 ? [] : [i]));
  const b = shape.flatMap((d, i) => (d === 1 ? [] : [i]));
  for (let i = 0, j = 0; i < a.length || j < b.length; ) {
    const group = { from: [a[i++] as number], to: [b[j++] as number] };
    let left = x.shape[group.from[0] as number] as number;
    let right = shape[group.to[0] as number] as number;
    while (left !== right) {
      if (left < right) {
        const axis = a[i++] as number;
        group.from.push(axis);
        left *= x.shape[axis] as number;
      } else {
        const axis = b[j++] as number;
        group.to.push(axis);
        right *= shape[axis] as number;
      }
    }
    groups.push(group);
  }
  const isClosed = shape.map(() => false);
  const before: number[][] = [];
  const after: number[][] = [];
  for (const { from, to } of groups) {
    if (from.every((axis) => !x.open[axis])) {
      for (const axis of to) isClosed[axis] = true;
      before.push(from.map((axis) => x.shape[axis] as number));
      after.push(to.map((axis) => shape[axis] as number));
    } else x = opened(call.terms, x, from);
  }
  const relaid = before.join() === after.join() && before.every((g, i) => g.length === after[i]?.length);
  const data = relaid ? x.data : x.data.map((e) => (typeof e === 'number' ? e : call.terms.of(`laid ${before.join('/')} as ${after.join('/')} ${e.id}`)));
  return tensor(shape, isClosed, data);
}

export const transpose: Handler = (call) => {
  const x = call.tensor(0);
  const rank = x.shape.length;
  const perm = call.node.ints('perm') ?? Array.from({ length: rank }, (_, i) => rank - 1 - i);
  const map = x.shape.map((_, i) => perm.indexOf(i));
  const shape = perm.map((p) => x.shape[p] as number);
  const order = closedAxes(x);
  const turned = perm.filter((p) => !x.open[p]);
  const same = order.every((axis, i) => axis === turned[i]);
  return [apply(call.terms, { label: `Transpose ${turned.map((p) => order.indexOf(p))}`, shape, operands: [{ t: x, map }], compute: ([e]) => (same || typeof e === 'number' ? e : undefined) })];
};

export const expand: Handler = (call) => {
  const x = call.tensor(0);
  const shape = broadcastShape([x.shape, numbersOf(call.terms, call.tensor(1), 'a shape')]);
  return [widened(call, x, shape)];
};

function widened(call: Call, x: Tensor, shape: readonly number[]): Tensor {
  if (shape.includes(0)) return openTensor(shape, []);
  const shift = shape.length - x.shape.length;
  const grown = shape.flatMap((size, o) => (size !== 1 && (x.shape[o - shift] ?? 1) === 1 ? [o] : []));
  const isOpen = shape.map((size, o) => size === 1 || (grown.includes(o) ? size <= MOST_COPIES : (x.open[o - shift] as boolean)));
  const steps = stepsOf(x);
  const out = shape.flatMap((_, o) => (isOpen[o] ? [o] : []));
  const blocks = grown.filter((o) => !isOpen[o]);
  const key = `Expand ${blocks.map((o) => `${o - shape.length}:${shape[o]}`)} in ${shape.filter((_, o) => !isOpen[o])}`;
  const data: Element[] = [];
  each(
    out.map((o) => shape[o] as number),
    (index) => {
      let offset = 0;
      out.forEach((o, i) => {
        if ((x.shape[o - shift] ?? 1) !== 1) offset += (index[i] as number) * (steps[o - shift] as number);
      });
      const e = x.data[offset] as Element;
      data.push(blocks.length === 0 || typeof e === 'number' ? e : call.terms.of(`${key} ${e.id}`));
    },
  );
  return { shape, open: isOpen, data };
}

export const concat: Handler = (call) => {
  const parts = call.tensors();
  const rank = parts[0]?.shape.length ?? 0;
  const axis = normal(call.node.int('axis', 0), rank);
  const filled = parts.filter((t) => !isEmpty(t));
  const [first] = filled;
  const total = parts.reduce((a, t) => a + (t.shape[axis] as number), 0);
  if (!first) return [openTensor((parts[0] as Tensor).shape.map((d, i) => (i === axis ? total : d)), [])];
  const shape = first.shape.map((d, i) => (i === axis ? total : d));
  if (filled.length === 1) return [first];
  const features = filled.some((t) => !t.open[axis]);
  if (filled.some((t) => t.shape.some((d, i) => i !== axis && d !== shape[i]))) throw new CannotEvaluate('parts that do not fit together');
  if (features) {
    const map = shape.map((_, i) => (i === axis ? -1 : i));
    return [apply(call.terms, { label: `Concat ${filled.map((t) => t.shape[axis])}`, shape, operands: filled.map((t) => ({ t, map })), fresh: [axis] })];
  }
  // Along tokens or indices: what is open anywhere is open everywhere.
  const others = shape.flatMap((_, i) => (i !== axis && filled.some((t) => t.open[i] && t.shape[i] !== 1) ? [i] : []));
  const ready = filled.map((t) => opened(call.terms, t, others));
  const sizes = ready.map((t) => t.shape[axis] as number);
  const model = ready[0] as Tensor;
  const open = shape.map((size, i) => size === 1 || i === axis || (model.open[i] as boolean));
  const at = shape.flatMap((_, i) => (open[i] ? [i] : [])).indexOf(axis);
  const data: Element[] = [];
  each(
    shape.filter((_, i) => open[i]),
    (index) => {
      let place = index[at] as number;
      let part = 0;
      while (place >= (sizes[part] as number)) place -= sizes[part++] as number;
      const t = ready[part] as Tensor;
      data.push(t.data[offsetIn(t, open, index, at, place)] as Element);
    },
  );
  return [{ shape, open, data }];
};

/** Where the entry lies whose index is `index` over the open axes, with `place` at position `at`. */
function offsetIn(t: Tensor, open: readonly boolean[], index: readonly number[], at: number, place: number): number {
  const steps = stepsOf(t);
  let offset = 0;
  let i = 0;
  open.forEach((o, axis) => {
    if (!o) return;
    if (t.shape[axis] !== 1) offset += (i === at ? place : (index[i] as number)) * (steps[axis] as number);
    i++;
  });
  return offset;
}

/** Entries `places` of one axis. */
function taken(call: Call, x: Tensor, axis: number, places: readonly number[], label: string): Tensor {
  const shape = x.shape.map((d, i) => (i === axis ? places.length : d));
  const size = x.shape[axis] as number;
  if (places.some((p) => p < 0 || p >= size)) throw new CannotEvaluate('an index out of range');
  if (!x.open[axis]) {
    if (places.length === size && places.every((p, i) => p === i)) return x;
    const map = shape.map((_, i) => (i === axis ? -1 : i));
    return apply(call.terms, { label, shape, operands: [{ t: x, map }], fresh: [axis] });
  }
  if (shape.includes(0)) return openTensor(shape, []);
  const open = shape.map((d, i) => d === 1 || i === axis || (x.open[i] as boolean));
  const at = shape.flatMap((_, i) => (open[i] ? [i] : [])).indexOf(axis);
  const steps = stepsOf(x);
  const axes = shape.flatMap((_, i) => (open[i] ? [i] : []));
  const data: Element[] = [];
  each(
    shape.filter((_, i) => open[i]),
    (index) => {
      let offset = 0;
      axes.forEach((a, i) => {
        if (x.shape[a] !== 1) offset += (i === at ? (places[index[i] as number] as number) : (index[i] as number)) * (steps[a] as number);
      });
      data.push(x.data[offset] as Element);
    },
  );
  return { shape, open, data };
}

export const split: Handler = (call) => {
  const { node } = call;
  const x = call.tensor(0);
  const axis = normal(node.int('axis', 0), x.shape.length);
  const size = x.shape[axis] as number;
  const parts = node.outputs.length;
  const given = node.ints('split') ?? (call.optional(1) ? numbersOf(call.terms, call.tensor(1), 'the parts') : undefined);
  const each1 = Math.ceil(size / parts);
  const sizes = given ?? Array.from({ length: parts }, (_, i) => Math.min(each1, size - i * each1));
  let start = 0;
  return sizes.map((n) => {
    const from = start;
    start += n;
    return taken(call, x, axis, Array.from({ length: n }, (_, i) => from + i), `part ${from} ${n}`);
  });
};

export const slice: Handler = (call) => {
  const { terms } = call;
  let x = call.tensor(0);
  const starts = numbersOf(terms, call.tensor(1), 'starts');
  const ends = numbersOf(terms, call.tensor(2), 'ends');
  const axes = call.optional(3) ? numbersOf(terms, call.tensor(3), 'axes') : starts.map((_, i) => i);
  const steps = call.optional(4) ? numbersOf(terms, call.tensor(4), 'steps') : starts.map(() => 1);
  starts.forEach((given, i) => {
    const axis = normal(axes[i] as number, x.shape.length);
    const size = x.shape[axis] as number;
    const step = steps[i] as number;
    const clamp = (p: number, low: number, high: number): number => Math.min(Math.max(p < 0 ? p + size : p, low), high);
    const start = step > 0 ? clamp(given, 0, size) : clamp(given, 0, size - 1);
    const end = step > 0 ? clamp(ends[i] as number, 0, size) : clamp(ends[i] as number, -1, size - 1);
    const places: number[] = [];
    for (let p = start; step > 0 ? p < end : p > end; p += step) places.push(p);
    x = taken(call, x, axis, places, `slice ${start} ${end} ${step}`);
  });
  return [x];
};

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
