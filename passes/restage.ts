/**
 * Points every node of a later stage at its own stage's tokens: hidden states are gathered at the boundaries, masks,
 * positions and lengths become the stage's own instances. Earlier stages only exchange caches of other stages for
 * their own.
 *
 *   in:   layer b reads h, mask, cos, sin of all tokens
 *   out:  layer b reads Gather(h, kept), mask(kept), cos(kept), sin(kept)
 */
import type { Node, Value } from '../src/ir/graph.js';
import type { Pass } from '../src/rewrite/pass.js';
import { readsCopies } from '../src/rewrite/shape-operands.js';

export const restage: Pass = {
  name: 'restage',
  summary: 'let each stage see its own tokens, masks, positions and lengths',
  run(graph, { stages, builder: b, frames }) {
    // All instances are made from the graph as it was, then all inputs change at once.
    const edits: { node: Node; index: number; value: Value }[] = [];
    const copying: Node[] = [];
    for (const [node, stage] of stages.home) {
      b.scope('restage', stage === 0 ? undefined : stage);
      // The first stage stays as it was, but for what its last layer shares with the boundary.
      const shape = stage > 0 || stages.shared[0]?.has(node) ? frames.shapeOperand(node) : undefined;
      if (shape) copying.push(node);
      node.inputs.forEach((v, index) => {
        if (!v) return;
        const value = index === 1 && shape ? shape : frames.instantiate(v, stage);
        if (value !== v) edits.push({ node, index, value });
      });
      for (const v of node.captures) frames.instantiate(v, stage);
    }
    for (const node of copying) readsCopies(node);
    for (const e of edits) graph.setInput(e.node, e.index, e.value);
    return { applied: [`${edits.length} inputs redirected`], declined: [] };
  },
};
