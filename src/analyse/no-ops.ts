/**
 * What a value really is: nodes that return what they were given, whatever the sizes, are taken out of the way before
 * anything is matched, so that no analysis and no rewrite ever has to look through them.
 *
 *   in:   q ─ Mul(1) ─ Transpose ─ Transpose⁻¹ ─ MatMul        out:   q ─ MatMul
 *
 * Being the same at the probe sizes is a proof only where the sizes that are asked for are arithmetic of the inputs' own:
 * a length clamped to a limit is whole at one size and cropped at another. `restore` puts back what needed no sizes to be
 * proved and what nothing else has touched since, so that a compiled model keeps the bytes of what was left alone.
 */
import { addUse, type Graph, isRead, type Node, refill, removeUse, type Value } from '../ir/graph.js';
import { NoOpRules } from './no-op-rules.js';
import type { ShapeFacts } from './shapes/index.js';

interface Edit {
  readonly node: Node;
  readonly index: number;
  readonly from: Value;
  readonly to: Value;
}

export class NoOps {
  readonly #graph: Graph;
  readonly #same = new Map<Value, Value>();
  readonly #edits: Edit[] = [];
  readonly #detached = new Set<Node>();
  readonly #order: readonly Node[];

  constructor(graph: Graph) {
    this.#graph = graph;
    this.#order = [...graph.nodes];
  }

  /** The value that `value` always equals. */
  really(value: Value): Value {
    let v = value;
    for (let next = this.#same.get(v); next; next = this.#same.get(v)) v = next;
    return v;
  }

  /** What a no-op passes on: the one of its inputs that its output always equals; undefined for other nodes. */
  passedBy(node: Node): Value | undefined {
    const [out] = node.outputs;
    return out && this.#same.has(out) ? (node.inputs.find((v) => v !== null && this.really(v) === this.really(out)) ?? undefined) : undefined;
  }

  /** Nodes that are out of the graph until they are put back. */
  get detached(): ReadonlySet<Node> {
    return this.#detached;
  }

  /**
   * Lets everything that reads a no-op read what the no-op reads.
   *
   * @param facts evaluations that must all agree: two at probe sizes, or one without sizes, which proves what needs none
   * @param guessed values whose sizes are a guess in these evaluations: nothing is proved by them
   */
  bypass(facts: readonly ShapeFacts[], guessed: ReadonlySet<Value> = new Set()): void {
    const rules = new NoOpRules(facts, guessed);
    const dead: Node[] = [];
    for (let i = 0; i < this.#graph.nodes.length; i++) {
      const node = this.#graph.nodes[i] as Node;
      const out = node.outputs[0];
      const root = out && rules.passed(node, out);
      if (!root || root === out) continue;
      this.#same.set(out, root);
      for (const { node: reader, index } of [...out.uses]) {
        // What it takes sizes to prove stays as it is.
        if (facts.length === 1) this.#edits.push({ node: reader, index, from: out, to: root });
        setInput(reader, index, root);
      }
      dead.push(node);
    }
    this.#detach(dead);
  }

  #detach(candidates: Node[]): void {
    for (let n = candidates.pop(); n; n = candidates.pop()) {
      if (this.#detached.has(n) || n.outputs.some((o) => o && isRead(o)) || n.captures.length > 0) continue;
      this.#detached.add(n);
      n.inputs.forEach((v, index) => {
        if (!v) return;
        removeUse(v, n, index);
        if (v.producer) candidates.push(v.producer);
      });
    }
    if (this.#detached.size === 0) return;
    const kept = this.#graph.nodes.filter((n) => !this.#detached.has(n));
    refill(this.#graph.nodes, kept);
  }

  /**
   * Puts back the no-ops whose reader still reads what it read when they were taken out; the others are gone for good.
   * One whose own parameters come from the inputs stays out: they may be another stage's by now.
   *
   * @returns how many inputs read a no-op again, and the nodes that are back in the graph
   */
  restore(): { readonly inputs: number; readonly nodes: ReadonlySet<Node> } {
    let inputs = 0;
    const back = new Set<Node>();
    for (const { node, index, from, to } of [...this.#edits].reverse()) {
      if (node.inputs[index] !== to || (this.#detached.has(node) && !back.has(node)) || !this.#constantButFirst(from)) continue;
      setInput(node, index, from, !this.#detached.has(node) || back.has(node));
      this.#reattach(from.producer, back);
      inputs++;
    }
    for (const n of this.#detached) {
      if (back.has(n)) continue;
      for (const o of n.outputs) {
        if (!o) continue;
        this.#graph.values.delete(o.name);
        o.typeState = 'dropped';
      }
    }
    if (back.size > 0) {
      // Each stands again before the node it stood before.
      const waiting = this.#order.filter((n) => back.has(n));
      const place = new Map(this.#order.map((n, i) => [n, i]));
      const nodes: Node[] = [];
      let next = 0;
      for (const n of this.#graph.nodes) {
        const at = place.get(n);
        for (; at !== undefined && next < waiting.length && (place.get(waiting[next] as Node) as number) < at; next++) nodes.push(waiting[next] as Node);
        nodes.push(n);
      }
      for (; next < waiting.length; next++) nodes.push(waiting[next] as Node);
      refill(this.#graph.nodes, nodes);
    }
    this.#edits.length = 0;
    this.#detached.clear();
    return { inputs, nodes: back };
  }

  /** A no-op on a chain of no-ops comes back with the chain. */
  #reattach(last: Node | null, back: Set<Node>): void {
    const pending = [last];
    for (let node = pending.pop(); node !== undefined; node = pending.pop()) {
      if (!node || back.has(node) || !this.#detached.has(node)) continue;
      back.add(node);
      for (const [index, v] of node.inputs.entries()) {
        if (!v) continue;
        addUse(v, node, index);
        pending.push(v.producer);
      }
    }
  }

  /** True when all the way from a no-op's output to what it really is, every other input is a constant. */
  #constantButFirst(output: Value): boolean {
    const root = this.really(output);
    const seen = new Set<Value>();
    const pending: Value[] = [output];
    for (let v = pending.pop(); v; v = pending.pop()) {
      if (v === root || seen.has(v)) continue;
      seen.add(v);
      if (v.tensor) {
        if (v.isInput) return false;
        continue;
      }
      const n = v.producer;
      if (n === null || n.captures.length > 0) return false;
      for (const i of n.inputs) if (i) pending.push(i);
    }
    return true;
  }
}

function setInput(node: Node, index: number, value: Value, link = true): void {
  const old = node.inputs[index];
  if (old && link) removeUse(old, node, index);
  node.inputs[index] = value;
  if (link) addUse(value, node, index);
}
