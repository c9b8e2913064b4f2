/**
 * A compiled graph keeps what only a chunk with image tokens needs behind an If. For analysis, which is for a prompt
 * without images, the other branch is read as if it stood in the graph itself; nothing but the outputs of the If stands between.
 *
 *   in:   h', m' = If(any) { then: … } else: { …, h1, m1 }
 *   out:  …; h' = HandOver(h1); m' = HandOver(m1)
 */
import { addUse, type Graph, Node, refill, removeUse, type Value } from '../ir/graph.js';
import { isBranch } from '../onnx/branch-functions.js';

/** Inlines the branches that passes made; the function that is returned takes everything back. */
export function inlineBranches(graph: Graph): () => void {
  const before = [...graph.nodes];
  const undo: (() => void)[] = [];
  const nodes: Node[] = [];
  for (const node of graph.nodes) {
    const branch = isBranch(node) ? node.attributes.get('else_branch') : undefined;
    if (branch?.kind !== 'graph') {
      nodes.push(node);
      continue;
    }
    const sub = branch.value;
    for (const inner of sub.nodes) {
      inner.inputs.forEach((v, index) => {
        if (v && sub.values.get(v.name) !== v) useForNow(v, inner, index, undo);
      });
      nodes.push(inner);
    }
    node.outputs.forEach((outer, i) => {
      const made = sub.outputs[i];
      if (!outer || !made) return;
      const handOver = new Node('HandOver', 'pdrop', `${node.name}/${i}`);
      handOver.inputs.push(made);
      handOver.outputs.push(outer);
      useForNow(made, handOver, 0, undo);
      outer.producer = handOver;
      const index = outer.outputIndex;
      outer.outputIndex = 0;
      undo.push(() => {
        outer.producer = node;
        outer.outputIndex = index;
      });
      nodes.push(handOver);
    });
  }
  refill(graph.nodes, nodes);
  return () => {
    for (const step of undo.reverse()) step();
    refill(graph.nodes, before);
  };
}

function useForNow(value: Value, node: Node, index: number, undo: (() => void)[]): void {
  addUse(value, node, index);
  undo.push(() => removeUse(value, node, index));
}
