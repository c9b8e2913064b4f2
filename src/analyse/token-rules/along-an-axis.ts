/** Ops that work along axes: they mix tokens when the token axis is one of them. */
import { fromLeft, overTokens, rankOf, type Rule, tokensOf, unknownLayout } from './step.js';

/** Normalizes, sorts or searches along one axis. */
export function along(attribute: string, fallback: number, coerced = false): Rule {
  return (step) => {
    const s = tokensOf(step, 0);
    const rank = rankOf(step, 0);
    if (!s || rank === undefined) return unknownLayout;
    const axis = fromLeft(step.node.int(attribute, fallback), rank);
    // Until opset 13 Softmax flattened everything from the axis on.
    if (coerced ? s.axis >= axis : s.axis === axis) return overTokens;
    return step.node.outputs.map(() => s);
  };
}

export const softmax: Rule = (step) => along('axis', step.opset >= 13 ? -1 : 1, step.opset < 13)(step);

export const reduce: Rule = (step) => {
  const s = tokensOf(step, 0);
  const rank = rankOf(step, 0);
  if (!s || rank === undefined) return unknownLayout;
  const given = step.node.ints('axes') ?? (step.node.inputs[1] ? step.constant(1) : undefined);
  if (step.node.inputs[1] && !given) return { mixes: 'the axes it reduces over are not known' };
  if (!given || given.length === 0) return step.node.int('noop_with_empty_axes', 0) === 1 ? [s] : overTokens;
  const axes = given.map((a) => fromLeft(a, rank));
  if (axes.includes(s.axis)) return overTokens;
  const gone = step.node.int('keepdims', 1) === 1 ? 0 : axes.filter((a) => a < s.axis).length;
  return [{ ...s, axis: s.axis - gone }];
};

export const argument: Rule = (step) => {
  const s = tokensOf(step, 0);
  const rank = rankOf(step, 0);
  if (!s || rank === undefined) return unknownLayout;
  const axis = fromLeft(step.node.int('axis', 0), rank);
  if (axis === s.axis) return overTokens;
  return [{ ...s, axis: step.node.int('keepdims', 1) === 0 && axis < s.axis ? s.axis - 1 : s.axis }];
};

export const cumulative: Rule = (step) => {
  const s = tokensOf(step, 0);
  const rank = rankOf(step, 0);
  const axis = step.constant(1)?.[0];
  if (!s || rank === undefined || axis === undefined) return unknownLayout;
  return fromLeft(axis, rank) === s.axis ? { mixes: 'it adds tokens up' } : [s];
};

/** Statistics over all axes from the third on. */
export const instanceNorm: Rule = (step) => {
  const s = tokensOf(step, 0);
  if (!s) return unknownLayout;
  return s.axis < 2 ? [s] : overTokens;
};
