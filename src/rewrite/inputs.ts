/** Inputs that a compiled graph takes besides those of the original. */
import { Refusal } from '../diagnostics.js';
import { Value } from '../ir/graph.js';
import type { GraphEditor } from './editor.js';
import type { PassContext } from './pass.js';

/**
 * Adds an input [batch] (rank 1) or [batch, sequence] (rank 2), its dims named as the chunk's are.
 *
 * @throws {Refusal} PD312 when a value has that name
 */
export function addInput(graph: GraphEditor, { facts, results }: PassContext, name: string, elemType: number, rank: 1 | 2): Value {
  const { roles } = facts;
  if (graph.graph.values.has(name)) {
    throw new Refusal({
      code: 'PD312',
      message: `the graph already has a value named "${name}"`,
      culprit: name,
      hint: 'compile the original graph; or choose another --image-mask source',
    });
  }
  const dims = (roles.sourceKind === 'inputs_embeds' ? roles.source : roles.inputIds)?.type?.dims;
  const value = new Value(name);
  value.type = { elemType, dims: Array.from({ length: rank }, (_, i) => dims?.[i] ?? null) };
  graph.graph.values.set(name, value);
  graph.addInput(value);
  results.inputs.push(value);
  return value;
}
