/** Structural soundness: SSA, order, scopes, links. Returns what is wrong instead of throwing. */
import { describeNode } from '../diagnostics.js';
import type { Graph, Node, Value } from './graph.js';

export interface Problem {
  readonly culprit: string;
  readonly reason: string;
}

export interface VerifyOptions {
  /** Nodes that belong to the graph but have not been put in order yet. */
  readonly extra?: readonly Node[];
  /** Check that nodes come after what they read. Default true. */
  readonly order?: boolean;
}

export function verifyGraph(graph: Graph, options: VerifyOptions = {}): Problem[] {
  const problems: Problem[] = [];
  const nodes = options.extra ? [...graph.nodes, ...options.extra] : graph.nodes;
  const checkOrder = options.order ?? true;
  const made = new Map<Value, Node>();
  /** Values that the graph's own table does not have under their names: of those that it has there are no two of one name. */
  const unlisted = new Map<string, Value>();
  const nodeSet = new Set(nodes);
  const recorded = recordedUses();
  const given = new Set<Value>(graph.inputs);
  for (const v of graph.initializers) given.add(v);
  const claim = (v: Value, node?: Node): void => {
    const listed = graph.values.get(v.name);
    const isListed = listed === v;
    if (isListed && unlisted.size === 0) return;
    const other = unlisted.get(v.name) ?? (listed && (given.has(listed) || made.has(listed)) ? listed : undefined);
    if (other && other !== v) problems.push({ culprit: node ? describeNode(node) : v.name, reason: `the name "${v.name}" is used for two values` });
    else if (!isListed) unlisted.set(v.name, v);
  };
  for (const v of given) claim(v);
  for (let i = 0; i < nodes.length; i++) {
    const n = nodes[i] as Node;
    for (let k = 0; k < n.outputs.length; k++) {
      const o = n.outputs[k];
      if (!o) continue;
      claim(o, n);
      if (made.has(o)) problems.push({ culprit: describeNode(n), reason: `"${o.name}" is computed twice` });
      made.set(o, n);
      if (o.producer !== n) problems.push({ culprit: describeNode(n), reason: `"${o.name}" does not know its node` });
    }
  }
  const available = given;
  for (let i = 0; i < nodes.length; i++) {
    const n = nodes[i] as Node;
    for (let index = 0; index < n.inputs.length; index++) {
      const v = n.inputs[index];
      if (!v) continue;
      const outer = isOuter(graph, v);
      if (!available.has(v)) {
        const ours = made.has(v);
        if (ours && checkOrder) problems.push({ culprit: describeNode(n), reason: `it reads "${v.name}" before it is computed` });
        if (!ours && !outer) problems.push({ culprit: describeNode(n), reason: `it reads "${v.name}", which nothing computes` });
      }
      if (!outer && !recorded(v, n, index)) problems.push({ culprit: describeNode(n), reason: `"${v.name}" does not know that it is read here` });
    }
    if (n.captures.length > 0) for (const v of n.captures) {
      if (checkOrder && made.has(v) && !available.has(v)) problems.push({ culprit: describeNode(n), reason: `a subgraph reads "${v.name}" before it is computed` });
    }
    for (let k = 0; k < n.outputs.length; k++) if (n.outputs[k]) available.add(n.outputs[k] as Value);
  }
  for (const o of graph.outputs) {
    if (!made.has(o) && !available.has(o)) problems.push({ culprit: o.name, reason: 'this graph output is not computed by anything' });
  }
  for (const v of graph.values.values()) {
    if (v.uses.length > 0) for (const u of v.uses) {
      if (nodeSet.has(u.node) && u.node.inputs[u.index] !== v) problems.push({ culprit: v.name, reason: 'a recorded use is not there' });
    }
  }
  return problems;
}

/** Up to this many uses a list is searched; more are looked up, or a value that every node reads would cost their square. */
const FEW_USES = 16;

function recordedUses(): (value: Value, node: Node, index: number) => boolean {
  const indices = new Map<Value, Map<Node, Set<number>>>();
  return (value, node, index) => {
    const { uses } = value;
    if (uses.length <= FEW_USES) {
      for (let i = 0; i < uses.length; i++) if (uses[i]?.node === node && uses[i]?.index === index) return true;
      return false;
    }
    let byNode = indices.get(value);
    if (!byNode) {
      byNode = new Map();
      for (const u of uses) {
        const known = byNode.get(u.node);
        if (known) known.add(u.index);
        else byNode.set(u.node, new Set([u.index]));
      }
      indices.set(value, byNode);
    }
    return byNode.get(node)?.has(index) ?? false;
  };
}

/** Values of an enclosing graph are not in this graph's own table. */
function isOuter(graph: Graph, v: Value): boolean {
  return graph.owner !== null && graph.values.get(v.name) !== v;
}
