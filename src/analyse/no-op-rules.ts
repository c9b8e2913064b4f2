/** Which nodes give back what they are given: a rule an op. */
import { DataType, isRead, type Node, type Value } from '../ir/graph.js';
import type { Dims, ShapeFacts } from './shapes/index.js';
import { isSizeArithmetic } from './size-arithmetic.js';

/** An end at or behind this means "to the end". */
const END = 2 ** 31 - 1;

/** Changes of shape in a row among which one that undoes the others is looked for; a longer way round stays in the graph. */
const MOST_RELAYOUTS = 64;

/** Ops that give the same elements in the same order another shape. */
const RELAYOUT = new Set(['Reshape', 'Unsqueeze', 'Squeeze', 'Flatten']);

/** Types that hold every value of another. */
const WIDER: Readonly<Record<number, readonly number[]>> = {
  [DataType.FLOAT16]: [DataType.FLOAT, DataType.DOUBLE],
  [DataType.BFLOAT16]: [DataType.FLOAT, DataType.DOUBLE],
  [DataType.FLOAT]: [DataType.DOUBLE],
  [DataType.INT32]: [DataType.INT64],
  [DataType.BOOL]: [DataType.INT32, DataType.INT64, DataType.FLOAT, DataType.FLOAT16],
};

export class NoOpRules {
  readonly #facts: readonly ShapeFacts[];
  readonly #guessed: ReadonlySet<Value>;
  readonly #arithmetic = new Map<Value, boolean>();

  /** As `NoOps.bypass` takes them. */
  constructor(facts: readonly ShapeFacts[], guessed: ReadonlySet<Value>) {
    this.#facts = facts;
    this.#guessed = guessed;
  }

  /** The input that output 0 of `node` always equals. */
  passed(node: Node, out: Value): Value | undefined {
    if (node.domain !== '' || node.captures.length > 0) return undefined;
    const a = node.inputs[0];
    const b = node.inputs[1];
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
        return isShapeOf(b, a) || (b && isSizeArithmetic(b, this.#arithmetic) && this.#sameShape(a, out)) ? a : undefined;
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
    if (!value) return undefined;
    const first = this.#facts[0]?.get(value)?.data;
    if (first === undefined || this.#guessed.has(value) || !isSizeArithmetic(value, this.#arithmetic)) return undefined;
    for (let k = 1; k < this.#facts.length; k++) {
      const other = this.#facts[k]?.get(value)?.data;
      if (other !== first && !(other?.length === first.length && other.every((x, i) => x === first[i]))) return undefined;
    }
    return first;
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
    return (!training || this.#all(training, 0)) && !(node.outputs[1] && isRead(node.outputs[1])) && node.int('is_test', 1) === 1;
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
        if (!ends || !dims || this.#guessed.has(ends) || !isSizeArithmetic(ends, this.#arithmetic)) return false;
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
      const steady = n.is('Flatten') || (n.inputs[1] ? isSizeArithmetic(n.inputs[1], this.#arithmetic) : n.attributes.has('axes') || n.attributes.has('shape'));
      v = n.inputs[0];
      if (!steady || !v) break;
      if (this.#sameShape(v, out)) found = v;
      else if (n !== node && inverse(n, node, this.#rank(v), (x) => this.#constant(x)) && n.outputs[0] === node.inputs[0]) found = v;
    }
    return found;
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
