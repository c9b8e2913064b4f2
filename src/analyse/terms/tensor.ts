/**
 * Tensors of terms. Axes that tokens, experts and indices lie along are open: their entries are told apart. Axes of
 * features are closed: a whole block along them is one element, so the size of a model does not matter. A number is the same
 * all along the closed axes.
 */
import { CannotEvaluate, type Element, keyOf, Term, type Terms } from './term.js';

export interface Tensor {
  readonly shape: readonly number[];
  /** Axes of size 1 are always open. */
  readonly open: readonly boolean[];
  /** Row-major over the open axes. */
  readonly data: readonly Element[];
}

/** Most elements of one tensor. */
const LIMIT = 1 << 20;

export function countOf(sizes: readonly number[]): number {
  const count = sizes.reduce((a, b) => a * b, 1);
  if (count > LIMIT) throw new CannotEvaluate('too many elements to tell apart');
  return count;
}

export function openSizes(t: Tensor): number[] {
  return t.shape.filter((_, i) => t.open[i]);
}

export function closedAxes(t: Tensor): number[] {
  return t.shape.flatMap((_, i) => (t.open[i] ? [] : [i]));
}

export function stridesOf(sizes: readonly number[]): number[] {
  const strides = new Array<number>(sizes.length);
  let stride = 1;
  for (let i = sizes.length - 1; i >= 0; i--) {
    strides[i] = stride;
    stride *= sizes[i] as number;
  }
  return strides;
}

/** For each axis of `t`: its step in `data`; 0 where it is closed. */
export function stepsOf(t: Tensor): number[] {
  const strides = stridesOf(openSizes(t));
  let at = 0;
  return t.open.map((o) => (o ? (strides[at++] as number) : 0));
}

/** Calls `visit` for every index of `sizes`, in row-major order. The array is reused. */
export function each(sizes: readonly number[], visit: (index: readonly number[], at: number) => void): void {
  const count = countOf(sizes);
  const index = new Array<number>(sizes.length).fill(0);
  for (let at = 0; at < count; at++) {
    visit(index, at);
    for (let axis = sizes.length - 1; axis >= 0; axis--) {
      index[axis] = (index[axis] as number) + 1;
      if ((index[axis] as number) < (sizes[axis] as number)) break;
      index[axis] = 0;
    }
  }
}

export function tensor(shape: readonly number[], closed: readonly boolean[], data: readonly Element[]): Tensor {
  return { shape, open: shape.map((size, i) => size === 1 || !closed[i]), data };
}

/** All axes open. */
export function openTensor(shape: readonly number[], data: readonly Element[]): Tensor {
  return { shape, open: shape.map(() => true), data };
}

/** One block: nothing is told apart. */
export function block(shape: readonly number[], element: Element): Tensor {
  if (shape.includes(0)) return openTensor(shape, []);
  return { shape, open: shape.map((size) => size === 1), data: [element] };
}

export function isEmpty(t: Tensor): boolean {
  return t.shape.includes(0);
}

/** Tells the entries along `axes` apart. */
export function opened(terms: Terms, t: Tensor, axes: readonly number[]): Tensor {
  let out = t;
  for (const axis of axes) if (axis < 0 || axis >= t.shape.length) throw new CannotEvaluate(`axis ${axis} of a value with ${t.shape.length}`);
  for (const axis of axes) if (!out.open[axis]) out = openOne(terms, out, axis);
  return out;
}

export function fullyOpened(terms: Terms, t: Tensor): Tensor {
  return opened(terms, t, closedAxes(t));
}

function openOne(terms: Terms, t: Tensor, axis: number): Tensor {
  const place = closedAxes(t).indexOf(axis);
  const closed = closedAxes(t).map((a) => t.shape[a]);
  const open = t.open.map((o, i) => o || i === axis);
  const sizes = t.shape.filter((_, i) => open[i]);
  const position = t.shape.flatMap((_, i) => (open[i] ? [i] : [])).indexOf(axis);
  const inner = countOf(sizes.slice(position + 1));
  const size = t.shape[axis] as number;
  const data = new Array<Element>(countOf(sizes));
  for (let at = 0; at < data.length; at++) {
    const i = Math.floor(at / inner) % size;
    const e = t.data[Math.floor(at / (inner * size)) * inner + (at % inner)] as Element;
    data[at] = typeof e === 'number' ? e : terms.of(`at ${place} ${i} of ${closed} ${e.id}`);
  }
  return { shape: t.shape, open, data };
}

/** Puts the entries along `axes` into blocks. */
export function closed(terms: Terms, t: Tensor, axes: readonly number[]): Tensor {
  let out = t;
  for (const axis of axes) if (out.open[axis] && out.shape[axis] !== 1) out = closeOne(terms, out, axis);
  return out;
}

function closeOne(terms: Terms, t: Tensor, axis: number): Tensor {
  if (isEmpty(t)) throw new CannotEvaluate('nothing to put into a block');
  const sizes = openSizes(t);
  const position = t.shape.flatMap((_, i) => (t.open[i] ? [i] : [])).indexOf(axis);
  const inner = countOf(sizes.slice(position + 1));
  const size = t.shape[axis] as number;
  const rest = closedAxes(t);
  const place = rest.filter((a) => a < axis).length;
  const data = new Array<Element>(t.data.length / size);
  for (let at = 0; at < data.length; at++) {
    const base = Math.floor(at / inner) * inner * size + (at % inner);
    const entries = Array.from({ length: size }, (_, i) => t.data[base + i * inner] as Element);
    const [first] = entries;
    if (typeof first === 'number' && entries.every((e) => e === first)) data[at] = first;
    else data[at] = terms.of(`block ${place} of ${rest.map((a) => t.shape[a])} ${entries.map(keyOf)}`);
  }
  return { shape: t.shape, open: t.open.map((o, i) => o && i !== axis), data };
}

/** How an input lies in the output of an op: for each of its axes the output's axis, or −1 when the op works along it. */
export interface Operand {
  readonly t: Tensor;
  readonly map: readonly number[];
}

/** An op that computes each entry of the output's axes by itself from the entries at the same place of its inputs. */
export interface Application {
  /** What two entries must share, beside their inputs, to be one term. */
  readonly label: string;
  readonly shape: readonly number[];
  readonly operands: readonly Operand[];
  /** Output axes that no input has, of the op's own making: closed. */
  readonly fresh?: readonly number[];
  /** For numbers and for orders of terms; undefined leaves it a term. Not asked when the op works along an axis. */
  readonly compute?: ((elements: readonly Element[], single: boolean) => Element | undefined) | undefined;
}

export function apply(terms: Terms, { label, shape, operands, fresh = [], compute }: Application): Tensor {
  for (const { t, map } of operands) {
    if (map.some((m, i) => m >= 0 && t.shape[i] !== 1 && t.shape[i] !== shape[m])) throw new CannotEvaluate('sizes that do not fit together');
  }
  if (shape.includes(0)) return openTensor(shape, []);
  const isOpen = shape.map((size, o) => {
    if (size === 1) return true;
    if (fresh.includes(o)) return false;
    return operands.some(({ t, map }) => map.some((m, i) => m === o && t.open[i] && t.shape[i] !== 1));
  });
  const ready = operands.map(({ t, map }) => {
    const toOpen = map.flatMap((m, i) => (m >= 0 && isOpen[m] && t.shape[i] !== 1 ? [i] : []));
    const toClose = map.flatMap((m, i) => (m < 0 ? [i] : []));
    return { t: closed(terms, opened(terms, t, toOpen), toClose), map };
  });
  const inside = ready.some(({ t, map }) => map.some((m, i) => m < 0 && t.shape[i] !== 1));
  const pattern = ready.map(({ t, map }) => closedAxes(t).map((i) => `${map[i]}:${t.shape[i]}`).join()).join(';');
  const out = shape.filter((_, o) => isOpen[o]);
  const rest = shape.filter((_, o) => !isOpen[o]);
  const key = `${label} ${rest} | ${pattern} |`;
  const position = new Map(shape.flatMap((_, o) => (isOpen[o] ? [o] : [])).map((o, i) => [o, i]));
  const steps = ready.map(({ t, map }) => {
    const own = stepsOf(t);
    const by = new Array<number>(out.length).fill(0);
    map.forEach((m, i) => {
      const p = m >= 0 ? position.get(m) : undefined;
      if (p !== undefined && t.open[i] && t.shape[i] !== 1) by[p] = own[i] as number;
    });
    return by;
  });
  const data = new Array<Element>(countOf(out));
  each(out, (index, at) => {
    const elements = ready.map(({ t }, n) => {
      let offset = 0;
      const by = steps[n] as number[];
      for (let i = 0; i < by.length; i++) offset += (index[i] as number) * (by[i] as number);
      return t.data[offset] as Element;
    });
    const made = compute && !inside ? compute(elements, rest.length === 0) : undefined;
    data[at] = made ?? terms.of(key + elements.map(keyOf).join());
  });
  return { shape, open: isOpen, data };
}

/** Broadcasting: axes from the right. */
export function aligned(t: Tensor, rank: number): number[] {
  return t.shape.map((_, i) => i + rank - t.shape.length);
}

export function broadcastShape(shapes: readonly (readonly number[])[]): number[] {
  const rank = Math.max(0, ...shapes.map((s) => s.length));
  return Array.from({ length: rank }, (_, o) => {
    let size = 1;
    for (const s of shapes) {
      const d = s[o - rank + s.length];
      if (d !== undefined && d !== 1) size = d;
    }
    return size;
  });
}

export function isNumbers(t: Tensor): boolean {
  return t.data.every((e) => !(e instanceof Term));
}

/** The contents of a value that is all numbers. */
export function numbersOf(terms: Terms, t: Tensor | undefined, what: string): number[] {
  if (!t) throw new CannotEvaluate(`${what} is missing`);
  const full = fullyOpened(terms, t);
  if (!isNumbers(full)) throw new CannotEvaluate(`${what} is not known`);
  return full.data as number[];
}
