/**
 * Which stage each content node belongs to, and what crosses each boundary.
 *
 * A node is in stage i when it lies behind the cuts of i boundaries. One exception saves work: what leads to the keys
 * of the boundary's own layer and does not know positions yet (norm, k projection) stays in the finished stage, because
 * ranking needs it for all of that stage's tokens anyway; the layer then gathers the rows it keeps.
 */
import { Refusal } from '../diagnostics.js';
import { addOutputs, type Node, type Value } from '../ir/graph.js';
import { carriesNoContent } from '../analyse/spine.js';
import type { DecoderFacts, Layer } from '../analyse/facts.js';
import { isBatch } from '../analyse/attention/context.js';
import type { Axis } from '../analyse/probes.js';
import { unpackWeights } from './quantized.js';

export interface Stages {
  /** Number of boundaries. */
  readonly count: number;
  /** Stage of a content node; undefined for nodes that carry no content. */
  readonly home: ReadonlyMap<Node, number>;
  /** Values of an earlier stage that stage i reads, i = 1 …: they are gathered. Index 0 is boundary 1. */
  readonly crossing: readonly ReadonlySet<Value>[];
  /** By boundary: nodes of its layer that run in the finished stage, because ranking needs them for all its tokens. */
  readonly shared: readonly ReadonlySet<Node>[];
  /** Values without content that change with the tokens that are seen (`frameDependent`). */
  readonly dependent: ReadonlySet<Value>;
  stageOfLayer(layer: number): number;
  /** Stage of the node that computes `value`; 0 for graph inputs. */
  homeOf(value: Value): number;
}

export function assignStages(facts: DecoderFacts, boundaries: readonly number[], shareKeys: boolean): Stages {
  const { graph, content } = facts;
  const dependent = frameDependent(facts);
  const home = new Map<Node, number>();
  const { nodes } = graph;
  for (let i = 0; i < nodes.length; i++) if (isContentNode(nodes[i] as Node, content)) home.set(nodes[i] as Node, 0);
  const shared: Set<Node>[] = [];
  for (const b of boundaries) {
    const layer = facts.layers[b] as Layer;
    const after = descendants(facts, layer.cut.values, layer.cut.node);
    const moved = shareKeys ? keySide(facts, layer, after, dependent) : new Set<Node>();
    shared.push(moved);
    for (const n of after) if (!moved.has(n)) home.set(n, (home.get(n) ?? 0) + 1);
  }
  const homeOf = (v: Value): number => (v.producer ? (home.get(v.producer) ?? 0) : 0);
  const crossing = boundaries.map(() => new Set<Value>());
  for (const [n, stage] of home) {
    const { inputs } = n;
    for (let k = 0; k < inputs.length; k++) {
      const v = inputs[k];
      if (!v || !content.has(v)) continue;
      const from = homeOf(v);
      for (let i = from + 1; i <= stage; i++) crossing[i - 1]?.add(v);
    }
  }
  return {
    count: boundaries.length,
    home,
    crossing,
    shared,
    dependent,
    stageOfLayer: (layer) => boundaries.filter((b) => b <= layer).length,
    homeOf,
  };
}

export function isContentNode(node: Node, content: ReadonlySet<Value>): boolean {
  return !carriesNoContent(node) && node.makesOneOf(content);
}

/** Content nodes that lie behind the cut. */
function descendants(facts: DecoderFacts, cut: readonly Value[], cutNode: Node | undefined): Set<Node> {
  const reached = new Set<Value>(cut);
  const behind = new Set<Node>();
  const { nodes } = facts.graph;
  for (let i = 0; i < nodes.length; i++) {
    const n = nodes[i] as Node;
    if (n === cutNode || carriesNoContent(n) || !n.readsOneOf(reached)) continue;
    behind.add(n);
    addOutputs(n, reached);
  }
  return behind;
}

/** Non-content values that change with the tokens that are seen: they reach a mask, positions, a cache or a shape. */
export function frameDependent(facts: DecoderFacts): Set<Value> {
  const { graph, roles, content } = facts;
  const dependent = new Set<Value>();
  const roots = [roles.attentionMask, roles.positionIds, roles.cachePosition, roles.inputIds, ...roles.tokenInputs, ...roles.pasts.map((p) => p.value)];
  for (const r of roots) if (r) dependent.add(r);
  const { nodes } = graph;
  for (let i = 0; i < nodes.length; i++) {
    const n = nodes[i] as Node;
    if (!n.readsOneOf(dependent) && !n.readsOneOf(content)) continue;
    for (let k = 0; k < n.outputs.length; k++) {
      const o = n.outputs[k];
      if (o && !content.has(o)) dependent.add(o);
    }
  }
  return dependent;
}

/**
 * Nodes between the cut and the keys (of quantized graphs: and the queries) that can be computed once for the finished stage: no positions yet, and what
 * leaves the set is laid out [batch, sequence, …] so that rows can be gathered.
 */
function keySide(facts: DecoderFacts, layer: Layer, after: ReadonlySet<Node>, dependent: ReadonlySet<Value>): Set<Node> {
  const { graph, content, probes } = facts;
  const set = new Set<Node>();
  const leadingTo = (value: Value): Set<Node> => {
    const nodes = new Set<Node>();
    const queue: Node[] = value.producer ? [value.producer] : [];
    for (let n = queue.pop(); n; n = queue.pop()) {
      if (!after.has(n) || nodes.has(n)) continue;
      nodes.add(n);
      for (const v of n.inputs) if (v?.producer && content.has(v)) queue.push(v.producer);
    }
    return nodes;
  };
  if (!layer.core) return set;
  for (const n of leadingTo(layer.core.k.value)) set.add(n);
  // Queries too where the ranking's copy of their projection would cost a fusion: rows of the one projection serve both.
  const queries = leadingTo(layer.core.q.value);
  if (unpackWeights(queries)) for (const n of queries) set.add(n);
  const order = graph.nodes.filter((n) => set.has(n));
  for (const n of order) {
    const positional = n.inputs.some((v, i) => v && dependent.has(v) && !isShapeSlot(n, i));
    const afterPositional = n.inputs.some((v) => v?.producer && content.has(v) && after.has(v.producer) && !set.has(v.producer));
    if (positional || afterPositional) set.delete(n);
  }
  // What the layer still reads from the set must have rows to gather: give back what has not.
  for (let changed = true; changed; ) {
    changed = false;
    for (const n of [...order].reverse()) {
      if (!set.has(n)) continue;
      const leaves = n.outputs.filter((o): o is Value => o !== null && o.uses.some((u) => !set.has(u.node) && !carriesNoContent(u.node)));
      if (leaves.some((o) => !hasTokenRows(probes.axes(o)))) {
        set.delete(n);
        changed = true;
      }
    }
  }
  return set;
}

/** True for [batch, sequence, fixed …]. */
export function hasTokenRows(axes: readonly Axis[] | null): boolean {
  return tokenRowsAt(axes) === 0;
}

/** Where the batch axis stands in [fixed …, batch, sequence, fixed …]; undefined for other layouts. */
export function tokenRowsAt(axes: readonly Axis[] | null): number | undefined {
  const at = (axes?.indexOf('S') ?? -1) - 1;
  const others = axes?.filter((_, i) => i !== at && i !== at + 1) ?? [];
  return axes && at >= 0 && isBatch(axes[at]) && others.every((a) => typeof a === 'number') ? at : undefined;
}

/** Slots that take a shape or indices of axes, not data aligned with tokens. */
export function isShapeSlot(node: Node, index: number): boolean {
  if (node.domain !== '') return false;
  switch (node.opType) {
    case 'Reshape':
    case 'Expand':
    case 'Unsqueeze':
    case 'Squeeze':
    case 'Split':
    case 'Tile':
    case 'Pad':
    case 'ReduceSum':
    case 'ReduceMean':
    case 'ReduceMax':
    case 'ReduceMin':
    case 'Slice':
      return index > 0;
    case 'ConstantOfShape':
    case 'Range':
      return true;
    case 'Gather':
      return index === 1;
    default:
      return false;
  }
}

/** True for ops that rotate input 0 by the positions they are given. */
export function isRotaryOp(node: Node): boolean {
  return node.opType === 'RotaryEmbedding';
}

export function uncuttable(value: Value, why: string): Refusal {
  return new Refusal({
    code: 'PD305',
    message: `the boundary cannot be cut: ${why}`,
    culprit: value.name,
    hint: 'choose other layers with --layers; `pdrop-compile inspect` shows which values are shared between layers',
  });
}
