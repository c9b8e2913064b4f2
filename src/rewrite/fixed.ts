/**
 * One prompt's sizes put into the graph: whatever they decide is worked out, and every value is declared with numbers.
 *
 *   in:   k = S − dropped; TopK(score, Gather(k, 0)); Reshape(h, Concat(Shape(x)[0], −1, 64))
 *   out:  TopK(score, 352);                           Reshape(h, [1, −1, 64])
 */
import { describeNode, Refusal } from '../diagnostics.js';
import { headDimsOf, shapesAt } from '../analyse/input-sizes.js';
import { PAST_SLOTS } from '../analyse/input-flow.js';
import { evaluateShapes, type ShapeFacts } from '../analyse/shapes/index.js';
import { DataType, isRead, type Node, refill, type Value } from '../ir/graph.js';
import type { FixedSizes } from '../plan/plan.js';
import type { GraphEditor } from './editor.js';
import type { PassContext } from './pass.js';

/** Contents of more elements than this (masks of tokens by tokens) are left to the nodes that make them, of constants then. */
const MOST_FOLDED = 1 << 14;

/** Input of exports for transformers.js: how many rows of logits are computed, 0 for all. */
const NUM_LOGITS = 'num_logits_to_keep';

const FOLDED: readonly number[] = [DataType.INT64, DataType.INT32, DataType.BOOL];

/** @throws {Refusal} PD623 where a size still depends on data */
export function fixShapes(graph: GraphEditor, { facts }: PassContext, fix: FixedSizes): string {
  const headDimOf = headDimsOf(facts.attention.map((l) => l.core));
  const shapes = shapesAt(graph.graph, facts.roles, { ...fix, past: 0 }, headDimOf);
  const inputs = new Map([...shapes].map(([v, shape]) => [v, { shape: shape as number[] }]));
  const evaluate = (): ShapeFacts => evaluateShapes(graph.graph, { inputs, dataLimit: MOST_FOLDED });
  countAllLogits(graph);
  let sizes = evaluate();
  requireNoRings(graph, sizes);
  const caches = leaveOutEmpty(graph, sizes);
  const folded = fold(graph, sizes);
  graph.sort();
  sweep(graph);
  leaveOutInputs(graph, caches);
  sizes = evaluate();
  const declared = declare(graph, sizes);
  return `${folded} values worked out, ${declared} declared, ${caches.size} empty caches left out`;
}

const isEmpty = (sizes: ShapeFacts, v: Value | null): boolean => v !== null && sizes.shape(v)?.includes(0) === true;

/** How many rows of logits there are is no longer asked for: all of them. */
function countAllLogits(graph: GraphEditor): void {
  const input = graph.graph.inputs.find((v) => v.name === NUM_LOGITS && v.type?.dims?.length === 0 && v.type.elemType === DataType.INT64);
  if (!input) return;
  graph.replaceUses(input, graph.builder.int(0));
  leaveOutInputs(graph, new Set([input]));
}

/** @throws {Refusal} PD624 for caches that are rings of a window's size, which cannot be left out, and for control flow of the graph's own */
function requireNoRings(graph: GraphEditor, sizes: ShapeFacts): void {
  for (const node of graph.graph.nodes) {
    const ring = node.int('sliding_window_cache', 0) === 1 && (PAST_SLOTS[`${node.domain}.${node.opType}`] ?? []).some((slot) => isEmpty(sizes, node.inputs[slot] ?? null));
    if (!ring && node.subgraphs.length === 0) continue;
    throw new Refusal({
      code: 'PD624',
      message: ring ? 'the op keeps its cache as a ring of the window’s size, and does not run without one' : 'the graph has control flow of its own, which runtimes of fixed shapes do not run',
      culprit: describeNode(node),
      hint: 'compile without --fix',
    });
  }
}

/** What is joined with an empty cache stands for itself; attention ops are given none. */
function leaveOutEmpty(graph: GraphEditor, sizes: ShapeFacts): Set<Value> {
  for (const node of graph.graph.nodes) {
    if (node.is('Concat')) {
      const rest = node.inputs.filter((v) => !isEmpty(sizes, v));
      const out = node.outputs[0];
      if (rest.length === 0 || rest.length === node.inputs.length) continue;
      node.inputs.map((_, i) => i).forEach((i) => {
        graph.setInput(node, i, rest[i] ?? null);
      });
      node.inputs.length = rest.length;
      const [only] = rest;
      if (rest.length === 1 && only && out && !out.isOutput) graph.replaceUses(out, only);
    }
    for (const slot of PAST_SLOTS[`${node.domain}.${node.opType}`] ?? []) if (isEmpty(sizes, node.inputs[slot] ?? null)) graph.setInput(node, slot, null);
  }
  return new Set(graph.graph.inputs.filter((v) => !v.tensor && isEmpty(sizes, v)));
}

/** Integers and truth values that the sizes decide become constants; floats stay with the op that rounds them. */
function fold(graph: GraphEditor, sizes: ShapeFacts): number {
  let folded = 0;
  for (const node of graph.graph.nodes) {
    for (const v of node.outputs) {
      if (!v || v.isOutput || !isRead(v)) continue;
      const fact = sizes.get(v);
      const { data, shape } = fact ?? {};
      if (!fact || !data || !shape || shape.includes(null) || !FOLDED.includes(fact.dtype) || data.length > MOST_FOLDED || !data.every(Number.isSafeInteger)) continue;
      if (node.is('Constant')) continue;
      graph.replaceUses(v, graph.builder.constant(fact.dtype, data, shape as number[]));
      folded++;
    }
  }
  return folded;
}

/** Removes what nothing reads any more: nodes, and the constants they read. */
function sweep(graph: GraphEditor): void {
  const live = graph.live();
  graph.remove(new Set<Node>(graph.graph.nodes.filter((n) => !live.has(n))));
  graph.dropUnread((v) => !v.isInput);
}

/** Caches that hold nothing are no inputs; where something still reads one, it reads an empty constant. */
function leaveOutInputs(graph: GraphEditor, caches: ReadonlySet<Value>): void {
  refill(graph.graph.inputs, graph.graph.inputs.filter((v) => !caches.has(v)));
  for (const v of caches) {
    graph.edits++;
    v.isInput = false;
    graph.graph.values.delete(v.name);
  }
}

function declare(graph: GraphEditor, sizes: ShapeFacts): number {
  let declared = 0;
  for (const v of [...graph.graph.inputs, ...graph.graph.nodes.flatMap((n) => n.outputs)]) {
    // What nothing reads is not declared: a function of the model may see it otherwise.
    if (!v || v.tensor || (!isRead(v) && !v.isInput)) continue;
    const fact = sizes.get(v);
    const dims = fact?.shape;
    if (!dims || dims.includes(null)) {
      throw new Refusal({
        code: 'PD623',
        message: `the size of a value is not known although those of the prompt are${dims ? ` ([${dims.map((d) => d ?? '?').join(', ')}])` : ''}`,
        culprit: v.producer ? describeNode(v.producer) : v.name,
        hint: 'sizes that depend on data (experts, NonZero) have no fixed shapes: compile without --fix',
      });
    }
    const elemType = v.type?.elemType || fact.dtype;
    if (!elemType) continue;
    v.type = { elemType, dims: dims as number[] };
    v.typeState = 'changed';
    declared++;
  }
  return declared;
}
