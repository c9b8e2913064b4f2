/**
 * Numbers as ONNX tensors hold them: decoding small payloads and rounding results to a dtype.
 * Elements are JS numbers throughout: int64 beyond 2^53 lose low bits, which is harmless for what is asked of
 * them here (INT64_MAX as the end of a Slice).
 */

import { DataType, type Tensor } from '../../ir/graph.js';
import { fromHalf } from '../../ir/half.js';

const INTEGRAL: ReadonlySet<number> = new Set([
  DataType.UINT8, DataType.INT8, DataType.UINT16, DataType.INT16, DataType.INT32,
  DataType.INT64, DataType.BOOL, DataType.UINT32, DataType.UINT64,
]);

/** True for integers and booleans. */
export function isIntegral(dtype: number): boolean {
  return INTEGRAL.has(dtype);
}

const scratch = new DataView(new ArrayBuffer(8));

const number = new Float64Array(1);
const words = new Uint32Array(number.buffer);
/** Which of its two words holds a number's sign and exponent. */
const HIGH = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1 ? 1 : 0;

/** Nearest half-precision value, ties to even. */
export function roundHalf(x: number): number {
  if (!Number.isFinite(x) || x === 0) return x;
  const magnitude = Math.abs(x);
  if (magnitude <= 2048 && Number.isInteger(x)) return x;
  if (magnitude >= 65520) return x < 0 ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
  // The spacing of halves at x is 2^(exponent − 10), 2^−24 among subnormals: added to 1.5·2^52 of it, a double has no more digits.
  number[0] = magnitude;
  const exponent = Math.max(((words[HIGH] as number) >>> 20) - 1023, -14);
  words[HIGH] = ((exponent + 1065) << 20) | 0x80000;
  words[1 - HIGH] = 0;
  const shift = number[0];
  const rounded = magnitude + shift - shift;
  return x < 0 ? -rounded : rounded;
}

/** Nearest bfloat16 value, ties to even. */
export function roundBfloat(x: number): number {
  if (!Number.isFinite(x)) return x;
  scratch.setFloat32(0, x);
  const bits = scratch.getUint32(0);
  const kept = ((bits + 0x7fff + ((bits >>> 16) & 1)) & 0xffff0000) >>> 0;
  scratch.setUint32(0, kept);
  return scratch.getFloat32(0);
}

/** ONNX Round: ties to even. */
export function roundHalfEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  if (rest < 0.5) return floor;
  if (rest > 0.5) return floor + 1;
  return floor % 2 === 0 ? floor : floor + 1;
}

const identity = (x: number): number => x;

/** Integers of up to 32 bits wrap, as kernels do. What a JS number no longer holds exactly goes to the nearer end. */
function wrapping(bits: number, signed: boolean): (x: number) => number {
  const span = 2 ** bits;
  const low = signed ? -span / 2 : 0;
  const high = low + span - 1;
  return (x) => {
    // `+ 0` turns the -0 of `0 * -1` into an integer's only zero. NaN, "not known", passes through.
    if (!(x < low || x > high)) return x + 0;
    if (Math.abs(x) > Number.MAX_SAFE_INTEGER) return x < 0 ? low : high;
    return x - Math.floor((x - low) / span) * span;
  };
}

function clamping(low: number, high: number): (x: number) => number {
  return (x) => (x < low ? low : x > high ? high : x) + 0;
}

const ROUNDERS: ReadonlyMap<number, (x: number) => number> = new Map([
  [DataType.FLOAT, Math.fround],
  [DataType.DOUBLE, identity],
  [DataType.FLOAT16, roundHalf],
  [DataType.BFLOAT16, roundBfloat],
  [DataType.BOOL, clamping(0, 1)],
  [DataType.INT8, wrapping(8, true)],
  [DataType.UINT8, wrapping(8, false)],
  [DataType.INT16, wrapping(16, true)],
  [DataType.UINT16, wrapping(16, false)],
  [DataType.INT32, wrapping(32, true)],
  [DataType.UINT32, wrapping(32, false)],
  [DataType.INT64, clamping(-(2 ** 63), 2 ** 63)],
  [DataType.UINT64, clamping(0, 2 ** 64)],
]);

/** True for dtypes whose elements are followed: not for strings, complex numbers, and floats and integers under 8 bits. */
export function isNumeric(dtype: number): boolean {
  return ROUNDERS.has(dtype);
}

/** How a result of arithmetic in `dtype` is rounded. NaN stays NaN: in integers it means "not known". */
export function rounder(dtype: number): (x: number) => number {
  return ROUNDERS.get(dtype) ?? identity;
}

/** Element conversion of Cast. */
export function castNumber(from: number, to: number): (x: number) => number {
  if (to === DataType.BOOL) return (x) => (Number.isNaN(x) && isIntegral(from) ? x : x !== 0 ? 1 : 0);
  const round = rounder(to);
  return isIntegral(to) && !isIntegral(from) ? (x) => round(Math.trunc(x)) : round;
}

type Reader = { readonly size: number; readonly read: (view: DataView, at: number) => number };

const READERS: ReadonlyMap<number, Reader> = new Map<number, Reader>([
  [DataType.FLOAT, { size: 4, read: (v, at) => v.getFloat32(at, true) }],
  [DataType.DOUBLE, { size: 8, read: (v, at) => v.getFloat64(at, true) }],
  [DataType.FLOAT16, { size: 2, read: (v, at) => fromHalf(v.getUint16(at, true)) }],
  [DataType.BFLOAT16, {
    size: 2,
    read: (v, at) => {
      scratch.setUint32(0, v.getUint16(at, true) * 0x10000);
      return scratch.getFloat32(0);
    },
  }],
  [DataType.INT8, { size: 1, read: (v, at) => v.getInt8(at) }],
  [DataType.UINT8, { size: 1, read: (v, at) => v.getUint8(at) }],
  [DataType.BOOL, { size: 1, read: (v, at) => (v.getUint8(at) ? 1 : 0) }],
  [DataType.INT16, { size: 2, read: (v, at) => v.getInt16(at, true) }],
  [DataType.UINT16, { size: 2, read: (v, at) => v.getUint16(at, true) }],
  [DataType.INT32, { size: 4, read: (v, at) => v.getInt32(at, true) }],
  [DataType.UINT32, { size: 4, read: (v, at) => v.getUint32(at, true) }],
  [DataType.INT64, { size: 8, read: (v, at) => v.getInt32(at + 4, true) * 2 ** 32 + v.getUint32(at, true) }],
  [DataType.UINT64, { size: 8, read: (v, at) => v.getUint32(at + 4, true) * 2 ** 32 + v.getUint32(at, true) }],
]);

/** True when `tensorElements` would give the elements: asked first, since decoding costs more. */
export function holdsElements(tensor: Tensor, limit: number): boolean {
  const reader = READERS.get(tensor.dataType);
  if (tensor.data === undefined || reader === undefined) return false;
  const count = tensor.dims.reduce((a, b) => a * b, 1);
  // A size of 0 hides what the others are: [10⁹, 0] has no elements, but is no constant that steers anything.
  return tensor.dims.reduce((a, b) => a * Math.max(b, 1), 1) <= limit && tensor.data.byteLength >= count * reader.size;
}

/**
 * Elements of a constant, flat and row-major, or undefined when the payload is not held, is larger than
 * `limit` elements, or is of a dtype without a number (strings, 4-bit and 8-bit floats).
 */
export function tensorElements(tensor: Tensor, limit: number): number[] | undefined {
  const reader = READERS.get(tensor.dataType);
  if (tensor.data === undefined || reader === undefined || !holdsElements(tensor, limit)) return undefined;
  const count = tensor.dims.reduce((a, b) => a * b, 1);
  const view = new DataView(tensor.data.buffer, tensor.data.byteOffset, tensor.data.byteLength);
  const elements = new Array<number>(count);
  for (let i = 0; i < count; i++) elements[i] = reader.read(view, i * reader.size);
  return elements;
}

/** Error function, to double precision. */
export function erf(x: number): number {
  const a = Math.abs(x);
  if (a > 6) return Math.sign(x);
  if (a < 2.5) {
    let term = x;
    let sum = x;
    for (let n = 1; n < 80; n++) {
      term *= (-x * x) / n;
      const next = sum + term / (2 * n + 1);
      if (next === sum) break;
      sum = next;
    }
    return (2 / Math.sqrt(Math.PI)) * sum;
  }
  // Continued fraction of erfc, evaluated from the tail.
  let tail = 0;
  for (let k = 60; k > 0; k--) tail = k / 2 / (a + tail);
  return Math.sign(x) * (1 - Math.exp(-a * a) / Math.sqrt(Math.PI) / (a + tail));
}
