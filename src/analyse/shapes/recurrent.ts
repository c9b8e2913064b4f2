/**
 * Operators that carry a state between runs: the linear-attention and causal-convolution layers of hybrid decoders,
 * and the classic recurrent ones. Shapes only.
 */

import { DataType } from '../../ir/graph.js';
import type { Call, HandlerTable } from './call.js';
import { sameAsInput } from './normalization.js';
import type { Dims, Fact } from './types.js';

type Size = number | null;
const over = (a: Size, b: number): Size => (a === null || b === 0 ? null : a / b);

/** com.microsoft's `state_window` keeps the states of the last W positions, in front. */
function windowed(call: Call, state: Dims): Dims {
  const window = call.node.int('state_window', 0);
  return window > 0 ? [window, ...state] : state;
}

/** (query, key, value, past_state?, decay?, beta?), 3-D packed: output [B, T, H·d_v], state [B, H_kv, d_k, d_v]. */
function linearAttention(call: Call): Fact[] {
  const heads = call.node.int('q_num_heads', 0);
  const kvHeads = call.node.int('kv_num_heads', 0);
  const keySize = over(call.dim(0, 2), heads);
  const valueSize = over(call.dim(2, 2), kvHeads);
  const width = valueSize === null ? null : Math.max(heads, kvHeads) * valueSize;
  return [
    { dtype: call.dtype(0), shape: [call.dim(0, 0), call.dim(0, 1), width] },
    { dtype: call.dtype(3) || call.dtype(0), shape: windowed(call, [call.dim(0, 0), kvHeads, keySize, valueSize]) },
  ];
}

/** (input [B, C, L], weight [C, 1, k], bias?, past_state?): output as input, state [B, C, (k - 1)·dilation]. */
function causalConv(call: Call): Fact[] {
  const output = sameAsInput(call);
  const dtype = call.dtype(3) || call.dtype(0);
  // With a past state its shape is the present's; without one it follows for the one-dimensional form.
  const past = call.shape(3);
  if (past !== null) return [output, { dtype, shape: past }];
  if (call.node.int('ndim', 1) !== 1) return [output];
  const kernel = call.dim(1, 2);
  const held = kernel === null ? null : (kernel - 1) * call.node.int('dilation', 1);
  const last = call.node.int('channels_last', 0) === 1;
  const channels = call.dim(0, last ? 2 : 1);
  return [output, { dtype, shape: windowed(call, last ? [call.dim(0, 0), held, channels] : [call.dim(0, 0), channels, held]) }];
}

/** RNN, GRU, LSTM: Y [T, directions, B, hidden], Y_h and Y_c [directions, B, hidden]; layout 1 puts the batch first. */
function recurrent(call: Call): Fact[] {
  const directions = call.node.string('direction', 'forward') === 'bidirectional' ? 2 : 1;
  const hidden = call.dim(2, 2);
  const dtype = call.dtype(0);
  if (call.node.int('layout', 0) === 1) {
    const [batch, length] = [call.dim(0, 0), call.dim(0, 1)];
    const last: Fact = { dtype, shape: [batch, directions, hidden] };
    return [{ dtype, shape: [batch, length, directions, hidden] }, last, last];
  }
  const [length, batch] = [call.dim(0, 0), call.dim(0, 1)];
  const last: Fact = { dtype, shape: [directions, batch, hidden] };
  return [{ dtype, shape: [length, directions, batch, hidden] }, last, last];
}

export const recurrence: HandlerTable = {
  LinearAttention: linearAttention,
  CausalConvWithState: causalConv,
  RNN: recurrent,
  GRU: recurrent,
  LSTM: recurrent,
};

export const contribRecurrence: HandlerTable = {
  LinearAttention: linearAttention,
  CausalConvWithState: causalConv,
  // (a, dt_bias, decay_scale, b?): decay and update rate, in the shape of the projections.
  LinearAttentionGate: (call) => [
    { dtype: DataType.FLOAT, shape: call.shape(0) },
    { dtype: call.dtype(3), shape: call.shape(3) },
  ],
};
