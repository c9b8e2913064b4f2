/** Edits of a graph that keep use-def links right. Only passes get one. */
import { addCapture, addUse, type Graph, isRead, type Node, refill, removeCapture, removeUse, type Value } from '../ir/graph.js';
import { topologicalOrder } from '../ir/order.js';
import type { Builder } from './builder.js';

export class GraphEditor {
  readonly graph: Graph;
  readonly builder: Builder;
  /** How often something was changed; the runner tells by it whether a pass did anything. */
  edits = 0;

  constructor(graph: Graph, builder: Builder) {
    this.graph = graph;
    this.builder = builder;
  }

  /** Makes `node` read `value` at input `index`. */
  setInput(node: Node, index: number, value: Value | null): void {
    const old = node.inputs[index] ?? null;
    if (old === value) return;
    this.edits++;
    if (old) removeUse(old, node, index);
    node.inputs[index] = value;
    if (value) addUse(value, node, index);
  }

  /** Everything that reads `from` reads `to`. */
  replaceUses(from: Value, to: Value): void {
    for (const { node, index } of [...from.uses]) this.setInput(node, index, to);
    for (const node of from.capturedBy) {
      for (const sub of node.subgraphs) replaceInside(sub, from, to);
      replaceCapture(node, from, to);
      addCapture(to, node);
    }
    from.capturedBy = [];
  }

  addInput(value: Value): void {
    this.edits++;
    value.isInput = true;
    this.graph.inputs.push(value);
  }

  addOutput(value: Value): void {
    this.edits++;
    value.isOutput = true;
    this.graph.outputs.push(value);
  }

  /** Puts new nodes into the graph and everything into topological order, close to the order it had. */
  sort(): void {
    const { created } = this.builder;
    const added = created.filter((n) => n.outputs.length > 0);
    refill(this.graph.nodes, topologicalOrder(added.length > 0 ? this.graph.nodes.concat(added) : this.graph.nodes));
    created.length = 0;
  }

  /** Nodes that outputs depend on. */
  live(): Set<Node> {
    const live = new Set<Node>();
    const queue: Node[] = this.graph.outputs.flatMap((o) => (o.producer ? [o.producer] : []));
    for (let n = queue.pop(); n; n = queue.pop()) {
      if (live.has(n)) continue;
      live.add(n);
      const { reads } = n;
      for (let i = 0; i < reads.length; i++) {
        const producer = reads[i]?.producer;
        if (producer && !live.has(producer)) queue.push(producer);
      }
    }
    return live;
  }

  /** Removes initializers that nothing reads any more, of those that may go. */
  dropUnread(mayGo: (initializer: Value) => boolean): void {
    const unread = new Set(this.graph.initializers.filter((v) => mayGo(v) && !isRead(v)));
    if (unread.size === 0) return;
    refill(this.graph.initializers, this.graph.initializers.filter((v) => !unread.has(v)));
    for (const v of unread) this.graph.values.delete(v.name);
  }

  /** Takes nodes out of the list; they live on in a subgraph, or what they made has another producer. */
  take(nodes: ReadonlySet<Node>): void {
    this.edits++;
    const kept = this.graph.nodes.filter((n) => !nodes.has(n));
    refill(this.graph.nodes, kept);
  }

  /** Takes a node out; its outputs must be unused. */
  remove(nodes: ReadonlySet<Node>): void {
    if (nodes.size === 0) return;
    this.edits++;
    for (const n of nodes) {
      n.inputs.forEach((v, index) => {
        if (v) removeUse(v, n, index);
      });
      for (const v of n.captures) removeCapture(v, n);
      for (const o of n.outputs) {
        if (!o) continue;
        this.graph.values.delete(o.name);
        o.typeState = 'dropped';
      }
    }
    const kept = this.graph.nodes.filter((n) => !nodes.has(n));
    refill(this.graph.nodes, kept);
  }
}

function replaceInside(sub: Graph, from: Value, to: Value): void {
  for (const node of sub.nodes) {
    node.inputs.forEach((v, i) => {
      if (v === from) node.inputs[i] = to;
    });
    for (const inner of node.subgraphs) replaceInside(inner, from, to);
    replaceCapture(node, from, to);
  }
}

function replaceCapture(node: Node, from: Value, to: Value): void {
  if (node.captures.includes(from)) node.captures = node.captures.map((v) => (v === from ? to : v));
}
