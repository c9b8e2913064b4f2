/** Ops that look up, put and pick by index. */
import type { Value } from '../../ir/graph.js';
import { aligned, fromLeft, NONE, type Outcome, overTokens, PICKED, rankOf, type Rule, type Step, type Tokens, tokensOf, unknownLayout } from './step.js';

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

/** ScatterND at places that are the same for every token, along other axes than theirs; or at every token's own place. */
export const scatterND: Rule = (step) => {
  const [data, index, updates] = [tokensOf(step, 0), tokensOf(step, 1), tokensOf(step, 2)];
  const sizes = step.sizes(step.node.inputs[1]);
  const depth = sizes?.[0].at(-1);
  if (index || !sizes || typeof depth !== 'number') return unknownLayout;
  if (updates && updates.axis < depth) return scatterBox(step, updates, depth);
  const moved = updates && { ...updates, axis: updates.axis - (sizes[0].length - 1) + depth };
  const s = data ?? moved;
  if (!s || s.axis < depth || (moved && moved.axis < depth)) return overTokens;
  if (data && moved && !aligned(data, moved)) return { mixes: 'it combines different tokens' };
  const to = step.sizes(step.node.outputs[0]);
  const fits = to !== undefined && [0, 1].every((p) => to[p]?.[s.axis] === (s.count[p] as number) * (s.inner[p] as number));
  return fits ? [s] : { mixes: 'it combines different tokens' };
};

/**
 * ScatterND that writes a box, `x[..., a:b] = y` as TorchScript spells it: places are a grid, and the coordinate on the token axis counts
 * all tokens along that axis of the grid, while no other coordinate differs between tokens. Token t is then written to token t.
 */
function scatterBox(step: Step, updates: Tokens, depth: number): Outcome {
  const data = tokensOf(step, 0);
  const parts = coordinates(step);
  const { axis, count } = updates;
  const to = step.sizes(step.node.outputs[0]);
  const whole = to !== undefined && [0, 1].every((p) => updates.inner[p] === 1 && to[p]?.[axis] === count[p]);
  if (parts?.length !== depth || !whole) return overTokens;
  if (data && !aligned(data, updates)) return { mixes: 'it combines different tokens' };
  const own = parts.every(({ value, before }, coordinate) => {
    const extent = step.sizes(value)?.map((dims) => dims[axis - before] ?? 1);
    if (coordinate !== axis) return extent?.every((n) => n === 1);
    return step.contents(value)?.every((places, p) => extent?.[p] === count[p] && places.length === count[p] && places.every((x, i) => x === i));
  });
  return own ? [updates] : { mixes: 'it combines different tokens' };
}

/** What a Concat puts side by side as coordinates of a grid, before it is widened to the grid, which has `before` axes more in front. */
function coordinates(step: Step): readonly { readonly value: Value; readonly before: number }[] | undefined {
  const places = step.node.inputs[1];
  const rank = rankOf(step, 1);
  const node = places?.producer;
  if (!node?.is('Concat') || rank === undefined || fromLeft(node.int('axis', 0), rank) !== rank - 1) return undefined;
  const found = node.inputs.flatMap((column) => {
    const grid = column?.producer?.is('Unsqueeze') ? column.producer.inputs[0] : undefined;
    const value = grid?.producer?.is('Expand') ? grid.producer.inputs[0] : grid;
    const [wide, narrow] = [step.sizes(grid)?.[0], step.sizes(value)?.[0]];
    // The axis that Unsqueeze puts in is the last one: what stands before it is the grid.
    const isColumn = wide?.length === rank - 1 && step.sizes(column)?.[0].every((n, i) => n === (wide[i] ?? 1));
    return value && narrow && isColumn ? [{ value, before: rank - 1 - narrow.length }] : [];
  });
  return found.length === node.inputs.length ? found : undefined;
}

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
