/**
 * Messages of onnx.proto held in memory → IR records. Field numbers are those of onnx.proto (ONNX 1.19);
 * fields that are not needed here are left alone, the writer copies them from the source bytes.
 */
import { Refusal } from '../diagnostics.js';
import { type AttributeValue, DataType, type Dim, SMALL_TENSOR_BYTES, type Tensor, type TensorType } from '../ir/graph.js';
import { decodeName, decodeText, fieldsOf, malformed, varintBig, type WireField } from './wire.js';

/** Bytes per element; packed 4-bit types count half a byte. Source: onnx.proto `TensorProto.DataType`. */
const ELEMENT_BYTES: Record<number, number> = {
  1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 14: 8, 15: 16, 16: 2,
  17: 1, 18: 1, 19: 1, 20: 1, 21: 0.5, 22: 0.5, 23: 0.5, 24: 1, 25: 0.25, 26: 0.25,
};

/** onnx.proto `AttributeProto.AttributeType`. */
export const ATTRIBUTE_TYPE = { FLOAT: 1, INT: 2, STRING: 3, TENSOR: 4, GRAPH: 5, FLOATS: 6, INTS: 7, STRINGS: 8 } as const;

/** Payload size of a tensor in bytes; 0 for types without a fixed size (strings). */
export function tensorByteLength(dataType: number, dims: readonly number[]): number {
  return Math.ceil(dims.reduce((a, b) => a * b, 1) * (ELEMENT_BYTES[dataType] ?? 0));
}

/** A 64-bit integer: a number where one holds it exactly. */
type Integer = number | bigint;

function toInteger(value: bigint): Integer {
  return value >= BigInt(Number.MIN_SAFE_INTEGER) && value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value;
}

/** int64 of a varint field, or of the varint at `f.dataStart`. */
function integerOf(bytes: Uint8Array, f: WireField): Integer {
  return f.value <= Number.MAX_SAFE_INTEGER ? f.value : toInteger(varintBig(bytes, f.dataStart));
}

/** Appends what a field of a repeated integer holds: one element, or many when it is packed. */
function pushIntegers(bytes: Uint8Array, f: WireField, into: Integer[]): void {
  if (f.wire === 0) into.push(integerOf(bytes, f));
  else for (let at = f.dataStart; at < f.end; ) at = pushVarint(bytes, at, into);
}

/** The same for floats (`size` 4) and doubles (8). */
function pushFloats(bytes: Uint8Array, f: WireField, size: number, into: Integer[]): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if ((f.end - f.dataStart) % size !== 0) throw malformed('a list of floats is cut off', f.start);
  for (let at = f.dataStart; at < f.end; at += size) into.push(size === 4 ? view.getFloat32(at, true) : view.getFloat64(at, true));
}

/**
 * Decoded TensorProto; `name` is empty for attribute tensors.
 *
 * @param rawBytes size of the raw payload where it was left out of `bytes`
 * @throws {Refusal} PD102 when the payload is not as long as the dimensions say
 */
export function decodeTensor(bytes: Uint8Array, rawBytes?: number): { name: string; tensor: Tensor } {
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
        else {
          const packed: Integer[] = [];
          pushIntegers(bytes, f, packed);
          for (const d of packed) dims.push(Number(d));
        }
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
        name = decodeName(bytes.subarray(f.dataStart, f.end));
        break;
      case 9:
        raw = bytes.subarray(f.dataStart, f.end);
        break;
      case 13: {
        let key = '';
        let value = '';
        const entry = bytes.subarray(f.dataStart, f.end);
        for (const e of fieldsOf(entry)) {
          if (e.number === 1) key = decodeName(entry.subarray(e.dataStart, e.end));
          if (e.number === 2) value = decodeName(entry.subarray(e.dataStart, e.end));
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
  const payload = raw?.length === 0 && typed ? undefined : (raw?.length ?? rawBytes);
  if (payload !== undefined && !isExternal && Object.hasOwn(ELEMENT_BYTES, dataType) && payload !== byteLength) {
    throw new Refusal({
      code: 'PD102',
      message: `a tensor of type ${dataType} and dimensions [${dims.join(', ')}] needs ${byteLength} bytes; its payload has ${payload}`,
      culprit: name || undefined,
      hint: 'the model file is damaged or was edited: download or export it again',
    });
  }
  let data: Uint8Array | undefined;
  if (!isExternal && byteLength <= SMALL_TENSOR_BYTES) {
    if (raw && raw.length === byteLength) data = raw.slice();
    else if (typed) data = typedPayload(bytes, dataType, byteLength);
    else if (byteLength === 0 && dataType !== DataType.STRING) data = new Uint8Array(0);
  }
  return {
    name,
    tensor: {
      dataType,
      dims,
      data,
      byteLength,
      external: isExternal ? { location: entries.get('location') ?? '', offset: decimal(entries.get('offset') ?? '0'), length: entries.has('length') ? decimal(entries.get('length') ?? '') : undefined } : undefined,
    },
  };
}

/** A number as ONNX writes it into text; NaN for anything else that JavaScript would take for one (`0x10`, `1e3`, nothing). */
function decimal(text: string): number {
  return /^\d+$/.test(text) ? Number(text) : Number.NaN;
}

function pushVarint(bytes: Uint8Array, at: number, into: Integer[]): number {
  let next = at;
  while ((bytes[next] ?? 0) >= 0x80) next++;
  into.push(next === at ? (bytes[at] as number) : toInteger(varintBig(bytes, at)));
  return next + 1;
}

/** TensorProto's typed fields: float_data, int32_data, int64_data, double_data, uint64_data. */
const TYPED = { float: 4, int32: 5, int64: 7, double: 10, uint64: 11 } as const;

function typedElements(bytes: Uint8Array, field: number): Integer[] {
  const elements: Integer[] = [];
  for (const f of fieldsOf(bytes)) {
    if (f.number !== field) continue;
    if (field === TYPED.float) pushFloats(bytes, f, 4, elements);
    else if (field === TYPED.double) pushFloats(bytes, f, 8, elements);
    else pushIntegers(bytes, f, elements);
  }
  return field === TYPED.uint64 ? elements.map((e) => (e < 0 ? BigInt.asUintN(64, BigInt(e)) : e)) : elements;
}

/** The elements of a TensorProto's typed fields as numbers; half precision stays its 16 bits. */
export function typedNumbers(bytes: Uint8Array): number[] {
  for (const field of Object.values(TYPED)) {
    const elements = typedElements(bytes, field);
    if (elements.length > 0) return elements.map(Number);
  }
  return [];
}

/** float_data, int32_data, int64_data and the like as a raw little-endian payload. */
function typedPayload(bytes: Uint8Array, dataType: number, byteLength: number): Uint8Array | undefined {
  const payload = new Uint8Array(byteLength);
  const view = new DataView(payload.buffer);
  const size = ELEMENT_BYTES[dataType] ?? 0;
  const put = (i: number, v: Integer): void => {
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
        view.setBigInt64(at, BigInt(v), true);
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
  const field =
    dataType === DataType.FLOAT ? TYPED.float
    : dataType === DataType.DOUBLE ? TYPED.double
    : dataType === DataType.INT64 ? TYPED.int64
    : dataType === DataType.UINT64 || dataType === DataType.UINT32 ? TYPED.uint64
    : TYPED.int32;
  const source = typedElements(bytes, field);
  if (size < 1 || source.length * size !== byteLength) return undefined;
  source.forEach((v, i) => put(i, v));
  return payload;
}

/** Name and value of an AttributeProto without graphs (those need a scope: see read.ts). */
export function decodeAttribute(bytes: Uint8Array): { name: string; value: AttributeValue; graphs: Uint8Array[] } {
  let name = '';
  let type = 0;
  let float = 0;
  let int: Integer = 0;
  let string: Uint8Array | undefined;
  let tensor: Uint8Array | undefined;
  const floats: Integer[] = [];
  const ints: Integer[] = [];
  const strings: Uint8Array[] = [];
  const graphs: Uint8Array[] = [];
  for (const f of fieldsOf(bytes)) {
    switch (f.number) {
      case 1:
        name = decodeName(bytes.subarray(f.dataStart, f.end));
        break;
      case 2:
        if (f.wire === 5) float = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getFloat32(f.dataStart, true);
        break;
      case 3:
        if (f.wire === 0) int = integerOf(bytes, f);
        break;
      case 4:
        string = bytes.subarray(f.dataStart, f.end);
        break;
      case 5:
        tensor = bytes.subarray(f.dataStart, f.end);
        break;
      case 6:
      case 11:
        graphs.push(bytes.subarray(f.dataStart, f.end));
        break;
      case 7:
        pushFloats(bytes, f, 4, floats);
        break;
      case 8:
        pushIntegers(bytes, f, ints);
        break;
      case 9:
        strings.push(bytes.subarray(f.dataStart, f.end));
        break;
      case 20:
        type = f.value;
        break;
    }
  }
  if (graphs.length > 0) return { name, value: { kind: 'other', value: null }, graphs };
  const T = ATTRIBUTE_TYPE;
  // IR versions before 3 may leave the type out.
  if (type === 0) {
    type = tensor ? T.TENSOR : ints.length > 0 ? T.INTS : floats.length > 0 ? T.FLOATS : strings.length > 0 ? T.STRINGS : string?.length ? T.STRING : float !== 0 ? T.FLOAT : T.INT;
  }
  const value = ((): AttributeValue => {
    switch (type) {
      case T.FLOAT:
        return { kind: 'float', value: float };
      case T.INT:
        return { kind: 'int', value: int };
      case T.STRING:
        return { kind: 'string', value: string ? decodeText(string) : '' };
      case T.TENSOR:
        return tensor ? { kind: 'tensor', value: decodeTensor(tensor).tensor } : { kind: 'other', value: null };
      case T.FLOATS:
        return { kind: 'floats', value: floats.map(Number) };
      case T.INTS:
        return { kind: 'ints', value: ints };
      case T.STRINGS:
        return { kind: 'strings', value: strings.map(decodeText) };
      default:
        return { kind: 'other', value: null };
    }
  })();
  return { name, value, graphs };
}

/** ValueInfoProto → name and tensor type (undefined for sequences, optionals and untyped values). */
export function decodeValueInfo(bytes: Uint8Array): { name: string; type: TensorType | undefined } {
  let name = '';
  let type: TensorType | undefined;
  for (const f of fieldsOf(bytes)) {
    if (f.number === 1) name = decodeName(bytes.subarray(f.dataStart, f.end));
    if (f.number !== 2 || f.wire !== 2) continue;
    const typeProto = bytes.subarray(f.dataStart, f.end);
    for (const t of fieldsOf(typeProto)) if (t.number === 1 && t.wire === 2) type = decodeTensorType(typeProto.subarray(t.dataStart, t.end));
  }
  return { name, type };
}

/** TypeProto.Tensor. */
function decodeTensorType(bytes: Uint8Array): TensorType {
  let elemType = 0;
  let dims: Dim[] | undefined;
  for (const f of fieldsOf(bytes)) {
    if (f.number === 1) elemType = f.value;
    if (f.number !== 2) continue;
    dims = [];
    const shape = bytes.subarray(f.dataStart, f.end);
    for (const d of fieldsOf(shape)) if (d.number === 1) dims.push(decodeDimension(shape.subarray(d.dataStart, d.end)));
  }
  return { elemType, dims };
}

function toSize(n: number): number | null {
  return Number.isSafeInteger(n) && n >= 0 ? n : null;
}

/** TensorShapeProto.Dimension: a size, a symbol, or nothing known. */
function decodeDimension(bytes: Uint8Array): Dim {
  let dim: Dim = null;
  for (const f of fieldsOf(bytes)) {
    // Some exporters write -1 for a size that is not known.
    if (f.number === 1 && f.wire === 0) dim = toSize(Number(integerOf(bytes, f)));
    if (f.number === 2 && f.wire === 2) dim = f.end === f.dataStart ? null : decodeName(bytes.subarray(f.dataStart, f.end));
  }
  return dim;
}
