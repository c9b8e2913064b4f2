/** Ops that look up, put and pick by index. */
import { aligned, fromLeft, NONE, overTokens, PICKED, rankOf, type Rule, type Tokens, tokensOf, unknownLayout } from './step.js';

export const gather: Rule = (step) => {
  const data = tokensOf(step, 0);
  const index = tokensOf(step, 1);
  const rank = rankOf(step, 0);
  const indexRank = rankOf(step, 1);
  if (rank === undefined || indexRank === undefined) return unknownLayout;
  const axis = fromLeft(step.node.int('axis', 0), rank);
  if (data && index) return { mixes: 'it looks tokens up by tokens' };
  if (index) return [{ ...index, axis: index.axis + axis }];
  if (!data) return [NONE];
  if (data.axis === axis) return [PICKED];
  return [{ ...data, axis: data.axis > axis ? data.axis + indexRank - 1 : data.axis }];
};

/** GatherElements, ScatterElements: within each token, along another axis. */
export const elements: Rule = (step) => {
  const rank = rankOf(step, 0);
  if (rank === undefined) return unknownLayout;
  const axis = fromLeft(step.node.int('axis', 0), rank);
  const found = step.node.inputs.map((_, i) => tokensOf(step, i)).filter((s): s is Tokens => s !== undefined);
  const [s] = found;
  if (!s) return [NONE];
  if (s.axis === axis) return found.length === 1 && step.node.is('GatherElements') && tokensOf(step, 0) ? [PICKED] : overTokens;
  return found.every((x) => aligned(x, s)) ? [s] : { mixes: 'it combines different tokens' };
};

/** ScatterND at places that are the same for every token, along other axes than theirs. */
export const scatterND: Rule = (step) => {
  const [data, index, updates] = [tokensOf(step, 0), tokensOf(step, 1), tokensOf(step, 2)];
  const sizes = step.sizes(step.node.inputs[1]);
  const depth = sizes?.[0].at(-1);
  if (index || !sizes || typeof depth !== 'number') return unknownLayout;
  const moved = updates && { ...updates, axis: updates.axis - (sizes[0].length - 1) + depth };
  const s = data ?? moved;
  if (!s || s.axis < depth || (moved && moved.axis < depth)) return overTokens;
  if (data && moved && !aligned(data, moved)) return { mixes: 'it combines different tokens' };
  const to = step.sizes(step.node.outputs[0]);
  const fits = to !== undefined && [0, 1].every((p) => to[p]?.[s.axis] === (s.count[p] as number) * (s.inner[p] as number));
  return fits ? [s] : { mixes: 'it combines different tokens' };
};

export const oneHot: Rule = (step) => {
  const s = tokensOf(step, 0);
  const rank = rankOf(step, 0);
  if (!s || rank === undefined) return unknownLayout;
  const axis = fromLeft(step.node.int('axis', -1), rank + 1);
  return [{ ...s, axis: axis <= s.axis ? s.axis + 1 : s.axis }];
};

export const select: Rule = () => [PICKED];

/** GatherND: rows of a table of weights, looked up by each token; of tokens, a selection. */
export const gatherND: Rule = (step) => {
  const data = tokensOf(step, 0);
  const index = tokensOf(step, 1);
  const rank = rankOf(step, 1);
  if (data || !index || rank === undefined || step.node.int('batch_dims', 0) !== 0) return [PICKED];
  return index.axis === rank - 1 ? { mixes: 'it looks tokens up by tokens' } : [index];
};
