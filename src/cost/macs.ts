/**
 * What a graph costs at evaluated shapes: multiply-accumulates (MACs) per node, and element work listed apart.
 *
 * 1 MAC = one multiplication and one addition = 2 FLOPs. A product [M,K]×[K,N] is M·N·K MACs, quantized weights
 * included; attention ops count QK and PV over all keys. Element-wise ops, softmax, norms, reductions and rotary
 * embeddings are no MACs: `elementOps` is the number of elements they visit, one op each. Moving data is free.
 */

import { countOf } from '../analyse/shapes/dims.js';
import type { ShapeFacts } from '../analyse/shapes/index.js';
import type { Graph, Node } from '../ir/graph.js';
import { productCost } from './products.js';

/** FLOPs of one MAC. */
export const FLOPS_PER_MAC = 2;

export interface NodeCost {
  readonly node: Node;
  readonly macs: number;
  readonly elementOps: number;
}

export interface CostTable {
  /** Every node that runs, in graph order; those of a taken If branch come at the If's place. */
  readonly nodes: readonly NodeCost[];
  readonly macs: number;
  readonly elementOps: number;
  /** Nodes that could not be counted: unknown ops, bodies of loops, sizes that depend on data. They add nothing to the sums. */
  readonly uncounted: readonly Node[];
}

export interface CostGroup {
  readonly nodes: number;
  readonly macs: number;
  readonly elementOps: number;
}

/** Ops that move, name, index or create data without computing on its elements. */
const FREE: ReadonlySet<string> = new Set([
  'Constant', 'ConstantOfShape', 'Shape', 'Size', 'Identity', 'Dropout', 'Reshape', 'Flatten', 'Squeeze', 'Unsqueeze',
  'Transpose', 'Expand', 'Tile', 'Concat', 'Slice', 'Split', 'Pad', 'DepthToSpace', 'SpaceToDepth', 'ReverseSequence',
  'Gather', 'GatherElements', 'GatherND', 'Scatter', 'ScatterND', 'ScatterElements', 'TensorScatter', 'Range', 'EyeLike',
  'Cast', 'CastLike', 'OneHot', 'Compress', 'If',
]);

/** Costs of all nodes of `graph` at the sizes of `facts`, which must have been evaluated on the same graph. */
export function countMacs(graph: Graph, facts: ShapeFacts): CostTable {
  const nodes: NodeCost[] = [];
  const uncounted: Node[] = [];
  const visit = (scope: Graph): void => {
    for (let i = 0; i < scope.nodes.length; i++) {
      const node = scope.nodes[i] as Node;
      const cost = nodeCost(node, facts);
      if (cost === null) uncounted.push(node);
      else nodes.push({ node, macs: cost.macs, elementOps: cost.elementOps });
      if (node.subgraphs.length === 0) continue;
      const branch = facts.takenBranches.get(node);
      if (branch !== undefined) visit(branch);
      else if (node.is('If')) uncounted.push(node);
    }
  };
  visit(graph);
  let macs = 0;
  let elementOps = 0;
  for (const cost of nodes) {
    macs += cost.macs;
    elementOps += cost.elementOps;
  }
  return { nodes, macs, elementOps, uncounted };
}

const NOTHING = { macs: 0, elementOps: 0 } as const;

function nodeCost(node: Node, facts: ShapeFacts): { readonly macs: number; readonly elementOps: number } | null {
  if (node.domain === '' && FREE.has(node.opType)) return NOTHING;
  const fact = (values: Node['inputs'], i: number) => (values[i] ? facts.get(values[i]) : undefined);
  const product = productCost(node, { input: (i) => fact(node.inputs, i), output: (i) => fact(node.outputs, i) });
  if (product !== undefined) {
    return product.macs === null || product.elementOps === null ? null : { macs: product.macs, elementOps: product.elementOps };
  }
  const op = node.domain ? `${node.domain}.${node.opType}` : node.opType;
  const out = countOf(fact(node.outputs, 0)?.shape ?? null);
  if (node.subgraphs.length > 0 || facts.unknownOps.has(op) || out === null) return null;
  // A reduction visits what goes in, a broadcast what comes out.
  return { macs: 0, elementOps: Math.max(countOf(fact(node.inputs, 0)?.shape ?? null) ?? 0, out) };
}

/**
 * Sums of a table by group, in order of first appearance.
 * @param classify name of the group a node belongs to: "decoder", "lm head", "rank" and the like
 */
export function groupCosts(table: CostTable, classify: (node: Node) => string): Map<string, CostGroup> {
  const groups = new Map<string, { nodes: number; macs: number; elementOps: number }>();
  for (const { node, macs, elementOps } of table.nodes) {
    const name = classify(node);
    let group = groups.get(name);
    if (group === undefined) {
      group = { nodes: 0, macs: 0, elementOps: 0 };
      groups.set(name, group);
    }
    group.nodes += 1;
    group.macs += macs;
    group.elementOps += elementOps;
  }
  return groups;
}
