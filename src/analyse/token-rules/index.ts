/**
 * What ops do to the token axis of a value: one rule an op, for ops that can be token-wise. A rule gives the state of
 * the outputs, or says why tokens are mixed. An op without a rule is not known to be token-wise.
 */
import { along, argument, cumulative, instanceNorm, reduce, softmax } from './along-an-axis.js';
import { elementwise, likeFirst, quantizeDynamically } from './elementwise.js';
import { elements, gather, gatherND, oneHot, scatterND, select } from './lookup.js';
import { concat, crop, relayout, transpose, widen } from './movement.js';
import { convolution, einsum, fusedMatMul, gemm, product, projection } from './products.js';
import type { Rule } from './step.js';

export { mixes, stepOf, type TokenState } from './step.js';

const ELEMENTWISE =
  'Abs Acos Acosh Add And Asin Asinh Atan Atanh BitCast BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast CastLike Ceil Celu Clip Cos Cosh DequantizeLinear Div Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Less LessOrEqual Log Max Mean Min Mish Mod Mul Neg Not Or PRelu Pow QuantizeLinear Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Sub Sum Swish Tan Tanh ThresholdedRelu Where Xor';
const CONTRIB_ELEMENTWISE = 'BiasAdd BiasGelu FastGelu Gelu QuickGelu QuantizeLinear DequantizeLinear GatedAdd QLinearAdd QLinearMul QLinearSigmoid QLinearLeakyRelu';
const REDUCTIONS = 'ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare';

const all = (names: string, rule: Rule): [string, Rule][] => names.split(' ').map((n): [string, Rule] => [n, rule]);

const STANDARD = new Map<string, Rule>([
  ...all(ELEMENTWISE, elementwise),
  ...all(REDUCTIONS, reduce),
  ...all('Softmax LogSoftmax Hardmax', softmax),
  ...all('LayerNormalization RMSNormalization SimplifiedLayerNormalization', along('axis', -1, true)),
  ...all('TopK LpNormalization', along('axis', -1)),
  ...all('CumSum CumProd', cumulative),
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
