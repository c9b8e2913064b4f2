/** IR → messages of onnx.proto, for what passes made or changed. Unchanged records never come through here. */
import type { AttributeValue, Dim, Graph, Node, Tensor, TensorType, Value } from '../ir/graph.js';
import { InternalError } from '../diagnostics.js';
import { ATTRIBUTE, AttributeType, DIMENSION, ENTRY, NODE, OPSET, SHAPE, TENSOR, TENSOR_TYPE, TYPE, VALUE_INFO } from './proto.js';
import { encodeBytesField, Fields, fieldsOf, LENGTH_DELIMITED, MessageWriter } from './wire.js';

function writeTensor(m: MessageWriter, tensor: Tensor, name: string): void {
  if (!tensor.data) throw new InternalError('a tensor without data cannot be encoded', name);
  for (const d of tensor.dims) m.integer(TENSOR.dims, d);
  m.integer(TENSOR.dataType, tensor.dataType);
  if (name) m.string(TENSOR.name, name);
  m.bytes(TENSOR.rawData, tensor.data);
}

export function encodeInitializer(value: Value): Uint8Array {
  if (!value.tensor) throw new InternalError('not an initializer', value.name);
  const m = new MessageWriter();
  writeTensor(m, value.tensor, value.name);
  return m.finish();
}

function writeAttribute(m: MessageWriter, name: string, attribute: AttributeValue, encodeGraph: (graph: Graph) => Uint8Array): void {
  m.string(ATTRIBUTE.name, name);
  m.integer(ATTRIBUTE.type, writeContent(m, name, attribute, encodeGraph));
}

/** @returns the attribute's type */
function writeContent(m: MessageWriter, name: string, attribute: AttributeValue, encodeGraph: (graph: Graph) => Uint8Array): number {
  switch (attribute.kind) {
    case 'int':
      m.integer(ATTRIBUTE.i, attribute.value);
      return AttributeType.INT;
    case 'float':
      m.float(ATTRIBUTE.f, attribute.value);
      return AttributeType.FLOAT;
    case 'string':
      m.string(ATTRIBUTE.s, attribute.value);
      return AttributeType.STRING;
    case 'tensor':
      m.message(ATTRIBUTE.t, () => writeTensor(m, attribute.value, ''));
      return AttributeType.TENSOR;
    case 'ints':
      for (const v of attribute.value) m.integer(ATTRIBUTE.ints, v);
      return AttributeType.INTS;
    case 'floats':
      for (const v of attribute.value) m.float(ATTRIBUTE.floats, v);
      return AttributeType.FLOATS;
    case 'strings':
      for (const v of attribute.value) m.string(ATTRIBUTE.strings, v);
      return AttributeType.STRINGS;
    case 'graph':
      m.bytes(ATTRIBUTE.g, encodeGraph(attribute.value));
      return AttributeType.GRAPH;
    default:
      throw new InternalError(`attribute "${name}" of kind ${attribute.kind} cannot be encoded`);
  }
}

/** Where each input or output is named; an empty slot is an empty name. */
function writeNames(m: MessageWriter, field: number, values: readonly (Value | null)[]): void {
  for (const v of values) m.string(field, v?.name ?? '');
}

/** The stamps that were written last: nodes that one pass made for one boundary share theirs. */
let stamped: { readonly stamps: ReadonlyMap<string, string>; readonly entries: readonly Uint8Array[] } = { stamps: new Map(), entries: [] };

function writeStamps(m: MessageWriter, stamps: ReadonlyMap<string, string>): void {
  if (stamps.size === 0) return;
  if (stamped.stamps !== stamps) stamped = { stamps, entries: [...stamps].map(([key, value]) => encodeEntry(key, value)) };
  const { entries } = stamped;
  for (let i = 0; i < entries.length; i++) m.bytes(NODE.metadataProps, entries[i] as Uint8Array);
}

/** StringStringEntryProto. */
export function encodeEntry(key: string, value: string): Uint8Array {
  return new MessageWriter().string(ENTRY.key, key).string(ENTRY.value, value).finish();
}

/** OperatorSetIdProto. */
export function encodeOpset(domain: string, version: number): Uint8Array {
  return new MessageWriter().string(OPSET.domain, domain).integer(OPSET.version, version).finish();
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
  const m = new MessageWriter();
  writeNames(m, NODE.input, node.inputs);
  writeNames(m, NODE.output, node.outputs);
  if (node.name) m.string(NODE.name, node.name);
  m.string(NODE.opType, node.opType);
  for (const [name, a] of node.attributes) m.message(NODE.attribute, () => writeAttribute(m, name, a, encodeGraph));
  if (node.domain) m.string(NODE.domain, node.domain);
  writeStamps(m, node.stamps);
  return m.finish();
}

/**
 * NodeProto of a node that was read and then changed: inputs, outputs and changed attributes are replaced,
 * every other field keeps its bytes and its order. Clones of read nodes are made the same way.
 */
export function respliceNode(node: Node, body: Uint8Array, subgraphs: ReadonlyMap<string, Uint8Array>): Uint8Array {
  const m = new MessageWriter();
  writeNames(m, NODE.input, node.inputs);
  writeNames(m, NODE.output, node.outputs);
  let named = false;
  const left = new Set(node.changedAttributes);
  const writeChanged = (name: string): void => {
    const value = node.attributes.get(name);
    if (value) m.message(NODE.attribute, () => writeAttribute(m, name, value, noSubgraph));
  };
  const fields = new Fields(body);
  for (let f = fields.next(); f; f = fields.next()) {
    switch (f.number) {
      case NODE.input:
      case NODE.output:
        break;
      case NODE.name:
        named = true;
        m.string(NODE.name, node.name);
        break;
      case NODE.attribute: {
        // Most are neither changed nor graphs.
        const name = node.changedAttributes.size > 0 || subgraphs.size > 0 ? attributeName(f.payload) : '';
        const graph = subgraphs.get(name);
        if (node.changedAttributes.has(name)) {
          writeChanged(name);
          left.delete(name);
        } else if (graph) m.bytes(NODE.attribute, replaceField(f.payload, ATTRIBUTE.g, graph));
        else m.raw(f.record);
        break;
      }
      case NODE.domain:
        // onnxruntime does not know the default domain by its long name inside a subgraph.
        if (node.domain !== '') m.raw(f.record);
        break;
      default:
        m.raw(f.record);
    }
  }
  if (!named && node.name) m.string(NODE.name, node.name);
  for (const name of left) writeChanged(name);
  writeStamps(m, node.stamps);
  return m.finish();
}

/** Whether a NodeProto spells the default domain `ai.onnx`, which is read as the empty string. */
export function spellsDefaultDomain(node: Node, body: Uint8Array): boolean {
  return node.domain === '' && firstField(body, NODE.domain).length > 0;
}

function attributeName(attribute: Uint8Array): string {
  for (const f of fieldsOf(attribute)) if (f.number === ATTRIBUTE.name) return f.name();
  return '';
}

/** `message` with its (single) length-delimited field replaced, or appended when it is absent. */
export function replaceField(message: Uint8Array, field: number, payload: Uint8Array): Uint8Array {
  const m = new MessageWriter();
  let done = false;
  const fields = new Fields(message);
  for (let f = fields.next(); f; f = fields.next()) {
    if (f.number !== field) m.raw(f.record);
    else if (!done) {
      m.bytes(field, payload);
      done = true;
    }
  }
  if (!done) m.bytes(field, payload);
  return m.finish();
}

function firstField(message: Uint8Array, field: number): Uint8Array {
  const fields = new Fields(message);
  for (let f = fields.next(); f; f = fields.next()) if (f.number === field && f.wire === LENGTH_DELIMITED) return f.payload;
  return new Uint8Array(0);
}

/** TensorShapeProto. */
function encodeShape(dims: readonly Dim[]): Uint8Array {
  const m = new MessageWriter();
  for (const d of dims) {
    m.message(SHAPE.dim, () => {
      if (typeof d === 'number') m.integer(DIMENSION.dimValue, d);
      else if (d !== null) m.string(DIMENSION.dimParam, d);
    });
  }
  return m.finish();
}

/** ValueInfoProto of a new graph input. */
export function encodeValueInfo(name: string, type: TensorType): Uint8Array {
  const tensor = new MessageWriter().integer(TENSOR_TYPE.elemType, type.elemType);
  if (type.dims) tensor.bytes(TENSOR_TYPE.shape, encodeShape(type.dims));
  return new MessageWriter().string(VALUE_INFO.name, name).bytes(VALUE_INFO.type, encodeBytesField(TYPE.tensorType, tensor.finish())).finish();
}

/** ValueInfoProtos as they were read, with the shape replaced and everything else kept. A decoder's caches are all of one type: what comes after its like costs little. */
export class Reshaper {
  #last: { readonly type: Uint8Array; readonly dims: readonly Dim[]; readonly shaped: Uint8Array } | undefined;

  reshape(message: Uint8Array, dims: readonly Dim[]): Uint8Array {
    const type = firstField(message, VALUE_INFO.type);
    if (!this.#last || !isSame(type, this.#last.type) || !isSame(dims, this.#last.dims)) {
      const tensor = replaceField(firstField(type, TYPE.tensorType), TENSOR_TYPE.shape, encodeShape(dims));
      this.#last = { type, dims, shaped: replaceField(type, TYPE.tensorType, tensor) };
    }
    return replaceField(message, VALUE_INFO.type, this.#last.shaped);
  }
}

function isSame<T>(a: ArrayLike<T>, b: ArrayLike<T>): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
