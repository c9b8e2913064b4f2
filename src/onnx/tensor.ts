/** TensorProto messages held in memory → tensors of the IR. */
import { Refusal } from '../diagnostics.js';
import { DataType, ELEMENT_BYTES, tensorByteLength } from '../ir/data-type.js';
import { SMALL_TENSOR_BYTES, type Tensor } from '../ir/graph.js';
import { DataLocation, ENTRY, TENSOR } from './proto.js';
import { type Field, Fields, fieldsOf, type Integer, malformed } from './wire.js';

/** A TensorProto as it was read, its typed fields not yet decoded. */
interface Parts {
  name: string;
  dataType: number;
  readonly dims: number[];
  raw: Uint8Array | undefined;
  /** It has a typed field: float_data, int32_data and the like. */
  typed: boolean;
  external: boolean;
  /** external_data. */
  entries: Map<string, string> | undefined;
}

function partsOf(bytes: Uint8Array): Parts {
  const parts: Parts = { name: '', dataType: 0, dims: [], raw: undefined, typed: false, external: false, entries: undefined };
  const dims: Integer[] = [];
  const fields = new Fields(bytes);
  for (let f = fields.next(); f; f = fields.next()) {
    switch (f.number) {
      case TENSOR.dims:
        f.pushIntegers(dims);
        break;
      case TENSOR.dataType:
        parts.dataType = Number(f.integer());
        break;
      case TENSOR.floatData:
      case TENSOR.int32Data:
      case TENSOR.int64Data:
      case TENSOR.doubleData:
      case TENSOR.uint64Data:
        parts.typed = true;
        break;
      case TENSOR.name:
        parts.name = f.name();
        break;
      case TENSOR.rawData:
        parts.raw = f.payload;
        break;
      case TENSOR.externalData:
        parts.entries ??= new Map();
        parts.entries.set(...decodeEntry(f.payload, (e) => e.name()));
        break;
      case TENSOR.dataLocation:
        parts.external = f.integer() === DataLocation.EXTERNAL;
        break;
    }
  }
  for (let i = 0; i < dims.length; i++) parts.dims.push(Number(dims[i]));
  return parts;
}

/** StringStringEntryProto. `text` decides what becomes of bytes that are not UTF-8. */
export function decodeEntry(bytes: Uint8Array, text: (field: Field) => string): [key: string, value: string] {
  let key = '';
  let value = '';
  const fields = new Fields(bytes);
  for (let f = fields.next(); f; f = fields.next()) {
    if (f.number === ENTRY.key) key = text(f);
    if (f.number === ENTRY.value) value = text(f);
  }
  return [key, value];
}

/**
 * Decoded TensorProto; `name` is empty for attribute tensors.
 *
 * @param rawBytes size of the raw payload where it was left out of `bytes`
 * @throws {Refusal} PD102 when the payload is not as long as the dimensions say
 */
export function decodeTensor(bytes: Uint8Array, rawBytes?: number): { name: string; tensor: Tensor } {
  const { name, dataType, dims, raw, typed, external, entries } = partsOf(bytes);
  if (dims.some(notASize)) throw malformed(`tensor "${name}" has dimensions ${dims.join(', ')}`, 0);
  const byteLength = tensorByteLength(dataType, dims);
  const payload = raw?.length === 0 && typed ? undefined : (raw?.length ?? rawBytes);
  if (payload !== undefined && !external && Object.hasOwn(ELEMENT_BYTES, dataType) && payload !== byteLength) {
    throw new Refusal({
      code: 'PD102',
      message: `a tensor of type ${dataType} and dimensions [${dims.join(', ')}] needs ${byteLength} bytes; its payload has ${payload}`,
      culprit: name || undefined,
      hint: 'the model file is damaged or was edited: download or export it again',
    });
  }
  let data: Uint8Array | undefined;
  if (!external && byteLength <= SMALL_TENSOR_BYTES) {
    // The record is kept, and this with it.
    if (raw && raw.length === byteLength) data = raw;
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
      external: external ? { location: entries?.get('location') ?? '', offset: decimal(entries?.get('offset') ?? '0'), length: entries?.has('length') ? decimal(entries.get('length') ?? '') : undefined } : undefined,
    },
  };
}

const notASize = (d: number): boolean => d < 0 || !Number.isSafeInteger(d);

/** A number as ONNX writes it into text; NaN for anything else that JavaScript would take for one (`0x10`, `1e3`, nothing). */
function decimal(text: string): number {
  return /^\d+$/.test(text) ? Number(text) : Number.NaN;
}

/** The typed field that holds elements of a type; narrow integers and half-precision bits are in int32_data. */
function typedField(dataType: number): number {
  switch (dataType) {
    case DataType.FLOAT:
      return TENSOR.floatData;
    case DataType.DOUBLE:
      return TENSOR.doubleData;
    case DataType.INT64:
      return TENSOR.int64Data;
    case DataType.UINT32:
    case DataType.UINT64:
      return TENSOR.uint64Data;
    default:
      return TENSOR.int32Data;
  }
}

/** float_data, int32_data, int64_data and the like as a raw little-endian payload. */
function typedPayload(bytes: Uint8Array, dataType: number, byteLength: number): Uint8Array | undefined {
  const field = typedField(dataType);
  const elements: Integer[] = [];
  for (const f of fieldsOf(bytes)) {
    if (f.number !== field) continue;
    if (field === TENSOR.floatData) f.pushFloats(elements);
    else if (field === TENSOR.doubleData) f.pushDoubles(elements);
    else f.pushIntegers(elements);
  }
  const size = ELEMENT_BYTES[dataType] ?? 0;
  if (size < 1 || elements.length * size !== byteLength) return undefined;
  const payload = new Uint8Array(byteLength);
  const view = new DataView(payload.buffer);
  elements.forEach((v, i) => putElement(view, i * size, dataType, v));
  return payload;
}

function putElement(view: DataView, at: number, dataType: number, value: Integer): void {
  switch (dataType) {
    case DataType.FLOAT:
      view.setFloat32(at, Number(value), true);
      break;
    case DataType.DOUBLE:
      view.setFloat64(at, Number(value), true);
      break;
    case DataType.INT64:
    case DataType.UINT64:
      view.setBigInt64(at, BigInt(value), true);
      break;
    case DataType.INT32:
      view.setInt32(at, Number(value), true);
      break;
    case DataType.UINT32:
      view.setUint32(at, Number(value), true);
      break;
    case DataType.INT8:
    case DataType.UINT8:
    case DataType.BOOL:
      view.setUint8(at, Number(value) & 0xff);
      break;
    case DataType.INT16:
    case DataType.UINT16:
    case DataType.FLOAT16:
    case DataType.BFLOAT16:
      view.setUint16(at, Number(value) & 0xffff, true);
      break;
  }
}
