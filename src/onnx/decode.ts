/**
 * Messages of onnx.proto held in memory → IR records. Field numbers are those of onnx.proto (ONNX 1.19);
 * fields that are not needed here are left alone, the writer copies them from the source bytes.
 */
import onnxProto from 'onnx-proto';
import { type AttributeValue, DataType, type Dim, SMALL_TENSOR_BYTES, type Tensor, type TensorType } from '../ir/graph.js';
import { decodeText, fieldsOf, malformed, varintBig } from './wire.js';

const { onnx } = onnxProto;

/** Bytes per element; packed 4-bit types count half a byte. Source: onnx.proto `TensorProto.DataType`. */
const ELEMENT_BYTES: Record<number, number> = {
  1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 14: 8, 15: 16, 16: 2,
  17: 1, 18: 1, 19: 1, 20: 1, 21: 0.5, 22: 0.5, 23: 0.5, 24: 1, 25: 0.25, 26: 0.25,
};

/** protobufjs throws errors of its own on bytes that are no message. */
function decoded<T>(what: string, decode: () => T): T {
  try {
    return decode();
  } catch (error) {
    throw malformed(`${what} cannot be decoded (${(error as Error).message})`, 0);
  }
}

/** Payload size of a tensor in bytes; 0 for types without a fixed size (strings). */
export function tensorByteLength(dataType: number, dims: readonly number[]): number {
  return Math.ceil(dims.reduce((a, b) => a * b, 1) * (ELEMENT_BYTES[dataType] ?? 0));
}

/** A 64-bit number as protobufjs gives it (number, or a Long object). */
type LongLike = number | { toString(): string };

export function toInteger(value: LongLike): number | bigint {
  if (typeof value === 'number') return value;
  const big = BigInt(value.toString());
  return big >= BigInt(Number.MIN_SAFE_INTEGER) && big <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(big) : big;
}

/** Decoded TensorProto; `name` is empty for attribute tensors. */
export function decodeTensor(bytes: Uint8Array): { name: string; tensor: Tensor } {
  let name = '';
  let dataType = 0;
  const dims: number[] = [];
  let raw: Uint8Array | undefined;
  let typed = false;
  let isExternal = false;
  const entries = new Map<string, string>();
  for (const f of fieldsOf(bytes)) {
    switch (f.number) {
      case 1:
        if (f.wire === 0) dims.push(f.value);
        else for (let at = f.dataStart; at < f.end; ) at = pushVarint(bytes, at, dims);
        break;
      case 2:
        dataType = f.value;
        break;
      case 4:
      case 5:
      case 7:
      case 10:
      case 11:
        typed = true;
        break;
      case 8:
        name = decodeText(bytes.subarray(f.dataStart, f.end));
        break;
      case 9:
        raw = bytes.subarray(f.dataStart, f.end);
        break;
      case 13: {
        let key = '';
        let value = '';
        const entry = bytes.subarray(f.dataStart, f.end);
        for (const e of fieldsOf(entry)) {
          if (e.number === 1) key = decodeText(entry.subarray(e.dataStart, e.end));
          if (e.number === 2) value = decodeText(entry.subarray(e.dataStart, e.end));
        }
        entries.set(key, value);
        break;
      }
      case 14:
        isExternal = f.value === 1;
        break;
    }
  }
  if (dims.some((d) => d < 0 || !Number.isSafeInteger(d))) throw malformed(`tensor "${name}" has dimensions ${dims.join(', ')}`, 0);
  const byteLength = tensorByteLength(dataType, dims);
  let data: Uint8Array | undefined;
  if (!isExternal && byteLength <= SMALL_TENSOR_BYTES) {
    if (raw && raw.length === byteLength) data = raw.slice();
    else if (typed) data = typedPayload(bytes, dataType, byteLength);
    else if (byteLength === 0 && dataType !== DataType.STRING) data = new Uint8Array(0);
  }
  const location = entries.get('location');
  return {
    name,
    tensor: {
      dataType,
      dims,
      data,
      byteLength,
      external:
        isExternal && location !== undefined
          ? { location, offset: Number(entries.get('offset') ?? 0), length: entries.has('length') ? Number(entries.get('length')) : undefined }
          : undefined,
    },
  };
}

function pushVarint(bytes: Uint8Array, at: number, into: number[]): number {
  let next = at;
  while ((bytes[next] ?? 0) >= 0x80) next++;
  into.push(Number(varintBig(bytes, at)));
  return next + 1;
}

/** The elements of a TensorProto's typed fields (float_data and so on) as numbers; half precision stays its 16 bits. */
export function typedNumbers(bytes: Uint8Array): number[] {
  const t = onnx.TensorProto.decode(bytes);
  const numbers = [t.floatData, t.doubleData, t.int64Data, t.uint64Data, t.int32Data].find((d) => (d?.length ?? 0) > 0) ?? [];
  return Array.from(numbers as ArrayLike<unknown>, Number);
}

/** float_data, int32_data, int64_data and the like as a raw little-endian payload. */
function typedPayload(bytes: Uint8Array, dataType: number, byteLength: number): Uint8Array | undefined {
  const t = decoded('a tensor', () => onnx.TensorProto.decode(bytes));
  const payload = new Uint8Array(byteLength);
  const view = new DataView(payload.buffer);
  const size = ELEMENT_BYTES[dataType] ?? 0;
  const put = (i: number, v: LongLike): void => {
    const at = i * size;
    switch (dataType) {
      case DataType.FLOAT:
        view.setFloat32(at, Number(v), true);
        break;
      case DataType.DOUBLE:
        view.setFloat64(at, Number(v), true);
        break;
      case DataType.INT64:
      case DataType.UINT64:
        view.setBigInt64(at, BigInt(v.toString()), true);
        break;
      case DataType.INT32:
        view.setInt32(at, Number(v), true);
        break;
      case DataType.UINT32:
        view.setUint32(at, Number(v), true);
        break;
      case DataType.INT8:
      case DataType.UINT8:
      case DataType.BOOL:
        view.setUint8(at, Number(v) & 0xff);
        break;
      case DataType.INT16:
      case DataType.UINT16:
      case DataType.FLOAT16:
      case DataType.BFLOAT16:
        view.setUint16(at, Number(v) & 0xffff, true);
        break;
    }
  };
  const source = (
    dataType === DataType.FLOAT ? t.floatData
    : dataType === DataType.DOUBLE ? t.doubleData
    : dataType === DataType.INT64 ? t.int64Data
    : dataType === DataType.UINT64 || dataType === DataType.UINT32 ? t.uint64Data
    : t.int32Data
  ) as LongLike[];
  if (size < 1 || source.length * size !== byteLength) return undefined;
  source.forEach((v, i) => put(i, v));
  return payload;
}

/** Name and value of an AttributeProto without graphs (those need a scope: see read.ts). */
export function decodeAttribute(bytes: Uint8Array): { name: string; value: AttributeValue; graphs: Uint8Array[] } {
  let tensor: Uint8Array | undefined;
  const graphs: Uint8Array[] = [];
  let name = '';
  let type = 0;
  for (const f of fieldsOf(bytes)) {
    const payload = bytes.subarray(f.dataStart, f.end);
    if (f.number === 1) name = decodeText(payload);
    else if (f.number === 5) tensor = payload;
    else if (f.number === 6 || f.number === 11) graphs.push(payload);
    else if (f.number === 20) type = f.value;
  }
  if (graphs.length > 0) return { name, value: { kind: 'other', value: null }, graphs };
  if (tensor && (type === 4 || type === 0)) return { name, value: { kind: 'tensor', value: decodeTensor(tensor).tensor }, graphs };
  const a = decoded(`attribute "${name}"`, () => onnx.AttributeProto.decode(bytes));
  const T = onnx.AttributeProto.AttributeType;
  const value = ((): AttributeValue => {
    switch (type || guessType(a)) {
      case T.FLOAT:
        return { kind: 'float', value: a.f };
      case T.INT:
        return { kind: 'int', value: toInteger(a.i as LongLike) };
      case T.STRING:
        return { kind: 'string', value: decodeText(a.s) };
      case T.FLOATS:
        return { kind: 'floats', value: a.floats };
      case T.INTS:
        return { kind: 'ints', value: (a.ints as LongLike[]).map(toInteger) };
      case T.STRINGS:
        return { kind: 'strings', value: a.strings.map(decodeText) };
      default:
        return { kind: 'other', value: null };
    }
  })();
  return { name, value, graphs };
}

/** IR versions before 3 may leave the attribute's type out. */
function guessType(a: { floats: unknown[]; ints: unknown[]; strings: unknown[]; s: Uint8Array; f: number }): number {
  const T = onnx.AttributeProto.AttributeType;
  if (a.ints.length > 0) return T.INTS;
  if (a.floats.length > 0) return T.FLOATS;
  if (a.strings.length > 0) return T.STRINGS;
  if (a.s.length > 0) return T.STRING;
  return a.f !== 0 ? T.FLOAT : T.INT;
}

/** ValueInfoProto → name and tensor type (undefined for sequences, optionals and untyped values). */
export function decodeValueInfo(bytes: Uint8Array): { name: string; type: TensorType | undefined } {
  const info = decoded('a declared type', () => onnx.ValueInfoProto.decode(bytes));
  const tensor = info.type?.tensorType;
  if (!tensor) return { name: info.name ?? '', type: undefined };
  const dims = tensor.shape?.dim?.map((d): Dim => {
    // An unset oneof decodes to the defaults of the prototype: look at own properties only.
    if (d.dimParam !== null && d.dimParam !== undefined && Object.hasOwn(d, 'dimParam')) return d.dimParam === '' ? null : d.dimParam;
    if (d.dimValue !== null && d.dimValue !== undefined && Object.hasOwn(d, 'dimValue')) return Number(toInteger(d.dimValue as LongLike));
    return null;
  });
  return { name: info.name ?? '', type: { elemType: tensor.elemType ?? 0, dims } };
}
