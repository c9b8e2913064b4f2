/**
 * Puts back the no-ops that analysis looked through, where nothing has changed what they stood between: a compiled
 * model keeps the bytes of what the compiler had no reason to touch.
 *
 *   in:   MatMul reads q (an Identity of q stood between them)
 *   out:  MatMul reads Identity(q)
 */
import type { Pass } from '../src/rewrite/pass.js';

export const restore: Pass = {
  name: 'restore',
  summary: 'put back no-ops that were looked through',
  run(graph, { facts, results }) {
    const { inputs, nodes } = facts.noOps.restore();
    results.putBack = nodes;
    graph.edits += inputs;
    return { applied: [`${inputs} no-ops put back`], declined: [] };
  },
};
