/** GraphProto → IR: entry by entry, then names are linked. */
import { Refusal } from '../diagnostics.js';
import { Graph, type Node, type Tensor, type Value } from '../ir/graph.js';
import { MemorySource, type Piece, Shelf, WindowedSource } from './bytes.js';
import { type Decoded, type DecodedNode, decodeNode, decodeValueInfo } from './decode.js';
import { elide, fieldAt, peekField, refuseNesting, WHOLE_RECORD_BYTES } from './elide.js';
import type { KnownNodes } from './known-nodes.js';
import { declare, linkCaptures, linkInputs, linkOutputs, nest, refuseDangling, releaseForeign } from './link.js';
import { GRAPH } from './proto.js';
import { type GraphRecord, HeldNode, type NodeRecord, type Segment } from './records.js';
import { decodeTensor } from './tensor.js';
import { type FieldRange, Fields, fieldOf, LENGTH_DELIMITED } from './wire.js';

/** Records up to this size are kept as bytes, larger ones as spans of the source. */
const HELD_RECORD_BYTES = 8 * 1024;

/** Entries of GraphProto that become IR objects, by field number. */
const ENTRIES: Partial<Record<number, 'node' | 'tensor' | 'value'>> = {
  [GRAPH.node]: 'node', [GRAPH.initializer]: 'tensor', [GRAPH.input]: 'value', [GRAPH.output]: 'value', [GRAPH.valueInfo]: 'value',
};

/** Where a graph lies, and what it is part of. */
export interface GraphPlace {
  readonly source: WindowedSource;
  readonly start: number;
  readonly end: number;
  /** The whole source is in memory: records are views of it, and none is a span. */
  readonly held: boolean;
  readonly parent: Graph | null;
  readonly owner: Node | null;
  /** Graphs around this one. */
  readonly depth: number;
  /** Attributes and types that have been decoded. */
  readonly decoded: Decoded;
  /** Nodes that have been decoded before. */
  readonly known?: KnownNodes | undefined;
}

/** @param locations gets the external data files that tensors name */
export async function readGraph(place: GraphPlace, locations: Set<string>): Promise<Graph> {
  refuseNesting(place.depth);
  const graph = new Graph();
  graph.owner = place.owner;
  if (place.parent) nest(graph, place.parent);
  // Names are declared before nodes are linked: initializers and inputs usually follow the nodes in the file,
  // and a name declared here hides one of an enclosing graph.
  const decoded = await readEntries(graph, place, locations);
  for (let i = 0; i < decoded.length; i++) {
    const { node, outputs } = decoded[i] as DecodedNode;
    linkOutputs(graph, node, outputs);
  }
  releaseForeign(graph);
  for (let i = 0; i < decoded.length; i++) {
    const { node, inputs, graphs } = decoded[i] as DecodedNode;
    graph.nodes.push(node);
    linkInputs(graph, node, inputs);
    if (node.attributes.size > 0) for (const t of node.attributes.values()) if (t.kind === 'tensor') noteExternal(t.value, locations);
    if (graphs.length > 0) await readSubgraphs(graph, { node, graphs }, { depth: place.depth, decoded: place.decoded, locations });
  }
  refuseDangling(graph);
  return graph;
}

/** Reads the subgraphs of a node of `graph`, which is `depth` graphs deep. */
export async function readSubgraphs(graph: Graph, { node, graphs }: Pick<DecodedNode, 'node' | 'graphs'>, { depth, decoded, locations }: { readonly depth: number; readonly decoded: Decoded; readonly locations: Set<string> }): Promise<void> {
  const subgraphs: Graph[] = [];
  for (const { name, bytes } of graphs) {
    const source = new WindowedSource(new MemorySource(bytes));
    const sub = await readGraph({ source, start: 0, end: bytes.length, held: true, parent: graph, owner: node, depth: depth + 1, decoded }, locations);
    subgraphs.push(sub);
    node.completeAttribute(name, { kind: 'graph', value: sub });
  }
  node.subgraphs = subgraphs;
  linkCaptures(graph, node);
}

/** Reads the fields of a graph in their order. @returns its nodes, not linked yet */
async function readEntries(graph: Graph, place: GraphPlace, locations: Set<string>): Promise<DecodedNode[]> {
  const { source, start, end, held, depth, known } = place;
  const segments: Segment[] = [];
  graph.record = { segments } satisfies GraphRecord;
  const shelf = new Shelf();
  const keep = (bytes: Uint8Array): Uint8Array => (held ? bytes : shelf.keep(bytes));
  // Waiting takes longer than reading a record: what the window holds is not waited for.
  const peek = ({ start: from, end: to }: FieldRange): Uint8Array | undefined => source.peek(from, to - from);
  const load = ({ start: from, end: to }: FieldRange): Promise<Uint8Array> => source.load(from, to - from);
  const nodes: DecodedNode[] = [];
  for (let at = start; at < end; ) {
    const f = peekField(source, at, end) ?? (await fieldAt(source, at, end));
    const span = { offset: f.start, length: f.end - f.start };
    at = f.end;
    const entry = f.wire === LENGTH_DELIMITED ? ENTRIES[f.number] : undefined;
    if (entry === undefined) {
      const piece: Piece = span.length > WHOLE_RECORD_BYTES && !held ? span : keep(peek(f) ?? (await load(f)));
      segments.push({ kind: 'raw', field: f.number, piece });
      if (f.number === GRAPH.name && piece instanceof Uint8Array) graph.name = fieldOf(piece).text();
      continue;
    }
    const whole = held || span.length <= HELD_RECORD_BYTES || (span.length <= WHOLE_RECORD_BYTES && entry !== 'tensor');
    const bytes = whole ? (peek(f) ?? (await load(f))) : undefined;
    if (entry === 'node' && known) {
      const again = known.take(bytes);
      if (again) {
        nodes.push(again);
        segments.push({ kind: 'node', node: again.node });
        continue;
      }
    }
    const full: Piece = bytes ? keep(bytes) : span;
    const elided = full instanceof Uint8Array ? undefined : await elide(source, { start: f.dataStart, end: f.end, kind: entry === 'node' ? 'node' : 'tensor', depth });
    if (entry === 'node') {
      const decoded = decodeNode(full instanceof Uint8Array ? new Fields(full, f.dataStart - f.start) : new Fields(elided?.bytes as Uint8Array), place.decoded);
      const { node, inputs, outputs } = decoded;
      node.record =
        full instanceof Uint8Array
          ? new HeldNode(full, inputs, outputs, node.name)
          : ({ full, body: elided?.bytes as Uint8Array, elided: true, inputNames: inputs, outputNames: outputs, name: node.name } satisfies NodeRecord);
      nodes.push(decoded);
      segments.push({ kind: 'node', node });
    } else {
      const body = full instanceof Uint8Array ? full.subarray(f.dataStart - f.start) : (elided?.bytes as Uint8Array);
      const value = entry === 'tensor' ? readInitializer(graph, body, elided?.rawBytes, locations) : readDeclaration(graph, f.number, decodeValueInfo(body, place.decoded));
      segments.push({ kind: 'value', field: f.number, value, piece: full });
    }
  }
  return nodes;
}

function readInitializer(graph: Graph, body: Uint8Array, rawBytes: number | undefined, locations: Set<string>): Value {
  const { name, tensor } = decodeTensor(body, rawBytes);
  const value = declare(graph, name);
  if (value.tensor) throw twice(name, 'initializers');
  value.tensor = tensor;
  graph.initializers.push(value);
  noteExternal(tensor, locations);
  return value;
}

/** An input, an output or the type of a value in between. */
function readDeclaration(graph: Graph, field: number, { name, type }: ReturnType<typeof decodeValueInfo>): Value {
  const value = declare(graph, name);
  value.type ??= type;
  if (field === GRAPH.input) {
    if (value.isInput) throw twice(name, 'inputs');
    value.isInput = true;
    value.type = type ?? value.type;
    graph.inputs.push(value);
  } else if (field === GRAPH.output) {
    value.isOutput = true;
    // An input handed through is what its input says it is.
    if (!value.isInput) value.type = type ?? value.type;
    graph.outputs.push(value);
  }
  return value;
}

/** Which of the two is meant cannot be known, and runtimes differ. */
function twice(name: string, what: string): Refusal {
  return new Refusal({ code: 'PD102', message: `two ${what} of a graph have one name`, culprit: name, hint: 'the graph is not valid ONNX; export it again or run onnx.checker on it' });
}

function noteExternal(tensor: Tensor, locations: Set<string>): void {
  if (tensor.external) locations.add(tensor.external.location);
}
