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
  run(graph, { facts }) {
    const count = facts.noOps.restore();
    graph.edits += count;
    return { applied: [`${count} no-ops put back`], declined: [] };
  },
};
