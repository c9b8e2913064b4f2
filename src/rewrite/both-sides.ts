/**
 * What a boundary's keys and its residual are made by is read on both sides of the boundary's If only: by the ranking and
 * the gathers where tokens are dropped, and by the stage itself where they all stay. So it runs on both sides, and what
 * leaves the side on which nothing is dropped is what was computed there, not a copy (a branch can only give out a value
 * of the outer graph as a copy).
 *
 *   in:   n = Norm(h); k = MatMul(n, W); If { then: Gather(n), Gather(k), rank(k) … } else: { Identity(n), Identity(k) }
 *   out:  If { then: n' = Norm(h); k' = MatMul(n', W); Gather(n'), Gather(k'), rank(k') … } else: { n, k }
 */
import { isRead, type Node, type Value } from '../ir/graph.js';
import { type Builder, SELECT } from './builder.js';
import type { GraphEditor } from './editor.js';

/** Where a value is read: on a side of a boundary; `none` where the reading does not count; undefined elsewhere. */
export type Reading = { readonly boundary: number; readonly side: 'then' | 'else' } | 'none' | undefined;

export interface BothSidesInput {
  /** Nodes of boundary layers that run for the tokens of the finished stage (`Stages.shared`). */
  readonly shared: ReadonlySet<Node>;
  readonly readingOf: (reader: Node, index: number) => Reading;
  /** What may run on both sides: the model's own nodes on hidden states. */
  readonly isCandidate: (node: Node) => boolean;
  /** What a no-op passes on; undefined for other nodes. What tools downstream take out of a graph, they leave in branches, and know no norm that has one in it. */
  readonly passedBy: (node: Node) => Value | undefined;
}

/** Ops that ONNX Runtime fuses with what quantizes or dequantizes their neighbours: apart from them they would cost more than a copy. */
const QUANTIZED = /quantize|Integer|^QLinear|^QGemm/i;

/**
 * ONNX Runtime takes out Casts that undo each other (at every optimization level) without asking whether a subgraph reads
 * them, and then misses an input: what reads such a Cast does not move into a branch.
 */
const isFragileCast = (n: Node, isCandidate: (node: Node) => boolean): boolean => n.is('Cast') && (!isCandidate(n) || n.inputs[0]?.producer?.is('Cast') === true);

/**
 * Copies what both sides of one boundary need; the node itself is for the side where all tokens stay.
 *
 * @returns copies, for the side where tokens are dropped, and originals, for the other one, with their boundary
 */
export function runOnBothSides(editor: GraphEditor, b: Builder, input: BothSidesInput): { readonly copies: ReadonlyMap<Node, number>; readonly originals: ReadonlyMap<Node, number> } {
  const { readingOf } = input;
  const boundaryOf = boundariesOf(editor.graph.nodes, input);
  leaveOutIdle(editor, boundaryOf, input.passedBy);
  const copies = new Map<Node, number>();
  const copied = new Map<Value, Value>();
  for (const n of editor.graph.nodes) {
    const boundary = boundaryOf.get(n);
    if (boundary === undefined) continue;
    b.scope('branch', boundary);
    const copy = b.clone(n, n.inputs.map((v) => (v ? (copied.get(v) ?? v) : null)));
    // Its name says whose copy it is: what it costs is counted with the layer.
    if (!n.name) copy.name = b.unique(`pdrop/b${boundary}/branch/${n.outputs.find((o) => o !== null)?.name}`);
    copies.set(copy, boundary);
    n.outputs.forEach((o, i) => {
      const made = copy.outputs[i];
      if (!o || !made) return;
      copied.set(o, made);
      o.typeState = 'dropped';
      for (const use of [...o.uses]) {
        const at = readingOf(use.node, use.index);
        if (at && at !== 'none' && at.side === 'then') editor.setInput(use.node, use.index, made);
      }
    });
  }
  editor.sort();
  return { copies, originals: boundaryOf };
}

/** Of the nodes that run on both sides, those that do nothing run on neither; but where a branch would then have nothing to give out but a copy. */
function leaveOutIdle(editor: GraphEditor, boundaryOf: Map<Node, number>, passedBy: BothSidesInput['passedBy']): void {
  const gone = new Set<Node>();
  for (const n of [...boundaryOf.keys()]) {
    const [from, to] = [n.outputs[0], passedBy(n)];
    if (!from || !to) continue;
    const inside = to.producer !== null && boundaryOf.has(to.producer);
    if (!inside && from.uses.some((u) => u.node.is(SELECT.op, SELECT.domain))) continue;
    editor.replaceUses(from, to);
    boundaryOf.delete(n);
    gone.add(n);
  }
  editor.remove(gone);
  // The 1 of x · 1 and the like.
  const constants = [...gone].flatMap((n) => n.inputs.flatMap((v) => (v?.producer?.is('Constant') && !isRead(v) ? [v.producer] : [])));
  editor.remove(new Set(constants));
}

/** Nodes whose results are read by the two sides of one boundary and by nothing else. */
function boundariesOf(nodes: readonly Node[], { shared, readingOf, isCandidate }: BothSidesInput): Map<Node, number> {
  const found = new Map<Node, number>();
  for (let i = nodes.length - 1; i >= 0; i--) {
    const n = nodes[i] as Node;
    if (!isCandidate(n) || n.subgraphs.length > 0) continue;
    let boundary: number | undefined;
    let given = false;
    let stays = false;
    const onlyHere = n.outputs.every((o) => {
      if (!o) return true;
      if (o.isOutput || o.capturedBy.length > 0) return false;
      return o.uses.every((use) => {
        const at = readingOf(use.node, use.index);
        if (at === 'none') return true;
        const here = at?.boundary ?? found.get(use.node);
        if (here === undefined || (boundary !== undefined && here !== boundary)) return false;
        boundary = here;
        given ||= at?.side === 'else';
        stays ||= at === undefined;
        return true;
      });
    });
    if (onlyHere && boundary !== undefined && (given || (stays && shared.has(n))) && !staysOutside(n, isCandidate)) found.set(n, boundary);
  }
  return found;
}

/** What quantizes or dequantizes, what reads it, and what reads a Cast that ONNX Runtime may take out. */
function staysOutside(n: Node, isCandidate: (node: Node) => boolean): boolean {
  return QUANTIZED.test(n.opType) || n.inputs.some((v) => v?.producer && (QUANTIZED.test(v.producer.opType) || isFragileCast(v.producer, isCandidate)));
}
