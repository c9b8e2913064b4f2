/**
 * A model file → IR, read sparsely: messages are scanned field by field, payloads are skipped and stay spans of
 * the source, and every record remembers its own bytes so that it can be written back unchanged.
 */
import { Refusal } from '../diagnostics.js';
import { Graph, type Model, Node, type Tensor, Value } from '../ir/graph.js';
import { type ByteSource, MemorySource, type Piece, WindowedSource } from './bytes.js';
import { decodeAttribute, decodeTensor, decodeValueInfo } from './decode.js';
import { foreignFormat } from './foreign.js';
import { elide, fieldAt, refuseNesting, WHOLE_RECORD_BYTES } from './elide.js';
import { decodeName, decodeText, fieldsOf, malformed } from './wire.js';

/** A field as it stands in the source, tag and length included, and what of the IR it belongs to. */
export type Segment =
  | { readonly kind: 'node'; readonly node: Node }
  | { readonly kind: 'value'; readonly field: number; readonly value: Value; readonly piece: Piece }
  | { readonly kind: 'raw'; readonly field: number; readonly piece: Piece };

/** What a node was read from. `full` is the whole field record. */
export interface NodeRecord {
  readonly full: Piece;
  /** NodeProto body, payloads elided when `full` is a span. */
  readonly body: Uint8Array;
  readonly elided: boolean;
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  readonly name: string;
}

export interface GraphRecord {
  readonly segments: Segment[];
}

export interface ModelRecord {
  readonly source: ByteSource;
  readonly segments: readonly { readonly field: number; readonly piece: Piece }[];
}

/** Records up to this size are kept as bytes, larger ones as spans of the source. */
const HELD_RECORD_BYTES = 8 * 1024;

/**
 * Reads a model.
 *
 * @param source the model file's bytes; only what is needed of it is read, and it must stay readable until the
 *   model has been written.
 * @throws {Refusal} PD101 when the bytes are not a complete ONNX model.
 */
export async function readModel(source: ByteSource): Promise<Model> {
  const windowed = new WindowedSource(source);
  const segments: { field: number; piece: Piece }[] = [];
  const opsets = new Map<string, number>();
  const metadata = new Map<string, string>();
  const functions: string[] = [];
  const locations = new Set<string>();
  let irVersion = 0;
  let producer = '';
  let graph: Graph | undefined;
  if (source.size === 0) throw malformed('it is empty', 0);
  const foreign = foreignFormat(await windowed.load(0, Math.min(64, source.size)));
  if (foreign) throw new Refusal({ code: 'PD101', message: `the file is not an ONNX model: it is ${foreign.what}`, hint: foreign.hint });
  for (let at = 0; at < source.size; ) {
    const f = await fieldAt(windowed, at, source.size);
    const size = f.end - f.start;
    if (f.number === 7 && f.wire === 2) {
      if (graph) throw malformed('there are two graphs', at);
      graph = await readGraph({ source: windowed, start: f.dataStart, end: f.end, held: false, parent: null, owner: null, depth: 0 }, locations);
      segments.push({ field: 7, piece: { offset: f.start, length: size } });
    } else if (size > WHOLE_RECORD_BYTES) {
      if (f.number === 25) functions.push('?');
      segments.push({ field: f.number, piece: { offset: f.start, length: size } });
    } else {
      const record = (await windowed.load(f.start, size)).slice();
      const body = record.subarray(f.dataStart - f.start);
      segments.push({ field: f.number, piece: record });
      if (f.number === 1 && f.wire === 0) irVersion = f.value;
      else if (f.number === 2 && f.wire === 2) producer = decodeText(body);
      else if (f.number === 8 && f.wire === 2) {
        const { domain, version } = decodeOpset(body);
        opsets.set(domain, version);
      } else if (f.number === 14 && f.wire === 2) {
        const [key, value] = decodeEntry(body);
        metadata.set(key, value);
      } else if (f.number === 25 && f.wire === 2) functions.push(functionName(body));
    }
    at = f.end;
  }
  if (!graph || irVersion === 0 || opsets.size === 0) {
    throw new Refusal({
      code: 'PD101',
      message: `the file is not an ONNX model: it has no ${!graph ? 'graph' : irVersion === 0 ? 'IR version' : 'opset import'}`,
      hint: 'give the .onnx file of the decoder (not a tokenizer, a config, an ORT-format .ort file or an external data file)',
    });
  }
  refuseIncomplete(graph, opsets);
  return {
    irVersion,
    opsets,
    graph,
    metadata,
    producer,
    functions,
    externalLocations: [...locations],
    record: { source, segments } satisfies ModelRecord,
  };
}

/** Opset imports may stand at the end of the file: a file cut off between fields looks whole but lacks them. So may a Cast lack its type. */
function refuseIncomplete(graph: Graph, opsets: ReadonlyMap<string, number>): void {
  for (const node of graph.nodes) {
    if (!opsets.has(node.domain)) {
      throw new Refusal({
        code: 'PD102',
        message: `the graph uses ops of "${node.domain || 'ai.onnx'}" without importing an opset of it`,
        culprit: node.name || node.opType,
        hint: 'the file may be cut off, or was edited: download or export it again',
      });
    }
    if (node.is('Cast') && !(node.int('to', 0) > 0)) {
      // A declared type would hide it from ONNX Runtime, and a copy of the node has none.
      throw new Refusal({ code: 'PD102', message: 'a Cast does not say to what type', culprit: node.name || node.opType, hint: 'export the model again' });
    }
    for (const g of node.subgraphs) refuseIncomplete(g, opsets);
  }
}

function normaliseDomain(domain: string): string {
  return domain === 'ai.onnx' ? '' : domain;
}

function decodeOpset(body: Uint8Array): { domain: string; version: number } {
  let domain = '';
  let version = 0;
  for (const f of fieldsOf(body)) {
    if (f.number === 1) domain = normaliseDomain(decodeName(body.subarray(f.dataStart, f.end)));
    if (f.number === 2) version = f.value;
  }
  return { domain, version };
}

function decodeEntry(body: Uint8Array): [string, string] {
  let key = '';
  let value = '';
  for (const f of fieldsOf(body)) {
    if (f.number === 1) key = decodeText(body.subarray(f.dataStart, f.end));
    if (f.number === 2) value = decodeText(body.subarray(f.dataStart, f.end));
  }
  return [key, value];
}

function functionName(body: Uint8Array): string {
  let name = '';
  let domain = '';
  for (const f of fieldsOf(body)) {
    if (f.number === 1) name = decodeName(body.subarray(f.dataStart, f.end));
    if (f.number === 10) domain = normaliseDomain(decodeName(body.subarray(f.dataStart, f.end)));
  }
  return `${domain}:${name}`;
}

/** Entries of GraphProto that become IR objects, by field number. */
const ENTRIES: Partial<Record<number, 'node' | 'tensor' | 'value'>> = { 1: 'node', 5: 'tensor', 11: 'value', 12: 'value', 13: 'value' };

/** Which of the two is meant cannot be known, and runtimes differ. */
function twice(name: string, what: string): Refusal {
  return new Refusal({ code: 'PD102', message: `two ${what} of a graph have one name`, culprit: name, hint: 'the graph is not valid ONNX; export it again or run onnx.checker on it' });
}

/** Finds the value a name means in this graph: its own, or (recorded as a capture) one of an enclosing graph. */
function resolve(graph: Graph, scopes: Graph | null, name: string): Value {
  const own = graph.values.get(name);
  if (own) return own;
  const outer = scopes ? findOuter(scopes, name) : undefined;
  if (outer) return outer;
  const value = new Value(name);
  graph.values.set(name, value);
  return value;
}

const parents = new WeakMap<Graph, Graph>();

function findOuter(graph: Graph, name: string): Value | undefined {
  for (let g: Graph | undefined = graph; g; g = parents.get(g)) {
    const v = g.values.get(name);
    if (v) return v;
  }
  return undefined;
}

/** Where a graph lies, and what it is part of. */
interface GraphPlace {
  readonly source: WindowedSource;
  readonly start: number;
  readonly end: number;
  /** The whole source is in memory: records are views of it, and none is a span. */
  readonly held: boolean;
  readonly parent: Graph | null;
  readonly owner: Node | null;
  /** Graphs around this one. */
  readonly depth: number;
}

async function readGraph({ source, start, end, held, parent, owner, depth }: GraphPlace, locations: Set<string>): Promise<Graph> {
  refuseNesting(depth);
  const take = async (offset: number, length: number): Promise<Uint8Array> => {
    const bytes = source.peek(offset, length) ?? (await source.load(offset, length));
    return held ? bytes : bytes.slice();
  };
  const graph = new Graph();
  graph.owner = owner;
  if (parent) parents.set(graph, parent);
  const segments: Segment[] = [];
  graph.record = { segments } satisfies GraphRecord;
  // Names are declared before nodes are linked: initializers and inputs usually follow the nodes in the file,
  // and a name declared here hides one of an enclosing graph.
  const pending: { node: Node; inputs: string[]; outputs: string[]; graphs: { name: string; bytes: Uint8Array }[] }[] = [];
  for (let at = start; at < end; ) {
    const f = await fieldAt(source, at, end);
    const size = f.end - f.start;
    at = f.end;
    const message = f.wire === 2 ? ENTRIES[f.number] : undefined;
    if (message === undefined) {
      const piece: Piece = size > WHOLE_RECORD_BYTES && !held ? { offset: f.start, length: size } : await take(f.start, size);
      segments.push({ kind: 'raw', field: f.number, piece });
      if (f.number === 2 && piece instanceof Uint8Array) graph.name = decodeText(piece.subarray(f.dataStart - f.start));
      continue;
    }
    const whole = held || size <= HELD_RECORD_BYTES || (size <= WHOLE_RECORD_BYTES && message !== 'tensor');
    const full: Piece = whole ? await take(f.start, size) : { offset: f.start, length: size };
    const elided = full instanceof Uint8Array ? undefined : await elide(source, f.dataStart, f.end, message === 'node' ? 'node' : 'tensor', depth);
    const body = full instanceof Uint8Array ? full.subarray(f.dataStart - f.start) : (elided?.bytes as Uint8Array);
    if (message === 'node') {
      const parsed = decodeNode(body, full);
      pending.push(parsed);
      segments.push({ kind: 'node', node: parsed.node });
    } else if (message === 'tensor') {
      const { name, tensor } = decodeTensor(body, elided?.rawBytes);
      const value = declare(graph, name);
      if (value.tensor) throw twice(name, 'initializers');
      value.tensor = tensor;
      graph.initializers.push(value);
      noteExternal(tensor, locations);
      segments.push({ kind: 'value', field: f.number, value, piece: full });
    } else {
      const { name, type } = decodeValueInfo(body);
      const value = declare(graph, name);
      value.type ??= type;
      if (f.number === 11) {
        if (value.isInput) throw twice(name, 'inputs');
        value.isInput = true;
        value.type = type ?? value.type;
        graph.inputs.push(value);
      } else if (f.number === 12) {
        value.isOutput = true;
        // An input handed through is what its input says it is.
        if (!value.isInput) value.type = type ?? value.type;
        graph.outputs.push(value);
      }
      segments.push({ kind: 'value', field: f.number, value, piece: full });
    }
  }
  for (const p of pending) {
    p.outputs.forEach((name, i) => {
      if (name === '') {
        p.node.outputs.push(null);
        return;
      }
      const value = declare(graph, name);
      if (value.producer || value.isInput || value.tensor) {
        throw new Refusal({
          code: 'PD102',
          message: value.producer ? `two nodes compute the value "${name}"` : `a node computes "${name}", which is an ${value.isInput ? 'input' : 'initializer'} of the graph`,
          culprit: p.node.name || name,
          hint: 'the graph is not valid ONNX (SSA); export it again or run onnx.checker on it',
        });
      }
      value.producer = p.node;
      value.outputIndex = i;
      p.node.outputs.push(value);
    });
  }
  for (const p of pending) {
    graph.nodes.push(p.node);
    p.inputs.forEach((name, index) => {
      if (name === '') {
        p.node.inputs.push(null);
        return;
      }
      const value = resolve(graph, parent, name);
      p.node.inputs.push(value);
      if (graph.values.get(name) === value) value.uses.push({ node: p.node, index });
    });
    for (const t of p.node.attributes.values()) if (t.kind === 'tensor') noteExternal(t.value, locations);
    for (const g of p.graphs) {
      const inner = new WindowedSource(new MemorySource(g.bytes));
      const sub = await readGraph({ source: inner, start: 0, end: g.bytes.length, held: true, parent: graph, owner: p.node, depth: depth + 1 }, locations);
      p.node.subgraphs.push(sub);
      p.node.attributes.set(g.name, { kind: 'graph', value: sub });
    }
    if (p.graphs.length > 0) linkCaptures(graph, p.node);
  }
  refuseDangling(graph);
  return graph;
}

/** Everything that is read must be computed by something. */
function refuseDangling(graph: Graph): void {
  const nothing = (v: Value): boolean => !v.producer && !v.isInput && !v.tensor && graph.values.get(v.name) === v;
  const refuse = (name: string, culprit: string): Refusal =>
    new Refusal({ code: 'PD102', message: `nothing computes the value "${name}"`, culprit, hint: 'the graph is not valid ONNX; export it again or run onnx.checker on it (sparse initializers are not supported)' });
  for (const node of graph.nodes) for (const v of node.inputs) if (v && nothing(v)) throw refuse(v.name, node.name || node.opType);
  // A subgraph may hand on a value of an enclosing graph.
  if (!graph.owner) for (const v of graph.outputs) if (nothing(v)) throw refuse(v.name, v.name);
}

/** Records which values of `graph` the subgraphs of `node` read, at any depth. */
function linkCaptures(graph: Graph, node: Node): void {
  const captured = new Set<Value>();
  const visit = (sub: Graph): void => {
    for (const v of [...sub.nodes.flatMap((n) => n.inputs), ...sub.outputs]) {
      if (v && graph.values.get(v.name) === v) captured.add(v);
    }
    for (const n of sub.nodes) n.subgraphs.forEach(visit);
  };
  node.subgraphs.forEach(visit);
  for (const v of captured) {
    node.captures.push(v);
    v.capturedBy.push(node);
  }
}

function declare(graph: Graph, name: string): Value {
  let value = graph.values.get(name);
  if (!value) {
    value = new Value(name);
    graph.values.set(name, value);
  }
  return value;
}

function noteExternal(tensor: Tensor, locations: Set<string>): void {
  if (tensor.external) locations.add(tensor.external.location);
}

function decodeNode(
  body: Uint8Array,
  full: Piece,
): { node: Node; inputs: string[]; outputs: string[]; graphs: { name: string; bytes: Uint8Array }[] } {
  const inputs: string[] = [];
  const outputs: string[] = [];
  const graphs: { name: string; bytes: Uint8Array }[] = [];
  const attributes: Node['attributes'] = new Map();
  let name = '';
  let opType = '';
  let domain = '';
  for (const f of fieldsOf(body)) {
    const payload = body.subarray(f.dataStart, f.end);
    switch (f.number) {
      case 1:
        inputs.push(decodeName(payload));
        break;
      case 2:
        outputs.push(decodeName(payload));
        break;
      case 3:
        name = decodeName(payload);
        break;
      case 4:
        opType = decodeName(payload);
        break;
      case 5: {
        const a = decodeAttribute(payload);
        attributes.set(a.name, a.value);
        for (const bytes of a.graphs) graphs.push({ name: a.name, bytes });
        break;
      }
      case 7:
        domain = normaliseDomain(decodeName(payload));
        break;
    }
  }
  const node = new Node(opType, domain, name, attributes);
  node.record = { full, body, elided: !(full instanceof Uint8Array), inputNames: inputs, outputNames: outputs, name } satisfies NodeRecord;
  return { node, inputs, outputs, graphs };
}
