/**
 * Element-wise operators: unary, binary and variadic with broadcasting, Cast, Clip and Where.
 * Result: the broadcast shape, and the contents when all inputs' contents are known.
 */

import { DataType } from '../../ir/graph.js';
import { broadcast, type Call, type HandlerTable } from './call.js';
import { countOf, known } from './dims.js';
import { expandElements } from './strided.js';
import { castNumber, erf, isIntegral, isNumeric, roundHalfEven, rounder } from './numbers.js';
import type { Fact } from './types.js';

type Unary = (x: number) => number;
type Binary = (a: number, b: number) => number;

const sigmoid: Unary = (x) => 1 / (1 + Math.exp(-x));
const softplus: Unary = (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
const gelu: Unary = (x) => 0.5 * x * (1 + erf(x / Math.SQRT2));
const tanhGelu: Unary = (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));

/** Contents of inputs broadcast against each other; where they are not followed, what is known of the result. */
function spread(call: Call, dtype: number, inputs: readonly number[]): Fact | { shape: readonly number[]; columns: readonly (readonly number[])[]; partial: boolean } {
  const shape = broadcast(call, inputs.map((i) => call.shape(i)));
  const sizes = known(shape);
  if (sizes === undefined || !call.follows(dtype, sizes) || !inputs.every((i) => call.hasElements(i))) return { dtype, shape };
  const columns: (readonly number[])[] = [];
  let partial = false;
  for (const i of inputs) {
    const elements = call.elements(i);
    const from = known(call.shape(i));
    if (elements === undefined || from === undefined) return { dtype, shape };
    partial ||= call.data(i) === undefined;
    columns.push(expandElements(elements, from, sizes));
  }
  // NaN marks the unknown only in integers: a float made of partly known integers has no contents.
  return partial && !isIntegral(dtype) ? { dtype, shape } : { shape: sizes, columns, partial };
}

/** Applies `fn` to all inputs broadcast against each other. An element unknown in any input is unknown in the result. */
function mapAll(call: Call, dtype: number, inputs: readonly number[], fn: (values: number[]) => number): Fact {
  const over = spread(call, dtype, inputs);
  if (!('columns' in over)) return over;
  const { shape, columns, partial } = over;
  const round = rounder(dtype);
  const out = new Array<number>(countOf(shape) as number);
  for (let row = 0; row < out.length; row++) {
    const values = columns.map((c) => c[row] as number);
    out[row] = partial && values.some(Number.isNaN) ? Number.NaN : round(fn(values));
  }
  return call.fact(dtype, shape, out);
}

/** The same for two inputs, as most ops have: nothing is made for an element. */
function mapPairs(call: Call, dtype: number, fn: Binary): Fact {
  const over = spread(call, dtype, [0, 1]);
  if (!('columns' in over)) return over;
  const { shape, columns, partial } = over;
  const [a, b] = columns as [readonly number[], readonly number[]];
  const out = new Array<number>(a.length);
  // True and false are what predicates give.
  const round = dtype === DataType.BOOL ? undefined : rounder(dtype);
  for (let i = 0; i < out.length; i++) {
    const x = a[i] as number;
    const y = b[i] as number;
    const z = partial && (Number.isNaN(x) || Number.isNaN(y)) ? Number.NaN : fn(x, y);
    out[i] = round === undefined ? z : round(z);
  }
  // Predicates know of everything.
  return round === undefined && !partial ? call.whole(dtype, shape, out) : call.fact(dtype, shape, out);
}

function unary(fn: Unary, dtype?: number): (call: Call) => Fact {
  return (call) => {
    const input = call.input(0);
    const to = dtype ?? input.dtype;
    if (!call.hasElements(0) || input.data === undefined) return { dtype: to, shape: input.shape };
    const round = rounder(to);
    const { data } = input;
    const out = new Array<number>(data.length);
    for (let i = 0; i < data.length; i++) out[i] = round(fn(data[i] as number));
    return call.fact(to, input.shape, out);
  };
}

function binary(fn: Binary, dtype?: number): (call: Call) => Fact {
  return (call) => mapPairs(call, dtype ?? (call.dtype(0) || call.dtype(1)), fn);
}

/** Max, Min, Sum, Mean: any number of inputs. */
function variadic(fn: (values: number[]) => number): (call: Call) => Fact {
  return (call) => {
    const inputs = Array.from({ length: call.inputCount }, (_, i) => i);
    return mapAll(call, call.dtype(0), inputs, fn);
  };
}

/** Activation with attributes: `make` reads them once per node. */
function activation(make: (call: Call) => Unary): (call: Call) => Fact {
  return (call) => unary(make(call))(call);
}

function cast(call: Call, to: number): Fact {
  const input = call.input(0);
  const elements = call.elements(0);
  if (elements === undefined || !isNumeric(to) || (input.data === undefined && !isIntegral(to))) return { dtype: to, shape: input.shape };
  const convert = castNumber(input.dtype, to);
  const out = new Array<number>(elements.length);
  // Large contents are masks: zeros and another number, row after row.
  const zero = convert(0);
  let last = Number.NaN;
  let converted = Number.NaN;
  for (let i = 0; i < out.length; i++) {
    const element = elements[i] as number;
    if (element === 0) out[i] = Object.is(element, 0) ? zero : convert(element);
    else {
      if (element !== last) {
        last = element;
        converted = convert(element);
      }
      out[i] = converted;
    }
  }
  // Of integers that are known an integer is known.
  return input.data !== undefined && isIntegral(input.dtype) ? call.whole(to, input.shape, out) : call.fact(to, input.shape, out);
}

function divide(call: Call): Fact {
  const integral = isIntegral(call.dtype(0));
  // An integer division by zero is undefined: NaN, "not known".
  return binary(integral ? (a, b) => (b === 0 ? Number.NaN : Math.trunc(a / b)) : (a, b) => a / b)(call);
}

function modulo(call: Call): Fact {
  const truncated = call.node.int('fmod', 0) === 1;
  // Integer Mod takes the divisor's sign, like Python; fmod the dividend's, like C.
  return binary((a, b) => {
    const rest = a % b;
    return !truncated && rest !== 0 && rest < 0 !== b < 0 ? rest + b : rest;
  })(call);
}

function where(call: Call): Fact {
  const dtype = call.dtype(1) || call.dtype(2);
  const shape = broadcast(call, [call.shape(0), call.shape(1), call.shape(2)]);
  const sizes = known(shape);
  if (sizes === undefined || !call.follows(dtype, sizes)) return { dtype, shape };
  if (!call.hasElements(0)) return { dtype, shape };
  const columns = [0, 1, 2].map((i) => {
    const elements = call.elements(i);
    const from = known(call.shape(i));
    return elements && from ? expandElements(elements, from, sizes) : undefined;
  });
  const [condition, yes, no] = columns;
  const floats = !isIntegral(dtype) && [0, 1, 2].some((i) => call.data(i) === undefined);
  if (floats || condition === undefined) return { dtype, shape };
  const out = new Array<number>(condition.length);
  for (let k = 0; k < out.length; k++) {
    const c = condition[k] as number;
    out[k] = Number.isNaN(c) ? Number.NaN : ((c ? yes : no)?.[k] ?? Number.NaN);
  }
  return call.fact(dtype, shape, out);
}

function clip(call: Call): Fact {
  const low = call.has(1) ? call.scalar(1) : call.node.float('min', Number.NEGATIVE_INFINITY);
  const high = call.has(2) ? call.scalar(2) : call.node.float('max', Number.POSITIVE_INFINITY);
  if (low === undefined || high === undefined) return { dtype: call.dtype(0), shape: call.shape(0) };
  return unary((x) => Math.min(Math.max(x, low), high))(call);
}

function bitwise(call: Call): Fact {
  return { dtype: call.dtype(0), shape: broadcast(call, [call.shape(0), call.shape(1)]) };
}

const UNARY: Readonly<Record<string, Unary>> = {
  Neg: (x) => -x, Abs: Math.abs, Sqrt: Math.sqrt, Reciprocal: (x) => 1 / x, Exp: Math.exp, Log: Math.log,
  Floor: Math.floor, Ceil: Math.ceil, Round: roundHalfEven, Sign: Math.sign, Erf: erf, Sigmoid: sigmoid, Tanh: Math.tanh,
  Relu: (x) => Math.max(x, 0), Sin: Math.sin, Cos: Math.cos, Tan: Math.tan, Asin: Math.asin, Acos: Math.acos,
  Atan: Math.atan, Sinh: Math.sinh, Cosh: Math.cosh, Asinh: Math.asinh, Acosh: Math.acosh, Atanh: Math.atanh,
  Softplus: softplus, Softsign: (x) => x / (1 + Math.abs(x)), Mish: (x) => x * Math.tanh(softplus(x)),
  HardSwish: (x) => x * Math.min(Math.max(x / 6 + 0.5, 0), 1),
};

export const elementwise: HandlerTable = {
  ...Object.fromEntries(Object.entries(UNARY).map(([op, fn]) => [op, unary(fn)])),
  Not: unary((x) => (x ? 0 : 1), DataType.BOOL),
  IsNaN: unary((x) => (Number.isNaN(x) ? 1 : 0), DataType.BOOL),
  IsInf: (call) => {
    const positive = call.node.int('detect_positive', 1) === 1;
    const negative = call.node.int('detect_negative', 1) === 1;
    return unary((x) => ((x === Infinity && positive) || (x === -Infinity && negative) ? 1 : 0), DataType.BOOL)(call);
  },
  Gelu: activation((c) => (c.node.string('approximate', 'none') === 'tanh' ? tanhGelu : gelu)),
  Elu: activation((c) => { const a = c.node.float('alpha', 1); return (x) => (x < 0 ? a * Math.expm1(x) : x); }),
  Celu: activation((c) => { const a = c.node.float('alpha', 1); return (x) => (x < 0 ? a * Math.expm1(x / a) : x); }),
  Selu: activation((c) => {
    const a = c.node.float('alpha', 1.6732632);
    const g = c.node.float('gamma', 1.050701);
    return (x) => g * (x < 0 ? a * Math.expm1(x) : x);
  }),
  LeakyRelu: activation((c) => { const a = c.node.float('alpha', 0.01); return (x) => (x < 0 ? a * x : x); }),
  ThresholdedRelu: activation((c) => { const a = c.node.float('alpha', 1); return (x) => (x > a ? x : 0); }),
  HardSigmoid: activation((c) => {
    const a = c.node.float('alpha', 0.2);
    const b = c.node.float('beta', 0.5);
    return (x) => Math.min(Math.max(a * x + b, 0), 1);
  }),
  Swish: activation((c) => { const a = c.node.float('alpha', 1); return (x) => x * sigmoid(a * x); }),
  Shrink: activation((c) => {
    const l = c.node.float('lambd', 0.5);
    const b = c.node.float('bias', 0);
    return (x) => (x < -l ? x + b : x > l ? x - b : 0);
  }),
  Add: binary((a, b) => a + b),
  Sub: binary((a, b) => a - b),
  Mul: binary((a, b) => a * b),
  Div: divide,
  Mod: modulo,
  Pow: (call) => mapPairs(call, call.dtype(0), (x, y) => {
    const power = x ** y;
    return isIntegral(call.dtype(0)) ? Math.trunc(power) : power;
  }),
  PRelu: binary((a, b) => (a < 0 ? a * b : a)),
  // JS bit operators work on 32 bits: contents of bitwise ops are not followed.
  BitShift: bitwise,
  BitwiseAnd: bitwise,
  BitwiseOr: bitwise,
  BitwiseXor: bitwise,
  BitwiseNot: (call) => ({ dtype: call.dtype(0), shape: call.shape(0) }),
  And: binary((a, b) => (a && b ? 1 : 0), DataType.BOOL),
  Or: binary((a, b) => (a || b ? 1 : 0), DataType.BOOL),
  Xor: binary((a, b) => (!a !== !b ? 1 : 0), DataType.BOOL),
  Equal: binary((a, b) => (a === b ? 1 : 0), DataType.BOOL),
  Less: binary((a, b) => (a < b ? 1 : 0), DataType.BOOL),
  Greater: binary((a, b) => (a > b ? 1 : 0), DataType.BOOL),
  LessOrEqual: binary((a, b) => (a <= b ? 1 : 0), DataType.BOOL),
  GreaterOrEqual: binary((a, b) => (a >= b ? 1 : 0), DataType.BOOL),
  Max: variadic((v) => Math.max(...v)),
  Min: variadic((v) => Math.min(...v)),
  Sum: variadic((v) => v.reduce((a, b) => a + b, 0)),
  Mean: variadic((v) => v.reduce((a, b) => a + b, 0) / v.length),
  Where: where,
  SwiGLU: (call) => {
    const a = call.node.float('alpha', 1);
    return binary((x, y) => x * sigmoid(a * x) * y)(call);
  },
  BitCast: (call) => ({ dtype: call.node.int('to', 0), shape: call.shape(0) }),
  Clip: clip,
  Cast: (call) => cast(call, call.node.int('to', 0)),
  CastLike: (call) => cast(call, call.dtype(1)),
};
