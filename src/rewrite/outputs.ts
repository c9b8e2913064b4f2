/** Outputs that a compiled graph gives besides those of the original. */
import { Refusal } from '../diagnostics.js';
import type { Value, TensorType } from '../ir/graph.js';
import type { GraphEditor } from './editor.js';

/**
 * Makes a value that was just created an output of that name and type.
 *
 * @throws {Refusal} PD331 when a value has that name
 */
export function nameOutput(graph: GraphEditor, value: Value, name: string, type: TensorType): void {
  const { values } = graph.graph;
  if (values.has(name)) throw new Refusal({ code: 'PD331', message: `the graph has a value called "${name}" already: the name of an output that is added`, culprit: name, hint: 'leave out the option that adds it (--probe, --for training), or give that value another name' });
  values.delete(value.name);
  value.name = name;
  values.set(name, value);
  value.type = type;
  graph.addOutput(value);
}
