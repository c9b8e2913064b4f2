/**
 * Norms, softmax and quantization: the shape stays, the dtype may not, statistics are extra outputs.
 */

import { DataType } from '../../ir/graph.js';
import type { Call, HandlerTable } from './call.js';
import { roundHalfEven, rounder } from './numbers.js';
import type { Dims, Fact } from './types.js';

/** Input 0's dtype and shape. */
export function sameAsInput(call: Call): Fact {
  return { dtype: call.dtype(0), shape: call.shape(0) };
}

/** `shape` with ones from `axis` on: the shape of a norm's mean and variance. */
export function statisticsShape(shape: Dims | null, axis: number): Dims | null {
  const from = shape === null ? 0 : axis < 0 ? axis + shape.length : axis;
  return shape?.map((d, i) => (i >= from ? 1 : d)) ?? null;
}

function layerNorm(call: Call): Fact[] {
  const shape = call.shape(0);
  const statistics: Fact = {
    dtype: call.node.int('stash_type', DataType.FLOAT),
    shape: statisticsShape(shape, call.node.int('axis', -1)),
  };
  // Output dtype follows the scale: SimplifiedLayerNormalization may take float32 in and give float16.
  return [{ dtype: call.dtype(1) || call.dtype(0), shape }, statistics, statistics];
}

function batchNorm(call: Call): Fact[] {
  const statistics: Fact = { dtype: call.dtype(3), shape: [call.dim(0, 1)] };
  return [sameAsInput(call), statistics, statistics, statistics, statistics];
}

/** Integers that QuantizeLinear saturates at, by dtype; floats of eight bits have no contents here. */
const ENDS: Readonly<Record<number, readonly [number, number]>> = {
  [DataType.UINT8]: [0, 255],
  [DataType.INT8]: [-128, 127],
  [DataType.UINT16]: [0, 65535],
  [DataType.INT16]: [-32768, 32767],
  [DataType.UINT4]: [0, 15],
  [DataType.INT4]: [-8, 7],
};

/** Contents too, with one scale a tensor: ModelOpt quantizes a graph's factors in the graph. */
function quantize(call: Call): Fact {
  const dtype = call.has(2) ? call.dtype(2) : call.node.int('output_dtype', DataType.UINT8) || DataType.UINT8;
  const shape = call.shape(0);
  const [x, scale, zero] = [call.data(0), call.data(1), call.has(2) ? call.data(2) : [0]];
  const ends = ENDS[dtype];
  if (!x || !ends || scale?.length !== 1 || zero?.length !== 1 || !call.follows(dtype, shape)) return { dtype, shape };
  const [low, high] = ends;
  return call.fact(dtype, shape, x.map((v) => Math.min(high, Math.max(low, roundHalfEven(Math.fround(v / (scale[0] as number))) + (zero[0] as number)))));
}

/** Contents too, with one scale a tensor: a quantized graph's factors and fillings are constants behind this op. */
function dequantize(call: Call): Fact {
  const dtype = call.node.int('output_dtype', 0) || call.dtype(1);
  const shape = call.shape(0);
  const [x, scale, zero] = [call.data(0), call.data(1), call.has(2) ? call.data(2) : [0]];
  if (!x || scale?.length !== 1 || zero?.length !== 1 || !call.follows(dtype, shape)) return { dtype, shape };
  const round = rounder(dtype);
  return call.fact(dtype, shape, x.map((q) => round((q - (zero[0] as number)) * (scale[0] as number))));
}

export const quantization: HandlerTable = { QuantizeLinear: quantize, DequantizeLinear: dequantize };

export const normalization: HandlerTable = {
  ...quantization,
  Softmax: sameAsInput,
  LogSoftmax: sameAsInput,
  Hardmax: sameAsInput,
  LayerNormalization: layerNorm,
  RMSNormalization: (call) => ({ dtype: call.dtype(1) || call.dtype(0), shape: call.shape(0) }),
  // ORT registers these two in the standard domain.
  SimplifiedLayerNormalization: (call) => layerNorm(call).slice(0, 2),
  GroupNormalization: sameAsInput,
  InstanceNormalization: sameAsInput,
  MeanVarianceNormalization: sameAsInput,
  LpNormalization: sameAsInput,
  LRN: sameAsInput,
  BatchNormalization: batchNorm,
  DynamicQuantizeLinear: (call) => [
    { dtype: DataType.UINT8, shape: call.shape(0) },
    { dtype: DataType.FLOAT, shape: [] },
    { dtype: DataType.UINT8, shape: [] },
  ],
};
