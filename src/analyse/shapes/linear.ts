/**
 * Products: MatMul and its integer, fused and quantized forms, Gemm, Einsum. Shapes only: contents of products
 * steer no shape in any decoder seen.
 */

import { DataType, type Node } from '../../ir/graph.js';
import { broadcast, type Call, type HandlerTable } from './call.js';
import { einsumTerms } from './einsum.js';
import type { Dims, Fact } from './types.js';

/** Result sizes of `a` x `b`, numpy rules: 1-D operands lose their axis, leading axes broadcast. */
function matmulShape(call: Call, a: Dims | null, b: Dims | null): Dims | null {
  if (a === null || b === null) return null;
  if (a.length === 0 || b.length === 0) {
    call.conflict('MatMul of a scalar');
    return null;
  }
  const inner = a.at(-1) ?? null;
  const other = (b.length === 1 ? b[0] : b.at(-2)) ?? null;
  call.same(inner, other, 'inner sizes of a product');
  const lead = broadcast(call, [a.slice(0, -2), b.slice(0, -2)]) ?? [];
  return [...lead, ...(a.length === 1 ? [] : [a.at(-2) ?? null]), ...(b.length === 1 ? [] : [b.at(-1) ?? null])];
}

function matmul(dtype: (call: Call) => number, b = 1): (call: Call) => Fact {
  return (call) => ({ dtype: dtype(call), shape: matmulShape(call, call.shape(0), call.shape(b)) });
}

function swapLast(shape: Dims | null): Dims | null {
  if (shape === null || shape.length < 2) return shape;
  return [...shape.slice(0, -2), shape.at(-1) ?? null, shape.at(-2) ?? null];
}

/** transBatch: [M, batch.., K] is read as [batch.., M, K]. */
function batchFirst(shape: Dims | null): Dims | null {
  if (shape === null || shape.length < 3) return shape;
  return [...shape.slice(1, -1), shape[0] ?? null, shape.at(-1) ?? null];
}

/** Operand of com.microsoft.FusedMatMul as the product sees it, after its transpositions: [.., M, K] (A) or [.., K, N] (B). */
export function fusedOperand(node: Node, shape: Dims | null, side: 'A' | 'B'): Dims | null {
  const batched = node.int(`transBatch${side}`, 0) ? batchFirst(shape) : shape;
  return node.int(`trans${side}`, 0) ? swapLast(batched) : batched;
}

function fusedMatMul(call: Call): Fact {
  const { node } = call;
  return { dtype: call.dtype(0), shape: matmulShape(call, fusedOperand(node, call.shape(0), 'A'), fusedOperand(node, call.shape(1), 'B')) };
}

function gemm(call: Call): Fact {
  const a = call.shape(0);
  const b = call.shape(1);
  const transA = call.node.int('transA', 0) === 1;
  const transB = call.node.int('transB', 0) === 1;
  call.same(a?.[transA ? 0 : 1] ?? null, b?.[transB ? 1 : 0] ?? null, 'inner sizes of a Gemm');
  return { dtype: call.dtype(0), shape: [a?.[transA ? 1 : 0] ?? null, b?.[transB ? 0 : 1] ?? null] };
}

function einsum(call: Call): Fact {
  const shapes = Array.from({ length: call.inputCount }, (_, i) => call.shape(i));
  const terms = einsumTerms(call.node.string('equation', ''), shapes);
  if (terms === null) return { dtype: call.dtype(0), shape: null };
  for (const reason of terms.conflicts) call.conflict(reason);
  return { dtype: call.dtype(0), shape: terms.output.map((letter) => terms.sizes.get(letter) ?? null) };
}

/** Products whose output features are an attribute: [.., K] to [.., N]. */
function matMulNBits(call: Call): Fact {
  const a = call.shape(0);
  const k = call.node.int('K', 0);
  const n = call.node.int('N', 0);
  if (a !== null) call.same(a.at(-1) ?? null, k, 'K of a MatMulNBits and its input');
  return { dtype: call.dtype(0), shape: a === null ? null : [...a.slice(0, -1), n] };
}

/** com.microsoft.MatMulNBitsMlp: a norm, two gated projections to N; the residual sum is a second output. */
function nBitsMlp(call: Call): Fact[] {
  const a = call.shape(0);
  return [{ dtype: call.dtype(0), shape: a === null ? null : [...a.slice(0, -1), call.node.int('N', 0)] }, { dtype: call.dtype(0), shape: a }];
}

/** com.microsoft.MatMulNBitsQkv: a norm and three projections; the residual sum is the fourth output. */
function nBitsQkv(call: Call): Fact[] {
  const a = call.shape(0);
  const dtype = call.dtype(0);
  const to = (n: number): Fact => ({ dtype, shape: a === null ? null : [...a.slice(0, -1), n] });
  const [q, kv] = [call.node.int('Nq', 0), call.node.int('Nkv', 0)];
  return [to(q), to(kv), to(kv), { dtype, shape: a }];
}

export const linear: HandlerTable = {
  MatMul: matmul((c) => c.dtype(0) || c.dtype(1)),
  MatMulInteger: matmul(() => DataType.INT32),
  // (a, a_scale, a_zero_point, b, b_scale, b_zero_point, y_scale, y_zero_point)
  QLinearMatMul: matmul((c) => c.dtype(7), 3),
  Gemm: gemm,
  Einsum: einsum,
};

export const contribLinear: HandlerTable = {
  MatMulNBits: matMulNBits,
  MatMulBnb4: matMulNBits,
  MatMulNBitsMlp: nBitsMlp,
  MatMulNBitsQkv: nBitsQkv,
  FusedMatMul: fusedMatMul,
  TransposeMatMul: fusedMatMul,
  FusedGemm: gemm,
  // (A, B, a_scale, b_scale, ..): int8 products rescaled to float.
  MatMulIntegerToFloat: matmul((c) => c.dtype(2)),
  // (A, B, b_scale, ..): A is quantized on the way in.
  DynamicQuantizeMatMul: matmul((c) => c.dtype(0)),
};
