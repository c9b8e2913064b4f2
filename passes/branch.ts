/**
 * Puts what only a chunk that loses tokens needs behind one `If` a boundary: ranking, selecting, gathering, and the
 * masks and positions that come of it. A decode step or a prompt of text runs the other side, which hands on what the
 * stage before has.
 *
 *   in:   h' = Select(Gather(h, rank(…)), h)
 *   out:  h' = If(image tokens in the chunk) { rank(…), Gather } else { h }
 */
import type { Node } from '../src/ir/graph.js';
import type { Pass } from '../src/rewrite/pass.js';
import { BranchShapes } from '../src/rewrite/branch-shapes.js';
import { carriesNoContent } from '../src/analyse/spine.js';
import { buildBranches } from '../src/rewrite/branches.js';

export const branch: Pass = {
  name: 'branch',
  summary: 'run what only a chunk with image tokens needs behind one If a boundary',
  run(graph, { facts, frames, stages, builder, results }) {
    if (frames.form !== 'branches') return { applied: [`no branches: ${frames.form === 'flat' ? 'not wanted' : 'nothing is ever dropped'}`], declined: [] };
    const { content, probes } = facts;
    const stamped = (n: Node): boolean => n.stamps.has('pdrop.pass');
    // No-ops, which the analysis has looked through, go where their readers go.
    const idle = [...results.putBack].filter((n) => !carriesNoContent(n) && n.readsOneOf(content));
    const { ifs, inside } = buildBranches(graph, builder, {
      condition: frames.drops.any,
      pinned: results.pinned,
      content,
      passedBy: (n) => (results.putBack.has(n) ? facts.noOps.passedBy(n) : undefined),
      source: facts.roles.source,
      shared: new Set([...stages.shared.flatMap((s) => [...s]), ...idle]),
      shapes: () =>
        new BranchShapes({
          graph: graph.graph,
          probes,
          content,
          unseen: (n) => stamped(n) || results.putBack.has(n),
          stageOf: (v) => frames.stageOf(v),
          left: frames.drops.left,
          batch: facts.roles.source.type?.dims?.[0] ?? null,
        }),
      // What the rotary embedding was taken out of fused ops with is the model's own by now: it was analysed.
      made: (n) => stamped(n) && n.stamps.get('pdrop.pass') !== 'expose-rotary',
    });
    return { applied: [`${inside.size} nodes in the branches of ${ifs.length} If`], declined: [] };
  },
};
