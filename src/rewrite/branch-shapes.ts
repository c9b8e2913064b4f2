/**
 * Types and shapes to declare of what leaves the Ifs of the boundaries.
 *
 * Without a declared rank, a runtime that infers shapes loses it where a branch makes its output in a way that it cannot
 * follow, and without a name for an extent ONNX Runtime follows shape arithmetic behind the boundary wrongly
 * (Concat(Slice(Shape(x)), [n]) is inferred to be [n]). A name also says which extents are equal, which its fusions ask for.
 *
 * What the probes have not seen is evaluated four times: at either probe, in a chunk that loses tokens (a prime number of them is
 * left behind each boundary) and in one that loses none. An extent is a number where all four agree, and the tokens of
 * stage j where it is their number in all four; a claim that is wrong would make ONNX Runtime plan memory wrongly. So
 * nothing is claimed of sizes that are chosen (the longer of two, a table by the length of the prompt).
 */
import { type Dims, evaluateLanes, type Fact, type InputBinding, Memo, type ShapeFacts } from '../analyse/shapes/index.js';
import type { Axis, Probes } from '../analyse/probes.js';
import { DataType, type Dim, Graph, Node, type Value } from '../ir/graph.js';
import { SELECT } from './builder.js';

type Side = 'dropping' | 'whole';
type Evaluation = 0 | 1;
const EVALUATIONS: readonly Evaluation[] = [0, 1];

export interface ShapeContext {
  readonly graph: Graph;
  readonly probes: Probes;
  readonly content: ReadonlySet<Value>;
  /** Nodes that the probes have not seen: those that passes made, and no-ops that were put back. */
  readonly unseen: (node: Node) => boolean;
  /** Stage that a value of the model's own nodes is in. */
  readonly stageOf: (value: Value) => number;
  /** Its shape is [0, S_1, S_2, …]. */
  readonly left: Value;
  /** Declared name of the batch, if it has one. */
  readonly batch: Dim;
}

export class BranchShapes {
  readonly #context: ShapeContext;
  readonly #chosen: ReadonlySet<Value>;
  readonly #facts: Record<Side, readonly [ShapeFacts, ShapeFacts]>;

  constructor(context: ShapeContext) {
    this.#context = context;
    // The two sides have most of their nodes in common.
    const memo = new Memo();
    this.#facts = { dropping: evaluate(context, 'dropping', memo), whole: evaluate(context, 'whole', memo) };
    this.#chosen = chosenSizes(context, (value) => this.rank(value) ?? 0);
  }

  /** Element type, 0 when it is not known. */
  dtype(value: Value): number {
    return this.#get(value, 'dropping', 0)?.dtype || this.#context.probes.dtype(value);
  }

  rank(value: Value): number | undefined {
    const fact = this.#facts.dropping[0].get(value) ?? this.#context.probes.facts[0].get(value);
    return fact?.shape?.length;
  }

  /**
   * Of an output of the boundary's If; without `whole` the other branch has something that is never read.
   * @param name what an extent is called that nothing is known of; the axis is added.
   */
  dims(boundary: number, dropping: Value, whole: Value | undefined, name: string): Dim[] | undefined {
    const shapes = (value: Value, side: Side): (Dims | null | undefined)[] => EVALUATIONS.map((at) => this.#get(value, side, at)?.shape);
    const [a, b, c, d] = [...shapes(dropping, 'dropping'), ...(whole ? shapes(whole, 'whole') : [])];
    if (!a || [b, ...(whole ? [c, d] : [])].some((s) => s?.length !== a.length)) return undefined;
    const fixed = whole !== undefined && !this.#chosen.has(dropping) && !this.#chosen.has(whole);
    return a.map((size, axis): Dim => (fixed ? this.#known(boundary, [size, b?.[axis]], this.#context.probes.meaning(c?.[axis] ?? null, d?.[axis])) : undefined) ?? `${name}_${axis}`);
  }

  /** What an extent is that comes out as `found` where tokens are dropped, and is `whole` where none are. */
  #known(boundary: number, found: readonly (number | null | undefined)[], whole: Axis): Dim | undefined {
    const is = (size: (at: Evaluation) => number): boolean => EVALUATIONS.every((at) => found[at] === size(at));
    const { probes, batch } = this.#context;
    if (typeof whole === 'number') return is(() => whole) ? whole : undefined;
    if (whole === 'B' && is((at) => probes.sizes(at).batch)) return batch ?? undefined;
    if (whole === 'S' && is((at) => kept(boundary, at))) return `sequence_length_stage${boundary}`;
    if (whole === 'T' && is((at) => probes.sizes(at).past + kept(boundary, at))) return `total_length_stage${boundary}`;
    return undefined;
  }

  #get(value: Value, side: Side, at: Evaluation): Fact | undefined {
    return this.#facts[side][at].get(value) ?? outside(this.#context, value, side, at);
  }
}

const NONE: readonly number[] = [];

const CHOOSING: ReadonlySet<string> = new Set(['Max', 'Min', 'Clip', 'Where', 'Mod']);

/** Inputs that say how large the output is. */
const SIZE_INPUTS: Readonly<Record<string, readonly number[]>> = { Reshape: [1], Expand: [1], Slice: [1, 2, 3, 4], Range: [0, 1, 2], ConstantOfShape: [0], Tile: [1], Pad: [1], TopK: [1], Split: [1] };

/**
 * Values whose sizes need not be at every length what they are at the probes: what control flow of the model makes (that of passes makes the same size on both sides), what integers of at
 * most one axis steer that are the larger or smaller of two, and what is made of such values without being content.
 */
function chosenSizes({ graph, probes, content, left }: ShapeContext, rank: (value: Value) => number): Set<Value> {
  const chosen = new Set<Value>();
  /** Small integers that are not the same sum of lengths everywhere. */
  const numbers = new Set<Value>();
  const isIn = (set: ReadonlySet<Value>, v: Value | null | undefined): boolean => v !== null && v !== undefined && set.has(v);
  const { nodes } = graph;
  for (let k = 0; k < nodes.length; k++) {
    const n = nodes[k] as Node;
    const out = n.outputs[0];
    if (!out || content.has(out) || out === left) continue;
    const steers = SIZE_INPUTS[n.opType] ?? NONE;
    // Of how many there are, a TopK says itself how many it picks.
    const isChosen =
      (n.subgraphs.length > 0 && n.record !== undefined) || (!n.is('Shape') && !n.is('TopK') && n.readsOneOf(chosen)) || (numbers.size > 0 && steers.some((i) => isIn(numbers, n.inputs[i])));
    const isNumber =
      (n.is('Shape') && isIn(chosen, n.inputs[0])) ||
      (numbers.size > 0 && n.inputs.some((v) => isIn(numbers, v))) ||
      (CHOOSING.has(n.opType) && rank(out) <= 1 && isInteger(probes.dtype(out)) && !isExpandSize(n));
    if (!isChosen && !isNumber) continue;
    for (const o of n.outputs) {
      if (o && isChosen) chosen.add(o);
      if (o && (isNumber || (isChosen && isInteger(probes.dtype(o))))) numbers.add(o);
    }
  }
  return chosen;
}

const isInteger = (dtype: number): boolean => dtype === DataType.INT64 || dtype === DataType.INT32 || dtype === 0;

/** torch's spelling of expand(…, -1, …): a size is taken where it is not −1, and a size never is. */
const isExpandSize = (n: Node): boolean => n.is('Where') && n.inputs[0]?.producer?.is('Equal') === true;

/** Tokens left behind a boundary in an evaluation that loses some: primes that are no other size. */
function kept(boundary: number, at: Evaluation): number {
  const i = boundary % PRIMES.length;
  return PRIMES[at === 0 ? i : PRIMES.length - 1 - i] as number;
}

const PRIMES = primesBetween(400, 901);

function primesBetween(start: number, end: number): readonly number[] {
  const found: number[] = [];
  for (let n = start; n < end; n++) {
    let factor = 2;
    while (factor * factor <= n && n % factor !== 0) factor++;
    if (factor * factor > n) found.push(n);
  }
  return found;
}

/** What the probes know of a value of the model's own nodes, at the length of its stage. */
function outside({ probes, stageOf }: ShapeContext, value: Value, side: Side, at: Evaluation): Fact | undefined {
  const fact = probes.facts[at].get(value);
  if (!fact) return undefined;
  const stage = stageOf(value);
  const dtype = probes.dtype(value);
  if (side === 'whole' || stage === 0 || !fact.shape) return { ...fact, dtype };
  const { batch, past } = probes.sizes(at);
  const length = kept(stage, at);
  const axes = probes.axes(value);
  const extent = { S: length, T: past + length, BS: batch * length } as const;
  const shape = fact.shape.map((d, i) => {
    const a = axes?.[i];
    return a === 'S' || a === 'T' || a === 'BS' ? extent[a] : d;
  });
  // Contents that move with the sizes are those of the whole chunk.
  return { dtype, shape, data: probes.constant(value) };
}

function evaluate(context: ShapeContext, side: Side, memo: Memo): readonly [ShapeFacts, ShapeFacts] {
  const { graph, unseen, left, probes } = context;
  const part = new Graph();
  const inputs = EVALUATIONS.map(() => new Map<Value, InputBinding>());
  const own = new Set<Value>();
  const bind = (v: Value): void => {
    if (own.has(v)) return;
    own.add(v);
    if (v.tensor) {
      part.initializers.push(v);
      return;
    }
    part.inputs.push(v);
    for (const at of EVALUATIONS) {
      const fact = outside(context, v, side, at);
      if (fact?.shape && !fact.shape.includes(null)) inputs[at]?.set(v, { shape: fact.shape as number[], dtype: fact.dtype, data: fact.data });
    }
  };
  if (left.producer) {
    own.add(left);
    part.inputs.push(left);
    const boundaries = Math.max(0, ...graph.nodes.filter((n) => n.is(SELECT.op, SELECT.domain)).map((n) => n.int('boundary', 0)));
    for (const at of EVALUATIONS) inputs[at]?.set(left, { shape: [0, ...Array.from({ length: boundaries }, (_, j) => (side === 'whole' ? probes.sizes(at).sequence : kept(j + 1, at)))], dtype: 1 });
  }
  for (let i = 0; i < graph.nodes.length; i++) {
    const n = graph.nodes[i] as Node;
    if (!unseen(n) || n === left.producer) continue;
    const chosen = n.is(SELECT.op, SELECT.domain) ? n.inputs[SELECT[side]] : undefined;
    for (const v of chosen ? [chosen] : n.reads) if (v) bind(v);
    part.nodes.push(chosen ? handingOn(n, chosen) : n);
    for (const o of n.outputs) if (o) own.add(o);
  }
  return evaluateLanes(part, inputs.map((of) => ({ inputs: of })), memo) as [ShapeFacts, ShapeFacts];
}

/** Stands in for a selection: what the side has. */
function handingOn(select: Node, chosen: Value): Node {
  const node = new Node('Identity', '', select.name);
  node.inputs.push(chosen);
  node.outputs.push(...select.outputs);
  return node;
}
