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
import { DataType, type Graph, type Node, refill, removeUse, type Value } from '../ir/graph.js';
import { at, settle } from '../ir/settle.js';
import type { Dims, ShapeFacts } from './shapes/index.js';

interface Edit {
  readonly node: Node;
  readonly index: number;
  readonly from: Value;
  readonly to: Value;
}

/** An end at or behind this means "to the end". */
const END = 2 ** 31 - 1;

/** Changes of shape in a row among which one that undoes the others is looked for; a longer way round stays in the graph. */
const MOST_RELAYOUTS = 64;

/** Ops that give the same elements in the same order another shape. */
const RELAYOUT = new Set(['Reshape', 'Unsqueeze', 'Squeeze', 'Flatten']);

/** Ops through which a size stays arithmetic of the sizes it is made of: nothing is clamped, chosen or read from data. */
export const SIZE_ARITHMETIC: ReadonlySet<string> = new Set(['Shape', 'Size', 'Gather', 'Slice', 'Concat', 'Unsqueeze', 'Squeeze', 'Reshape', 'Cast', 'Add', 'Sub', 'Mul', 'Div', 'Constant', 'ConstantOfShape', 'Equal', 'Where', 'Identity', 'ReduceProd']);

/** Types that hold every value of another. */
const WIDER: Readonly<Record<number, readonly number[]>> = {
  [DataType.FLOAT16]: [DataType.FLOAT, DataType.DOUBLE],
  [DataType.BFLOAT16]: [DataType.FLOAT, DataType.DOUBLE],
  [DataType.FLOAT]: [DataType.DOUBLE],
  [DataType.INT32]: [DataType.INT64],
  [DataType.BOOL]: [DataType.INT32, DataType.INT64, DataType.FLOAT, DataType.FLOAT16],
};

export class NoOps {
  readonly #graph: Graph;
  readonly #same = new Map<Value, Value>();
  readonly #edits: Edit[] = [];
  readonly #detached = new Set<Node>();
  readonly #order: readonly Node[];
  #facts: readonly ShapeFacts[] = [];
  #guessed: ReadonlySet<Value> = new Set();
  readonly #arithmetic = new Map<Value, boolean>();

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
    this.#facts = facts;
    this.#guessed = guessed;
    this.#arithmetic.clear();
    const dead: Node[] = [];
    for (const node of this.#graph.nodes) {
      const out = node.outputs[0];
      const root = out && this.#passed(node, out);
      if (!root || root === out) continue;
      this.#same.set(out, root);
      for (const { node: reader, index } of [...out.uses]) this.#redirect({ node: reader, index, from: out, to: root });
      dead.push(node);
    }
    this.#detach(dead);
  }

  #redirect(edit: Edit): void {
    if (this.#facts.length === 1) this.#edits.push(edit);
    setInput(edit.node, edit.index, edit.to);
  }

  #detach(candidates: Node[]): void {
    for (let n = candidates.pop(); n; n = candidates.pop()) {
      if (this.#detached.has(n) || n.outputs.some((o) => o && (o.uses.length > 0 || o.capturedBy.length > 0 || o.isOutput)) || n.captures.length > 0) continue;
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
        v.uses.push({ node, index });
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

  // ---- what passes a value through ---------------------------------------------------------------------------

  /** The input that output 0 of `node` always equals. */
  #passed(node: Node, out: Value): Value | undefined {
    if (node.domain !== '' || node.captures.length > 0) return undefined;
    const [a, b] = node.inputs;
    if (!a) return undefined;
    switch (node.opType) {
      case 'Identity':
        return a;
      case 'Concat':
      case 'Sum':
      case 'Max':
      case 'Min':
      case 'Mean':
        return node.inputs.length === 1 ? a : undefined;
      case 'Clip':
        return node.inputs.every((v, i) => i === 0 || v === null) && !node.attributes.has('min') && !node.attributes.has('max') ? a : undefined;
      case 'Split':
        return node.outputs.length === 1 ? a : undefined;
      case 'Cast':
      case 'CastLike':
        return this.#cast(a, out);
      case 'Dropout':
        return this.#inference(node) ? a : undefined;
      case 'Mul':
        return this.#neutral(a, b, out, 1) ?? this.#neutral(b, a, out, 1);
      case 'Add':
        return this.#neutral(a, b, out, 0) ?? this.#neutral(b, a, out, 0);
      case 'And':
        return this.#neutral(a, b, out, 1) ?? this.#neutral(b, a, out, 1);
      case 'Or':
        return this.#neutral(a, b, out, 0) ?? this.#neutral(b, a, out, 0);
      case 'Sub':
        return this.#neutral(a, b, out, 0);
      case 'Div':
      case 'Pow':
        return this.#neutral(a, b, out, 1);
      case 'Transpose':
        return this.#transpose(node, a);
      case 'Slice':
        return this.#whole(node, a) ? a : undefined;
      case 'Pad':
        return b && this.#all(b, 0) ? a : undefined;
      case 'Tile':
        return b && this.#all(b, 1) ? a : undefined;
      case 'Expand':
        return isShapeOf(b, a) || (b && this.#arithmeticOf(b) && this.#sameShape(a, out)) ? a : undefined;
      case 'Reshape':
      case 'Unsqueeze':
      case 'Squeeze':
      case 'Flatten':
        return this.#relayout(node, out);
      default:
        return undefined;
    }
  }

  #dtype(value: Value): number {
    return this.#facts[0]?.get(value)?.dtype || value.type?.elemType || 0;
  }

  #rank(value: Value): number | undefined {
    return this.#facts[0]?.shape(value)?.length ?? value.type?.dims?.length;
  }

  #sizes(value: Value): readonly Dims[] | undefined {
    if (this.#guessed.has(value)) return undefined;
    const all = this.#facts.map((f) => f.shape(value));
    return all.every((s): s is Dims => s !== null) ? all : undefined;
  }

  #sameShape(a: Value, b: Value): boolean {
    const x = this.#sizes(a);
    const y = this.#sizes(b);
    return !!x && !!y && x.every((s, i) => s.length === y[i]?.length && s.every((d, k) => d !== null && d === y[i]?.[k]));
  }

  /** Contents that are the same in all evaluations. */
  #constant(value: Value | null | undefined): readonly number[] | undefined {
    if (!value || this.#guessed.has(value) || !this.#arithmeticOf(value)) return undefined;
    const [first, ...others] = this.#facts.map((f) => f.get(value)?.data);
    return first && others.every((o) => o?.length === first.length && o.every((x, i) => x === first[i])) ? first : undefined;
  }

  #all(value: Value, x: number): boolean {
    const data = this.#constant(value);
    return data !== undefined && data.every((d) => d === x);
  }

  /** `x` where the other operand changes neither its elements nor its shape. */
  #neutral(x: Value | null | undefined, other: Value | null | undefined, out: Value, element: number): Value | undefined {
    if (!x || !other || this.#dtype(out) !== this.#dtype(x) || !this.#all(other, element)) return undefined;
    const dims = this.#facts[0]?.shape(other);
    const rank = this.#rank(x);
    if (!dims || rank === undefined || dims.length > rank) return undefined;
    if (dims.every((d) => d === 1)) return x;
    return this.#sameShape(x, out) ? x : undefined;
  }

  #cast(a: Value, out: Value): Value | undefined {
    const to = this.#dtype(out);
    if (to === 0) return undefined;
    if (this.#dtype(a) === to) return a;
    const before = a.producer?.is('Cast') ? a.producer.inputs[0] : undefined;
    return before && this.#dtype(before) === to && WIDER[to]?.includes(this.#dtype(a)) ? before : undefined;
  }

  /** Dropout drops nothing unless it is told to train. */
  #inference(node: Node): boolean {
    const training = node.inputs[2];
    return (!training || this.#all(training, 0)) && !node.outputs[1]?.uses.length && !node.outputs[1]?.isOutput && node.int('is_test', 1) === 1;
  }

  #transpose(node: Node, a: Value): Value | undefined {
    const perm = permutation(node, this.#rank(a));
    if (!perm) return undefined;
    if (perm.every((p, i) => p === i)) return a;
    const inner = a.producer?.is('Transpose') ? a.producer : undefined;
    const first = inner && permutation(inner, perm.length);
    return first && perm.every((p, i) => first[p] === i) ? (inner.inputs[0] ?? undefined) : undefined;
  }

  #whole(node: Node, a: Value): boolean {
    const sizes = this.#sizes(a);
    const rank = this.#rank(a);
    const starts = node.ints('starts') ?? this.#constant(node.inputs[1]);
    const steps = node.inputs[4] ? this.#constant(node.inputs[4]) : [1];
    if (rank === undefined || !starts || !steps?.every((s) => s === 1)) return false;
    const axes = node.ints('axes') ?? (node.inputs[3] ? this.#constant(node.inputs[3]) : starts.map((_, i) => i));
    const given = node.ints('ends') ?? this.#constant(node.inputs[2]);
    const ends = node.inputs[2];
    return (
      axes !== undefined &&
      starts.every((start, i) => {
        const axis = axes[i] as number;
        const dims = sizes?.map((s) => s[axis < 0 ? axis + rank : axis]);
        const fixed = dims?.every((d) => typeof d === 'number' && d === dims[0]) ? (dims[0] as number) : undefined;
        if (start !== 0 && !(fixed !== undefined && start <= -fixed)) return false;
        const end = given?.[i];
        if (end !== undefined) return end >= END || (fixed !== undefined && end >= fixed);
        // A computed end: the axis's own size, by arithmetic.
        if (!ends || !dims || this.#guessed.has(ends) || !this.#arithmeticOf(ends)) return false;
        return this.#facts.every((f, k) => typeof dims[k] === 'number' && f.get(ends)?.data?.[i] === dims[k]);
      })
    );
  }

  /** Back through changes of shape to where the shape was the same. */
  #relayout(node: Node, out: Value): Value | undefined {
    if (node.is('Reshape') && isShapeOf(node.inputs[1], node.inputs[0])) return node.inputs[0] as Value;
    let v: Value | null | undefined = out;
    let found: Value | undefined;
    let steps = 0;
    for (let n: Node | null = node; n && n.domain === '' && RELAYOUT.has(n.opType) && steps < MOST_RELAYOUTS; n = v?.producer ?? null, steps++) {
      const steady = n.is('Flatten') || (n.inputs[1] ? this.#arithmeticOf(n.inputs[1]) : n.attributes.has('axes') || n.attributes.has('shape'));
      v = n.inputs[0];
      if (!steady || !v) break;
      if (this.#sameShape(v, out)) found = v;
      else if (n !== node && inverse(n, node, this.#rank(v), (x) => this.#constant(x)) && n.outputs[0] === node.inputs[0]) found = v;
    }
    return found;
  }

  #arithmeticOf(value: Value): boolean {
    return settle(value, this.#arithmetic, (v) => {
      const n = v.producer;
      if (n === null) return at(() => v.tensor !== undefined && !v.isInput);
      if (n.domain !== '' || !SIZE_ARITHMETIC.has(n.opType)) return at(() => false);
      const needs = n.is('Shape') || n.is('Size') ? [] : n.inputs.filter((i) => i !== null);
      return { needs, make: () => needs.every((i) => this.#arithmetic.get(i)) };
    });
  }
}

/** The whole shape of that very value. */
function isShapeOf(shape: Value | null | undefined, value: Value | null | undefined): boolean {
  const n = shape?.producer;
  return !!value && !!n?.is('Shape') && n.inputs[0] === value && n.int('start', 0) === 0 && !n.attributes.has('end');
}

/** Unsqueeze and Squeeze of the same axes, in either order. */
function inverse(first: Node, second: Node, rankBefore: number | undefined, constant: (v: Value | null | undefined) => readonly number[] | undefined): boolean {
  const pair = [first.opType, second.opType].join();
  if (rankBefore === undefined || (pair !== 'Unsqueeze,Squeeze' && pair !== 'Squeeze,Unsqueeze')) return false;
  const axesOf = (n: Node): readonly number[] | undefined => n.ints('axes') ?? constant(n.inputs[1]);
  const a = axesOf(first);
  const b = axesOf(second);
  if (!a || !b || a.length !== b.length) return false;
  const wide = first.is('Unsqueeze') ? rankBefore + a.length : rankBefore;
  const normal = (axes: readonly number[]): string => axes.map((x) => (x < 0 ? x + wide : x)).sort((x, y) => x - y).join();
  return normal(a) === normal(b);
}

function permutation(node: Node, rank: number | undefined): number[] | undefined {
  return node.ints('perm') ?? (rank === undefined ? undefined : Array.from({ length: rank }, (_, i) => rank - 1 - i));
}

function setInput(node: Node, index: number, value: Value, link = true): void {
  const old = node.inputs[index];
  if (old && link) removeUse(old, node, index);
  node.inputs[index] = value;
  if (link) value.uses.push({ node, index });
}
