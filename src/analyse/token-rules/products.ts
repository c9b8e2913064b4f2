/** Products: they mix tokens when the token axis is what they sum over, or when both sides bring tokens. */
import type { Node } from '../../ir/graph.js';
import { aligned, mixes, NONE, rankOf, type Rule, same, type Tokens, tokensOf, unknownLayout } from './step.js';

/** A·B over the last axis of A and the last but one of B (or the other way round when transposed). */
export function product(a: number, b: number, transA: (n: Node) => boolean = () => false, transB: (n: Node) => boolean = () => false): Rule {
  return (step) => {
    const outRank = step.sizes(step.node.outputs[0])?.[0].length;
    if (outRank === undefined) return unknownLayout;
    let found: Tokens | undefined;
    for (const [slot, transposed, contracted] of [[a, transA(step.node), 1], [b, transB(step.node), 2]] as const) {
      const s = tokensOf(step, slot);
      if (!s) continue;
      const rank = rankOf(step, slot);
      const other = rankOf(step, slot === a ? b : a);
      if (rank === undefined) return unknownLayout;
      let fromRight = rank - s.axis;
      if (rank >= 2 && transposed && fromRight <= 2) fromRight = 3 - fromRight;
      if (rank === 1 || fromRight === contracted) return { mixes: 'it sums over tokens' };
      const axis = outRank - fromRight + (other === 1 ? 1 : 0);
      const next: Tokens = { ...s, axis };
      if (found && !aligned(found, next)) return { mixes: 'it multiplies tokens with tokens outside attention' };
      found = next;
    }
    return found ? [found] : [NONE];
  };
}

export const gemm: Rule = (step) => {
  const out = product(0, 1, (n) => n.int('transA', 0) === 1, (n) => n.int('transB', 0) === 1)(step);
  return !mixes(out) && tokensOf(step, 2) ? { mixes: 'content comes in where a bias is expected' } : out;
};

/** Products with packed weights: input 0 [.., K] only. */
export const projection: Rule = (step) => {
  const s = tokensOf(step, 0);
  const rank = rankOf(step, 0);
  if (!s || rank === undefined) return unknownLayout;
  return s.axis === rank - 1 ? { mixes: 'it sums over tokens' } : [s];
};

const transposesA = (n: Node): boolean => n.int('transA', 0) === 1;
const transposesB = (n: Node): boolean => n.int('transB', 0) === 1;
/** FusedMatMul can move batch axes as well: then nothing is known. */
export const fusedMatMul: Rule = (step) =>
  step.node.int('transBatchA', 0) || step.node.int('transBatchB', 0) ? unknownLayout : product(0, 1, transposesA, transposesB)(step);

/** A convolution that looks at one place only is a projection. */
export const convolution: Rule = (step) => {
  const s = tokensOf(step, 0);
  const { node } = step;
  const kernel = node.ints('kernel_shape') ?? step.sizes(node.inputs[1])?.[0].slice(2);
  if (!s || !kernel) return unknownLayout;
  if (s.axis === 1) return { mixes: 'it sums over tokens' };
  const point = kernel.every((k) => k === 1) && (node.ints('strides') ?? []).every((k) => k === 1) && (node.ints('pads') ?? []).every((k) => k === 0);
  return s.axis === 0 || point ? [s] : { mixes: 'a convolution reaches over neighbouring tokens' };
};

export const einsum: Rule = (step) => {
  const [left = '', right] = step.node.string('equation', '').replace(/\s/g, '').split('->');
  const terms = left.split(',');
  if (right === undefined || left.includes('.')) return unknownLayout;
  let found: { letter: string; s: Tokens } | undefined;
  for (let i = 0; i < terms.length; i++) {
    const s = tokensOf(step, i);
    const letter = s && terms[i]?.[s.axis];
    if (!s || letter === undefined) continue;
    if (found && (found.letter !== letter || !same(found.s.inner, s.inner))) return { mixes: 'it multiplies tokens with tokens outside attention' };
    found = { letter, s };
  }
  if (!found) return [NONE];
  const axis = right.indexOf(found.letter);
  return axis < 0 ? { mixes: 'it sums over tokens' } : [{ ...found.s, axis }];
};
