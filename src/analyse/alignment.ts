/**
 * Whether an input that is declared like the tokens is one entry a token, by evidence. A symbol is only a claim: encoder
 * states are often declared [batch, sequence, features] too, and gathering them with the tokens would be wrong.
 *
 * Sizes: where the input may be longer than the sequence and hidden states change shape with it, it is something else.
 * Data flow: features of tokens meet hidden states token by token; what mixes them along that axis first (a pooling,
 * attention) has use for all of them.
 */
import { isFloat } from '../ir/data-type.js';
import { DataType, type Graph, type Node, type Value } from '../ir/graph.js';
import { evaluateShapes, type ShapeBindings } from './shapes/index.js';
import { carriesNoContent } from './spine.js';
import { mixes, RULES, stepOf, type TokenState } from './token-rules/index.js';
import type { Probes } from './probes.js';

export interface AlignmentView {
  readonly graph: Graph;
  readonly content: ReadonlySet<Value>;
  readonly probes: Probes;
  readonly opset: number;
  /** What the first of the probes was evaluated at. */
  readonly bindings: ShapeBindings;
}

/** Why `input` cannot be aligned with tokens, and the node that tells; undefined when nothing speaks against it. */
export function contradiction(view: AlignmentView, input: Value, axis: number): { reason: string; node: Node } | undefined {
  return bySize(view, input, axis) ?? (isFloat(input.type?.elemType ?? DataType.INT64) ? byFlow(view, input) : undefined);
}

/** Added to the probe size: no other size of the graph. */
const LONGER = 331;

function bySize({ graph, content, probes, bindings }: AlignmentView, input: Value, axis: number): { reason: string; node: Node } | undefined {
  const binding = bindings.inputs.get(input);
  if (!binding || binding.data) return undefined;
  const shape = binding.shape.map((d, i) => (i === axis ? d + LONGER : d));
  const before = probes.facts[0];
  const after = evaluateShapes(graph, { ...bindings, inputs: new Map([...bindings.inputs, [input, { shape }]]) });
  if (after.conflicts.length > before.conflicts.length) return undefined;
  for (const node of graph.nodes) {
    for (const o of node.outputs) {
      if (!o || !content.has(o)) continue;
      const [a, b] = [before.shape(o), after.shape(o)];
      if (a && b && (a.length !== b.length || a.some((d, i) => d !== b[i]))) return { reason: 'it may be longer than the sequence', node };
    }
  }
  return undefined;
}

function byFlow({ graph, content, probes, opset }: AlignmentView, input: Value): { reason: string; node: Node } | undefined {
  const states = new Map<Value, TokenState>([[input, stateBySize(probes, input)]]);
  for (const node of graph.nodes) {
    if (carriesNoContent(node) || !node.inputs.some((v) => v && states.get(v)?.kind === 'tokens')) continue;
    const rule = RULES.get(node.domain)?.get(node.opType);
    if (!rule || node.captures.length > 0) return { reason: 'what this does with its entries is not known', node };
    const step = stepOf(node, probes, opset, (v) => states.get(v) ?? (content.has(v) ? stateBySize(probes, v) : { kind: 'none' }));
    const out = rule(step);
    if (mixes(out)) return { reason: out.mixes, node };
    if (out.some((s) => s.kind === 'picked')) return { reason: 'it picks some of its entries', node };
    node.outputs.forEach((o, i) => {
      if (o && !content.has(o)) states.set(o, out[i] ?? out[0] ?? { kind: 'none' });
    });
  }
  return undefined;
}

function stateBySize(probes: Probes, value: Value): TokenState {
  const axis = probes.axes(value)?.findIndex((a) => a === 'S' || a === 'BS') ?? -1;
  const [a, b] = probes.facts.map((f) => f.shape(value)?.[axis]);
  return axis < 0 ? { kind: 'none' } : { kind: 'tokens', axis, inner: [1, 1], count: [a ?? 0, b ?? 0] };
}
