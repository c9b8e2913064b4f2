/** Bookkeeping of what is made from the original graph. */
import type { Node, Value } from '../ir/graph.js';

/** Writes down what became of each output of a node that was copied; returns what became of `value`. */
export function noteCopy(node: Node, copy: Node, memo: Map<Value, Value>, value: Value): Value {
  node.outputs.forEach((o, i) => {
    const made = copy.outputs[i];
    if (o && made) memo.set(o, made);
  });
  return copy.outputs[value.outputIndex] as Value;
}

/** What `make` gives, made once for each key. */
export function once<T>(made: Map<string, T>, key: string, make: () => T): T {
  const held = made.get(key);
  if (held !== undefined) return held;
  const value = make();
  made.set(key, value);
  return value;
}
