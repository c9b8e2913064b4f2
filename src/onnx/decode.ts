/** NodeProto, AttributeProto and ValueInfoProto messages held in memory → IR. */
import { type AttributeValue, type Dim, Node, type TensorType } from '../ir/graph.js';
import { ATTRIBUTE, AttributeType, DIMENSION, NODE, OPSET, SHAPE, TENSOR_TYPE, TYPE, VALUE_INFO } from './proto.js';
import { decodeTensor } from './tensor.js';
import { type Field, Fields, fieldsOf, type Integer, LENGTH_DELIMITED, VARINT } from './wire.js';

/** A node and the names it is linked by; its subgraphs stay bytes, since reading them needs a scope (read-graph.ts). */
export interface DecodedNode {
  readonly node: Node;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly graphs: readonly { readonly name: string; readonly bytes: Uint8Array }[];
}

/** The standard domain has two spellings. */
export function normaliseDomain(domain: string): string {
  return domain === 'ai.onnx' ? '' : domain;
}

/** OperatorSetIdProto. */
export function decodeOpset(body: Uint8Array): [domain: string, version: number] {
  let domain = '';
  let version = 0;
  for (const f of fieldsOf(body)) {
    if (f.number === OPSET.domain) domain = normaliseDomain(f.name());
    if (f.number === OPSET.version) version = Number(f.integer());
  }
  return [domain, version];
}

/** Where names gather until it is known how many there are: a list that grows keeps room for sixteen more. */
const gathered: { readonly inputs: string[]; readonly outputs: string[] } = { inputs: [], outputs: [] };

/** @param fields of a NodeProto */
export function decodeNode(fields: Fields, known: Decoded): DecodedNode {
  const { inputs, outputs } = gathered;
  let inputCount = 0;
  let outputCount = 0;
  const graphs: { name: string; bytes: Uint8Array }[] = [];
  let attributes: ReadonlyMap<string, AttributeValue> | undefined;
  let name = '';
  let opType = '';
  let domain = '';
  for (let f = fields.next(); f; f = fields.next()) {
    switch (f.number) {
      case NODE.input:
        inputs[inputCount++] = f.name();
        break;
      case NODE.output:
        outputs[outputCount++] = f.name();
        break;
      case NODE.name:
        name = f.name();
        break;
      case NODE.opType:
        opType = f.name();
        break;
      case NODE.attribute: {
        const a = known.attributes.decode(f);
        attributes = attributes ? new Map(attributes).set(a.name, a.value) : a.alone;
        for (const bytes of a.graphs) graphs.push({ name: a.name, bytes });
        break;
      }
      case NODE.domain:
        domain = normaliseDomain(f.name());
        break;
    }
  }
  return { node: new Node(opType, domain, name, attributes), inputs: inputs.slice(0, inputCount), outputs: outputs.slice(0, outputCount), graphs };
}

/** What an AttributeProto holds, field by field; which of it counts, its type says. */
interface Parts {
  name: string;
  type: number;
  float: number;
  int: Integer;
  string: Field | undefined;
  tensor: Uint8Array | undefined;
  readonly floats: Integer[];
  readonly ints: Integer[];
  readonly strings: Field[];
  readonly graphs: Uint8Array[];
}

function partsOf(bytes: Uint8Array): Parts {
  const parts: Parts = { name: '', type: 0, float: 0, int: 0, string: undefined, tensor: undefined, floats: [], ints: [], strings: [], graphs: [] };
  const fields = new Fields(bytes);
  for (let f = fields.next(); f; f = fields.next()) {
    switch (f.number) {
      case ATTRIBUTE.name:
        parts.name = f.name();
        break;
      case ATTRIBUTE.f:
        parts.float = f.float();
        break;
      case ATTRIBUTE.i:
        parts.int = f.integer();
        break;
      case ATTRIBUTE.s:
        parts.string = f;
        break;
      case ATTRIBUTE.t:
        parts.tensor = f.payload;
        break;
      case ATTRIBUTE.g:
      case ATTRIBUTE.graphs:
        parts.graphs.push(f.payload);
        break;
      case ATTRIBUTE.floats:
        f.pushFloats(parts.floats);
        break;
      case ATTRIBUTE.ints:
        f.pushIntegers(parts.ints);
        break;
      case ATTRIBUTE.strings:
        parts.strings.push(f);
        break;
      case ATTRIBUTE.type:
        parts.type = Number(f.integer());
        break;
    }
  }
  return parts;
}

/** IR versions before 3 may leave the type out. */
function typeOf({ type, tensor, ints, floats, strings, string, float }: Parts): number {
  if (type !== 0) return type;
  if (tensor) return AttributeType.TENSOR;
  if (ints.length > 0) return AttributeType.INTS;
  if (floats.length > 0) return AttributeType.FLOATS;
  if (strings.length > 0) return AttributeType.STRINGS;
  if (string && string.payload.length > 0) return AttributeType.STRING;
  return float !== 0 ? AttributeType.FLOAT : AttributeType.INT;
}

function valueOf(parts: Parts): AttributeValue {
  switch (typeOf(parts)) {
    case AttributeType.FLOAT:
      return { kind: 'float', value: parts.float };
    case AttributeType.INT:
      return { kind: 'int', value: parts.int };
    case AttributeType.STRING:
      return { kind: 'string', value: parts.string?.text() ?? '' };
    case AttributeType.TENSOR:
      return parts.tensor ? { kind: 'tensor', value: decodeTensor(parts.tensor).tensor } : { kind: 'other', value: null };
    case AttributeType.FLOATS:
      return { kind: 'floats', value: parts.floats.map(Number) };
    case AttributeType.INTS:
      return { kind: 'ints', value: parts.ints };
    case AttributeType.STRINGS:
      return { kind: 'strings', value: parts.strings.map((f) => f.text()) };
    default:
      return { kind: 'other', value: null };
  }
}

/** Name and value of an AttributeProto; graphs stay bytes. */
interface DecodedAttribute {
  readonly name: string;
  readonly value: AttributeValue;
  readonly graphs: readonly Uint8Array[];
  /** What a node has that has no other attribute. */
  readonly alone: ReadonlyMap<string, AttributeValue>;
}

function decodeAttribute(bytes: Uint8Array): DecodedAttribute {
  const parts = partsOf(bytes);
  const { name, graphs } = parts;
  const value: AttributeValue = graphs.length > 0 ? { kind: 'other', value: null } : valueOf(parts);
  return { name, value, graphs, alone: new Map([[name, value]]) };
}

/** Larger messages are mostly seen once. */
const MOST_KNOWN_BYTES = 256;

/** After so many that differ they are forgotten, which costs only sharing. */
const MOST_KNOWN = 4096;

/** What messages decode to, equal bytes once. */
class EqualBytes<T> {
  private readonly known = new Map<string, T>();

  constructor(private readonly make: (bytes: Uint8Array) => T) {}

  /** What is in a field. */
  decode(field: Field): T {
    if (field.end - field.dataStart > MOST_KNOWN_BYTES) return this.make(field.payload);
    const key = field.characters();
    let found = this.known.get(key);
    if (found === undefined) {
      if (this.known.size >= MOST_KNOWN) this.known.clear();
      found = this.make(field.payload);
      this.known.set(key, found);
    }
    return found;
  }
}

/** What a model's attributes and types were decoded to: an exporter's thousands are the same few dozen. */
export class Decoded {
  readonly attributes = new EqualBytes(decodeAttribute);
  /** TypeProto; null for sequences and optionals. */
  readonly types = new EqualBytes(decodeType);
}

/** ValueInfoProto → name and tensor type (undefined for sequences, optionals and untyped values). */
export function decodeValueInfo(bytes: Uint8Array, known: Decoded): { name: string; type: TensorType | undefined } {
  let name = '';
  let type: TensorType | undefined;
  const fields = new Fields(bytes);
  for (let f = fields.next(); f; f = fields.next()) {
    if (f.number === VALUE_INFO.name) name = f.name();
    if (f.number === VALUE_INFO.type && f.wire === LENGTH_DELIMITED) type = known.types.decode(f) ?? type;
  }
  return { name, type };
}

function decodeType(bytes: Uint8Array): TensorType | null {
  let type: TensorType | null = null;
  for (const t of fieldsOf(bytes)) if (t.number === TYPE.tensorType && t.wire === LENGTH_DELIMITED) type = decodeTensorType(t.payload);
  return type;
}

/** TypeProto.Tensor. */
function decodeTensorType(bytes: Uint8Array): TensorType {
  let elemType = 0;
  let dims: Dim[] | undefined;
  const fields = new Fields(bytes);
  for (let f = fields.next(); f; f = fields.next()) {
    if (f.number === TENSOR_TYPE.elemType) elemType = Number(f.integer());
    if (f.number !== TENSOR_TYPE.shape) continue;
    dims = [];
    for (const d of fieldsOf(f.payload)) if (d.number === SHAPE.dim) dims.push(decodeDimension(d.payload));
  }
  return { elemType, dims };
}

function toSize(n: number): number | null {
  return Number.isSafeInteger(n) && n >= 0 ? n : null;
}

/** TensorShapeProto.Dimension: a size, a symbol, or nothing known. */
function decodeDimension(bytes: Uint8Array): Dim {
  let dim: Dim = null;
  const fields = new Fields(bytes);
  for (let f = fields.next(); f; f = fields.next()) {
    // Some exporters write -1 for a size that is not known.
    if (f.number === DIMENSION.dimValue && f.wire === VARINT) dim = toSize(Number(f.integer()));
    if (f.number === DIMENSION.dimParam && f.wire === LENGTH_DELIMITED) dim = f.payload.length === 0 ? null : f.name();
  }
  return dim;
}
