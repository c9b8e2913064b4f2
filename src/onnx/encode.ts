/** IR → messages of onnx.proto, for what passes made or changed. Unchanged records never come through here. */
import type { AttributeValue, Dim, Graph, Node, Tensor, TensorType, Value } from '../ir/graph.js';
import { InternalError } from '../diagnostics.js';
import { ATTRIBUTE_TYPE as T } from './decode.js';
import { concat, decodeName, encodeBytesField, encodeFloatField, encodeHeader, encodeStringField, encodeVarintField, fieldsOf } from './wire.js';

function encodeTensorMessage(tensor: Tensor, name: string): Uint8Array {
  if (!tensor.data) throw new InternalError('a tensor without data cannot be encoded', name);
  return concat([
    ...tensor.dims.map((d) => encodeVarintField(1, d)),
    encodeVarintField(2, tensor.dataType),
    ...(name ? [encodeStringField(8, name)] : []),
    encodeBytesField(9, tensor.data),
  ]);
}

export function encodeInitializer(value: Value): Uint8Array {
  if (!value.tensor) throw new InternalError('not an initializer', value.name);
  return encodeTensorMessage(value.tensor, value.name);
}

function encodeAttribute(name: string, attribute: AttributeValue): Uint8Array {
  const [type, fields] = ((): [number, Uint8Array[]] => {
    switch (attribute.kind) {
      case 'int':
        return [T.INT, [encodeVarintField(3, attribute.value)]];
      case 'float':
        return [T.FLOAT, [encodeFloatField(2, attribute.value)]];
      case 'string':
        return [T.STRING, [encodeStringField(4, attribute.value)]];
      case 'tensor':
        return [T.TENSOR, [encodeBytesField(5, encodeTensorMessage(attribute.value, ''))]];
      case 'ints':
        return [T.INTS, attribute.value.map((v) => encodeVarintField(8, v))];
      case 'floats':
        return [T.FLOATS, attribute.value.map((v) => encodeFloatField(7, v))];
      case 'strings':
        return [T.STRINGS, attribute.value.map((v) => encodeStringField(9, v))];
      default:
        throw new InternalError(`attribute "${name}" of kind ${attribute.kind} cannot be encoded`);
    }
  })();
  return concat([encodeStringField(1, name), ...fields, encodeVarintField(20, type)]);
}

function encodeStamps(stamps: ReadonlyMap<string, string>): Uint8Array[] {
  // NodeProto.metadata_props is field 9 (IR version 10).
  return [...stamps].map(([key, value]) => encodeBytesField(9, encodeEntry(key, value)));
}

/** StringStringEntryProto. */
export function encodeEntry(key: string, value: string): Uint8Array {
  return concat([encodeStringField(1, key), encodeStringField(2, value)]);
}

function noSubgraph(graph: Graph): Uint8Array {
  throw new InternalError('no subgraph is expected here', graph.name);
}

/**
 * NodeProto of a node that a pass made.
 *
 * @param encodeGraph GraphProto of a subgraph
 */
export function encodeNode(node: Node, encodeGraph: (graph: Graph) => Uint8Array = noSubgraph): Uint8Array {
  const attributes = [...node.attributes].map(([name, a]) =>
    encodeBytesField(5, a.kind === 'graph' ? concat([encodeStringField(1, name), encodeBytesField(6, encodeGraph(a.value)), encodeVarintField(20, T.GRAPH)]) : encodeAttribute(name, a)),
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
    } else if (f.number === 7) {
      // onnxruntime does not know the default domain by its long name inside a subgraph.
      if (node.domain !== '') parts.push(raw);
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

/** Whether a NodeProto spells the default domain `ai.onnx`, which is read as the empty string. */
export function spellsDefaultDomain(node: Node, body: Uint8Array): boolean {
  return node.domain === '' && firstField(body, 7).length > 0;
}

function attributeName(payload: Uint8Array): string {
  for (const f of fieldsOf(payload)) if (f.number === 1) return decodeName(payload.subarray(f.dataStart, f.end));
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

/** TensorShapeProto. */
function encodeShape(dims: readonly Dim[]): Uint8Array {
  const dimension = (d: Dim): Uint8Array[] => (typeof d === 'number' ? [encodeVarintField(1, d)] : d === null ? [] : [encodeStringField(2, d)]);
  return concat(dims.map((d) => encodeBytesField(1, concat(dimension(d)))));
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
