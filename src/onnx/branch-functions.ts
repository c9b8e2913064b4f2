/**
 * Branches of models that have local functions. The If of a boundary stands in a local function of its own there, which the graph calls
 * with all that the If reads, so that no node of the graph itself has subgraphs: onnxslim recurses without end on a graph that has both
 * (docs/runtimes.md). Runtimes put functions in the place of their calls before they do anything else, so nothing else changes.
 *
 *   file:  h', m' = pdrop.Boundary1(any, h, m)       Boundary1(any, h, m) → (h', m') { h', m' = If(any) {…} else {…} }
 *   IR:    h', m' = If(any) {…} else {…}
 *
 * Inputs and outputs of the function have the names of the graph's values, so the If of the one is, byte for byte, the If of the other.
 */
import { Refusal } from '../diagnostics.js';
import { areNamed, type Graph, type Model, Node, removeUse } from '../ir/graph.js';
import type { WindowedSource } from './bytes.js';
import { type Decoded, decodeNode, normaliseDomain } from './decode.js';
import { elide, fieldAt } from './elide.js';
import { encodeNode, encodeOpset } from './encode.js';
import { linkInputs } from './link.js';
import { FUNCTION } from './proto.js';
import { readSubgraphs } from './read-graph.js';
import type { GraphRecord, NodeRecord } from './records.js';
import { type FieldRange, Fields, fieldOf, LENGTH_DELIMITED, MessageWriter } from './wire.js';

/** Domain of the functions, which hold nothing but one If each. */
export const BRANCH_DOMAIN = 'pdrop';

/** How branches are written. */
export interface BranchFunctions {
  /** NodeProto of the call that stands for an If. */
  readonly calls: ReadonlyMap<Node, Uint8Array>;
  /** A FunctionProto for each. */
  readonly functions: readonly Uint8Array[];
}

/** Of a graph that holds its branches itself. */
export const NO_FUNCTIONS: BranchFunctions = { calls: new Map(), functions: [] };

/** An If of a boundary. */
export const isBranch = (node: Node): boolean => node.is('If') && node.name.startsWith('pdrop/');

/** @param encode NodeProto of an If */
export function branchFunctions(model: Model, encode: (node: Node) => Uint8Array): BranchFunctions {
  if (model.functions.length === 0) return NO_FUNCTIONS;
  const branching = model.graph.nodes.filter((n) => n.subgraphs.length > 0);
  // Where the original has both, there is nothing to be won; and names that are taken stay theirs.
  if (!branching.every((n) => isBranch(n) && n.record === undefined)) return NO_FUNCTIONS;
  if (model.functions.some((name) => name.startsWith(`${BRANCH_DOMAIN}:`))) return NO_FUNCTIONS;
  const opsets = [...model.opsets].map(([domain, version]) => encodeOpset(domain, version));
  const calls = new Map<Node, Uint8Array>();
  const functions = branching.map((node, i) => {
    const name = `Boundary${i + 1}`;
    const call = new Node(name, BRANCH_DOMAIN, node.name);
    call.inputs.push(...new Set(node.reads));
    call.outputs.push(...node.outputs);
    calls.set(node, encodeNode(call));
    const body = new MessageWriter().string(FUNCTION.name, name);
    for (const input of call.inputs) body.string(FUNCTION.input, input?.name ?? '');
    for (const output of call.outputs) body.string(FUNCTION.output, output?.name ?? '');
    body.bytes(FUNCTION.node, encode(node));
    for (const opset of opsets) body.bytes(FUNCTION.opsetImport, opset);
    return body.string(FUNCTION.domain, BRANCH_DOMAIN).finish();
  });
  return { calls, functions };
}

/** A FunctionProto that holds one node. */
interface BranchFunction {
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  /** NodeProto of the If, large payloads left out. */
  readonly body: Uint8Array;
  readonly elided: boolean;
}

/** What is read of a model's local functions. */
export class LocalFunctions {
  /** `domain:name` of each. */
  readonly names: string[] = [];
  readonly #branches = new Map<string, BranchFunction>();

  /** @param field a FunctionProto in its model */
  async take(source: WindowedSource, field: FieldRange): Promise<void> {
    let name = '';
    let domain = '';
    const inputs: string[] = [];
    const outputs: string[] = [];
    const nodes: FieldRange[] = [];
    for (let at = field.dataStart; at < field.end; ) {
      const f = await fieldAt(source, at, field.end);
      at = f.end;
      if (f.wire !== LENGTH_DELIMITED) continue;
      const text = async (): Promise<string> => fieldOf(await source.load(f.start, f.end - f.start)).name();
      if (f.number === FUNCTION.name) name = await text();
      else if (f.number === FUNCTION.domain) domain = normaliseDomain(await text());
      else if (f.number === FUNCTION.input) inputs.push(await text());
      else if (f.number === FUNCTION.output) outputs.push(await text());
      else if (f.number === FUNCTION.node) nodes.push(f);
    }
    this.names.push(`${domain}:${name}`);
    const [node, ...others] = nodes;
    if (domain !== BRANCH_DOMAIN || !node || others.length > 0) return;
    const { bytes } = await elide(source, { start: node.dataStart, end: node.end, kind: 'node', depth: 0 });
    this.#branches.set(name, { inputs, outputs, body: bytes, elided: bytes.length < node.end - node.dataStart });
  }

  /** Puts the If of a branch's function in the place of its call. */
  async expand(graph: Graph, decoded: Decoded, locations: Set<string>): Promise<void> {
    if (this.#branches.size === 0) return;
    const { segments } = graph.record as GraphRecord;
    for (const [i, call] of graph.nodes.entries()) {
      const branch = call.domain === BRANCH_DOMAIN ? this.#branches.get(call.opType) : undefined;
      // Tools may rename what a call reads, and nothing in the function: then it stays a call.
      if (!branch || !areNamed(call.inputs, branch.inputs) || !areNamed(call.outputs, branch.outputs)) continue;
      const { node, inputs, outputs, graphs } = decodeNode(new Fields(branch.body), decoded);
      if (!node.is('If') || !areNamed(call.outputs, outputs)) continue;
      call.inputs.forEach((v, index) => v && removeUse(v, call, index));
      for (const v of call.outputs) {
        node.outputs.push(v);
        if (v) v.producer = node;
      }
      linkInputs(graph, node, inputs);
      await readSubgraphs(graph, { node, graphs }, { depth: 0, decoded, locations });
      const foreign = node.reads.find((v) => v && !branch.inputs.includes(v.name));
      if (foreign) throw new Refusal({ code: 'PD102', message: `the local function "${call.opType}" reads "${foreign.name}", which is not among its inputs`, culprit: call.name || call.opType, hint: 'the graph is not valid ONNX; compile the original again' });
      node.record = { full: (call.record as NodeRecord).full, body: branch.body, elided: branch.elided, inputNames: inputs, outputNames: outputs, name: node.name } satisfies NodeRecord;
      graph.nodes[i] = node;
      const at = segments.findIndex((s) => s.kind === 'node' && s.node === call);
      segments[at] = { kind: 'node', node };
    }
  }
}
