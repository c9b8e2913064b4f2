/** What a rule sees of one node, and what it can say of the node's outputs. */
import type { Node, Value } from '../../ir/graph.js';
import type { Probes } from '../probes.js';
import type { Dims } from '../shapes/index.js';

/** Numbers at the two probe sizes. */
export type Pair = readonly [number, number];

export type TokenState =
  /** Every token of the sequence, in order, along `axis`; `inner` elements of that axis belong to one token. */
  | { readonly kind: 'tokens'; readonly axis: number; readonly inner: Pair; readonly count: Pair }
  /** Some tokens (the last one, the last k): no longer aligned with the sequence. */
  | { readonly kind: 'picked' }
  /** Inside attention: tokens by tokens. */
  | { readonly kind: 'scores' }
  /** No tokens: weights, constants, the scale of a dynamic quantization (each stage quantizes with its own). */
  | { readonly kind: 'none' };

export type Tokens = Extract<TokenState, { kind: 'tokens' }>;

/** One node, seen by its rule. Input states are `none` where no content comes in. */
export interface Step {
  readonly node: Node;
  state(input: number): TokenState;
  /** Sizes at the two probe sizes; undefined when the rank is not known. */
  sizes(value: Value | null | undefined): readonly [Dims, Dims] | undefined;
  /** Contents of an input that are the same at both. */
  constant(input: number): readonly number[] | undefined;
  /** Contents of a value at the two probe sizes. */
  contents(value: Value): readonly [readonly number[], readonly number[]] | undefined;
  readonly opset: number;
}

/** A node as its rule sees it, in a graph of which the probes know the sizes. */
export function stepOf(node: Node, probes: Probes, opset: number, stateOf: (value: Value) => TokenState): Step {
  return {
    node,
    opset,
    state: (i) => {
      const v = node.inputs[i];
      return v ? stateOf(v) : { kind: 'none' };
    },
    sizes: (v) => {
      const [a, b] = v ? probes.facts.map((f) => f.shape(v)) : [];
      return a && b && a.length === b.length ? [a, b] : undefined;
    },
    constant: (i) => {
      const v = node.inputs[i];
      return v ? probes.constant(v) : undefined;
    },
    contents: (v) => probes.both(v),
  };
}

export interface Mixes {
  readonly mixes: string;
}
export type Outcome = readonly TokenState[] | Mixes;
export type Rule = (step: Step) => Outcome;

export function mixes(outcome: Outcome): outcome is Mixes {
  return 'mixes' in outcome;
}

export const PICKED: TokenState = { kind: 'picked' };
export const NONE: TokenState = { kind: 'none' };
export const unknownLayout: Mixes = { mixes: 'the layout of its input or output is not known' };
export const overTokens: Mixes = { mixes: 'it works along the token axis' };

export function tokensOf(step: Step, input: number): Tokens | undefined {
  const s = step.state(input);
  return s.kind === 'tokens' ? s : undefined;
}

export function rankOf(step: Step, input: number): number | undefined {
  return step.sizes(step.node.inputs[input])?.[0].length;
}

export const same = (a: Pair, b: Pair): boolean => a[0] === b[0] && a[1] === b[1];

/** An axis as counted from the left; negative ones are counted from the right. */
export function fromLeft(axis: number, rank: number): number {
  return axis < 0 ? axis + rank : axis;
}

/** Whether tokens of two values lie alike: one's token t is the other's. */
export function aligned(a: Tokens, b: Tokens): boolean {
  return a.axis === b.axis && same(a.inner, b.inner) && same(a.count, b.count);
}
