/** Tensors on the host, as data loaders make them and sessions take and give them; and half precision. */
import { UsageError } from '../../diagnostics.js';
import { DataType } from '../../ir/data-type.js';
import { fromHalf, toHalf } from '../../ir/half.js';

export type TensorData =
  | Float32Array
  | Float64Array
  | Uint16Array
  | Int16Array
  | Int32Array
  | Uint32Array
  | BigInt64Array
  | BigUint64Array
  | Uint8Array
  | Int8Array;

/** Element type names are ONNX Runtime's. float16 is held as its bits in a Uint16Array, bool as bytes 0 and 1. */
export type Dtype = 'float32' | 'float64' | 'float16' | 'int64' | 'uint64' | 'int32' | 'uint32' | 'int16' | 'uint16' | 'int8' | 'uint8' | 'bool';

/** Names of ONNX's element types that models take. */
export const DTYPE_OF: Readonly<Record<number, Dtype>> = {
  [DataType.FLOAT]: 'float32',
  [DataType.UINT8]: 'uint8',
  [DataType.INT8]: 'int8',
  [DataType.UINT16]: 'uint16',
  [DataType.INT16]: 'int16',
  [DataType.INT32]: 'int32',
  [DataType.INT64]: 'int64',
  [DataType.BOOL]: 'bool',
  [DataType.FLOAT16]: 'float16',
  [DataType.DOUBLE]: 'float64',
  [DataType.UINT32]: 'uint32',
  [DataType.UINT64]: 'uint64',
};

export interface HostTensor {
  readonly dtype: Dtype;
  readonly dims: readonly number[];
  readonly data: TensorData;
}

export type Feeds = ReadonlyMap<string, HostTensor>;

const ARRAYS = {
  float32: Float32Array,
  float64: Float64Array,
  float16: Uint16Array,
  int64: BigInt64Array,
  uint64: BigUint64Array,
  int32: Int32Array,
  uint32: Uint32Array,
  int16: Int16Array,
  uint16: Uint16Array,
  int8: Int8Array,
  uint8: Uint8Array,
  bool: Uint8Array,
} as const;

export function isDtype(name: string): name is Dtype {
  return Object.hasOwn(ARRAYS, name);
}

export function bytesPerElement(dtype: Dtype): number {
  return ARRAYS[dtype].BYTES_PER_ELEMENT;
}

export function elementCount(dims: readonly number[]): number {
  return dims.reduce((a, b) => a * b, 1);
}

/** Elements of the largest tensor that is made up: a file may declare any size. */
const MOST_ELEMENTS = 2 ** 30;

/** Number of elements of a tensor that is to be made. @throws {UsageError} PD024 when there are too many */
export function allocatable(name: string, dims: readonly number[]): number {
  const count = elementCount(dims);
  if (count >= 0 && count <= MOST_ELEMENTS) return count;
  throw new UsageError({ code: 'PD024', message: `a tensor [${dims.join(', ')}] is too large to be made up`, culprit: name, hint: 'the size comes from the model’s declarations or from --dim: check them, or give real samples with --data' });
}

/** A zero-filled tensor; any dimension may be 0. */
export function zeros(dtype: Dtype, dims: readonly number[]): HostTensor {
  return { dtype, dims, data: new ARRAYS[dtype](allocatable(dtype, dims)) };
}

/** The first `count` places along `axis`; zeros where there were fewer. */
export function resized(t: HostTensor, axis: number, count: number): HostTensor {
  const inner = t.dims.slice(axis + 1).reduce((a, b) => a * b, 1);
  const outer = t.dims.slice(0, axis).reduce((a, b) => a * b, 1);
  const length = t.dims[axis] ?? 0;
  const out = zeros(t.dtype, t.dims.map((d, i) => (i === axis ? count : d)));
  const taken = Math.min(count, length) * inner;
  for (let o = 0; o < outer; o++) (out.data as Float32Array).set((t.data as Float32Array).subarray(o * length * inner, o * length * inner + taken), o * count * inner);
  return out;
}

/** A tensor over little-endian bytes, which are copied so that any alignment is fine. */
export function fromBytes(dtype: Dtype, dims: readonly number[], bytes: Uint8Array): HostTensor {
  const want = elementCount(dims) * bytesPerElement(dtype);
  if (bytes.length !== want) throw new RangeError(`${bytes.length} bytes of payload where ${dtype} [${dims.join(', ')}] needs ${want}`);
  // Not bytes.slice(): a Buffer's shares its memory.
  const copy = new Uint8Array(bytes);
  return { dtype, dims, data: new ARRAYS[dtype](copy.buffer, 0, elementCount(dims)) };
}

/** A tensor of numbers given as JS numbers, converted to the element type. */
export function fromNumbers(dtype: Dtype, dims: readonly number[], numbers: ArrayLike<number>): HostTensor {
  const out = zeros(dtype, dims);
  if (out.data.length !== numbers.length) throw new RangeError(`${numbers.length} values where [${dims.join(', ')}] needs ${out.data.length}`);
  if (dtype === 'int64') for (let i = 0; i < numbers.length; i++) (out.data as BigInt64Array)[i] = BigInt(Math.trunc(numbers[i] ?? 0));
  else if (dtype === 'uint64') for (let i = 0; i < numbers.length; i++) (out.data as BigUint64Array)[i] = BigInt(Math.trunc(numbers[i] ?? 0));
  else if (dtype === 'float16') for (let i = 0; i < numbers.length; i++) (out.data as Uint16Array)[i] = toHalf(numbers[i] ?? 0);
  else for (let i = 0; i < numbers.length; i++) (out.data as Float32Array)[i] = numbers[i] ?? 0;
  return out;
}

/** Element `i` as a JS number, half precision decoded. */
export function at(tensor: HostTensor, i: number): number {
  const v = tensor.data[i];
  if (v === undefined) throw new RangeError(`element ${i} of ${tensor.data.length}`);
  return tensor.dtype === 'float16' ? fromHalf(v as number) : Number(v);
}

/** `count` elements from `start` as float32; a view when the tensor is float32 already. */
export function floats(tensor: HostTensor, start = 0, count = tensor.data.length - start): Float32Array {
  if (tensor.dtype === 'float32') return (tensor.data as Float32Array).subarray(start, start + count);
  const out = new Float32Array(count);
  if (tensor.dtype === 'float16') {
    const bits = tensor.data as Uint16Array;
    for (let i = 0; i < count; i++) out[i] = fromHalf(bits[start + i] ?? 0);
  } else for (let i = 0; i < count; i++) out[i] = Number(tensor.data[start + i]);
  return out;
}

/** The same values with another element type (half, float, integers and bool among each other). */
export function cast(tensor: HostTensor, dtype: Dtype): HostTensor {
  if (tensor.dtype === dtype) return tensor;
  const numbers = new Float64Array(tensor.data.length);
  for (let i = 0; i < numbers.length; i++) numbers[i] = at(tensor, i);
  if (dtype === 'bool') for (let i = 0; i < numbers.length; i++) numbers[i] = numbers[i] === 0 ? 0 : 1;
  return fromNumbers(dtype, tensor.dims, numbers);
}
