/**
 * The numbers of onnx.proto: fields of its messages, and what an attribute can hold (element types: src/ir/data-type.ts). Names and
 * enums are held to onnx-proto by their types, field numbers by a test (test/onnx/numbers.test.ts), which
 * lets onnx-proto write every field. Fields that are not needed here are left out: the writer copies them from the source.
 */
import type { onnx } from 'onnx-proto';

/** Numbers by names of onnx-proto's; `Newer` are fields that onnx-proto (ONNX 1.10) does not know. */
type Fields<Message, Newer extends string = never> = Partial<Record<keyof Message | Newer, number>>;

export const MODEL = { irVersion: 1, producerName: 2, graph: 7, opsetImport: 8, metadataProps: 14, functions: 25 } as const satisfies Fields<onnx.IModelProto>;

export const OPSET = { domain: 1, version: 2 } as const satisfies Fields<onnx.IOperatorSetIdProto>;

export const ENTRY = { key: 1, value: 2 } as const satisfies Fields<onnx.IStringStringEntryProto>;

export const FUNCTION = { name: 1, input: 4, output: 5, node: 7, opsetImport: 9, domain: 10 } as const satisfies Fields<onnx.IFunctionProto>;

/** metadata_props of graphs and nodes are of IR version 10. */
export const GRAPH = { node: 1, name: 2, initializer: 5, docString: 10, input: 11, output: 12, valueInfo: 13, metadataProps: 16 } as const satisfies Fields<onnx.IGraphProto, 'metadataProps'>;

export const NODE = { input: 1, output: 2, name: 3, opType: 4, attribute: 5, domain: 7, metadataProps: 9 } as const satisfies Fields<onnx.INodeProto, 'metadataProps'>;

export const ATTRIBUTE = {
  name: 1, f: 2, i: 3, s: 4, t: 5, g: 6, floats: 7, ints: 8, strings: 9, tensors: 10, graphs: 11, type: 20,
} as const satisfies Fields<onnx.IAttributeProto>;

export const AttributeType = {
  FLOAT: 1, INT: 2, STRING: 3, TENSOR: 4, GRAPH: 5, FLOATS: 6, INTS: 7, STRINGS: 8,
} as const satisfies Partial<typeof onnx.AttributeProto.AttributeType>;

export const TENSOR = {
  dims: 1, dataType: 2, floatData: 4, int32Data: 5, int64Data: 7, name: 8, rawData: 9, doubleData: 10, uint64Data: 11, externalData: 13, dataLocation: 14,
} as const satisfies Fields<onnx.ITensorProto>;

/** `TensorProto.DataLocation`. */
export const DataLocation = { EXTERNAL: 1 } as const satisfies Partial<typeof onnx.TensorProto.DataLocation>;

export const VALUE_INFO = { name: 1, type: 2 } as const satisfies Fields<onnx.IValueInfoProto>;

export const TYPE = { tensorType: 1 } as const satisfies Fields<onnx.ITypeProto>;

export const TENSOR_TYPE = { elemType: 1, shape: 2 } as const satisfies Fields<onnx.TypeProto.ITensor>;

export const SHAPE = { dim: 1 } as const satisfies Fields<onnx.ITensorShapeProto>;

export const DIMENSION = { dimValue: 1, dimParam: 2 } as const satisfies Fields<onnx.TensorShapeProto.IDimension>;
