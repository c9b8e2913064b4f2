/**
 * Proves that a piece of a graph treats each token alone, by evaluating it: on some of the tokens it must give what it gives
 * for them among all. (That tokens come out permuted when they go in permuted would not do: a softmax over the sequence
 * does that too.) Floats are terms, so what is shown holds for all weights; how a router sends tokens to experts is drawn
 * anew in each trial, once with all tokens sent alike.
 */
import { DataType, type Graph, type Node, type Value } from '../../ir/graph.js';
import { settle } from '../../ir/settle.js';
import type { DecoderFacts } from '../facts.js';
import { headDimsOf, shapesAt } from '../input-sizes.js';
import { attributesOf, cumSum, elementwise, gemm, matMul, norm, projection, reduce, softmax } from './arithmetic.js';
import { Call, type Handler, type Run } from './call.js';
import * as index from './indexing.js';
import * as indices from './indices.js';
import * as move from './movement.js';
import { CannotEvaluate, type Element, keyOf, Terms } from './term.js';
import { block, fullyOpened, openTensor, opened, type Tensor } from './tensor.js';

const all = (names: string, handler: Handler): [string, Handler][] => names.split(' ').map((n): [string, Handler] => [n, handler]);

const HANDLERS: ReadonlyMap<string, Handler> = new Map<string, Handler>([
  ...all('Add Sub Mul Div Mod Pow Min Max And Or Xor Not Neg Abs Floor Ceil Round Sign Sqrt Reciprocal Exp Log Erf Tanh Sigmoid Relu Gelu Softplus HardSigmoid HardSwish Elu LeakyRelu Clip Where Cast Identity Equal Less LessOrEqual Greater GreaterOrEqual IsNaN IsInf Sin Cos Mish Swish', elementwise),
  ...all('ReduceSum ReduceMean ReduceMax ReduceMin ReduceL2 ReduceSumSquare ReduceProd', reduce),
  ...all('Softmax LogSoftmax', softmax),
  ...all('LayerNormalization RMSNormalization SimplifiedLayerNormalization', norm),
  ['MatMul', matMul],
  ['Gemm', gemm],
  ['CumSum', cumSum],
  ['Reshape', move.reshape],
  ['Squeeze', move.squeeze],
  ['Unsqueeze', move.unsqueeze],
  ['Flatten', move.flatten],
  ['Transpose', move.transpose],
  ['Expand', move.expand],
  ['Concat', move.concat],
  ['Split', move.split],
  ['Slice', move.slice],
  ['Gather', index.gather],
  ['GatherND', index.gatherND],
  ['GatherElements', index.gatherElements],
  ['ScatterND', index.scatterND],
  ['ScatterElements', index.scatterElements],
  ['TopK', indices.topK],
  ...all('ArgMax ArgMin', indices.argMax),
  ['Range', indices.range],
  ['Shape', indices.shapeOf],
  ['Size', indices.sizeOf],
  ['NonZero', indices.nonZero],
  ['OneHot', indices.oneHot],
]);

const CONTRIB: ReadonlyMap<string, Handler> = new Map<string, Handler>([
  ...all('QuickGelu FastGelu Gelu BiasGelu', elementwise),
  ...all('MatMulNBits MatMulBnb4 MatMulFpQ4', projection),
]);

/** Rows, tokens of each, tokens that are left, and whether all tokens choose alike. The last reaches large counts. */
const TRIALS = [
  { batch: 2, sequence: 5, left: 3, alike: false },
  { batch: 1, sequence: 7, left: 1, alike: false },
  { batch: 2, sequence: 6, left: 4, alike: true },
  { batch: 2, sequence: 72, left: 31, alike: true },
] as const;

/** A piece with one way in and one way out, both [batch, sequence, features …]. */
export interface Piece {
  readonly entry: Value;
  readonly exit: Value;
  readonly nodes: ReadonlySet<Node>;
}

/** Evaluates pieces of one decoder; what is laid out alike is evaluated once. */
export class TokenProof {
  readonly #facts: DecoderFacts;
  readonly #variable: ReadonlySet<Value>;
  readonly #known = new Map<string, string>();

  constructor(facts: DecoderFacts) {
    this.#facts = facts;
    this.#variable = variables(facts.graph);
  }

  /** Why it is not proved, or undefined when it is. */
  refute(piece: Piece): string | undefined {
    const signature = signatureOf(this.#facts, piece);
    let verdict = this.#known.get(signature);
    if (verdict === undefined) {
      verdict = this.#evaluate(piece) ?? '';
      this.#known.set(signature, verdict);
    }
    return verdict || undefined;
  }

  #evaluate(piece: Piece): string | undefined {
    const fixed = this.#facts.probes.axes(piece.entry)?.[0];
    try {
      for (const [seed, trial] of TRIALS.entries()) {
        const batch = typeof fixed === 'number' ? fixed : trial.batch;
        const terms = new Terms(seed, trial.alike);
        const places = Array.from({ length: batch }, (_, row) => subset(terms, row, trial.sequence, trial.left));
        const everyone = Array.from({ length: batch }, () => Array.from({ length: trial.sequence }, (_, i) => i));
        const whole = new Evaluation(this.#facts, this.#variable, terms, piece, everyone);
        const some = new Evaluation(this.#facts, this.#variable, terms, piece, places);
        const a = whole.exit();
        const b = some.exit();
        if (seed === TRIALS.length - 1) whole.requireReachedLimits();
        for (let row = 0; row < batch; row++) {
          for (const [i, place] of (places[row] as number[]).entries()) {
            if (entryOf(a, row, place) !== entryOf(b, row, i)) return 'what it gives for a token depends on which other tokens there are';
          }
        }
      }
      return undefined;
    } catch (error) {
      if (error instanceof CannotEvaluate) return `it could not be shown to treat each token alone (${error.message})`;
      throw error;
    }
  }
}

function subset(terms: Terms, row: number, size: number, left: number): number[] {
  return Array.from({ length: size }, (_, i) => ({ i, order: terms.draw(row * 1009 + i) }))
    .sort((a, b) => a.order - b.order)
    .slice(0, left)
    .map((p) => p.i)
    .sort((a, b) => a - b);
}

/** What a tensor holds for one token. */
function entryOf(t: Tensor, row: number, place: number): string {
  const inner = t.data.length / ((t.shape[0] as number) * (t.shape[1] as number));
  const from = (row * (t.shape[1] as number) + place) * inner;
  return `${t.open} | ${t.data.slice(from, from + inner).map(keyOf)}`;
}

/** Values that depend on an input of the graph, also through a shape. */
function variables(graph: Graph): Set<Value> {
  const found = new Set<Value>(graph.inputs.filter((v) => !v.tensor));
  for (const n of graph.nodes) {
    if (!n.inputs.some((v) => v && found.has(v)) && !n.captures.some((v) => found.has(v))) continue;
    for (const o of n.outputs) if (o) found.add(o);
  }
  return found;
}

/** One run of a piece on the tokens `places` of each row. */
class Evaluation implements Run {
  /** What was evaluated, and what could not be. */
  readonly #known = new Map<Value, Tensor | CannotEvaluate>();
  readonly #shapes: Map<Value, (number | null)[]>;
  #limit = 0;
  #largest = 0;

  constructor(
    private readonly facts: DecoderFacts,
    private readonly variable: ReadonlySet<Value>,
    readonly terms: Terms,
    private readonly piece: Piece,
    places: readonly (readonly number[])[],
  ) {
    const sequence = places[0]?.length ?? 0;
    const { graph, roles, attention, probes } = facts;
    this.#shapes = shapesAt(graph, roles, { batch: places.length, sequence, past: roles.pasts.length > 0 ? 3 : 0 }, headDimsOf(attention.map((l) => l.core)));
    const features = (probes.axes(piece.entry) ?? []).slice(2) as number[];
    const shape = [places.length, sequence, ...features];
    const data = places.flatMap((row, r) => row.map((p): Element => terms.of(`token ${r} ${p}`)));
    this.#known.set(piece.entry, { shape, open: shape.map((size, i) => i < 2 || size === 1), data });
  }

  exit(): Tensor {
    return opened(this.terms, this.value(this.piece.exit), [0, 1]);
  }

  value(v: Value): Tensor {
    const t = settle(v, this.#known, (x) => ({ needs: this.#inputsOf(x), make: () => this.#tried(x) }));
    if (t instanceof CannotEvaluate) throw t;
    for (let i = 0; i < t.shape.length; i++) if (t.open[i]) this.#largest = Math.max(this.#largest, t.shape[i] as number);
    return t;
  }

  get opset(): number {
    return this.facts.model.opsets.get('') ?? 0;
  }

  dtype(v: Value): number {
    return this.facts.probes.dtype(v);
  }

  isWeight(v: Value): boolean {
    return !this.variable.has(v);
  }

  noteLimit(limit: number): void {
    const size = Math.abs(limit);
    if (Number.isFinite(size) && size < 2 ** 31 - 1) this.#limit = Math.max(this.#limit, size);
  }

  requireReachedLimits(): void {
    if (this.#limit > this.#largest) throw new CannotEvaluate(`something is compared with ${this.#limit}, more than was tried`);
  }

  /** What a handler may ask for. It need not: what cannot be evaluated is told to those that do. */
  #inputsOf(v: Value): Value[] {
    const node = v.producer;
    if (!node || !this.variable.has(v) || (this.facts.content.has(v) && !this.piece.nodes.has(node))) return [];
    return node.inputs.filter((i) => i !== null);
  }

  #tried(v: Value): Tensor | CannotEvaluate {
    try {
      return this.#make(v);
    } catch (error) {
      if (error instanceof CannotEvaluate) return error;
      throw error;
    }
  }

  #make(v: Value): Tensor {
    const { probes } = this.facts;
    if (!this.variable.has(v)) {
      const fact = probes.facts[0].get(v);
      const shape = fact?.shape;
      if (!shape || shape.includes(null)) throw new CannotEvaluate('a constant of unknown size');
      const data = fact.data;
      return data ? openTensor(shape as number[], data) : block(shape as number[], this.terms.of(`weight ${v.name}`));
    }
    const node = v.producer;
    if (!node) {
      const shape = this.#shapes.get(v);
      if (!shape || shape.includes(null)) throw new CannotEvaluate(`the size of "${v.name}" is not known`);
      return block(shape as number[], this.terms.of(`input ${v.name} ${shape}`));
    }
    if (this.facts.content.has(v) && !this.piece.nodes.has(node)) return this.#outside(v);
    if (node.captures.length > 0 || node.subgraphs.length > 0) throw new CannotEvaluate(`the subgraph of ${node.opType}`);
    if (node.is('ConstantOfShape')) return this.#filled(node, v);
    const handler = (node.domain === '' ? HANDLERS : node.domain === 'com.microsoft' ? CONTRIB : undefined)?.get(node.opType);
    if (!handler) throw new CannotEvaluate(`${node.opType} is not evaluated`);
    const made = handler(new Call(node, this));
    node.outputs.forEach((o, i) => {
      const t = made[i];
      if (o && t) this.#known.set(o, t);
    });
    const out = made[v.outputIndex];
    if (!out) throw new CannotEvaluate(`output ${v.outputIndex} of ${node.opType}`);
    return out;
  }

  /** Hidden states of another place: only their shape may be asked for. */
  #outside(v: Value): Tensor {
    const [rows, sequence] = this.#sizes();
    const axes = this.facts.probes.axes(v);
    const shape = axes?.map((a) => (typeof a === 'number' ? a : a === 'B' ? rows : a === 'S' ? sequence : a === 'BS' ? rows * sequence : Number.NaN));
    if (!shape || shape.some(Number.isNaN)) throw new CannotEvaluate('hidden states of another place');
    return block(shape, this.terms.of(`outside ${v.name} ${shape}`));
  }

  #sizes(): [number, number] {
    const { shape } = this.#known.get(this.piece.entry) as Tensor;
    return [shape[0] as number, shape[1] as number];
  }

  #filled(node: Node, v: Value): Tensor {
    const shape = fullyOpened(this.terms, this.value(node.inputs[0] as Value)).data;
    if (!shape.every((d) => typeof d === 'number')) throw new CannotEvaluate('a size is not known');
    const a = node.attributes.get('value');
    const zero = a === undefined || (a.kind === 'tensor' && a.value.data?.every((byte) => byte === 0));
    const one = a?.kind === 'tensor' && a.value.data && isOne(a.value.dataType, a.value.data);
    return block(shape as number[], zero ? 0 : one ? 1 : this.terms.of(`filled ${v.name}`));
  }
}

function isOne(dataType: number, bytes: Uint8Array): boolean {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (dataType === DataType.BOOL) return bytes.length === 1 && bytes[0] === 1;
  if (dataType === DataType.INT64) return bytes.length === 8 && view.getBigInt64(0, true) === 1n;
  if (dataType === DataType.INT32) return bytes.length === 4 && view.getInt32(0, true) === 1;
  return dataType === DataType.FLOAT && bytes.length === 4 && view.getFloat32(0, true) === 1;
}

/** What a piece is made of, without names: nodes, attributes, links, small constants and sizes of weights. */
function signatureOf({ graph, probes }: DecoderFacts, piece: Piece): string {
  const ids = new Map<Value, string>([[piece.entry, 'entry']]);
  const parts: string[] = [];
  const idOf = (v: Value | null): string => {
    if (!v) return '-';
    let id = ids.get(v);
    if (id === undefined) {
      const fact = probes.facts[0].get(v);
      id = v.producer && !probes.constant(v) ? `v${v.name}` : `c${fact?.shape}:${fact?.dtype}:${fact?.data?.join() ?? ''}`;
    }
    return id;
  };
  let n = 0;
  for (const node of graph.nodes) {
    if (!piece.nodes.has(node)) continue;
    parts.push(`${node.domain}.${node.opType} ${attributesOf(node)} ${node.inputs.map(idOf)}`);
    for (const o of node.outputs) if (o) ids.set(o, `#${n++}`);
  }
  return `${parts.join('\n')}\n${idOf(piece.exit)}`;
}
