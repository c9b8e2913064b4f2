/** Topological order, for graphs as they come and as passes leave them. */
import { InternalError } from '../diagnostics.js';
import type { Graph, Node } from './graph.js';

/** True when every node comes after the nodes it reads from. */
export function isTopological(graph: Graph): boolean {
  const seen = new Set<Node>();
  for (const node of graph.nodes) {
    for (const v of [...node.inputs, ...node.captures]) if (v?.producer && !seen.has(v.producer)) return false;
    seen.add(node);
  }
  return true;
}

/**
 * Nodes in topological order, as close to `preferred` as the edges allow: a depth-first walk in that order, which
 * leaves an already sorted graph as it is. Deterministic. Only `preferred` nodes and what they need are returned.
 *
 * @param onCycle what to throw when there is a cycle; an internal error by default
 */
export function topologicalOrder(
  preferred: Iterable<Node>,
  onCycle: (node: Node) => Error = (node) => new InternalError('the graph has a cycle', node.name),
): Node[] {
  const order: Node[] = [];
  const state = new Map<Node, 1 | 2>();
  // Iterative: chains of thousands of nodes would overflow the stack.
  for (const root of preferred) {
    if (state.has(root)) continue;
    const stack: { node: Node; next: number; deps: Node[] }[] = [{ node: root, next: 0, deps: dependencies(root) }];
    state.set(root, 1);
    while (stack.length > 0) {
      const top = stack[stack.length - 1] as (typeof stack)[number];
      const dep = top.deps[top.next++];
      if (!dep) {
        state.set(top.node, 2);
        order.push(top.node);
        stack.pop();
      } else if (!state.has(dep)) {
        state.set(dep, 1);
        stack.push({ node: dep, next: 0, deps: dependencies(dep) });
      } else if (state.get(dep) === 1) {
        throw onCycle(dep);
      }
    }
  }
  return order;
}

function dependencies(node: Node): Node[] {
  const deps: Node[] = [];
  for (const v of node.inputs) if (v?.producer) deps.push(v.producer);
  for (const v of node.captures) if (v.producer) deps.push(v.producer);
  return deps;
}
