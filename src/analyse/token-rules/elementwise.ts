/** Ops that look at one element, or at one token, at a time: the token axis stays where it is. */
import { aligned, NONE, rankOf, type Rule, type Tokens, tokensOf, unknownLayout } from './step.js';

/** Elementwise with broadcasting: token axes stand at the same place, counted from the right, and stay there. */
export const elementwise: Rule = (step) => {
  const outRank = step.sizes(step.node.outputs.find((o) => o !== null))?.[0].length;
  let found: Tokens | undefined;
  for (let i = 0; i < step.node.inputs.length; i++) {
    const s = tokensOf(step, i);
    if (!s) continue;
    const rank = rankOf(step, i);
    if (rank === undefined || outRank === undefined) return unknownLayout;
    const shifted: Tokens = { ...s, axis: s.axis + outRank - rank };
    if (found && !aligned(found, shifted)) return { mixes: 'it combines different tokens' };
    found = shifted;
  }
  return found ? [found] : [NONE];
};

/** Outputs are laid out like input 0. */
export const likeFirst: Rule = (step) => {
  const s = tokensOf(step, 0);
  if (s) return step.node.outputs.map(() => s);
  return { mixes: 'content comes in where weights are expected' };
};

/** Scale and zero point of the whole tensor: each stage has its own, which is what the op means. */
export const quantizeDynamically: Rule = (step) => {
  const s = tokensOf(step, 0);
  return s ? [s, NONE, NONE] : [NONE, NONE, NONE];
};
