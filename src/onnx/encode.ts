/** IR → messages of onnx.proto, for what passes made or changed. Unchanged records never come through here. */
import onnxProto from 'onnx-proto';
import type { AttributeValue, Dim, Node, Tensor, TensorType, Value } from '../ir/graph.js';
import { InternalError } from '../diagnostics.js';
import { concat, decodeText, encodeBytesField, encodeHeader, encodeStringField, encodeVarintField, fieldsOf } from './wire.js';

const { onnx } = onnxProto;
const T = onnx.AttributeProto.AttributeType;

function encodeTensorMessage(tensor: Tensor, name: string): Uint8Array {
  if (!tensor.data) throw new InternalError('a tensor without data cannot be encoded', name);
  return onnx.TensorProto.encode({ name, dims: [...tensor.dims], dataType: tensor.dataType, rawData: tensor.data }).finish();
}

export function encodeInitializer(value: Value): Uint8Array {
  if (!value.tensor) throw new InternalError('not an initializer', value.name);
  return encodeTensorMessage(value.tensor, value.name);
}

function encodeAttribute(name: string, attribute: AttributeValue): Uint8Array {
  const message = ((): Parameters<typeof onnx.AttributeProto.encode>[0] => {
    switch (attribute.kind) {
      case 'int':
        return { name, type: T.INT, i: asLong(attribute.value) };
      case 'float':
        return { name, type: T.FLOAT, f: attribute.value };
      case 'string':
        return { name, type: T.STRING, s: new TextEncoder().encode(attribute.value) };
      case 'ints':
        return { name, type: T.INTS, ints: attribute.value.map(asLong) };
      case 'floats':
        return { name, type: T.FLOATS, floats: [...attribute.value] };
      case 'strings':
        return { name, type: T.STRINGS, strings: attribute.value.map((s) => new TextEncoder().encode(s)) };
      default:
        throw new InternalError(`attribute "${name}" of kind ${attribute.kind} cannot be encoded`);
    }
  })();
  return onnx.AttributeProto.encode(message).finish();
}

/** protobufjs takes 64-bit integers as numbers when they are safe. */
function asLong(value: number | bigint): number {
  const n = Number(value);
  if (!Number.isSafeInteger(n)) throw new InternalError(`integer ${value} is out of range for an attribute that a pass makes`);
  return n;
}

function encodeStamps(stamps: ReadonlyMap<string, string>): Uint8Array[] {
  // NodeProto.metadata_props is field 9 (IR version 10); onnx-proto is older and does not know it.
  return [...stamps].map(([key, value]) => encodeBytesField(9, encodeEntry(key, value)));
}

/** StringStringEntryProto. */
export function encodeEntry(key: string, value: string): Uint8Array {
  return concat([encodeStringField(1, key), encodeStringField(2, value)]);
}

/** NodeProto of a node that a pass made. */
export function encodeNode(node: Node): Uint8Array {
  const attributes = [...node.attributes].map(([name, a]) =>
    a.kind === 'tensor'
      ? encodeBytesField(5, concat([encodeStringField(1, name), encodeBytesField(5, encodeTensorMessage(a.value, '')), encodeVarintField(20, T.TENSOR)]))
      : encodeBytesField(5, encodeAttribute(name, a)),
  );
  return concat([
    ...node.inputs.map((v) => encodeStringField(1, v?.name ?? '')),
    ...node.outputs.map((v) => encodeStringField(2, v?.name ?? '')),
    ...(node.name ? [encodeStringField(3, node.name)] : []),
    encodeStringField(4, node.opType),
    ...attributes,
    ...(node.domain ? [encodeStringField(7, node.domain)] : []),
    ...encodeStamps(node.stamps),
  ]);
}

/**
 * NodeProto of a node that was read and then changed: inputs, outputs and changed attributes are replaced,
 * every other field keeps its bytes and its order. Clones of read nodes are made the same way.
 */
export function respliceNode(node: Node, body: Uint8Array, subgraphs: ReadonlyMap<string, Uint8Array>): Uint8Array {
  const parts: Uint8Array[] = [
    ...node.inputs.map((v) => encodeStringField(1, v?.name ?? '')),
    ...node.outputs.map((v) => encodeStringField(2, v?.name ?? '')),
  ];
  let named = false;
  const written = new Set<string>();
  for (const f of fieldsOf(body)) {
    const raw = body.subarray(f.start, f.end);
    const payload = body.subarray(f.dataStart, f.end);
    if (f.number === 1 || f.number === 2) continue;
    if (f.number === 3) {
      named = true;
      parts.push(encodeStringField(3, node.name));
    } else if (f.number === 5) {
      const name = attributeName(payload);
      const graph = subgraphs.get(name);
      if (node.changedAttributes.has(name)) {
        const value = node.attributes.get(name);
        if (value) parts.push(encodeBytesField(5, encodeAttribute(name, value)));
        written.add(name);
      } else parts.push(graph ? encodeBytesField(5, replaceField(payload, 6, graph)) : raw);
    } else parts.push(raw);
  }
  if (!named && node.name) parts.push(encodeStringField(3, node.name));
  for (const name of node.changedAttributes) {
    const value = node.attributes.get(name);
    if (value && !written.has(name)) parts.push(encodeBytesField(5, encodeAttribute(name, value)));
  }
  parts.push(...encodeStamps(node.stamps));
  return concat(parts);
}

function attributeName(payload: Uint8Array): string {
  for (const f of fieldsOf(payload)) if (f.number === 1) return decodeText(payload.subarray(f.dataStart, f.end));
  return '';
}

/** `message` with its (single) length-delimited field `number` replaced, or appended when it is absent. */
export function replaceField(message: Uint8Array, number: number, payload: Uint8Array): Uint8Array {
  const parts: Uint8Array[] = [];
  let done = false;
  for (const f of fieldsOf(message)) {
    if (f.number !== number) parts.push(message.subarray(f.start, f.end));
    else if (!done) {
      parts.push(encodeHeader(number, payload.length), payload);
      done = true;
    }
  }
  if (!done) parts.push(encodeHeader(number, payload.length), payload);
  return concat(parts);
}

function firstField(message: Uint8Array, number: number): Uint8Array {
  for (const f of fieldsOf(message)) if (f.number === number && f.wire === 2) return message.subarray(f.dataStart, f.end);
  return new Uint8Array(0);
}

function encodeShape(dims: readonly Dim[]): Uint8Array {
  return onnx.TensorShapeProto.encode({
    dim: dims.map((d) => (typeof d === 'number' ? { dimValue: d } : d === null ? {} : { dimParam: d })),
  }).finish();
}

/** ValueInfoProto of a new graph input. */
export function encodeValueInfo(name: string, type: TensorType): Uint8Array {
  const tensor = concat([encodeVarintField(1, type.elemType), ...(type.dims ? [encodeBytesField(2, encodeShape(type.dims))] : [])]);
  return concat([encodeStringField(1, name), encodeBytesField(2, encodeBytesField(1, tensor))]);
}

/** ValueInfoProto as it was read, with the shape replaced and everything else kept. */
export function reshapeValueInfo(message: Uint8Array, dims: readonly Dim[]): Uint8Array {
  const type = firstField(message, 2);
  const tensor = firstField(type, 1);
  return replaceField(message, 2, replaceField(type, 1, replaceField(tensor, 2, encodeShape(dims))));
}
