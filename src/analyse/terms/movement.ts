/** Ops that lay elements out anew, and cut and join tensors, on terms. */
import { CannotEvaluate, type Element } from './term.js';
import { normal } from './arithmetic.js';
import type { Call, Handler } from './call.js';
import { apply, broadcastShape, closedAxes, each, isEmpty, numbersOf, opened, openTensor, stepsOf, tensor, type Tensor } from './tensor.js';

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
export function laid(call: Call, start: Tensor, shape: readonly number[]): Tensor {
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
export function taken(call: Call, x: Tensor, axis: number, places: readonly number[], label: string): Tensor {
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
