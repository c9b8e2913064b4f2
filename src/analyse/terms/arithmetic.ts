/** Ops that compute each element by itself, products, and ops along an axis, on terms. */
import type { Node } from '../../ir/graph.js';
import { DataType } from '../../ir/graph.js';
import { type Element, keyOf, orderOf, Term, CannotEvaluate } from './term.js';
import { aligned, apply, broadcastShape, isNumbers, numbersOf, opened, type Operand, type Tensor } from './tensor.js';
import type { Call, Handler } from './call.js';

const INTEGERS: readonly number[] = [DataType.INT64, DataType.INT32, DataType.UINT8, DataType.INT8, DataType.INT16, DataType.UINT16, DataType.UINT32, DataType.UINT64, DataType.BOOL];

export function isInteger(dtype: number): boolean {
  return INTEGERS.includes(dtype);
}

/** Attributes that change what an op does, in a fixed order. */
export function attributesOf(node: Node): string {
  return [...node.attributes.entries()]
    .filter(([, a]) => a.kind !== 'tensor' && a.kind !== 'graph')
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, a]) => `${name}=${String(a.value)}`)
    .join(' ');
}

type Numeric = (x: readonly number[], integer: boolean) => number;

const COMPUTED: Readonly<Record<string, Numeric>> = {
  Add: ([a = 0, b = 0]) => a + b,
  Sub: ([a = 0, b = 0]) => a - b,
  Mul: ([a = 0, b = 0]) => a * b,
  Div: ([a = 0, b = 0], integer) => (integer ? Math.trunc(a / b) : a / b),
  Neg: ([a = 0]) => -a,
  Abs: ([a = 0]) => Math.abs(a),
  Floor: ([a = 0]) => Math.floor(a),
  Ceil: ([a = 0]) => Math.ceil(a),
  And: ([a = 0, b = 0]) => (a && b ? 1 : 0),
  Or: ([a = 0, b = 0]) => (a || b ? 1 : 0),
  Xor: ([a = 0, b = 0]) => (a !== b ? 1 : 0),
  Not: ([a = 0]) => (a ? 0 : 1),
  Min: (x) => Math.min(...x),
  Max: (x) => Math.max(...x),
  Identity: ([a = 0]) => a,
};

const COMPARED: Readonly<Record<string, (a: number, b: number) => boolean>> = {
  Less: (a, b) => a < b,
  LessOrEqual: (a, b) => a <= b,
  Greater: (a, b) => a > b,
  GreaterOrEqual: (a, b) => a >= b,
};

/** Ops whose result changes at a limit: one that the trial's counts do not reach would not be seen. */
const LIMITED = new Set([...Object.keys(COMPARED), 'Min', 'Max', 'Clip', 'Mod']);

export const elementwise: Handler = (call) => {
  const inputs = call.tensors();
  const shape = broadcastShape(inputs.map((t) => t.shape));
  return [mapped(call, shape, inputs.map((t) => ({ t, map: aligned(t, shape.length) })))];
};

function mapped(call: Call, shape: readonly number[], operands: readonly Operand[]): Tensor {
  const { node } = call;
  const op = node.opType;
  const integer = isInteger(call.dtypeOfInput(op === 'Where' ? 1 : 0));
  if (LIMITED.has(op) && integer) for (const { t } of operands) call.noteLimits(t);
  const numeric = COMPUTED[op];
  const compared = COMPARED[op];
  const label = `${op} ${attributesOf(node)}`;
  const compute = (x: readonly Element[], single: boolean): Element | undefined => {
    const numbers = x.every((e) => typeof e === 'number') ? (x as readonly number[]) : undefined;
    if (op === 'Where') {
      const [choice, yes, no] = x;
      return typeof choice === 'number' ? (choice ? yes : no) : undefined;
    }
    if (op === 'Cast') return numbers && cast(numbers[0] as number, node.int('to', 0));
    if (op === 'Clip') return numbers && Math.min(Math.max(numbers[0] as number, numbers[1] ?? Number.NEGATIVE_INFINITY), numbers[2] ?? Number.POSITIVE_INFINITY);
    if (op === 'Mod') return numbers && (node.int('fmod', 0) ? (numbers[0] as number) % (numbers[1] as number) : modulo(numbers[0] as number, numbers[1] as number));
    if (op === 'Equal') return numbers || single ? (keyOf(x[0] as Element) === keyOf(x[1] as Element) ? 1 : 0) : undefined;
    if (compared) return numbers || single ? (compared(orderOf(x[0] as Element), orderOf(x[1] as Element)) ? 1 : 0) : undefined;
    if (numbers && numeric) return numeric(numbers, integer);
    if (op === 'Identity') return x[0];
    if (op === 'Add') return x[0] === 0 ? x[1] : x[1] === 0 ? x[0] : undefined;
    return undefined;
  };
  return apply(call.terms, { label, shape, operands, compute });
}

function modulo(a: number, b: number): number {
  return ((a % b) + b) % b;
}

function cast(x: number, to: number): number {
  if (to === DataType.BOOL) return x ? 1 : 0;
  return isInteger(to) ? Math.trunc(x) : x;
}

/** [.., M, K] · [.., K, N]. */
function product(call: Call, a: Tensor, b: Tensor, label: string): Tensor {
  if (a.shape.length < 2 || b.shape.length < 2) throw new CannotEvaluate('a product with a vector');
  const lead = broadcastShape([a.shape.slice(0, -2), b.shape.slice(0, -2)]);
  const m = lead.length;
  const shape = [...lead, a.shape.at(-2) as number, b.shape.at(-1) as number];
  const batch = (t: Tensor): number[] => t.shape.slice(0, -2).map((_, i) => i + m - (t.shape.length - 2));
  const operands = [
    { t: a, map: [...batch(a), m, -1] },
    { t: b, map: [...batch(b), -1, m + 1] },
  ];
  return apply(call.terms, { label, shape, operands });
}

export const matMul: Handler = (call) => [product(call, call.tensor(0), call.tensor(1), 'MatMul')];

export const gemm: Handler = (call) => {
  const { node, terms } = call;
  const a = call.tensor(0);
  const b = call.tensor(1);
  const c = call.optional(2);
  const ta = node.int('transA', 0) === 1;
  const tb = node.int('transB', 0) === 1;
  const shape = [a.shape[ta ? 1 : 0] as number, b.shape[tb ? 0 : 1] as number];
  const operands: Operand[] = [
    { t: a, map: ta ? [-1, 0] : [0, -1] },
    { t: b, map: tb ? [1, -1] : [-1, 1] },
  ];
  if (c) operands.push({ t: c, map: aligned(c, 2) });
  return [apply(terms, { label: `Gemm ${attributesOf(node)}`, shape, operands })];
};

/** Each entry of the leading axes by itself; weights and tables come whole, and the last axis is of the op's own making. */
export const projection: Handler = (call) => {
  const x = call.tensor(0);
  const rank = x.shape.length;
  const width = call.node.int('N', x.shape.at(-1) as number);
  const shape = [...x.shape.slice(0, -1), width];
  const operands: Operand[] = [{ t: x, map: [...Array.from({ length: rank - 1 }, (_, i) => i), -1] }];
  call.node.inputs.forEach((v, i) => {
    if (i === 0 || !v) return;
    if (!call.isWeight(v)) throw new CannotEvaluate('a product with what is not a weight');
    const t = call.tensor(i);
    operands.push({ t, map: t.shape.map(() => -1) });
  });
  return [apply(call.terms, { label: `${call.node.opType} ${attributesOf(call.node)}`, shape, operands, fresh: [rank - 1] })];
};

/** Works along one axis and keeps it: softmax, norms of the last axis. */
function along(lastOnly: boolean): Handler {
  return (call) => {
    const x = call.tensor(0);
    const rank = x.shape.length;
    const axis = normal(call.node.int('axis', -1), rank);
    // A norm covers all axes from its axis on, as softmax did before opset 13.
    if (axis !== rank - 1 && (lastOnly || call.opset < 13)) throw new CannotEvaluate('works along more than the last axis');
    const operands: Operand[] = [{ t: x, map: x.shape.map((_, i) => (i === axis ? -1 : i)) }];
    for (const t of call.tensors().slice(1)) operands.push({ t, map: t.shape.map(() => -1) });
    return [apply(call.terms, { label: `${call.node.opType} ${attributesOf(call.node)}`, shape: x.shape, operands, fresh: [axis] })];
  };
}

export const softmax = along(false);
export const norm = along(true);

export function normal(axis: number, rank: number): number {
  return axis < 0 ? axis + rank : axis;
}

export const reduce: Handler = (call) => {
  const { node, terms } = call;
  let x = call.tensor(0);
  const rank = x.shape.length;
  const given = node.ints('axes') ?? (call.optional(1) ? numbersOf(terms, call.tensor(1), 'the axes') : undefined);
  if (!given || given.length === 0) throw new CannotEvaluate('reduces everything');
  const axes = given.map((a) => normal(a, rank));
  const keep = node.int('keepdims', 1) === 1;
  const shape = keep ? x.shape.map((size, i) => (axes.includes(i) ? 1 : size)) : x.shape.filter((_, i) => !axes.includes(i));
  const sums = node.is('ReduceSum') && axes.every((a) => x.open[a]);
  if (!sums) {
    let next = 0;
    const map = x.shape.map((_, i) => (axes.includes(i) ? -1 : keep ? i : next++));
    return [apply(terms, { label: `${node.opType} ${attributesOf(node)}`, shape, operands: [{ t: x, map }] })];
  }
  // A sum does not depend on the order: numbers are added, terms are collected.
  x = opened(terms, x, axes);
  const rest = x.shape.flatMap((_, i) => (axes.includes(i) ? [] : [i]));
  const sums2 = new Map<number, Element[]>();
  const openRest = rest.filter((i) => x.open[i]);
  const sizes = x.shape.filter((_, i) => x.open[i]);
  const openAxes = x.shape.flatMap((_, i) => (x.open[i] ? [i] : []));
  const outSizes = openRest.map((i) => x.shape[i] as number);
  const total = outSizes.reduce((a, b) => a * b, 1);
  x.data.forEach((e, at) => {
    let remaining = at;
    const index = new Map<number, number>();
    for (let i = sizes.length - 1; i >= 0; i--) {
      index.set(openAxes[i] as number, remaining % (sizes[i] as number));
      remaining = Math.floor(remaining / (sizes[i] as number));
    }
    let to = 0;
    openRest.forEach((axis, i) => {
      to = to * (outSizes[i] as number) + (index.get(axis) as number);
    });
    const list = sums2.get(to);
    if (list) list.push(e);
    else sums2.set(to, [e]);
  });
  const data = Array.from({ length: total }, (_, i) => sumOf(call, sums2.get(i) ?? []));
  const open = keep ? x.shape.map((_, i) => axes.includes(i) || (x.open[i] as boolean)) : rest.map((i) => x.open[i] as boolean);
  return [{ shape, open: open.map((o, i) => o || shape[i] === 1), data }];
};

/** The sum of elements, whatever their order. */
export function sumOf(call: Pick<Call, 'terms'>, elements: readonly Element[]): Element {
  const terms = elements.filter((e): e is Term => e instanceof Term);
  const numbers = elements.filter((e): e is number => typeof e === 'number').reduce((a, b) => a + b, 0);
  if (terms.length === 0) return numbers;
  if (terms.length === 1 && numbers === 0) return terms[0] as Term;
  return call.terms.of(`sum ${numbers} ${terms.map((t) => t.id).sort((a, b) => a - b)}`);
}

export const cumSum: Handler = (call) => {
  const { terms, node } = call;
  const x = call.tensor(0);
  const axis = normal(numbersOf(terms, call.tensor(1), 'the axis')[0] as number, x.shape.length);
  if (!x.open[axis] || !isNumbers(x) || x.open.includes(false)) throw new CannotEvaluate('adds up what is not counted');
  const inner = x.shape.slice(axis + 1).reduce((a, b) => a * b, 1);
  const size = x.shape[axis] as number;
  const out = [...(x.data as number[])];
  const exclusive = node.int('exclusive', 0) === 1;
  const reverse = node.int('reverse', 0) === 1;
  for (let base = 0; base < out.length; base++) {
    if (Math.floor(base / inner) % size !== 0) continue;
    let sum = 0;
    for (let step = 0; step < size; step++) {
      const at = base + (reverse ? size - 1 - step : step) * inner;
      const own = x.data[at] as number;
      out[at] = exclusive ? sum : sum + own;
      sum += own;
    }
  }
  return [{ ...x, data: out }];
};
