/** Values sent through something that gives them back: x → no-op → x'. Some or all readers then read x'. */
import { DATA_TYPES, is, makeNode, onnx, tensor, valueInfo } from '../../proto.mjs';
import { isFloat, isInt } from '../subject.mjs';

const FAR = Number.MAX_SAFE_INTEGER;
const number = (_, { type }) => isFloat(type) || isInt(type);
const float = (_, { type }) => isFloat(type);
const ranked = (_, { shapes }) => shapes[0].length > 0;
const both = (...tests) => (name, info) => tests.every((t) => t(name, info));

/** Each makes the nodes that lead from `x` to `y`. */
const CHAINS = {
  Identity: { make: (_s, x, y) => [makeNode('Identity', [x], [y])] },
  'two Identities': {
    make: (s, x, y) => {
      const m = s.fresh();
      return [makeNode('Identity', [x], [m]), makeNode('Identity', [m], [y])];
    },
  },
  'Cast to its type': { make: (s, x, y) => [makeNode('Cast', [x], [y], { to: DATA_TYPES[s.type(x)] })] },
  'Cast to a wider type and back': {
    fits: (_, { type }) => type === 'float32' || type === 'float16' || type === 'int32' || type === 'bool',
    make: (s, x, y) => {
      const m = s.fresh();
      const wide = { float32: DATA_TYPES.float64, float16: DATA_TYPES.float32, int32: DATA_TYPES.int64, bool: DATA_TYPES.int64 }[s.type(x)];
      return [makeNode('Cast', [x], [m], { to: wide }), makeNode('Cast', [m], [y], { to: DATA_TYPES[s.type(x)] })];
    },
  },
  'Cast to int32 and back': {
    fits: (_, { type, low, high }) => type === 'int64' && low > -1e6 && high < 1e6,
    make: (s, x, y) => {
      const m = s.fresh();
      return [makeNode('Cast', [x], [m], { to: DATA_TYPES.int32 }), makeNode('Cast', [m], [y], { to: DATA_TYPES.int64 })];
    },
  },
  'one-input Concat': { fits: ranked, make: (s, x, y) => [makeNode('Concat', [x], [y], { axis: axisOf(s, x) })] },
  'one-input Sum': { fits: (_, { type }) => type === 'float32', make: (_s, x, y) => [makeNode('Sum', [x], [y])] },
  'one-input Max or Min': { fits: number, make: (s, x, y) => [makeNode(s.r.pick(['Max', 'Min']), [x], [y])] },
  'one-input Mean': { fits: (_, { type }) => type === 'float32', make: (_s, x, y) => [makeNode('Mean', [x], [y])] },
  'Max with itself': { fits: number, make: (s, x, y) => [makeNode(s.r.pick(['Max', 'Min']), [x, x], [y])] },
  'full Slice': {
    fits: ranked,
    make: (s, x, y) => [makeNode('Slice', [x, s.literal('int64', [0]), s.literal('int64', [s.r.pick([FAR, 2 ** 31 - 1])]), s.literal('int64', [axisOf(s, x)])], [y])],
  },
  'full Slice of every axis': {
    fits: ranked,
    make: (s, x, y) => {
      const zeros = s.info(x).shapes[0].map(() => 0);
      return [makeNode('Slice', [x, s.literal('int64', zeros), s.literal('int64', zeros.map(() => FAR))], [y])];
    },
  },
  '× 1': { fits: number, make: (s, x, y) => [makeNode('Mul', s.r.shuffle([x, one(s, x, 1)]), [y])] },
  '÷ 1': { fits: number, make: (s, x, y) => [makeNode('Div', [x, one(s, x, 1)], [y])] },
  '+ 0': { fits: number, make: (s, x, y) => [makeNode('Add', s.r.shuffle([x, one(s, x, 0)]), [y])] },
  '− 0': { fits: number, make: (s, x, y) => [makeNode('Sub', [x, one(s, x, 0)], [y])] },
  '× 2 and × ½': {
    // Larger numbers would overflow half precision.
    fits: (_, { type, low, high, special }) => isFloat(type) && !special && low > -1000 && high < 1000,
    make: (s, x, y) => {
      const m = s.fresh();
      return [makeNode('Mul', [x, one(s, x, 2)], [s.alike(m, x)]), makeNode('Mul', [m, one(s, x, 0.5)], [y])];
    },
  },
  '− (−x)': {
    fits: number,
    make: (s, x, y) => {
      const m = s.fresh();
      return [makeNode('Neg', [x], [m]), makeNode('Neg', [m], [y])];
    },
  },
  'Not of Not': {
    fits: (_, { type }) => type === 'bool',
    make: (s, x, y) => {
      const m = s.fresh();
      return [makeNode('Not', [x], [m]), makeNode('Not', [m], [y])];
    },
  },
  'And or Or with itself': { fits: (_, { type }) => type === 'bool', make: (s, x, y) => [makeNode(s.r.pick(['And', 'Or']), [x, x], [y])] },
  'Transpose and back': {
    fits: (_, { shapes }) => shapes[0].length > 1,
    make: (s, x, y) => {
      const perm = s.r.shuffle(s.info(x).shapes[0].map((_, i) => i));
      const back = perm.map((_, i) => perm.indexOf(i));
      const m = s.fresh();
      return [makeNode('Transpose', [x], [m], { perm }), makeNode('Transpose', [m], [y], { perm: back })];
    },
  },
  'Transpose by the identity': { fits: ranked, make: (s, x, y) => [makeNode('Transpose', [x], [y], { perm: s.info(x).shapes[0].map((_, i) => i) })] },
  'Unsqueeze and Squeeze': {
    make: (s, x, y) => {
      const axis = s.r.below(s.rank(x) + 1);
      const m = s.fresh();
      const axes = s.literal('int64', [axis]);
      return [makeNode('Unsqueeze', [x, axes], [m]), makeNode('Squeeze', [m, axes], [y])];
    },
  },
  Dropout: { fits: float, make: (s, x, y) => [s.r.chance(0.5) ? makeNode('Dropout', [x], [y]) : makeNode('Dropout', [x, s.literal('float32', [0.5], [])], [y])] },
  'Reshape to its own Shape': {
    make: (s, x, y) => {
      const shape = s.fresh();
      return [makeNode('Shape', [x], [shape]), makeNode('Reshape', [x, shape], [y])];
    },
  },
  'Reshape with zeros': { fits: ranked, make: (s, x, y) => [makeNode('Reshape', [x, s.literal('int64', s.info(x).shapes[0].map(() => 0))], [y])] },
  'flattened and back': {
    fits: (_, { shapes }) => shapes[0].length > 1 && shapes.every((d) => !d.includes(0)),
    make: (s, x, y) => {
      const [shape, m] = [s.fresh(), s.fresh()];
      const width = s.fixedDim(x, -1);
      return [makeNode('Shape', [x], [shape]), makeNode('Reshape', [x, s.literal('int64', width && s.r.chance(0.7) ? [-1, width] : [-1])], [m]), makeNode('Reshape', [m, shape], [y])];
    },
  },
  'Expand to its own Shape': {
    make: (s, x, y) => {
      const shape = s.fresh();
      return [makeNode('Shape', [x], [shape]), makeNode('Expand', [x, shape], [y])];
    },
  },
  'Expand by ones': { fits: ranked, make: (s, x, y) => [makeNode('Expand', [x, s.literal('int64', s.info(x).shapes[0].map(() => 1))], [y])] },
  'Pad by nothing': { fits: both(ranked, number), make: (s, x, y) => [makeNode('Pad', [x, s.literal('int64', s.info(x).shapes[0].flatMap(() => [0, 0]))], [y])] },
  'Tile by ones': { fits: both(ranked, number), make: (s, x, y) => [makeNode('Tile', [x, s.literal('int64', s.info(x).shapes[0].map(() => 1))], [y])] },
  'Gather of every feature': {
    fits: (_, info) => info.shapes[0].length > 1 && info.shapes[0].at(-1) > 1 && info.shapes.every((d) => d.at(-1) === info.shapes[0].at(-1)),
    make: (s, x, y) => [makeNode('Gather', [x, s.literal('int64', Array.from({ length: s.fixedDim(x, -1) ?? s.info(x).shapes[0].at(-1) }, (_, i) => i))], [y], { axis: -1 })],
  },
  'Split and Concat': {
    fits: (_, info) => info.shapes[0].length > 1 && info.shapes[0].at(-1) > 1 && info.shapes.every((d) => d.at(-1) === info.shapes[0].at(-1)),
    make: (s, x, y) => {
      const size = s.info(x).shapes[0].at(-1);
      const first = 1 + s.r.below(size - 1);
      const [a, b] = [s.fresh(), s.fresh()];
      return [makeNode('Split', [x, s.literal('int64', [first, size - first])], [a, b], { axis: -1 }), makeNode('Concat', [a, b], [y], { axis: -1 })];
    },
  },
  'Slices and Concat over an axis': {
    fits: (_, { shapes }) => shapes[0].length > 1,
    make: (s, x, y) => {
      const axis = s.r.below(s.rank(x));
      const [a, b] = [s.fresh(), s.fresh()];
      const [zero, one1, far, at] = [[0], [1], [FAR], [axis]].map((v) => s.literal('int64', v));
      return [makeNode('Slice', [x, zero, one1, at], [a]), makeNode('Slice', [x, one1, far, at], [b]), makeNode('Concat', [a, b], [y], { axis })];
    },
  },
  'Where(true, x, x)': { fits: number, make: (s, x, y) => [makeNode('Where', [s.literal('bool', [1], []), x, x], [y])] },
  'Clip without bounds': { fits: both(number, (_, { special }) => !special), make: (_s, x, y) => [makeNode('Clip', [x], [y])] },
  'If with a constant condition': {
    make: (s, x, y) => {
      const branch = (op) => {
        const out = s.fresh('branch');
        return onnx.GraphProto.create({ name: op, node: [makeNode('Identity', [x], [out])], output: [valueInfo(out, DATA_TYPES[s.type(x)])] });
      };
      return [makeNode('If', [s.literal('bool', [s.r.below(2)], [])], [y], { then_branch: { graph: branch('then') }, else_branch: { graph: branch('else') } })];
    },
  },
  'a sequence of one': {
    make: (s, x, y) => {
      const m = s.fresh();
      return [makeNode('SequenceConstruct', [x], [m]), makeNode('SequenceAt', [m, s.literal('int64', [0], [])], [y])];
    },
  },
  '+ ConstantOfShape(its Shape)': {
    fits: float,
    make: (s, x, y) => {
      const [shape, zeros] = [s.fresh(), s.fresh()];
      const fill = s.type(x) === 'float32' && s.r.chance(0.5) ? {} : { value: { tensor: tensorLike(s, x, 0) } };
      return [makeNode('Shape', [x], [shape]), makeNode('ConstantOfShape', [shape], [zeros], fill), makeNode('Add', s.r.shuffle([x, zeros]), [y])];
    },
  },
  '+ a bias of zeros': {
    fits: (_, info) => isFloat(info.type) && info.shapes[0].length > 1 && info.shapes.every((d) => d.at(-1) === info.shapes[0].at(-1)),
    make: (s, x, y) => [makeNode('Add', s.r.shuffle([x, s.literal(s.type(x), new Array(s.info(x).shapes[0].at(-1)).fill(0))]), [y])],
  },
  'Einsum of itself': {
    fits: (_, { type, shapes }) => type === 'float32' && shapes[0].length > 1,
    make: (s, x, y) => {
      const letters = 'abcdef'.slice(0, s.rank(x));
      return [makeNode('Einsum', [x], [y], { equation: `${letters}->${letters}` })];
    },
  },
};


function tensorLike(s, x, value) {
  return tensor('', s.type(x), [value], [1]);
}

/** A scalar of x's type, of rank 0 or, where that does not change the rank, 1. */
function one(s, x, value) {
  return s.literal(s.type(x), [value], s.rank(x) > 0 && s.r.chance(0.5) ? [1] : []);
}

function axisOf(s, x) {
  const axis = s.r.below(s.rank(x));
  return s.r.chance(0.5) ? axis : axis - s.rank(x);
}

/** Float no-ops that are not exact on −0, NaN or infinities never change a result that matters; all are exact on numbers. */
const chains = Object.entries(CHAINS).map(([name, { fits, make }]) => ({
  name: `no-op: ${name}`,
  exact: true,
  apply(s) {
    const x = s.pickValue((v, info) => info.type in DATA_TYPES && (fits?.(v, info) ?? true));
    if (!x) return undefined;
    const uses = s.someUses(x);
    if (uses.length === 0) return undefined;
    const y = s.alike(s.fresh(), x);
    const nodes = make(s, x, y);
    for (const [n, at] of uses) n.input[at] = y;
    s.placeAfter(x, nodes);
    return `${x} before ${uses.length === 1 ? s.describe(uses[0][0]) : `${uses.length} readers`}`;
  },
}));

const rest = [
  {
    name: 'no-op: before a graph output',
    exact: true,
    apply(s) {
      const outputs = s.graph.output.filter((o) => s.producer(o.name) && !s.isCaptured(o.name));
      const out = s.r.pick(outputs)?.name;
      if (!out) return undefined;
      const inner = s.alike(s.fresh(), out);
      const maker = s.producer(out);
      maker.output = maker.output.map((o) => (o === out ? inner : o));
      // Its other readers go on from either side.
      for (const [n, at] of s.uses(out)) if (s.r.chance(0.5)) n.input[at] = inner;
      s.placeAfter(inner, [makeNode('Identity', [inner], [out])]);
      return out;
    },
  },
  {
    name: 'no-op: Identity of a weight',
    exact: true,
    apply(s) {
      const node = s.pickNode((n) => n.domain === '' && is(n, 'MatMul', 'Gemm', 'Add', 'Mul', 'Gather', 'LayerNormalization', 'SimplifiedLayerNormalization') && n.input.some((i) => s.initializer(i)));
      const x = node && s.r.pick(node.input.filter((i) => s.initializer(i)));
      if (!x) return undefined;
      const y = s.fresh('weight');
      node.input = node.input.map((i) => (i === x ? y : i));
      s.nodes.unshift(makeNode('Identity', [x], [y]));
      return x;
    },
  },
  {
    name: 'no-op: removed where there is one',
    exact: true,
    apply(s) {
      const noop = (n) =>
        (is(n, 'Identity', 'Dropout') || (is(n, 'Concat', 'Sum', 'Max', 'Min') && n.input.length === 1) || (is(n, 'Cast') && s.type(n.input[0]) !== undefined && s.type(n.input[0]) === s.type(n.output[0]))) &&
        !s.isOutput(n.output[0]) && !s.isCaptured(n.output[0]) && n.output.filter((o) => o !== '').length === 1;
      const node = s.pickNode(noop);
      if (!node) return undefined;
      for (const [n, at] of s.uses(node.output[0])) n.input[at] = node.input[0];
      s.nodes.splice(s.nodes.indexOf(node), 1);
      return s.describe(node);
    },
  },
];

export const NOOPS = [...chains, ...rest];
