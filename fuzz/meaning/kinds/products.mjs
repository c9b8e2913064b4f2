/** Products and norms written otherwise: Gemm and MatMul, weights transposed, packed or cut, fused norms spelled out. */
import { DATA_TYPES, intOf, is, makeNode, numbers, rawTensor } from '../../proto.mjs';
import { rewrite } from './rewrite.mjs';

const FLOAT = DATA_TYPES.float32;
const raw = (t) => t?.rawData?.length > 0;

/** A two-dimensional float32 weight as right operand. */
const weightOf = (s, n) => {
  const t = is(n, 'MatMul', 'Gemm') && n.input[1] ? s.initializer(n.input[1]) : undefined;
  return t?.dataType === FLOAT && t.dims.length === 2 && raw(t) && !s.graph.input.some((i) => i.name === t.name) ? t : undefined;
};

function transposed(t, name) {
  const [rows, columns] = t.dims.map(Number);
  const from = new Float32Array(Uint8Array.from(t.rawData).buffer);
  const to = new Float32Array(from.length);
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) to[j * rows + i] = from[i * columns + j];
  return rawTensor(name, FLOAT, new Uint8Array(to.buffer), [columns, rows]);
}

/** Columns [from, to) of a weight. */
function columns(t, from, to, name) {
  const [rows, width] = t.dims.map(Number);
  const data = new Float32Array(Uint8Array.from(t.rawData).buffer);
  const out = new Float32Array(rows * (to - from));
  for (let i = 0; i < rows; i++) out.set(data.subarray(i * width + from, i * width + to), i * (to - from));
  return rawTensor(name, FLOAT, new Uint8Array(out.buffer), [rows, to - from]);
}

function add(s, t) {
  s.graph.initializer.push(t);
  return t.name;
}

/** MatMuls of the same value by weights of the same height. */
function siblings(s, n) {
  return s.nodes.filter((m) => is(m, 'MatMul') && m.input[0] === n.input[0] && weightOf(s, m) && Number(weightOf(s, m).dims[0]) === Number(weightOf(s, n).dims[0]));
}

const bias = (s, n) => {
  const add1 = s.uses(n.output[0]).length === 1 && !s.isOutput(n.output[0]) && !s.isCaptured(n.output[0]) ? s.uses(n.output[0])[0][0] : undefined;
  const other = add1 && is(add1, 'Add') ? add1.input.find((i) => i !== n.output[0]) : undefined;
  const t = other && s.initializer(other);
  return t?.dims.length === 1 ? { node: add1, name: other } : undefined;
};

export const PRODUCTS = [
  rewrite('products: a weight transposed in the graph', (n, s) => is(n, 'MatMul') && weightOf(s, n), (s, n) => {
    const w = s.know(s.fresh('w'), 'float32', [weightOf(s, n).dims.map(Number)]);
    return [makeNode('Transpose', [add(s, transposed(weightOf(s, n), s.fresh('t')))], [w], { perm: [1, 0] }), makeNode('MatMul', [n.input[0], w], n.output)];
  }),
  rewrite('products: a weight’s Transpose folded', (n, s) => is(n, 'Transpose') && s.initializer(n.input[0])?.dims.length === 2 && s.initializer(n.input[0]).dataType === FLOAT && raw(s.initializer(n.input[0])) && !s.isOutput(n.output[0]), (s, n) => {
    const w = add(s, transposed(s.initializer(n.input[0]), s.fresh('w')));
    for (const [m, at] of s.uses(n.output[0])) m.input[at] = w;
    return [];
  }),
  rewrite('products: MatMul as Gemm on flattened rows', (n, s) => is(n, 'MatMul') && weightOf(s, n) && s.fixedDim(n.output[0], -1) !== undefined && s.rank(n.input[0]) === 3, (s, n) => {
    const w = weightOf(s, n);
    const [flat, out, shape, lead, target] = ['f', 'o', 's', 'l', 't'].map((l) => s.fresh(l));
    const turned = s.r.chance(0.5);
    const name = turned ? add(s, transposed(w, s.fresh('t'))) : w.name;
    return [
      makeNode('Reshape', [n.input[0], s.literal('int64', [-1, Number(w.dims[0])])], [flat]),
      makeNode('Gemm', [flat, name], [out], turned ? { transB: 1 } : {}),
      makeNode('Shape', [n.input[0]], [shape]),
      makeNode('Slice', [shape, s.literal('int64', [0]), s.literal('int64', [-1])], [lead]),
      makeNode('Concat', [lead, s.literal('int64', [Number(w.dims[1])])], [target], { axis: 0 }),
      makeNode('Reshape', [out, target], n.output),
    ];
  }),
  rewrite('products: Gemm as MatMul and Add', (n, s) => is(n, 'Gemm') && weightOf(s, n) && !intOf(n, 'transA', 0) && !n.attribute.some((a) => a.name === 'alpha' || a.name === 'beta'), (s, n) => {
    const w = intOf(n, 'transB', 0) ? add(s, transposed(weightOf(s, n), s.fresh('t'))) : n.input[1];
    if (n.input.length < 3 || n.input[2] === '') return [makeNode('MatMul', [n.input[0], w], n.output)];
    const m = s.fresh();
    return [makeNode('MatMul', [n.input[0], w], [m]), makeNode('Add', [m, n.input[2]], n.output)];
  }),
  rewrite('products: Gemm with its weight transposed', (n, s) => is(n, 'Gemm') && weightOf(s, n), (s, n) => {
    const turned = intOf(n, 'transB', 0);
    const other = n.attribute.filter((a) => a.name !== 'transB');
    const made = makeNode('Gemm', [n.input[0], add(s, transposed(weightOf(s, n), s.fresh('t'))), ...n.input.slice(2)], n.output, turned ? {} : { transB: 1 });
    made.attribute.push(...other);
    return [made];
  }),
  rewrite('products: a weight cut into two by columns', (n, s) => is(n, 'MatMul') && weightOf(s, n) && Number(weightOf(s, n).dims[1]) > 1, (s, n) => {
    const w = weightOf(s, n);
    const width = Number(w.dims[1]);
    const cut = s.r.chance(0.7) ? width / 2 : 1 + s.r.below(width - 1);
    if (!Number.isInteger(cut)) return undefined;
    const [a, b] = [s.fresh(), s.fresh()];
    return [
      makeNode('MatMul', [n.input[0], add(s, columns(w, 0, cut, s.fresh('w')))], [a]),
      makeNode('MatMul', [n.input[0], add(s, columns(w, cut, width, s.fresh('w')))], [b]),
      makeNode('Concat', [a, b], n.output, { axis: -1 }),
    ];
  }),
  {
    name: 'products: q, k and v (or gate and up) packed into one',
    exact: false,
    apply(s) {
      const first = s.pickNode((n) => is(n, 'MatMul') && weightOf(s, n) && siblings(s, n).length > 1);
      if (!first) return undefined;
      const all = siblings(s, first);
      const weights = all.map((n) => weightOf(s, n));
      const rows = Number(weights[0].dims[0]);
      const widths = weights.map((w) => Number(w.dims[1]));
      const total = widths.reduce((a, b) => a + b, 0);
      const data = new Float32Array(rows * total);
      let at = 0;
      weights.forEach((w, i) => {
        const from = new Float32Array(Uint8Array.from(w.rawData).buffer);
        for (let row = 0; row < rows; row++) data.set(from.subarray(row * widths[i], (row + 1) * widths[i]), row * total + at);
        at += widths[i];
      });
      const packed = s.fresh('packed');
      const w = add(s, rawTensor(s.fresh('w'), FLOAT, new Uint8Array(data.buffer), [rows, total]));
      const shapes = s.info(first.output[0])?.shapes;
      if (shapes) s.know(packed, 'float32', shapes.map((d) => [...d.slice(0, -1), total]));
      const parts = all.flatMap((n) => n.output);
      const split = makeNode('Split', [packed, s.literal('int64', widths)], parts, { axis: s.r.pick([-1, s.rank(first.input[0]) - 1]) });
      const where = Math.min(...all.map((n) => s.nodes.indexOf(n)));
      const insert = [makeNode('MatMul', [first.input[0], w], [packed]), split];
      s.nodes.splice(where, 0, ...insert);
      s.model.graph.node = s.nodes.filter((n) => !all.includes(n));
      return `${all.length} products of ${first.input[0]}`;
    },
  },
  {
    name: 'products: MatMul and Add as Gemm on flattened rows',
    exact: false,
    apply(s) {
      const node = s.pickNode((n) => is(n, 'MatMul') && weightOf(s, n) && bias(s, n));
      if (!node) return undefined;
      const w = weightOf(s, node);
      const b = bias(s, node);
      const [flat, out, shape] = [s.fresh(), s.fresh(), s.fresh()];
      const target = s.fresh();
      s.replace(node, [
        makeNode('Reshape', [node.input[0], s.literal('int64', [-1, Number(w.dims[0])])], [flat]),
        makeNode('Gemm', [flat, w.name, b.name], [out]),
        makeNode('Shape', [node.input[0]], [shape]),
      ]);
      const rank = s.rank(node.input[0]);
      if (rank === undefined) return undefined;
      const lead = s.fresh();
      s.replace(b.node, [
        makeNode('Gather', [shape, s.literal('int64', Array.from({ length: rank - 1 }, (_, i) => i))], [lead], { axis: 0 }),
        makeNode('Concat', [lead, s.literal('int64', [Number(w.dims[1])])], [target], { axis: 0 }),
        makeNode('Reshape', [out, target], b.node.output),
      ]);
      return s.describe(node);
    },
  },
  rewrite('products: MatMul as Einsum', (n, s) => is(n, 'MatMul') && s.type(n.output[0]) === 'float32' && s.rank(n.input[0]) === s.rank(n.input[1]) && s.rank(n.input[0]) > 1 && s.rank(n.input[0]) < 5 && sameLead(s, n), (s, n) => {
    const lead = 'abcd'.slice(0, s.rank(n.input[0]) - 2);
    return [makeNode('Einsum', n.input, n.output, { equation: `${lead}ij,${lead}jk->${lead}ik` })];
  }),
  rewrite('products: MatMul with sides exchanged', (n, s) => is(n, 'MatMul') && s.type(n.output[0]) === 'float32' && s.rank(n.input[0]) === s.rank(n.input[1]) && s.rank(n.input[0]) > 1 && sameLead(s, n), (s, n) => {
    const rank = s.rank(n.input[0]);
    const perm = Array.from({ length: rank }, (_, i) => i);
    [perm[rank - 1], perm[rank - 2]] = [rank - 2, rank - 1];
    const [a, b, c] = [s.fresh(), s.fresh(), s.fresh()];
    return [makeNode('Transpose', [n.input[0]], [a], { perm }), makeNode('Transpose', [n.input[1]], [b], { perm }), makeNode('MatMul', [b, a], [c]), makeNode('Transpose', [c], n.output, { perm })];
  }),
  rewrite('products: the scale moved before the product', (n, s) => is(n, 'Mul', 'Div') && s.type(n.output[0]) === 'float32' && scaled(s, n), (s, n) => {
    const { product, factor } = scaled(s, n);
    const at = s.r.below(2);
    const m = s.alike(s.fresh(), product.input[at]);
    const input = [...product.input];
    input[at] = m;
    return [makeNode(n.opType, [product.input[at], factor], [m]), makeNode('MatMul', input, n.output)];
  }),
  rewrite('products: SimplifiedLayerNormalization spelled out', (n, s) => n.opType === 'SimplifiedLayerNormalization' && s.type(n.input[0]) === 'float32' && n.output.filter((o) => o).length === 1, (s, n) => spelledNorm(s, n.input[0], n.input[1], n.output[0], epsilonOf(n))),
  rewrite('products: RMSNormalization spelled out', (n, s) => is(n, 'RMSNormalization') && s.type(n.input[0]) === 'float32' && intOf(n, 'axis', -1) === -1, (s, n) => spelledNorm(s, n.input[0], n.input[1], n.output[0], epsilonOf(n))),
  rewrite('products: SkipSimplifiedLayerNormalization as Add and norm', (n, s) => n.opType === 'SkipSimplifiedLayerNormalization' && s.type(n.input[0]) === 'float32' && n.input.length === 3 && n.output.slice(1, 3).every((o) => !o), (s, n) => {
    const sum = n.output[3] || s.fresh();
    s.alike(sum, n.input[0]);
    const norm = makeNode('SimplifiedLayerNormalization', [sum, n.input[2]], [n.output[0]], { axis: -1, stash_type: 1 });
    norm.attribute.push(...n.attribute.filter((a) => a.name === 'epsilon'));
    return [makeNode('Add', [n.input[0], n.input[1]], [sum]), norm];
  }),
  rewrite('products: LayerNormalization spelled out', (n, s) => is(n, 'LayerNormalization') && s.type(n.input[0]) === 'float32' && n.output.filter((o) => o).length === 1 && [-1, s.rank(n.input[0]) - 1].includes(intOf(n, 'axis', -1)), (s, n) => {
    const [mean, less, square, variance, plus, root, ratio, scaledValue] = Array.from({ length: 8 }, () => s.fresh());
    const withBias = n.input[2] && n.input[2] !== '';
    return [
      reduceMean(s, n.input[0], mean),
      makeNode('Sub', [n.input[0], mean], [less]),
      makeNode('Mul', [less, less], [square]),
      reduceMean(s, square, variance),
      makeNode('Add', [variance, s.literal('float32', [epsilonOf(n)], [])], [plus]),
      makeNode('Sqrt', [plus], [root]),
      makeNode('Div', [less, root], [ratio]),
      makeNode('Mul', [ratio, n.input[1]], [withBias ? scaledValue : n.output[0]]),
      ...(withBias ? [makeNode('Add', [scaledValue, n.input[2]], n.output)] : []),
    ];
  }),
  {
    name: 'products: a zero bias added to a product',
    exact: true,
    apply(s) {
      const node = s.pickNode((n) => is(n, 'MatMul') && weightOf(s, n));
      if (!node) return undefined;
      const m = s.alike(s.fresh(), node.output[0]);
      const [out] = node.output;
      node.output = [m];
      s.placeAfter(m, [makeNode('Add', s.r.shuffle([m, s.literal('float32', new Array(Number(weightOf(s, node).dims[1])).fill(0))]), [out])]);
      return s.describe(node);
    },
  },
];

function reduceMean(s, x, y) {
  return s.opset() >= 18 ? makeNode('ReduceMean', [x, s.literal('int64', [-1])], [y]) : makeNode('ReduceMean', [x], [y], { axes: [-1] });
}

function epsilonOf(n) {
  return n.attribute.find((a) => a.name === 'epsilon')?.f ?? 1e-5;
}

function spelledNorm(s, x, scale, y, epsilon) {
  const [square, mean, plus, root, ratio] = Array.from({ length: 5 }, () => s.fresh());
  s.alike(ratio, x);
  return [
    makeNode('Pow', [x, s.literal('float32', [2], [])], [square]),
    reduceMean(s, square, mean),
    makeNode('Add', [mean, s.literal('float32', [epsilon], [])], [plus]),
    makeNode('Sqrt', [plus], [root]),
    makeNode('Div', [x, root], [ratio]),
    makeNode('Mul', [ratio, scale], [y]),
  ];
}

function sameLead(s, n) {
  const [a, b] = n.input.map((i) => s.info(i)?.shapes ?? []);
  return a.length > 0 && a.length === b.length && a.every((d, i) => d.slice(0, -2).join() === b[i].slice(0, -2).join());
}

/** A product of two computed values that only this op reads, times or by a scalar constant. */
function scaled(s, n) {
  const product = s.producer(n.input[0]);
  const t = s.constant(n.input[1]);
  if (!product || !is(product, 'MatMul') || s.uses(n.input[0]).length !== 1 || s.isOutput(n.input[0]) || !t || numbers(t)?.length !== 1) return undefined;
  return { product, factor: n.input[1] };
}

