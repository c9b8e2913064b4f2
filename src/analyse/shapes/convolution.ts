/**
 * Convolutions, pools and resizing: the spatial operators of vision towers. Shapes only.
 */

import { DataType } from '../../ir/graph.js';
import type { Call, HandlerTable } from './call.js';
import type { Dims, Fact } from './types.js';

/** Output size of one spatial axis of a convolution or pool. */
function windowed(size: number | null, kernel: number | null, axis: number, spatial: number, call: Call): number | null {
  if (size === null || kernel === null) return null;
  const stride = call.node.ints('strides')?.[axis] ?? 1;
  const dilation = call.node.ints('dilations')?.[axis] ?? 1;
  const auto = call.node.string('auto_pad', 'NOTSET');
  if (auto === 'SAME_UPPER' || auto === 'SAME_LOWER') return Math.ceil(size / stride);
  const pads = auto === 'VALID' ? undefined : call.node.ints('pads');
  const low = pads?.[axis] ?? 0;
  const room = size + low + (pads?.[axis + spatial] ?? 0) - (dilation * (kernel - 1) + 1);
  if (call.node.int('ceil_mode', 0) !== 1) return Math.floor(room / stride) + 1;
  const count = Math.ceil(room / stride) + 1;
  // A window may not start in the padding after the end.
  return (count - 1) * stride >= size + low ? count - 1 : count;
}

function convShape(call: Call, x: Dims | null, w: Dims | null): Dims | null {
  if (x === null) return null;
  const kernel = call.node.ints('kernel_shape');
  const spatial = x.slice(2).map((d, axis) => windowed(d, kernel?.[axis] ?? w?.[axis + 2] ?? null, axis, x.length - 2, call));
  const group = call.node.int('group', 1);
  const channels = w?.[1] ?? null;
  call.same(x[1] ?? null, channels === null ? null : channels * group, 'channels of a convolution');
  return [x[0] ?? null, w?.[0] ?? null, ...spatial];
}

export function conv(call: Call): Fact {
  return { dtype: call.dtype(0), shape: convShape(call, call.shape(0), call.shape(1)) };
}

/** com.microsoft.NhwcConv: X [N, H, W, C], weights as Conv. */
export function nhwcConv(call: Call): Fact {
  const x = call.shape(0);
  const out = x && convShape(call, [x[0] ?? null, x.at(-1) ?? null, ...x.slice(1, -1)], call.shape(1));
  return { dtype: call.dtype(0), shape: out && [out[0] ?? null, ...out.slice(2), out[1] ?? null] };
}

function convTranspose(call: Call): Fact {
  const x = call.shape(0);
  const w = call.shape(1);
  if (x === null) return { dtype: call.dtype(0), shape: null };
  const n = call.node;
  const spatial = x.length - 2;
  const fixed = n.ints('output_shape');
  const same = n.string('auto_pad', 'NOTSET').startsWith('SAME');
  const sizes = x.slice(2).map((d, axis) => {
    if (fixed) return fixed[axis] ?? null;
    const kernel = n.ints('kernel_shape')?.[axis] ?? w?.[axis + 2] ?? null;
    const stride = n.ints('strides')?.[axis] ?? 1;
    if (d === null || kernel === null) return null;
    if (same) return d * stride;
    const pads = (n.ints('pads')?.[axis] ?? 0) + (n.ints('pads')?.[axis + spatial] ?? 0);
    return stride * (d - 1) + (n.ints('output_padding')?.[axis] ?? 0) + (kernel - 1) * (n.ints('dilations')?.[axis] ?? 1) + 1 - pads;
  });
  const channels = w?.[1] ?? null;
  return { dtype: call.dtype(0), shape: [x[0] ?? null, channels === null ? null : channels * n.int('group', 1), ...sizes] };
}

function pool(call: Call): Fact[] {
  const x = call.shape(0);
  const kernel = call.node.ints('kernel_shape');
  const shape = x && [...x.slice(0, 2), ...x.slice(2).map((d, axis) => windowed(d, kernel?.[axis] ?? null, axis, x.length - 2, call))];
  return [{ dtype: call.dtype(0), shape }, { dtype: DataType.INT64, shape }];
}

function globalPool(call: Call): Fact {
  const x = call.shape(0);
  return { dtype: call.dtype(0), shape: x && [...x.slice(0, 2), ...x.slice(2).map(() => 1)] };
}

/** Resize (X, roi, scales, sizes) and Upsample (X, scales). */
function resize(call: Call): Fact {
  const x = call.shape(0);
  const dtype = call.dtype(0);
  if (x === null) return { dtype, shape: null };
  // Resize-10 and Upsample-9 have (X, scales); from opset 11 on the second input is roi.
  const old = call.node.opType === 'Upsample' || call.inputCount === 2;
  const list = (i: number): readonly number[] | undefined => (call.data(i)?.length ? call.data(i) : undefined);
  const attribute = call.node.attributes.get('scales');
  const scales = attribute?.kind === 'floats' ? attribute.value : list(old ? 1 : 2);
  const sizes = old ? undefined : list(3);
  const axes = call.node.ints('axes') ?? x.map((_, i) => i);
  const shape: (number | null)[] = [...x];
  const policy = call.node.string('keep_aspect_ratio_policy', 'stretch');
  let common: number | undefined;
  if (sizes && policy !== 'stretch') {
    const ratios = axes.map((a, k) => (sizes[k] as number) / (x.at(a) ?? Number.NaN));
    common = policy === 'not_larger' ? Math.min(...ratios) : Math.max(...ratios);
  }
  for (const [k, a] of axes.entries()) {
    const axis = call.axis(a, x.length);
    if (axis === null) continue;
    const dim = x[axis] ?? null;
    if (common !== undefined) shape[axis] = dim === null || Number.isNaN(common) ? null : Math.round(dim * common);
    else if (sizes) shape[axis] = sizes[k] ?? null;
    else if (scales && dim !== null) shape[axis] = Math.floor(dim * (scales[k] ?? 1));
    else shape[axis] = null;
  }
  return { dtype, shape };
}

export const convolution: HandlerTable = {
  Conv: conv,
  ConvInteger: (call) => ({ ...conv(call), dtype: DataType.INT32 }),
  // (x, x_scale, x_zero_point, w, ..)
  QLinearConv: (call) => ({ dtype: call.dtype(7), shape: convShape(call, call.shape(0), call.shape(3)) }),
  ConvTranspose: convTranspose,
  AveragePool: pool,
  MaxPool: pool,
  LpPool: pool,
  GlobalAveragePool: globalPool,
  GlobalMaxPool: globalPool,
  GlobalLpPool: globalPool,
  // (X [N, C, ..], grid [N, out.., rank])
  GridSample: (call) => ({ dtype: call.dtype(0), shape: call.shape(1) && [call.dim(0, 0), call.dim(0, 1), ...(call.shape(1) as Dims).slice(1, -1)] }),
  Resize: resize,
  Upsample: resize,
};
