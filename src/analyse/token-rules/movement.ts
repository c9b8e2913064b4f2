/** Ops that move elements: where the token axis goes. */
import type { Dims } from '../shapes/index.js';
import { aligned, fromLeft, type Pair, PICKED, rankOf, type Rule, type Tokens, tokensOf, unknownLayout } from './step.js';

/** Another shape for the same elements in the same order: where in memory a token's step lies tells its new axis. */
export const relayout: Rule = (step) => {
  const s = tokensOf(step, 0);
  const from = step.sizes(step.node.inputs[0]);
  const to = step.sizes(step.node.outputs[0]);
  if (!s || !from || !to) return unknownLayout;
  const found = [0, 1].map((p) => {
    const shape = from[p] as Dims;
    const out = to[p] as Dims;
    let stride = s.inner[p] as number;
    for (const d of shape.slice(s.axis + 1)) {
      if (d === null) return undefined;
      stride *= d;
    }
    let post = 1;
    for (let axis = out.length - 1; axis >= 0; axis--) {
      const size = out[axis];
      if (size === null || size === undefined) {
        // Everything behind it is known: the axis of unknown size takes the tokens if they have not come yet.
        return stride % post === 0 ? { axis, inner: stride / post } : undefined;
      }
      if (post <= stride && post * size > stride) return stride % post === 0 && (size * post) % (stride * (s.count[p] as number)) === 0 ? { axis, inner: stride / post } : undefined;
      post *= size;
    }
    return undefined;
  });
  const [a, b] = found;
  if (!a || !b || a.axis !== b.axis) return { mixes: 'its Reshape does not keep tokens apart' };
  return [{ ...s, axis: a.axis, inner: [a.inner, b.inner] }];
};

export const transpose: Rule = (step) => {
  const s = tokensOf(step, 0);
  const rank = rankOf(step, 0);
  if (!s || rank === undefined) return unknownLayout;
  const perm = step.node.ints('perm') ?? Array.from({ length: rank }, (_, i) => rank - 1 - i);
  return [{ ...s, axis: perm.indexOf(s.axis) }];
};

/** Slice, Split, Pad: tokens stay aligned when their axis keeps its size, in order. */
export const crop: Rule = (step) => {
  const s = tokensOf(step, 0);
  const from = step.sizes(step.node.inputs[0]);
  if (!s || !from) return unknownLayout;
  const reversed = step.node.is('Slice') && step.node.inputs[4] !== undefined && step.node.inputs[4] !== null && (step.constant(4)?.some((x) => x < 0) ?? true);
  return step.node.outputs.map((o) => {
    const to = step.sizes(o);
    const whole = to !== undefined && [0, 1].every((p) => to[p]?.[s.axis] !== null && to[p]?.[s.axis] === from[p]?.[s.axis]);
    return whole && !reversed ? s : PICKED;
  });
};

/** Expand, Tile: as elementwise, and the token axis is not repeated. */
export const widen: Rule = (step) => {
  const s = tokensOf(step, 0);
  const from = step.sizes(step.node.inputs[0]);
  const to = step.sizes(step.node.outputs[0]);
  if (!s || !from || !to) return unknownLayout;
  const shift = to[0].length - from[0].length;
  const kept = [0, 1].every((p) => to[p]?.[s.axis + shift] === from[p]?.[s.axis]);
  return kept ? [{ ...s, axis: s.axis + shift }] : { mixes: 'it repeats tokens' };
};

/** Along another axis, or appending the chunk to a cache. */
export const concat: Rule = (step) => {
  const states = step.node.inputs.map((_, i) => tokensOf(step, i));
  const found = states.filter((s): s is Tokens => s !== undefined);
  const [s] = found;
  const rank = rankOf(step, states.findIndex((x) => x !== undefined));
  if (!s || rank === undefined) return unknownLayout;
  const axis = fromLeft(step.node.int('axis', 0), rank);
  if (axis !== s.axis) {
    return found.every((x) => aligned(x, s)) ? [s] : { mixes: 'it combines different tokens' };
  }
  const sizes = step.sizes(step.node.outputs[0]);
  if (step.node.inputs.length === 1) return [s];
  if (found.length > 1) return { mixes: 'it joins tokens with tokens' };
  const total: Pair | undefined = sizes && [sizes[0][axis] ?? 0, sizes[1][axis] ?? 0];
  if (!total || s.inner[0] !== 1 || s.inner[1] !== 1) return unknownLayout;
  return [{ ...s, count: total }];
};
