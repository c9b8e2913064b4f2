/** ONNX's numbers (src/ir/data-type.ts, src/onnx/proto.ts) are those of onnx-proto. */
import onnxProto from 'onnx-proto';
import { describe, expect, it } from 'vitest';
import { DataType, ELEMENT_BYTES } from '../../src/ir/data-type.js';
import { ATTRIBUTE, AttributeType, DataLocation, DIMENSION, ENTRY, FUNCTION, GRAPH, MODEL, NODE, OPSET, SHAPE, TENSOR, TENSOR_TYPE, TYPE, VALUE_INFO } from '../../src/onnx/proto.js';
import { fieldsOf } from '../../src/onnx/wire.js';

const { onnx } = onnxProto;

type Codec = { encode(message: object): { finish(): Uint8Array }; fromObject(object: object): object };

const MESSAGES: readonly [string, Codec, Readonly<Record<string, number>>][] = [
  ['ModelProto', onnx.ModelProto, MODEL],
  ['OperatorSetIdProto', onnx.OperatorSetIdProto, OPSET],
  ['StringStringEntryProto', onnx.StringStringEntryProto, ENTRY],
  ['FunctionProto', onnx.FunctionProto, FUNCTION],
  ['GraphProto', onnx.GraphProto, GRAPH],
  ['NodeProto', onnx.NodeProto, NODE],
  ['AttributeProto', onnx.AttributeProto, ATTRIBUTE],
  ['TensorProto', onnx.TensorProto, TENSOR],
  ['ValueInfoProto', onnx.ValueInfoProto, VALUE_INFO],
  ['TypeProto', onnx.TypeProto, TYPE],
  ['TypeProto.Tensor', onnx.TypeProto.Tensor, TENSOR_TYPE],
  ['TensorShapeProto', onnx.TensorShapeProto, SHAPE],
  ['TensorShapeProto.Dimension', onnx.TensorShapeProto.Dimension, DIMENSION],
];

/** metadata_props of IR version 10. */
const NEWER = new Set(['GraphProto.metadataProps', 'NodeProto.metadataProps']);

/** The field numbers that onnx-proto writes a field of some value under: of what a field can hold, one is accepted. */
function writtenAs(codec: Codec, field: string): number[] {
  const found = new Set<number>();
  for (const value of [1, 'text', {}, [1], ['text'], [{}], Uint8Array.of(1), [Uint8Array.of(1)]]) {
    try {
      for (const f of fieldsOf(codec.encode(codec.fromObject({ [field]: value })).finish())) found.add(f.number);
    } catch {
      // Not what the field holds.
    }
  }
  return [...found];
}

describe('numbers of onnx.proto', () => {
  it.each(MESSAGES)('fields of %s', (name, codec, fields) => {
    const known = Object.entries(fields).filter(([field]) => !NEWER.has(`${name}.${field}`));
    expect(known.length).toBeGreaterThan(0);
    expect(known.map(([field]) => [field, writtenAs(codec, field)])).toEqual(known.map(([field, number]) => [field, [number]]));
  });

  it('enums', () => {
    const { DataType: theirs } = onnx.TensorProto;
    for (const [name, number] of Object.entries(theirs)) if (name !== 'UNDEFINED' && Number.isNaN(Number(name))) expect([name, DataType[name as 'FLOAT']]).toEqual([name, number]);
    expect(AttributeType).toEqual(Object.fromEntries(Object.keys(AttributeType).map((k) => [k, onnx.AttributeProto.AttributeType[k as 'INT']])));
    expect(DataLocation.EXTERNAL).toBe(onnx.TensorProto.DataLocation.EXTERNAL);
  });

  it('every element type has one number and, but for strings, a size', () => {
    const numbers = Object.values(DataType);
    expect(new Set(numbers).size).toBe(numbers.length);
    expect(Object.keys(ELEMENT_BYTES).map(Number).sort((a, b) => a - b)).toEqual(numbers.filter((n) => n !== DataType.STRING));
  });
});
