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

export const restage: Pass = {
  name: 'restage',
  summary: 'let each stage see its own tokens, masks, positions and lengths',
  run(graph, { stages, builder: b, frames }) {
    // All instances are made from the graph as it was, then all inputs change at once.
    const edits: { node: Node; index: number; value: Value }[] = [];
    for (const [node, stage] of stages.home) {
      b.scope('restage', stage === 0 ? undefined : stage);
      node.inputs.forEach((v, index) => {
        if (!v) return;
        const value = frames.instantiate(v, stage);
        if (value !== v) edits.push({ node, index, value });
      });
      for (const v of node.captures) frames.instantiate(v, stage);
    }
    for (const e of edits) graph.setInput(e.node, e.index, e.value);
    return { applied: [`${edits.length} inputs redirected`], declined: [] };
  },
};
