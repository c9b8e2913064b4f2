/**
 * IR → bytes. The file is laid out first (so that every length is known), then streamed: bytes that passes made,
 * and ranges of the source for everything else. What no pass touched comes out byte for byte as it was.
 */
import { InternalError, Refusal } from '../diagnostics.js';
import { areNamed, type Graph, type Model, type Node, type Value } from '../ir/graph.js';
import { BRANCH_DOMAIN, type BranchFunctions, branchFunctions, NO_FUNCTIONS } from './branch-functions.js';
import { type ByteSink, isSpan, type Piece } from './bytes.js';
import { decodeOpset } from './decode.js';
import { encodeEntry, encodeInitializer, encodeNode, encodeOpset, encodeValueInfo, Reshaper, respliceNode, spellsDefaultDomain } from './encode.js';
import { GRAPH, MODEL } from './proto.js';
import type { GraphRecord, ModelRecord, NodeRecord, Segment } from './records.js';
import { concat, encodeBytesField, encodeHeader, encodeStringField, fieldOf } from './wire.js';

/** protobuf messages end at 2 GiB; ONNX Runtime refuses larger ones. */
export const MAX_MESSAGE_BYTES = 2 ** 31 - 1;

export interface WriteChanges {
  /** metadata_props to add to the model. */
  readonly metadata: ReadonlyMap<string, string>;
}

/** The pieces of the output file, in order. */
export function layoutModel(model: Model, changes: WriteChanges): { pieces: Piece[]; byteLength: number } {
  const record = model.record as ModelRecord;
  const branches = branchesOf(model);
  const pieces: Piece[] = [];
  for (const s of record.segments) {
    if (s.field === MODEL.graph) {
      const body = layoutGraph(model.graph, branches);
      pieces.push(encodeHeader(MODEL.graph, lengthOf(body)));
      for (const p of body) pieces.push(p);
    } else pieces.push(s.piece);
  }
  pieces.push(...modelAdditions(model, changes, branches));
  const byteLength = lengthOf(pieces);
  if (byteLength > MAX_MESSAGE_BYTES) {
    throw new Refusal({
      code: 'PD310',
      message: `the rewritten model would have ${byteLength} bytes; a protobuf message ends at 2 GiB`,
      hint: 'store the weights as external data first (onnx.save with save_as_external_data=True) and compile that',
    });
  }
  return { pieces: coalesce(pieces), byteLength };
}

/** How the branches of a model are written: in place, or called. */
export function branchesOf(model: Model): BranchFunctions {
  return branchFunctions(model, (node) => encodeNode(node, encodeNewGraph));
}

/** Opset imports, functions and metadata_props that the model did not have. */
export function modelAdditions(model: Model, changes: WriteChanges, { functions }: BranchFunctions): Uint8Array[] {
  const { segments } = model.record as ModelRecord;
  const known = new Set(segments.flatMap((s) => (s.field === MODEL.opsetImport && s.piece instanceof Uint8Array ? [decodeOpset(fieldOf(s.piece).payload)[0]] : [])));
  const added: Uint8Array[] = [];
  const opsets = functions.length > 0 ? new Map([...model.opsets, [BRANCH_DOMAIN, 1]]) : model.opsets;
  for (const [domain, version] of opsets) {
    if (known.has(domain)) continue;
    added.push(encodeBytesField(MODEL.opsetImport, encodeOpset(domain, version)));
  }
  for (const [key, value] of changes.metadata) added.push(encodeBytesField(MODEL.metadataProps, encodeEntry(key, value)));
  for (const body of functions) added.push(encodeBytesField(MODEL.functions, body));
  return added;
}

export function lengthOf(pieces: readonly Piece[]): number {
  let n = 0;
  for (const p of pieces) n += p.length;
  return n;
}

/** Neighbouring source ranges become one copy, neighbouring byte pieces one write. */
function coalesce(pieces: readonly Piece[]): Piece[] {
  const out: Piece[] = [];
  let held: Uint8Array[] = [];
  const flush = (): void => {
    if (held.length > 0) out.push(concat(held));
    held = [];
  };
  for (const p of pieces) {
    if (!isSpan(p)) {
      held.push(p);
      continue;
    }
    flush();
    const last = out.at(-1);
    if (last && isSpan(last) && last.offset + last.length === p.offset) out[out.length - 1] = { offset: last.offset, length: last.length + p.length };
    else out.push(p);
  }
  flush();
  return out;
}

/** Streams the laid-out pieces; `progress` is told the bytes done so far. */
export async function writePieces(model: Model, pieces: readonly Piece[], sink: ByteSink, progress?: (done: number) => void): Promise<void> {
  const { source } = model.record as ModelRecord;
  let done = 0;
  for (const p of pieces) {
    if (isSpan(p)) await sink.copy(source, p.offset, p.length);
    else await sink.write(p);
    done += p.length;
    progress?.(done);
  }
}

export function layoutGraph(graph: Graph, { calls }: BranchFunctions = NO_FUNCTIONS): Piece[] {
  const { segments } = graph.record as GraphRecord;
  const kept = new Set<Node>(graph.nodes);
  const read = new Set<Value>();
  // Untouched nodes in untouched order keep their places among the other fields; otherwise all nodes are written,
  // in the graph's order, where the first one stood.
  const readOrder: Node[] = [];
  /** Values that were declared: a record for them is there. */
  const declared = new Set<Value>();
  for (let i = 0; i < segments.length; i++) {
    const s = segments[i] as Segment;
    if (s.kind === 'node' && kept.has(s.node)) readOrder.push(s.node);
    if (s.kind !== 'value') continue;
    if (s.field !== GRAPH.valueInfo) read.add(s.value);
    if (s.field !== GRAPH.initializer) declared.add(s.value);
  }
  const inPlace = readOrder.length === graph.nodes.length && readOrder.every((n, i) => n === graph.nodes[i]);
  const piecesOf = (node: Node): Piece[] => {
    const call = calls.get(node);
    return call ? [encodeBytesField(GRAPH.node, call)] : nodePieces(node);
  };
  const pieces: Piece[] = [];
  const lastOf = (field: number): Segment | undefined => segments.findLast((s) => s.kind === 'value' && s.field === field);
  const lastInput = lastOf(GRAPH.input);
  const lastInitializer = lastOf(GRAPH.initializer);
  const lastOutput = lastOf(GRAPH.output);
  const newInputs = graph.inputs.filter((v) => !read.has(v)).map((v) => encodeBytesField(GRAPH.input, encodeValueInfo(v.name, mustType(v))));
  const newOutputs = graph.outputs.filter((v) => !read.has(v)).map((v) => encodeBytesField(GRAPH.output, encodeValueInfo(v.name, mustType(v))));
  const newInitializers = graph.initializers.filter((v) => !read.has(v)).map((v) => encodeBytesField(GRAPH.initializer, encodeInitializer(v)));
  // Values that a pass made, or found the size of, and that were not declared.
  const undeclared: Value[] = [];
  for (const v of graph.values.values()) if (v.typeState === 'changed' && v.type && !v.tensor && !v.isInput && !v.isOutput && !declared.has(v)) undeclared.push(v);
  const newDeclarations = undeclared.map((v) => encodeBytesField(GRAPH.valueInfo, encodeValueInfo(v.name, mustType(v))));
  const inputs = new Set(graph.inputs);
  const presentInitializers = new Set(graph.initializers);
  const reshaper = new Reshaper();
  let nodesDone = false;
  for (const s of segments) {
    if (s.kind === 'node') {
      if (inPlace) pieces.push(...piecesOf(s.node));
      else if (!nodesDone) for (let k = 0; k < graph.nodes.length; k++) pieces.push(...piecesOf(graph.nodes[k] as Node));
      nodesDone = true;
    } else if (s.kind === 'raw') pieces.push(s.piece);
    else if (s.field === GRAPH.initializer) {
      if (presentInitializers.has(s.value)) pieces.push(s.piece);
    } else if (s.field === GRAPH.input && !inputs.has(s.value)) {
      // An input that is none any more.
    } else if (s.value.typeState === 'changed') pieces.push(encodeBytesField(s.field, reshape(reshaper, s.value, s.piece)));
    else if (s.field !== GRAPH.valueInfo || s.value.typeState === 'read') pieces.push(s.piece);
    if (s === lastInput) for (const p of newInputs) pieces.push(p);
    if (s === lastOutput) for (const p of newOutputs) pieces.push(p);
    if (s === lastInitializer) for (const p of newInitializers) pieces.push(p);
  }
  if (!nodesDone) for (const n of graph.nodes) pieces.push(...piecesOf(n));
  if (!lastInput) for (const p of newInputs) pieces.push(p);
  if (!lastOutput) for (const p of newOutputs) pieces.push(p);
  for (const p of newDeclarations) pieces.push(p);
  if (!lastInitializer) for (const p of newInitializers) pieces.push(p);
  return pieces;
}

function mustType(v: Value): NonNullable<Value['type']> {
  if (!v.type) throw new InternalError('a new graph input or output needs a type', v.name);
  return v.type;
}

function reshape(reshaper: Reshaper, value: Value, piece: Piece): Uint8Array {
  if (isSpan(piece)) throw tooLarge('a declaration of more than 64 KiB', value.name);
  return reshaper.reshape(fieldOf(piece).payload, value.type?.dims ?? []);
}

/** Large records are spans of the source: they are copied, never taken apart. */
function tooLarge(what: string, culprit: string): Refusal {
  return new Refusal({
    code: 'PD311',
    message: `${what} would have to be rewritten`,
    culprit,
    hint: 'turn large Constant nodes into initializers first (onnxruntime or onnxsim do), or store weights as external data',
  });
}

function nodePieces(node: Node, moved = false): Piece[] {
  const record = node.record as NodeRecord | undefined;
  if (!record) return [encodeBytesField(GRAPH.node, encodeNode(node, encodeNewGraph))];
  if (isUntouched(node, record) && !(moved && !record.elided && spellsDefaultDomain(node, record.body))) return [record.full];
  if (record.elided) {
    throw tooLarge('a node with a large embedded payload', node.name);
  }
  const subgraphs = new Map<string, Uint8Array>();
  for (const [name, a] of node.attributes) {
    if (a.kind === 'graph' && !graphUntouched(a.value)) {
      const parts = layoutGraph(a.value).map((p) => {
        if (isSpan(p)) throw tooLarge('a subgraph with large records', node.name);
        return p;
      });
      subgraphs.set(name, concat(parts));
    }
  }
  return [encodeBytesField(GRAPH.node, respliceNode(node, record.body, subgraphs))];
}

/** GraphProto of a subgraph that a pass made. */
function encodeNewGraph(graph: Graph): Uint8Array {
  const nodes = graph.nodes.flatMap((n) => nodePieces(n, true)).map((p) => {
    if (isSpan(p)) throw new InternalError('a large node cannot be moved into a subgraph', graph.name);
    return p;
  });
  return concat([...nodes, encodeStringField(GRAPH.name, graph.name), ...graph.outputs.map((v) => encodeBytesField(GRAPH.output, encodeValueInfo(v.name, mustType(v))))]);
}

function isUntouched(node: Node, record: NodeRecord): boolean {
  return (
    node.name === record.name &&
    node.stamps.size === 0 &&
    node.changedAttributes.size === 0 &&
    areNamed(node.inputs, record.inputNames) &&
    areNamed(node.outputs, record.outputNames) &&
    (node.subgraphs.length === 0 || node.subgraphs.every(graphUntouched))
  );
}

function graphUntouched(graph: Graph): boolean {
  return graph.nodes.every((n) => n.record !== undefined && isUntouched(n, n.record as NodeRecord));
}
