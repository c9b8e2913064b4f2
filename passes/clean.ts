/**
 * Removes what nothing reads any more (of initializers those that something read before: ONNX Runtime warns of them), and lets a clone whose original died take over the original's identity, so that
 * a layer's own shape arithmetic keeps its names and bytes.
 *
 *   in:   Shape(h)→Gather (dead), Shape(h')→Gather' (clones)
 *   out:  Shape(h')→Gather
 */
import type { Node, Value } from '../src/ir/graph.js';
import type { Pass } from '../src/rewrite/pass.js';

/** A clone whose places folded to an empty list (an mRoPE section of no channels): OpenVINO does not take such a constant. */
function scattersNothing(n: Node): boolean {
  return n.is('ScatterND') && n.stamps.has('pdrop.pass') && n.inputs[1]?.tensor?.dims.includes(0) === true;
}

export const clean: Pass = {
  name: 'clean',
  summary: 'remove what is no longer read',
  run(graph, { frames, results, idle }) {
    graph.sort();
    for (const n of graph.graph.nodes) if (scattersNothing(n)) graph.replaceUses(n.outputs[0] as Value, n.inputs[0] as Value);
    const live = graph.live();
    let adopted = 0;
    for (const [original, copies] of frames.clones) {
      if (live.has(original)) continue;
      const heir = copies.find((c) => live.has(c) && !results.rankNodes.has(c));
      if (!heir) continue;
      heir.inputs.forEach((v, i) => {
        graph.setInput(original, i, v);
      });
      for (const name of heir.changedAttributes) {
        const value = heir.attributes.get(name);
        if (value) original.setAttribute(name, value);
      }
      original.outputs.forEach((o, i) => {
        const taken = heir.outputs[i];
        if (!o || !taken) return;
        graph.replaceUses(taken, o);
        o.typeState = 'dropped';
      });
      live.add(original);
      live.delete(heir);
      adopted++;
    }
    const dead = new Set<Node>(graph.graph.nodes.filter((n) => !live.has(n)));
    graph.remove(dead);
    graph.dropUnread((v) => !idle.has(v) && !v.isInput);
    graph.sort();
    return { applied: [`${dead.size} nodes removed, ${adopted} identities kept`], declined: [] };
  },
};
