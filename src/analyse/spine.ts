/**
 * The residual stream: the chain of dominators between the embeddings and the logits in the graph of content edges.
 *
 * In a DAG, x dominates exactly when (paths from the source to x) · (paths from x to the sink) = (all paths). Counts
 * grow exponentially, so they are kept modulo two primes; a false match would need both products to collide.
 */
import { addOutputs, type Graph, type Node, type Value } from '../ir/graph.js';
import { IS_MARKED } from './added-names.js';

/** Ops whose output carries no content of their input, only its size. */
export function carriesNoContent(node: Node): boolean {
  return node.domain === '' && (node.opType === 'Shape' || node.opType === 'Size');
}

/**
 * Values that depend on `source` other than through a shape.
 *
 * @param compiled for a graph with PyramidDrop inside: which tokens are marked and which were picked (TopK) steers masks
 *   and positions, and is not content there, else every mask behind the first boundary would be
 */
export function contentOf(graph: Graph, source: Value, compiled = false): Set<Value> {
  const content = new Set<Value>([source]);
  const { nodes } = graph;
  for (let i = 0; i < nodes.length; i++) {
    const node = nodes[i] as Node;
    if (carriesNoContent(node) || (compiled && (node.is('TopK') || node.outputs[0]?.name === IS_MARKED))) continue;
    if (node.readsOneOf(content)) addOutputs(node, content);
  }
  return content;
}

/** A link of the chain: a value, or a node of which several outputs go on. */
export type Link = { readonly value: Value; readonly node?: undefined } | { readonly node: Node; readonly value?: undefined };

/** The chain, and for every content value the index of the last link on every path to it. */
export interface Spine {
  readonly links: readonly Link[];
  readonly last: ReadonlyMap<Value, number>;
}

const PRIMES = [67108859, 67108837] as const;

/** Dominators between `source` and `sink`, in order, source and sink included. Linear time. `leftOut`: edges that do not count. */
export function dominatorChain(graph: Graph, content: ReadonlySet<Value>, source: Value, sink: Value, leftOut: (node: Node, value: Value) => boolean = () => false): Link[] {
  const nodes = graph.nodes.filter((n) => !carriesNoContent(n) && n.makesOneOf(content));
  type Count = readonly [number, number];
  const none: Count = [0, 0];
  const mul = (a: Count, b: Count): Count => [(a[0] * b[0]) % PRIMES[0], (a[1] * b[1]) % PRIMES[1]];
  const add = (a: Count, b: Count): Count => (a === none ? b : b === none ? a : [(a[0] + b[0]) % PRIMES[0], (a[1] + b[1]) % PRIMES[1]]);
  const fromSource = new Map<Value, Count>([[source, [1, 1]]]);
  const nodeFrom = new Map<Node, Count>();
  for (let i = 0; i < nodes.length; i++) {
    const n = nodes[i] as Node;
    const { reads, outputs } = n;
    let total = none;
    for (let k = 0; k < reads.length; k++) {
      const v = reads[k];
      if (v && content.has(v) && !leftOut(n, v)) total = add(total, fromSource.get(v) ?? none);
    }
    nodeFrom.set(n, total);
    for (let k = 0; k < outputs.length; k++) {
      const o = outputs[k];
      if (o && o !== source) fromSource.set(o, total);
    }
  }
  const toSink = new Map<Value, Count>([[sink, [1, 1]]]);
  const nodeTo = new Map<Node, Count>();
  for (let i = nodes.length - 1; i >= 0; i--) {
    const n = nodes[i] as Node;
    const { reads, outputs } = n;
    let total = none;
    for (let k = 0; k < outputs.length; k++) {
      const o = outputs[k];
      if (o) total = add(total, toSink.get(o) ?? none);
    }
    nodeTo.set(n, total);
    for (let k = 0; k < reads.length; k++) {
      const v = reads[k];
      if (v && content.has(v) && !leftOut(n, v)) toSink.set(v, add(toSink.get(v) ?? none, total));
    }
  }
  const all = toSink.get(source) ?? none;
  const dominates = (a: Count | undefined, b: Count | undefined): boolean => {
    if (!a || !b || (all[0] === 0 && all[1] === 0)) return false;
    const p = mul(a, b);
    return p[0] === all[0] && p[1] === all[1];
  };
  const chain: Link[] = [{ value: source }];
  for (const n of nodes) {
    if (!dominates(nodeFrom.get(n), nodeTo.get(n))) continue;
    const outs = n.outputs.filter((o): o is Value => o !== null && o !== source && dominates(fromSource.get(o), toSink.get(o)));
    if (outs[0]) chain.push({ value: outs[0] });
    else if (!n.outputs.includes(source)) chain.push({ node: n });
  }
  return chain;
}

/** For every content value: the index in `chain` of the last link on every path to it. */
export function lastLinks(graph: Graph, content: ReadonlySet<Value>, chain: readonly Link[]): Map<Value, number> {
  const byValue = new Map<Value, number>();
  const byNode = new Map<Node, number>();
  chain.forEach((link, i) => {
    if (link.value) byValue.set(link.value, i);
    else byNode.set(link.node, i);
  });
  const last = new Map<Value, number>();
  const first = chain[0];
  if (first?.value) last.set(first.value, 0);
  const { nodes } = graph;
  for (let i = 0; i < nodes.length; i++) {
    const n = nodes[i] as Node;
    if (carriesNoContent(n)) continue;
    const { reads, outputs } = n;
    let index = -1;
    for (let k = 0; k < reads.length; k++) {
      const at = reads[k] ? last.get(reads[k] as Value) : undefined;
      if (at !== undefined && at > index) index = at;
    }
    if (index < 0) continue;
    index = byNode.get(n) ?? index;
    for (let k = 0; k < outputs.length; k++) {
      const o = outputs[k];
      if (o && content.has(o) && !last.has(o)) last.set(o, byValue.get(o) ?? index);
    }
  }
  return last;
}
