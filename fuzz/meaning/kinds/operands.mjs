/** One op written as another: operands swapped, x − y as x + (−y), comparisons turned round. */
import { DATA_TYPES, intOf, is, makeNode, numbers, onnx, setAttribute } from '../../proto.mjs';
import { isFloat, isInt } from '../subject.mjs';

const COMMUTATIVE = ['Add', 'Mul', 'Max', 'Min', 'And', 'Or', 'Xor', 'Equal', 'Sum', 'Mean'];

/** Replaces a random node that `accept`s by what `make` returns; `make` may decline with undefined. */
const rewrite = (name, accept, make, exact = true) => ({
  name,
  exact,
  apply(s) {
    const node = s.pickNode((n) => accept(n, s));
    if (!node) return undefined;
    const nodes = make(s, node);
    if (!nodes) return undefined;
    if (!nodes.includes(node) || nodes.length > 1) s.replace(node, nodes);
    return s.describe(node);
  },
});

const renamedOp = (node, opType, input = node.input) => [makeNode(opType, input, node.output)];
const twoInputs = (...ops) => (n) => is(n, ...ops) && n.input.length === 2;

export const OPERANDS = [
  rewrite('operands: commutative ones swapped', (n) => is(n, ...COMMUTATIVE) && n.input.length > 1, (_s, n) => {
    n.input = [...n.input].reverse();
    return [n];
  }),
  {
    name: 'operands: every commutative op swapped',
    exact: true,
    apply(s) {
      let count = 0;
      for (const n of s.nodes) {
        if (!is(n, ...COMMUTATIVE) || n.input.length !== 2) continue;
        n.input = [n.input[1], n.input[0]];
        count++;
      }
      return count > 0 ? `${count} nodes` : undefined;
    },
  },
  rewrite('operands: a − b as a + (−b)', (n, s) => twoInputs('Sub')(n) && (isFloat(s.type(n.output[0])) || isInt(s.type(n.output[0]))), (s, n) => {
    const m = s.fresh();
    return [makeNode('Neg', [n.input[1]], [m]), makeNode('Add', [n.input[0], m], n.output)];
  }),
  rewrite('operands: a + b as a − (−b)', (n, s) => twoInputs('Add')(n) && (isFloat(s.type(n.output[0])) || isInt(s.type(n.output[0]))), (s, n) => {
    const m = s.fresh();
    return [makeNode('Neg', [n.input[1]], [m]), makeNode('Sub', [n.input[0], m], n.output)];
  }),
  rewrite('operands: Pow(x, 2) as x·x', (n, s) => is(n, 'Pow') && isScalar(s, n.input[1], (v) => v === 2), (_s, n) => renamedOp(n, 'Mul', [n.input[0], n.input[0]])),
  rewrite('operands: x·x as Pow(x, 2)', (n, s) => is(n, 'Mul') && n.input[0] === n.input[1] && isFloat(s.type(n.output[0])), (s, n) => renamedOp(n, 'Pow', [n.input[0], s.literal(s.type(n.output[0]), [2], [])])),
  rewrite('operands: ÷ c as × 1/c, powers of two', (n, s) => is(n, 'Div') && isFloat(s.type(n.output[0])) && isScalar(s, n.input[1], powerOfTwo), (s, n) => {
    const t = s.constant(n.input[1]);
    return renamedOp(n, 'Mul', [n.input[0], s.literal(s.type(n.output[0]), [1 / numbers(t)[0]], t.dims.map(Number))]);
  }),
  rewrite('operands: × c as ÷ 1/c, powers of two', (n, s) => is(n, 'Mul') && isFloat(s.type(n.output[0])) && isScalar(s, n.input[1], powerOfTwo), (s, n) => {
    const t = s.constant(n.input[1]);
    return renamedOp(n, 'Div', [n.input[0], s.literal(s.type(n.output[0]), [1 / numbers(t)[0]], t.dims.map(Number))]);
  }),
  rewrite('operands: ÷ c as × 1/c, any c', (n, s) => is(n, 'Div') && s.type(n.output[0]) === 'float32' && isScalar(s, n.input[1], (v) => v !== 0 && !powerOfTwo(v)), (s, n) => {
    const t = s.constant(n.input[1]);
    return renamedOp(n, 'Mul', [n.input[0], s.literal('float32', [1 / numbers(t)[0]], t.dims.map(Number))]);
  }, false),
  rewrite('operands: −x as x·(−1)', (n, s) => is(n, 'Neg') && isFloat(s.type(n.output[0])), (s, n) => renamedOp(n, 'Mul', [n.input[0], s.literal(s.type(n.output[0]), [-1], [])])),
  rewrite('operands: −x as 0 − x', (n, s) => is(n, 'Neg') && isFloat(s.type(n.output[0])), (s, n) => renamedOp(n, 'Sub', [s.literal(s.type(n.output[0]), [0], []), n.input[0]])),
  rewrite('operands: 1/x as Div', (n, s) => is(n, 'Reciprocal') && isFloat(s.type(n.output[0])), (s, n) => renamedOp(n, 'Div', [s.literal(s.type(n.output[0]), [1], []), n.input[0]])),
  rewrite('operands: Sqrt as Pow(x, ½)', (n, s) => is(n, 'Sqrt') && s.type(n.output[0]) === 'float32', (s, n) => renamedOp(n, 'Pow', [n.input[0], s.literal('float32', [0.5], [])]), false),
  rewrite('operands: Sqrt through two reciprocals', (n, s) => is(n, 'Sqrt') && s.type(n.output[0]) === 'float32', (s, n) => {
    const [root, m] = [s.fresh(), s.fresh()];
    return [makeNode('Sqrt', n.input, [root]), makeNode('Reciprocal', [root], [m]), makeNode('Reciprocal', [m], n.output)];
  }, false),
  rewrite('operands: comparison turned round', (n) => twoInputs('Less', 'Greater', 'LessOrEqual', 'GreaterOrEqual')(n), (_s, n) => {
    const turned = { Less: 'Greater', Greater: 'Less', LessOrEqual: 'GreaterOrEqual', GreaterOrEqual: 'LessOrEqual' };
    return renamedOp(n, turned[n.opType], [n.input[1], n.input[0]]);
  }),
  rewrite('operands: comparison denied and denied again', (n, s) => twoInputs('Less', 'Greater', 'LessOrEqual', 'GreaterOrEqual')(n) && isInt(s.type(n.input[0]) ?? s.type(n.input[1])), (s, n) => {
    const denied = { Less: 'GreaterOrEqual', GreaterOrEqual: 'Less', LessOrEqual: 'Greater', Greater: 'LessOrEqual' };
    const m = s.fresh();
    return [makeNode(denied[n.opType], n.input, [m]), makeNode('Not', [m], n.output)];
  }),
  rewrite('operands: Where with the condition denied', (n) => is(n, 'Where'), (s, n) => {
    const m = s.fresh();
    return [makeNode('Not', [n.input[0]], [m]), makeNode('Where', [m, n.input[2], n.input[1]], n.output)];
  }),
  rewrite('operands: And as Not(Or(Not, Not))', (n) => twoInputs('And')(n), (s, n) => {
    const [a, b, c] = [s.fresh(), s.fresh(), s.fresh()];
    return [makeNode('Not', [n.input[0]], [a]), makeNode('Not', [n.input[1]], [b]), makeNode('Or', [a, b], [c]), makeNode('Not', [c], n.output)];
  }),
  rewrite('operands: Softmax axis counted from the other end', (n, s) => is(n, 'Softmax') && s.rank(n.input[0]) > 0, (s, n) => {
    const rank = s.rank(n.input[0]);
    const axis = intOf(n, 'axis', -1);
    setAttribute(n, 'axis', axis < 0 ? axis + rank : axis === rank - 1 && s.r.chance(0.3) ? undefined : axis - rank);
    return [n];
  }),
  rewrite('operands: axis counted from the other end', (n, s) => is(n, 'Concat', 'Gather', 'Split', 'LayerNormalization', 'GatherElements', 'ScatterElements', 'TopK', 'ArgMax') && s.rank(n.input[0]) > 0 && (is(n, 'Concat', 'Split', 'LayerNormalization') ? n.attribute.some((a) => a.name === 'axis') : true), (s, n) => {
    const rank = s.rank(is(n, 'Concat') ? n.output[0] : n.input[0]);
    if (rank === undefined) return undefined;
    const axis = intOf(n, 'axis', is(n, 'TopK') ? -1 : 0);
    setAttribute(n, 'axis', axis < 0 ? axis + rank : axis - rank);
    return [n];
  }),
  rewrite('operands: axes counted from the other end', (n, s) => is(n, 'ReduceMean', 'ReduceSum', 'Unsqueeze', 'Squeeze') && axesOf(s, n) !== undefined && s.rank(is(n, 'Unsqueeze') ? n.output[0] : n.input[0]) !== undefined, (s, n) => {
    const rank = s.rank(is(n, 'Unsqueeze') ? n.output[0] : n.input[0]);
    const axes = axesOf(s, n).map((a) => (a < 0 ? a + rank : a - rank));
    if (n.attribute.some((a) => a.name === 'axes')) setAttribute(n, 'axes', axes);
    else n.input[1] = s.literal('int64', axes);
    return [n];
  }),
  rewrite('operands: default attributes left out or spelled out', (n) => n.opType in DEFAULTS && is(n, n.opType), (_s, n) => {
    const [name, value] = DEFAULTS[n.opType];
    const given = n.attribute.find((a) => a.name === name);
    if (given && Number(given.i) !== value) return undefined;
    setAttribute(n, name, given ? undefined : value);
    return [n];
  }),
  rewrite('operands: empty optional inputs at the end', (n) => is(n, 'Clip', 'Slice', 'Dropout', 'Pad') && n.input.length < { Clip: 3, Slice: 5, Dropout: 3, Pad: 3 }[n.opType] || (is(n, 'LayerNormalization') && n.input.length === 2), (_s, n) => {
    n.input.push('');
    return [n];
  }),
  rewrite('operands: (a + b) + c as a + (b + c)', (n, s) => is(n, 'Add') && s.type(n.output[0]) === 'float32' && inner(s, n), (s, n) => {
    const first = inner(s, n);
    const [a, b] = first.input;
    const m = s.fresh();
    return [makeNode('Add', [b, n.input.find((i) => i !== first.output[0])], [m]), makeNode('Add', [a, m], n.output)];
  }, false),
  rewrite('operands: Sigmoid as 1/(1 + exp(−x))', (n, s) => is(n, 'Sigmoid') && s.type(n.output[0]) === 'float32', (s, n) => {
    const [a, b, c] = [s.fresh(), s.fresh(), s.fresh()];
    return [makeNode('Neg', n.input, [a]), makeNode('Exp', [a], [b]), makeNode('Add', [b, s.literal('float32', [1], [])], [c]), makeNode('Reciprocal', [c], n.output)];
  }, false),
  rewrite('operands: Softmax as exp over sum', (n, s) => is(n, 'Softmax') && s.type(n.output[0]) === 'float32', (s, n) => {
    const axes = s.literal('int64', [intOf(n, 'axis', -1)]);
    const [top, less, e, sum] = [s.fresh(), s.fresh(), s.fresh(), s.fresh()];
    const reduced = s.opset() >= 18 ? makeNode('ReduceMax', [n.input[0], axes], [top]) : makeNode('ReduceMax', [n.input[0]], [top], { axes: [intOf(n, 'axis', -1)] });
    return [reduced, makeNode('Sub', [n.input[0], top], [less]), makeNode('Exp', [less], [e]), makeNode('ReduceSum', [e, axes], [sum]), makeNode('Div', [e, sum], n.output)];
  }, false),
  rewrite('operands: ReduceMean as ReduceSum ÷ n', (n, s) => is(n, 'ReduceMean') && s.type(n.output[0]) === 'float32' && axesOf(s, n)?.length === 1 && s.fixedDim(n.input[0], axesOf(s, n)[0]) !== undefined, (s, n) => {
    const [axis] = axesOf(s, n);
    const m = s.fresh();
    return [makeNode('ReduceSum', [n.input[0], s.literal('int64', [axis])], [m], { keepdims: intOf(n, 'keepdims', 1) }), makeNode('Div', [m, s.literal('float32', [s.fixedDim(n.input[0], axis)], [])], n.output)];
  }, false),
  rewrite('operands: Range as a + Range(0, b − a)', (n, s) => is(n, 'Range') && isInt(s.type(n.output[0])) && isScalar(s, n.input[2], (v) => v === 1), (s, n) => {
    const type = s.type(n.output[0]);
    const [width, zero] = [s.fresh(), s.fresh()];
    return [makeNode('Sub', [n.input[1], n.input[0]], [width]), makeNode('Range', [s.literal(type, [0], []), width, n.input[2]], [zero]), makeNode('Add', [zero, n.input[0]], n.output)];
  }),
  rewrite('operands: Range(0, n) as a running sum of ones', (n, s) => is(n, 'Range') && s.type(n.output[0]) === 'int64' && isScalar(s, n.input[0], (v) => v === 0) && isScalar(s, n.input[2], (v) => v === 1), (s, n) => {
    const [size, ones, sum] = [s.fresh(), s.fresh(), s.fresh()];
    const one = s.literal('int64', [1]);
    const fill = onnx.TensorProto.create({ dims: [1], dataType: DATA_TYPES.int64, rawData: new Uint8Array(BigInt64Array.of(1n).buffer) });
    return [
      makeNode('Reshape', [n.input[1], s.literal('int64', [-1])], [size]),
      makeNode('ConstantOfShape', [size], [ones], { value: { tensor: fill } }),
      makeNode('CumSum', [ones, s.literal('int64', [0], [])], [sum]),
      makeNode('Sub', [sum, one], n.output),
    ];
  }),
];

const DEFAULTS = { Gather: ['axis', 0], ReduceMean: ['keepdims', 1], ReduceSum: ['keepdims', 1], CumSum: ['exclusive', 0], Reshape: ['allowzero', 0], LayerNormalization: ['axis', -1], Softmax: ['axis', -1] };

function isScalar(s, name, test) {
  const t = s.constant(name);
  const list = t && t.dims.reduce((a, d) => a * Number(d), 1) === 1 ? numbers(t) : undefined;
  return list?.length === 1 && test(list[0]);
}

function powerOfTwo(x) {
  return x > 0 && Number.isInteger(Math.log2(x));
}

function axesOf(s, n) {
  const given = n.attribute.find((a) => a.name === 'axes')?.ints.map(Number);
  if (given) return given;
  const t = n.input[1] && s.constant(n.input[1]);
  return t ? numbers(t) : undefined;
}

/** An Add of equally shaped values that only this one reads. */
function inner(s, n) {
  for (const i of n.input) {
    const p = s.producer(i);
    if (p && is(p, 'Add') && s.uses(i).length === 1 && !s.isOutput(i) && !s.isCaptured(i)) return p;
  }
  return undefined;
}
