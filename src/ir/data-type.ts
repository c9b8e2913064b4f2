/** ONNX's element types. Their numbers stand here and nowhere else. */
import type { onnx } from 'onnx-proto';

/**
 * `TensorProto.DataType`. The compiler of the language holds each number to onnx-proto's enum (a type: nothing is imported when this
 * runs); what is newer than the onnx-proto of ONNX 1.10 comes from onnx.proto of ONNX 1.19.
 */
export const DataType = {
  ...({
    FLOAT: 1,
    UINT8: 2,
    INT8: 3,
    UINT16: 4,
    INT16: 5,
    INT32: 6,
    INT64: 7,
    STRING: 8,
    BOOL: 9,
    FLOAT16: 10,
    DOUBLE: 11,
    UINT32: 12,
    UINT64: 13,
    COMPLEX64: 14,
    COMPLEX128: 15,
    BFLOAT16: 16,
  } as const satisfies Omit<typeof onnx.TensorProto.DataType, 'UNDEFINED'>),
  FLOAT8E4M3FN: 17,
  FLOAT8E4M3FNUZ: 18,
  FLOAT8E5M2: 19,
  FLOAT8E5M2FNUZ: 20,
  UINT4: 21,
  INT4: 22,
  FLOAT4E2M1: 23,
  FLOAT8E8M0: 24,
  UINT2: 25,
  INT2: 26,
} as const;

/** Types that weights and hidden states are computed in; those of eight bits and less are only stored. */
const FLOATS: readonly number[] = [DataType.FLOAT, DataType.FLOAT16, DataType.BFLOAT16, DataType.DOUBLE];

export function isFloat(dataType: number | undefined): boolean {
  return dataType !== undefined && FLOATS.includes(dataType);
}

/** Bytes per element; packed types of less than a byte count their share. Strings have no size. */
export const ELEMENT_BYTES: Readonly<Record<number, number>> = {
  [DataType.FLOAT]: 4,
  [DataType.UINT8]: 1,
  [DataType.INT8]: 1,
  [DataType.UINT16]: 2,
  [DataType.INT16]: 2,
  [DataType.INT32]: 4,
  [DataType.INT64]: 8,
  [DataType.BOOL]: 1,
  [DataType.FLOAT16]: 2,
  [DataType.DOUBLE]: 8,
  [DataType.UINT32]: 4,
  [DataType.UINT64]: 8,
  [DataType.COMPLEX64]: 8,
  [DataType.COMPLEX128]: 16,
  [DataType.BFLOAT16]: 2,
  [DataType.FLOAT8E4M3FN]: 1,
  [DataType.FLOAT8E4M3FNUZ]: 1,
  [DataType.FLOAT8E5M2]: 1,
  [DataType.FLOAT8E5M2FNUZ]: 1,
  [DataType.UINT4]: 0.5,
  [DataType.INT4]: 0.5,
  [DataType.FLOAT4E2M1]: 0.5,
  [DataType.FLOAT8E8M0]: 1,
  [DataType.UINT2]: 0.25,
  [DataType.INT2]: 0.25,
};

/** Payload size of a tensor in bytes; 0 for types without a fixed size (strings). */
export function tensorByteLength(dataType: number, dims: readonly number[]): number {
  return Math.ceil(dims.reduce((a, b) => a * b, 1) * (ELEMENT_BYTES[dataType] ?? 0));
}
