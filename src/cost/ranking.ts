/**
 * What ranking costs, by one definition for `compile`, `flops` and `validate`: the nodes it is made of, and the rows of the
 * boundary layer's products (its key projection) that are computed for tokens the layer then does not see.
 */
import type { Node } from '../ir/graph.js';
import type { NodeCost } from './macs.js';

/** By boundary: names of the boundary layer's products that run for all tokens of the finished stage, because ranking needs them. */
export type SharedProducts = readonly (readonly string[])[];

/** Passes name what they make by pass and boundary. */
const RANK_NODE = /^pdrop\/b\d+\/rank\//;

export function isRankNode(node: Node): boolean {
  return RANK_NODE.test(node.name);
}

/** A node's name, or that of its first output. */
export function labelOf(node: Node): string {
  return node.name || node.outputs.find((o) => o !== null)?.name || '';
}

/** A node that runs on both sides of a boundary's If is copied, and the copy carries its name (src/rewrite/both-sides.ts). */
export function nameOfOriginal(name: string): string {
  return name.replace(/^pdrop\/b\d+\/branch\/(?!as_it_was|never_read|boundary )/, '');
}

/** The products among the nodes that ranking shares with the layer: nothing else of them has MACs. */
export function sharedProducts(shared: readonly ReadonlySet<Node>[]): string[][] {
  return shared.map((nodes) => [...nodes].filter((n) => /MatMul|Gemm|Conv/.test(n.opType)).map(labelOf));
}

/** MACs of each node that count as ranking; of shared products a part. `stageTokens` are those of every stage, the first included. */
export function rankingMacs(nodes: readonly NodeCost[], shared: SharedProducts, stageTokens: readonly number[]): Map<Node, number> {
  const wasted = new Map<string, number>();
  for (const [i, names] of shared.entries()) {
    const [before, after] = [stageTokens[i], stageTokens[i + 1]];
    if (before && after !== undefined) for (const name of names) wasted.set(name, 1 - after / before);
  }
  const out = new Map<Node, number>();
  for (const { node, macs } of nodes) {
    const part = isRankNode(node) ? 1 : (wasted.get(nameOfOriginal(labelOf(node))) ?? 0);
    if (macs > 0 && part > 0) out.set(node, macs * part);
  }
  return out;
}
