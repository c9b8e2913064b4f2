/** A name stands for one value, whether its graph has the value under that name or not. */
import { expect, it } from 'vitest';
import { Graph, Node, Value } from '../../src/ir/graph.js';
import { verifyGraph } from '../../src/ir/verify.js';

/** Nodes that make values of these names, in order; `listed` says which of them the graph's table has. */
function graphOf(names: readonly string[], listed: readonly number[], inputs: readonly string[] = []): Graph {
  const graph = new Graph();
  for (const name of inputs) {
    const v = new Value(name);
    graph.inputs.push(v);
    graph.values.set(name, v);
  }
  for (const [i, name] of names.entries()) {
    const n = new Node('Constant', '', `n${i}`);
    const v = new Value(name);
    v.producer = n;
    n.outputs.push(v);
    graph.nodes.push(n);
    if (listed.includes(i)) graph.values.set(name, v);
  }
  return graph;
}

const twice = (graph: Graph): number => verifyGraph(graph).filter((p) => p.reason.includes('is used for two values')).length;

it.each<[string, Graph, number]>([
  ['all listed', graphOf(['a', 'b', 'c'], [0, 1, 2]), 0],
  ['none listed, all different', graphOf(['a', 'b', 'c'], []), 0],
  ['the second is listed', graphOf(['a', 'a'], [1]), 1],
  ['the first is listed', graphOf(['a', 'a'], [0]), 1],
  ['neither is listed', graphOf(['a', 'a'], []), 1],
  ['an input is listed', graphOf(['b', 'a'], [0], ['a']), 1],
])('%s', (_, graph, expected) => {
  expect(twice(graph)).toBe(expected);
});
