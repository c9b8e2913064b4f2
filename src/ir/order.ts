/** Topological order, for graphs as they come and as passes leave them. */
import { InternalError } from '../diagnostics.js';
import type { Graph, Node, Value } from './graph.js';

/** Each walk leaves marks of its own: a map of as many nodes costs more than the walk. */
let marks = 0;

/** True when every node comes after the nodes it reads from. */
export function isTopological(graph: Graph): boolean {
  const seen = ++marks;
  const { nodes } = graph;
  for (let i = 0; i < nodes.length; i++) {
    const node = nodes[i] as Node;
    const { reads } = node;
    for (let k = 0; k < reads.length; k++) {
      const producer = reads[k]?.producer;
      if (producer && producer.mark !== seen) return false;
    }
    node.mark = seen;
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
  preferred: readonly Node[],
  onCycle: (node: Node) => Error = (node) => new InternalError('the graph has a cycle', node.name),
): Node[] {
  const order: Node[] = [];
  /** A node whose turn it is, and one that has had it. */
  const open = ++marks;
  const done = ++marks;
  // Iterative: chains of thousands of nodes would overflow the stack.
  const stack: Node[] = [];
  const nexts: number[] = [];
  for (let i = 0; i < preferred.length; i++) {
    const root = preferred[i] as Node;
    if (root.mark >= open) continue;
    // Mostly the order holds already.
    if (unmade(root, 0, done) < 0) {
      root.mark = done;
      order.push(root);
      continue;
    }
    root.mark = open;
    stack.push(root);
    nexts.push(0);
    while (stack.length > 0) {
      const node = stack[stack.length - 1] as Node;
      const at = unmade(node, nexts[nexts.length - 1] as number, done);
      if (at < 0) {
        node.mark = done;
        order.push(node);
        stack.pop();
        nexts.pop();
        continue;
      }
      nexts[nexts.length - 1] = at + 1;
      const dependency = readAt(node, at)?.producer as Node;
      if (dependency.mark === open) throw onCycle(dependency);
      dependency.mark = open;
      stack.push(dependency);
      nexts.push(0);
    }
  }
  return order;
}

/** From `from` on, the first thing read whose node has not had its turn; −1 when there is none. */
function unmade(node: Node, from: number, done: number): number {
  const count = node.inputs.length + node.captures.length;
  for (let i = from; i < count; i++) {
    const producer = readAt(node, i)?.producer;
    if (producer && producer.mark !== done) return i;
  }
  return -1;
}

function readAt(node: Node, i: number): Value | null | undefined {
  return i < node.inputs.length ? node.inputs[i] : node.captures[i - node.inputs.length];
}
