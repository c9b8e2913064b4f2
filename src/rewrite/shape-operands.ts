/**
 * Shapes that need not be worked out: a dimension that a Reshape or an Expand leaves as it is can be copied from the data.
 * Nothing has to be known of a stage's length then, and nothing runs.
 *
 *   in:   Reshape(q [B, S, 64], Concat(B, S, 4, 16))      Expand(k [B, 2, 1, T, 16], Concat(B, 2, 2, T, 16))
 *   out:  Reshape(q, [0, 0, 4, 16])                       Expand(k, [1, 1, 2, 1, 1])
 */
import type { Node, Value } from '../ir/graph.js';
import type { DecoderFacts } from '../analyse/facts.js';
import type { Axis } from '../analyse/probes.js';
import { isSizeArithmetic } from '../analyse/size-arithmetic.js';
import type { Builder } from './builder.js';

const COPIED = 0;
const BROADCAST = 1;
const REST = -1;

export class ShapeOperands {
  readonly #facts: DecoderFacts;
  readonly #builder: Builder;
  readonly #arithmetic = new Map<Value, boolean>();

  constructor(facts: DecoderFacts, builder: Builder) {
    this.#facts = facts;
    this.#builder = builder;
  }

  /** A constant that says in every stage what the node's shape operand says there; the reader goes by `readsCopies`. */
  constant(node: Node): Value | undefined {
    const [data, shape] = node.inputs;
    if (!data || !shape || !(node.is('Reshape') || node.is('Expand')) || !isSizeArithmetic(shape, this.#arithmetic)) return undefined;
    const axes = this.#facts.probes.axes(data);
    const wanted = this.#facts.probes.contents(shape);
    if (!axes || !wanted) return undefined;
    const dims = node.is('Expand') ? expanded(axes, wanted) : wanted.includes(0) && takesZero(node) ? undefined : reshaped(axes, wanted);
    return dims && this.#builder.ints(dims);
  }

  /**
   * Whether how often a Tile repeats is the batch and numbers: what the first stage has worked out is right in all. ONNX Runtime's
   * transformers optimizer asks for the shape of whose batch a Concat in a branch begins with, and knows none of what is made there.
   */
  isSameInAll(node: Node): boolean {
    const repeats = node.is('Tile') ? node.inputs[1] : undefined;
    return repeats != null && isSizeArithmetic(repeats, this.#arithmetic) && this.#facts.probes.contents(repeats)?.every((a) => typeof a === 'number' || a === 'B') === true;
  }
}

const takesZero = (node: Node): boolean => node.int('allowzero', 0) !== 0;

/** Lets a node that reads such a constant take 0 for "as in the data" (exporters set `allowzero`). */
export function readsCopies(node: Node): void {
  if (!node.is('Reshape') || !takesZero(node)) return;
  node.setAttribute('allowzero', { kind: 'int', value: 0 });
}

/** At most one size may be left to be what remains. */
function reshaped(axes: readonly Axis[], wanted: readonly Axis[]): number[] | undefined {
  const dims = wanted.map((w, i) => (typeof w === 'number' ? w : w !== '?' && axes[i] === w ? COPIED : REST));
  return dims.filter((d) => d === REST).length <= 1 ? dims : undefined;
}

function expanded(axes: readonly Axis[], wanted: readonly Axis[]): number[] | undefined {
  const dims = wanted.map((w, i) => (typeof w === 'number' ? w : w !== '?' && axes[axes.length - wanted.length + i] === w ? BROADCAST : undefined));
  return dims.every((d) => d !== undefined) ? dims : undefined;
}
