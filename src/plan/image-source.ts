/** Finding the image token id in the graph itself: whole LVLM graphs compare input_ids with it to place the features. */
import type { Node, Value } from '../ir/graph.js';
import type { DecoderFacts } from '../analyse/facts.js';

/** The constant that input_ids are compared with, when there is exactly one. */
export function imageIdComparedInGraph(facts: DecoderFacts): number | undefined {
  const ids = facts.roles.inputIds;
  if (!ids) return undefined;
  const found = new Set<number>();
  // A list, not recursion: a chain of casts may be as long as the graph.
  const pending: Value[] = [ids];
  for (let v = pending.pop(); v; v = pending.pop()) {
    for (const { node } of v.uses) {
      if (node.is('Cast') || node.is('Identity')) {
        const out: Value | null | undefined = (node as Node).outputs[0];
        if (out) pending.push(out);
      } else if (node.is('Equal')) {
        const compared = v;
        const other = node.inputs.find((i) => i && i !== compared);
        const id = other ? facts.probes.constantScalar(other) : undefined;
        if (id !== undefined && Number.isInteger(id) && id >= 0) found.add(id);
      }
    }
  }
  return found.size === 1 ? [...found][0] : undefined;
}
