/**
 * What ops do to the token axis of a value: one rule an op, for ops that can be token-wise. A rule gives the state of
 * the outputs, or says why tokens are mixed. An op without a rule is not known to be token-wise.
 */
import type { Node, Value } from '../ir/graph.js';
import type { Dims } from './shapes/index.js';

/** Numbers at the two probe sizes. */
type Pair = readonly [number, number];

export type TokenState =
  /** Every token of the sequence, in order, along `axis`; `inner` elements of that axis belong to one token. */
  | { readonly kind: 'tokens'; readonly axis: number; readonly inner: Pair; readonly count: Pair }
  /** Some tokens (the last one, the last k): no longer aligned with the sequence. */
  | { readonly kind: 'picked' }
  /** Inside attention: tokens by tokens. */
  | { readonly kind: 'scores' }
  /** No tokens: weights, constants, the scale of a dynamic quantization (each stage quantizes with its own). */
  | { readonly kind: 'none' };

type Tokens = Extract<TokenState, { kind: 'tokens' }>;

/** One node, seen by its rule. Input states are `none` where no content comes in. */
export interface Step {
  readonly node: Node;
  state(input: number): TokenState;
  /** Sizes at the two probe sizes; undefined when the rank is not known. */
  sizes(value: Value | null | undefined): readonly [Dims, Dims] | undefined;
  /** Contents of an input that are the same at both. */
  constant(input: number): readonly number[] | undefined;
  readonly opset: number;
}

export interface Mixes {
  readonly mixes: string;
}
export type Outcome = readonly TokenState[] | Mixes;
export type Rule = (step: Step) => Outcome;

export function mixes(outcome: Outcome): outcome is Mixes {
  return 'mixes' in outcome;
}

const PICKED: TokenState = { kind: 'picked' };
const NONE: TokenState = { kind: 'none' };
const unknownLayout: Mixes = { mixes: 'the layout of its input or output is not known' };
const overTokens: Mixes = { mixes: 'it works along the token axis' };

function tokensOf(step: Step, input: number): Tokens | undefined {
  const s = step.state(input);
  return s.kind === 'tokens' ? s : undefined;
}

function rankOf(step: Step, input: number): number | undefined {
  return step.sizes(step.node.inputs[input])?.[0].length;
}

const same = (a: Pair, b: Pair): boolean => a[0] === b[0] && a[1] === b[1];

/** Elementwise with broadcasting: token axes stand at the same place, counted from the right, and stay there. */
const elementwise: Rule = (step) => {
  const outRank = step.sizes(step.node.outputs.find((o) => o !== null))?.[0].length;
  let found: Tokens | undefined;
  for (let i = 0; i < step.node.inputs.length; i++) {
    const s = tokensOf(step, i);
    if (!s) continue;
    const rank = rankOf(step, i);
    if (rank === undefined || outRank === undefined) return unknownLayout;
    const shifted: Tokens = { ...s, axis: s.axis + outRank - rank };
    if (found && (found.axis !== shifted.axis || !same(found.inner, shifted.inner) || !same(found.count, shifted.count))) return { mixes: 'it combines different tokens' };
    found = shifted;
  }
  return found ? [found] : [NONE];
};

/** Outputs are laid out like input 0. */
const likeFirst: Rule = (step) => {
  const s = tokensOf(step, 0);
  if (s) return step.node.outputs.map(() => s);
  return { mixes: 'content comes in where weights are expected' };
};

/** Normalizes, sorts or searches along one axis. */
function along(attribute: string, fallback: number, coerced = false): Rule {
  return (step) => {
    const s = tokensOf(step, 0);
    const rank = rankOf(step, 0);
    if (!s || rank === undefined) return unknownLayout;
    const given = step.node.int(attribute, fallback);
    const axis = given < 0 ? given + rank : given;
    // Until opset 13 Softmax flattened everything from the axis on.
    if (coerced ? s.axis >= axis : s.axis === axis) return overTokens;
    return step.node.outputs.map(() => s);
  };
}

const softmax: Rule = (step) => along('axis', step.opset >= 13 ? -1 : 1, step.opset < 13)(step);

const reduce: Rule = (step) => {
  const s = tokensOf(step, 0);
  const rank = rankOf(step, 0);
  if (!s || rank === undefined) return unknownLayout;
  const given = step.node.ints('axes') ?? (step.node.inputs[1] ? step.constant(1) : undefined);
  if (step.node.inputs[1] && !given) return { mixes: 'the axes it reduces over are not known' };
  if (!given || given.length === 0) return step.node.int('noop_with_empty_axes', 0) === 1 ? [s] : overTokens;
  const axes = given.map((a) => (a < 0 ? a + rank : a));
  if (axes.includes(s.axis)) return overTokens;
  const gone = step.node.int('keepdims', 1) === 1 ? 0 : axes.filter((a) => a < s.axis).length;
  return [{ ...s, axis: s.axis - gone }];
};

const argument: Rule = (step) => {
  const s = tokensOf(step, 0);
  const rank = rankOf(step, 0);
  if (!s || rank === undefined) return unknownLayout;
  const given = step.node.int('axis', 0);
  const axis = given < 0 ? given + rank : given;
  if (axis === s.axis) return overTokens;
  return [{ ...s, axis: step.node.int('keepdims', 1) === 0 && axis < s.axis ? s.axis - 1 : s.axis }];
};

/** A·B over the last axis of A and the last but one of B (or the other way round when transposed). */
function product(a: number, b: number, transA: (n: Node) => boolean = () => false, transB: (n: Node) => boolean = () => false): Rule {
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
      if (found && (found.axis !== axis || !same(found.inner, next.inner) || !same(found.count, next.count))) return { mixes: 'it multiplies tokens with tokens outside attention' };
      found = next;
    }
    return found ? [found] : [NONE];
  };
}

const gemm: Rule = (step) => {
  const out = product(0, 1, (n) => n.int('transA', 0) === 1, (n) => n.int('transB', 0) === 1)(step);
  return !mixes(out) && tokensOf(step, 2) ? { mixes: 'content comes in where a bias is expected' } : out;
};

/** Products with packed weights: input 0 [.., K] only. */
const projection: Rule = (step) => {
  const s = tokensOf(step, 0);
  const rank = rankOf(step, 0);
  if (!s || rank === undefined) return unknownLayout;
  return s.axis === rank - 1 ? { mixes: 'it sums over tokens' } : [s];
};

/** Another shape for the same elements in the same order: where in memory a token's step lies tells its new axis. */
const relayout: Rule = (step) => {
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

const transpose: Rule = (step) => {
  const s = tokensOf(step, 0);
  const rank = rankOf(step, 0);
  if (!s || rank === undefined) return unknownLayout;
  const perm = step.node.ints('perm') ?? Array.from({ length: rank }, (_, i) => rank - 1 - i);
  return [{ ...s, axis: perm.indexOf(s.axis) }];
};

/** Slice, Split, Pad: tokens stay aligned when their axis keeps its size, in order. */
const crop: Rule = (step) => {
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
const widen: Rule = (step) => {
  const s = tokensOf(step, 0);
  const from = step.sizes(step.node.inputs[0]);
  const to = step.sizes(step.node.outputs[0]);
  if (!s || !from || !to) return unknownLayout;
  const shift = to[0].length - from[0].length;
  const kept = [0, 1].every((p) => to[p]?.[s.axis + shift] === from[p]?.[s.axis]);
  return kept ? [{ ...s, axis: s.axis + shift }] : { mixes: 'it repeats tokens' };
};

/** Along another axis, or appending the chunk to a cache. */
const concat: Rule = (step) => {
  const states = step.node.inputs.map((_, i) => tokensOf(step, i));
  const found = states.filter((s): s is Tokens => s !== undefined);
  const [s] = found;
  const rank = rankOf(step, states.findIndex((x) => x !== undefined));
  if (!s || rank === undefined) return unknownLayout;
  const given = step.node.int('axis', 0);
  const axis = given < 0 ? given + rank : given;
  if (axis !== s.axis) {
    const aligned = found.every((x) => x.axis === s.axis && same(x.inner, s.inner) && same(x.count, s.count));
    return aligned ? [s] : { mixes: 'it combines different tokens' };
  }
  const sizes = step.sizes(step.node.outputs[0]);
  if (step.node.inputs.length === 1) return [s];
  if (found.length > 1) return { mixes: 'it joins tokens with tokens' };
  const total: Pair | undefined = sizes && [sizes[0][axis] ?? 0, sizes[1][axis] ?? 0];
  if (!total || s.inner[0] !== 1 || s.inner[1] !== 1) return unknownLayout;
  return [{ ...s, count: total }];
};

const gather: Rule = (step) => {
  const data = tokensOf(step, 0);
  const index = tokensOf(step, 1);
  const rank = rankOf(step, 0);
  const indexRank = rankOf(step, 1);
  if (rank === undefined || indexRank === undefined) return unknownLayout;
  const given = step.node.int('axis', 0);
  const axis = given < 0 ? given + rank : given;
  if (data && index) return { mixes: 'it looks tokens up by tokens' };
  if (index) return [{ ...index, axis: index.axis + axis }];
  if (!data) return [NONE];
  if (data.axis === axis) return [PICKED];
  return [{ ...data, axis: data.axis > axis ? data.axis + indexRank - 1 : data.axis }];
};

/** GatherElements, ScatterElements: within each token, along another axis. */
const elements: Rule = (step) => {
  const rank = rankOf(step, 0);
  if (rank === undefined) return unknownLayout;
  const given = step.node.int('axis', 0);
  const axis = given < 0 ? given + rank : given;
  const found = step.node.inputs.map((_, i) => tokensOf(step, i)).filter((s): s is Tokens => s !== undefined);
  const [s] = found;
  if (!s) return [NONE];
  if (s.axis === axis) return found.length === 1 && step.node.is('GatherElements') && tokensOf(step, 0) ? [PICKED] : overTokens;
  return found.every((x) => x.axis === s.axis && same(x.inner, s.inner) && same(x.count, s.count)) ? [s] : { mixes: 'it combines different tokens' };
};

/** ScatterND at places that are the same for every token, along other axes than theirs. */
const scatterND: Rule = (step) => {
  const [data, index, updates] = [tokensOf(step, 0), tokensOf(step, 1), tokensOf(step, 2)];
  const sizes = step.sizes(step.node.inputs[1]);
  const depth = sizes?.[0].at(-1);
  if (index || !sizes || typeof depth !== 'number') return unknownLayout;
  const moved = updates && { ...updates, axis: updates.axis - (sizes[0].length - 1) + depth };
  const s = data ?? moved;
  if (!s || s.axis < depth || (moved && moved.axis < depth)) return overTokens;
  if (data && moved && (data.axis !== moved.axis || !same(data.inner, moved.inner) || !same(data.count, moved.count))) return { mixes: 'it combines different tokens' };
  const to = step.sizes(step.node.outputs[0]);
  const fits = to !== undefined && [0, 1].every((p) => to[p]?.[s.axis] === (s.count[p] as number) * (s.inner[p] as number));
  return fits ? [s] : { mixes: 'it combines different tokens' };
};

const oneHot: Rule = (step) => {
  const s = tokensOf(step, 0);
  const rank = rankOf(step, 0);
  if (!s || rank === undefined) return unknownLayout;
  const given = step.node.int('axis', -1);
  const axis = given < 0 ? given + rank + 1 : given;
  return [{ ...s, axis: axis <= s.axis ? s.axis + 1 : s.axis }];
};

const select: Rule = () => [PICKED];

/** GatherND: rows of a table of weights, looked up by each token; of tokens, a selection. */
const gatherND: Rule = (step) => {
  const data = tokensOf(step, 0);
  const index = tokensOf(step, 1);
  const rank = rankOf(step, 1);
  if (data || !index || rank === undefined || step.node.int('batch_dims', 0) !== 0) return [PICKED];
  return index.axis === rank - 1 ? { mixes: 'it looks tokens up by tokens' } : [index];
};

/** A convolution that looks at one place only is a projection. */
const convolution: Rule = (step) => {
  const s = tokensOf(step, 0);
  const { node } = step;
  const kernel = node.ints('kernel_shape') ?? step.sizes(node.inputs[1])?.[0].slice(2);
  if (!s || !kernel) return unknownLayout;
  if (s.axis === 1) return { mixes: 'it sums over tokens' };
  const point = kernel.every((k) => k === 1) && (node.ints('strides') ?? []).every((k) => k === 1) && (node.ints('pads') ?? []).every((k) => k === 0);
  return s.axis === 0 || point ? [s] : { mixes: 'a convolution reaches over neighbouring tokens' };
};

/** Statistics over all axes from the third on. */
const instanceNorm: Rule = (step) => {
  const s = tokensOf(step, 0);
  if (!s) return unknownLayout;
  return s.axis < 2 ? [s] : overTokens;
};

/** Scale and zero point of the whole tensor: each stage has its own, which is what the op means. */
const quantizeDynamically: Rule = (step) => {
  const s = tokensOf(step, 0);
  return s ? [s, NONE, NONE] : [NONE, NONE, NONE];
};

const einsum: Rule = (step) => {
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

const ELEMENTWISE =
  'Abs Acos Acosh Add And Asin Asinh Atan Atanh BitCast BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast CastLike Ceil Celu Clip Cos Cosh DequantizeLinear Div Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Less LessOrEqual Log Max Mean Min Mish Mod Mul Neg Not Or PRelu Pow QuantizeLinear Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Sub Sum Swish Tan Tanh ThresholdedRelu Where Xor';
const CONTRIB_ELEMENTWISE = 'BiasAdd BiasGelu FastGelu Gelu QuickGelu QuantizeLinear DequantizeLinear GatedAdd QLinearAdd QLinearMul QLinearSigmoid QLinearLeakyRelu';
const REDUCTIONS = 'ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare';

const all = (names: string, rule: Rule): [string, Rule][] => names.split(' ').map((n): [string, Rule] => [n, rule]);

const transposesA = (n: Node): boolean => n.int('transA', 0) === 1;
const transposesB = (n: Node): boolean => n.int('transB', 0) === 1;
/** FusedMatMul can move batch axes as well: then nothing is known. */
const fusedMatMul: Rule = (step) =>
  step.node.int('transBatchA', 0) || step.node.int('transBatchB', 0) ? unknownLayout : product(0, 1, transposesA, transposesB)(step);

const STANDARD = new Map<string, Rule>([
  ...all(ELEMENTWISE, elementwise),
  ...all(REDUCTIONS, reduce),
  ...all('Softmax LogSoftmax Hardmax', softmax),
  ...all('LayerNormalization RMSNormalization SimplifiedLayerNormalization', along('axis', -1, true)),
  ...all('TopK LpNormalization', along('axis', -1)),
  ...all('CumSum CumProd', (step) => {
    const s = tokensOf(step, 0);
    const rank = rankOf(step, 0);
    const axis = step.constant(1)?.[0];
    if (!s || rank === undefined || axis === undefined) return unknownLayout;
    return (axis < 0 ? axis + rank : axis) === s.axis ? { mixes: 'it adds tokens up' } : [s];
  }),
  ...all('ArgMax ArgMin', argument),
  ...all('Reshape Squeeze Unsqueeze Flatten', relayout),
  ...all('Slice Split Pad', crop),
  ...all('Expand Tile', widen),
  ...all('GatherElements ScatterElements', elements),
  ['GatherND', gatherND],
  ['ScatterND', scatterND],
  ...all('NonZero Compress', select),
  ...all('Dropout RotaryEmbedding BatchNormalization', likeFirst),
  ['MatMul', product(0, 1)],
  ['MatMulInteger', product(0, 1)],
  ['QLinearMatMul', product(0, 3)],
  ['Gemm', gemm],
  ['Transpose', transpose],
  ['Concat', concat],
  ['Gather', gather],
  ['OneHot', oneHot],
  ['Conv', convolution],
  ['InstanceNormalization', instanceNorm],
  ['DynamicQuantizeLinear', quantizeDynamically],
  ['Einsum', einsum],
]);

const CONTRIB = new Map<string, Rule>([
  ...all(CONTRIB_ELEMENTWISE, elementwise),
  ...all('SkipLayerNormalization SkipSimplifiedLayerNormalization', elementwise),
  ...all('RotaryEmbedding GemmaRotaryEmbedding MRotaryEmbedding MoE QMoE SwiGLU BiasSplitGelu BiasDropout', likeFirst),
  ...all('MatMulNBits MatMulBnb4 DynamicQuantizeMatMul MatMulIntegerToFloat MatMulFpQ4 MatMulNBitsMlp MatMulNBitsQkv', projection),
  ['FusedMatMul', fusedMatMul],
  ['TransposeMatMul', fusedMatMul],
  ['FusedGemm', gemm],
  ['FusedConv', convolution],
]);

/** Rules by domain and op type. */
export const RULES: ReadonlyMap<string, ReadonlyMap<string, Rule>> = new Map([
  ['', STANDARD],
  ['com.microsoft', CONTRIB],
]);
