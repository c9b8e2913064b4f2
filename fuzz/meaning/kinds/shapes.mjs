/** Shape arithmetic and movement written otherwise: Shape and Gather, Reshape targets, Split and Slice, Transpose. */
import { intOf, intsOf, is, makeNode, numbers, setAttribute } from '../../proto.mjs';
import { rewrite } from './rewrite.mjs';

const FAR = Number.MAX_SAFE_INTEGER;

/** All of these are exact. */
const exactly = (name, accept, make) => rewrite(name, accept, make, true);

/** Numbers of an initializer or a Constant node. */
const list = (s, name) => {
  const t = name && s.constant(name);
  return t ? numbers(t) : undefined;
};

const targetOf = (s, n) => (is(n, 'Reshape') && n.input.length === 2 ? list(s, n.input[1]) : undefined);
const whole = (n) => is(n, 'Shape') && !n.attribute.some((a) => a.name === 'start' || a.name === 'end');

export const SHAPES = [
  exactly(
    'shapes: Reshape, 0 as the number it stands for',
    (n, s) => targetOf(s, n)?.some((d, i) => d === 0 && s.fixedDim(n.input[0], i) !== undefined),
    (s, n) => [makeNode('Reshape', [n.input[0], s.literal('int64', targetOf(s, n).map((d, i) => (d === 0 ? (s.fixedDim(n.input[0], i) ?? 0) : d)))], n.output, attributesOf(n))],
  ),
  exactly(
    'shapes: Reshape, −1 as the number it stands for',
    (n, s) => {
      const at = targetOf(s, n)?.indexOf(-1) ?? -1;
      return at >= 0 && s.fixedDim(n.output[0], at) !== undefined;
    },
    (s, n) => [makeNode('Reshape', [n.input[0], s.literal('int64', targetOf(s, n).map((d, i) => (d === -1 ? s.fixedDim(n.output[0], i) : d)))], n.output, attributesOf(n))],
  ),
  exactly(
    'shapes: Reshape, a number as −1',
    (n, s) => {
      const t = targetOf(s, n);
      return t !== undefined && !t.includes(-1) && t.some((d) => d > 0) && !s.info(n.output[0])?.shapes.some((d) => d.includes(0));
    },
    (s, n) => {
      const t = targetOf(s, n);
      const at = s.r.pick(t.flatMap((d, i) => (d > 0 ? [i] : [])));
      return [makeNode('Reshape', [n.input[0], s.literal('int64', t.map((d, i) => (i === at ? -1 : d)))], n.output, attributesOf(n))];
    },
  ),
  exactly(
    'shapes: Reshape target out of Shape of what it makes room for',
    (n, s) => targetOf(s, n)?.some((d) => d === 0) && !intOf(n, 'allowzero', 0),
    (s, n) => {
      const t = targetOf(s, n);
      const parts = [];
      const before = [];
      const shape = s.fresh();
      before.push(makeNode('Shape', [n.input[0]], [shape]));
      t.forEach((d, i) => {
        if (d !== 0) return void parts.push(s.literal('int64', [d]));
        const one = s.fresh();
        before.push(makeNode('Gather', [shape, s.literal('int64', [i])], [one], { axis: 0 }));
        parts.push(one);
      });
      const target = s.fresh();
      return [...before, makeNode('Concat', parts, [target], { axis: 0 }), makeNode('Reshape', [n.input[0], target], n.output)];
    },
  ),
  exactly(
    'shapes: two Reshapes for one',
    (n, s) => {
      const t = targetOf(s, n);
      return t !== undefined && !t.includes(0) && !s.info(n.output[0])?.shapes.some((d) => d.includes(0));
    },
    (s, n) => {
      const m = s.fresh();
      return [makeNode('Reshape', [n.input[0], s.literal('int64', [-1])], [m]), makeNode('Reshape', [m, n.input[1]], n.output)];
    },
  ),
  exactly(
    'shapes: Gather of Shape as Shape(start, end) and Squeeze',
    (n, s) => s.opset() >= 15 && shapeGather(s, n)?.index >= 0,
    (s, n) => {
      const { of, index, scalar } = shapeGather(s, n);
      const m = s.fresh();
      const shape = makeNode('Shape', [of], [scalar ? m : n.output[0]], { start: index, end: index + 1 });
      return scalar ? [shape, makeNode('Squeeze', [m, s.literal('int64', [0])], n.output)] : [shape];
    },
  ),
  exactly(
    'shapes: Gather of Shape as Slice of Shape',
    (n, s) => shapeGather(s, n) !== undefined,
    (s, n) => {
      const { of, index, scalar } = shapeGather(s, n);
      const [shape, m] = [s.fresh(), s.fresh()];
      const end = index === -1 ? FAR : index + 1;
      const slice = makeNode('Slice', [shape, s.literal('int64', [index]), s.literal('int64', [end]), s.literal('int64', [0])], [scalar ? m : n.output[0]]);
      const head = [makeNode('Shape', [of], [shape]), slice];
      return scalar ? [...head, makeNode('Reshape', [m, s.literal('int64', [], [0])], n.output)] : head;
    },
  ),
  exactly(
    'shapes: Shape(start, end) as Gather of Shape',
    (n, s) => is(n, 'Shape') && !whole(n) && s.rank(n.input[0]) !== undefined,
    (s, n) => {
      const rank = s.rank(n.input[0]);
      const from = intOf(n, 'start', 0);
      const to = intOf(n, 'end', rank);
      const at = Array.from({ length: rank }, (_, i) => i).slice(from, to);
      const shape = s.fresh();
      return [makeNode('Shape', n.input, [shape]), makeNode('Gather', [shape, s.literal('int64', at)], n.output, { axis: 0 })];
    },
  ),
  exactly(
    'shapes: a scalar Gather as Gather of one and Squeeze',
    (n, s) => is(n, 'Gather') && list(s, n.input[1])?.length === 1 && s.constant(n.input[1]).dims.length === 0,
    (s, n) => {
      const axis = intOf(n, 'axis', 0);
      const m = s.fresh();
      return [makeNode('Gather', [n.input[0], s.literal('int64', list(s, n.input[1]))], [m], { axis }), makeNode('Squeeze', [m, s.literal('int64', [axis])], n.output)];
    },
  ),
  exactly(
    'shapes: Split as Slices',
    (n, s) => is(n, 'Split') && n.output.every((o) => o !== '' && s.fixedDim(o, intOf(n, 'axis', 0)) !== undefined),
    (s, n) => {
      const axis = intOf(n, 'axis', 0);
      let at = 0;
      return n.output.map((o) => {
        const from = at;
        at += s.fixedDim(o, axis);
        return makeNode('Slice', [n.input[0], s.literal('int64', [from]), s.literal('int64', [at]), s.literal('int64', [axis])], [o]);
      });
    },
  ),
  {
    name: 'shapes: two Slices as one Split',
    exact: true,
    apply(s) {
      const first = s.pickNode((n) => halfOf(s, n)?.start === 0 && halves(s, n) !== undefined);
      if (!first) return undefined;
      const other = halves(s, first);
      const { axis, end, size } = halfOf(s, first);
      const split = makeNode('Split', [first.input[0], s.literal('int64', [end, size - end])], [first.output[0], other.output[0]], { axis });
      // Where the first of the two stood; the other's readers come later than either.
      const at = Math.min(s.nodes.indexOf(first), s.nodes.indexOf(other));
      s.nodes.splice(s.nodes.indexOf(first), 1);
      s.nodes.splice(s.nodes.indexOf(other), 1);
      s.nodes.splice(at, 0, split);
      return s.describe(split);
    },
  },
  exactly(
    'shapes: Slice bounds counted from the other end',
    (n, s) => halfOf(s, n) !== undefined,
    (s, n) => {
      const { axis, start, end, size } = halfOf(s, n);
      return [makeNode('Slice', [n.input[0], s.literal('int64', [start - size]), s.literal('int64', [end === size ? FAR : end - size]), s.literal('int64', [axis < 0 ? axis + s.rank(n.input[0]) : axis])], n.output)];
    },
  ),
  exactly(
    'shapes: Slice as Gather',
    (n, s) => halfOf(s, n) !== undefined,
    (s, n) => {
      const { axis, start, end } = halfOf(s, n);
      return [makeNode('Gather', [n.input[0], s.literal('int64', Array.from({ length: end - start }, (_, i) => start + i))], n.output, { axis })];
    },
  ),
  exactly(
    'shapes: Transpose in two steps',
    (n, s) => is(n, 'Transpose') && s.rank(n.input[0]) > 1,
    (s, n) => {
      const rank = s.rank(n.input[0]);
      const perm = intsOf(n, 'perm') ?? Array.from({ length: rank }, (_, i) => rank - 1 - i);
      const first = s.r.shuffle(perm);
      const m = s.fresh();
      return [makeNode('Transpose', n.input, [m], { perm: first }), makeNode('Transpose', [m], n.output, { perm: perm.map((p) => first.indexOf(p)) })];
    },
  ),
  exactly(
    'shapes: Concat in two steps',
    (n) => is(n, 'Concat') && n.input.length > 2,
    (s, n) => {
      const axis = intOf(n, 'axis', 0);
      const cut = 1 + s.r.below(n.input.length - 2);
      const m = s.fresh();
      const [a, b] = [n.input.slice(0, cut + 1), n.input.slice(cut + 1)];
      return b.length === 0 ? undefined : [makeNode('Concat', a, [m], { axis }), makeNode('Concat', [m, ...b], n.output, { axis })];
    },
  ),
  exactly(
    'shapes: Unsqueeze at the end as Reshape',
    (n, s) => is(n, 'Unsqueeze') && list(s, n.input[1])?.length === 1 && s.rank(n.input[0]) !== undefined && [s.rank(n.input[0]), -1].includes(list(s, n.input[1])[0]),
    (s, n) => [makeNode('Reshape', [n.input[0], s.literal('int64', [...new Array(s.rank(n.input[0])).fill(0), 1])], n.output)],
  ),
  exactly(
    'shapes: implicit broadcast as Expand',
    (n, s) => is(n, 'Add', 'Mul', 'Sub') && n.input.length === 2 && lesser(s, n) !== undefined,
    (s, n) => {
      const at = lesser(s, n);
      const [shape, m] = [s.fresh(), s.fresh()];
      const input = [...n.input];
      input[at] = m;
      return [makeNode('Shape', [n.input[1 - at]], [shape]), makeNode('Expand', [n.input[at], shape], [m]), makeNode(n.opType, input, n.output)];
    },
  ),
  exactly(
    'shapes: Expand before a broadcast left out',
    (n, s) => is(n, 'Add', 'Mul', 'Where', 'Sub') && n.input.some((i) => expanded(s, n, i)),
    (s, n) => {
      const at = n.input.findIndex((i) => expanded(s, n, i));
      const input = [...n.input];
      input[at] = s.producer(n.input[at]).input[0];
      return [makeNode(n.opType, input, n.output)];
    },
  ),
  exactly(
    'shapes: Flatten as Reshape, or the other way',
    (n, s) => is(n, 'Flatten') && intOf(n, 'axis', 1) === 1 && s.fixedDim(n.output[0], 1) !== undefined,
    (s, n) => [makeNode('Reshape', [n.input[0], s.literal('int64', [0, -1])], n.output)],
  ),
  {
    name: 'shapes: Shape of a value of the same shape',
    exact: true,
    apply(s) {
      // An element-wise op's output has its operand's shape where that held in every run and the operand is as large.
      const node = s.pickNode((n) => whole(n) && is(s.producer(n.input[0]) ?? n, 'Cast', 'Neg', 'Sqrt', 'Sigmoid', 'Identity', 'Tanh', 'Not', 'Erf'));
      if (!node) return undefined;
      node.input[0] = s.producer(node.input[0]).input[0];
      return s.describe(node);
    },
  },
  {
    name: 'shapes: Squeeze and Unsqueeze axes of scalars as Reshape',
    exact: true,
    apply(s) {
      const node = s.pickNode((n) => is(n, 'Unsqueeze') && s.rank(n.input[0]) === 0 && list(s, n.input[1])?.length === 1);
      if (!node) return undefined;
      s.replace(node, [makeNode('Reshape', [node.input[0], s.literal('int64', [s.r.pick([1, -1])])], node.output)]);
      return s.describe(node);
    },
  },
  {
    name: 'shapes: allowzero spelled out',
    exact: true,
    apply(s) {
      const node = s.pickNode((n) => is(n, 'Reshape') && n.attribute.length === 0);
      if (!node) return undefined;
      setAttribute(node, 'allowzero', 0);
      return s.describe(node);
    },
  },
];

function attributesOf(n) {
  const zero = intOf(n, 'allowzero', undefined);
  return zero === undefined ? {} : { allowzero: zero };
}

/** One number gathered from the Shape of a value. */
function shapeGather(s, n) {
  if (!is(n, 'Gather') || intOf(n, 'axis', 0) !== 0) return undefined;
  const shape = s.producer(n.input[0]);
  const index = list(s, n.input[1]);
  if (!shape || !whole(shape) || index?.length !== 1) return undefined;
  return { of: shape.input[0], index: index[0], scalar: s.constant(n.input[1]).dims.length === 0 };
}

/** A Slice of one axis of fixed size, with step 1. */
function halfOf(s, n) {
  if (!is(n, 'Slice') || n.input.length < 4) return undefined;
  const [start, end, axes] = [list(s, n.input[1]), list(s, n.input[2]), list(s, n.input[3])];
  if (start?.length !== 1 || end?.length !== 1 || axes?.length !== 1) return undefined;
  if (n.input.length > 4 && n.input[4] !== '' && list(s, n.input[4])?.[0] !== 1) return undefined;
  const size = s.fixedDim(n.input[0], axes[0]);
  if (size === undefined) return undefined;
  const within = (v) => Math.max(0, Math.min(size, v < 0 ? v + size : v));
  const [from, to] = [within(start[0]), within(end[0])];
  return from < to ? { axis: axes[0], start: from, end: to, size } : undefined;
}

/** The Slice that takes what the first one leaves. */
function halves(s, first) {
  const a = halfOf(s, first);
  return s.uses(first.input[0]).map(([n]) => n).find((n) => {
    const b = n !== first && halfOf(s, n);
    return b && a.end < a.size && b.start === a.end && b.end === b.size && b.axis === a.axis;
  });
}

/** The operand that a binary op broadcasts to the other's shape. */
function lesser(s, n) {
  const [a, b] = n.input.map((i) => s.info(i)?.shapes ?? (s.initializer(i) ? [s.initializer(i).dims.map(Number)] : undefined));
  const out = s.info(n.output[0])?.shapes;
  if (!a || !b || !out) return undefined;
  const same = (x) => x.length === out.length && x.every((d, r) => d.join() === out[r].join());
  if (same(a) && !same(b)) return 1;
  if (same(b) && !same(a)) return 0;
  return undefined;
}

/** An Expand whose result the op would broadcast anyway: another operand has the output's shape. */
function expanded(s, n, input) {
  const p = s.producer(input);
  if (!p || !is(p, 'Expand')) return false;
  const out = s.info(n.output[0])?.shapes;
  return out !== undefined && n.input.some((i) => i !== input && s.info(i)?.shapes.every((d, r) => d.join() === out[r]?.join()) && s.info(i).shapes.length === out.length);
}
