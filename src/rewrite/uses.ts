/** Which stages read what. */
import type { Node, Value } from '../ir/graph.js';
import type { DecoderFacts } from '../analyse/facts.js';
import type { Stages } from './stages.js';

/** By value that knows no content: the first stage that reads it, directly or through others; and those that several read. */
export function stagesOfUse(facts: DecoderFacts, stages: Stages, dependent: ReadonlySet<Value>): { first: Map<Value, number>; shared: Set<Value> } {
  const first = new Map<Value, number>();
  const last = new Map<Value, number>();
  const note = (v: Value, from: number, to: number): void => {
    if (!dependent.has(v)) return;
    first.set(v, Math.min(first.get(v) ?? Number.POSITIVE_INFINITY, from));
    last.set(v, Math.max(last.get(v) ?? -1, to));
  };
  for (let i = facts.graph.nodes.length - 1; i >= 0; i--) {
    const node = facts.graph.nodes[i] as Node;
    let from = stages.home.get(node) ?? Number.POSITIVE_INFINITY;
    let to = stages.home.get(node) ?? -1;
    if (to < 0) {
      for (const o of node.outputs) {
        if (!o) continue;
        from = Math.min(from, first.get(o) ?? Number.POSITIVE_INFINITY);
        to = Math.max(to, last.get(o) ?? -1);
      }
    }
    if (to < 0) continue;
    for (const v of node.reads) if (v) note(v, from, to);
  }
  return { first, shared: new Set([...first.keys()].filter((v) => (last.get(v) ?? -1) > (first.get(v) as number))) };
}
