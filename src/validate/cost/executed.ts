/** Multiply-accumulates of what ORT executed, from the shapes its profile reports. */
import type { NodeEvent, ProfiledRun } from './profile.js';

export interface ExecutedMacs {
  readonly linear: number;
  readonly attention: number;
  readonly convolution: number;
  readonly total: number;
  /** Product-like ops whose shapes the profile does not give: not counted. */
  readonly uncounted: readonly string[];
}

const product = (dims: readonly number[]): number => dims.reduce((a, b) => a * b, 1);

const LINEAR = /^(Fused)?(Transpose)?MatMul(Activation|Bias)?$|^(Fused)?Gemm$|^MatMulNBits$|^MatMulInteger(ToFloat)?$|^DynamicQuantizeMatMul$|^QLinearMatMul$|^QGemm$|^MatMulBnb4$|^GemmFloat8$|^FusedMatMul$|^MatMulScale$|^TransposeMatMul$/;
const ATTENTION = /^(GroupQueryAttention|MultiHeadAttention|Attention|DecoderMaskedMultiHeadAttention|PackedMultiHeadAttention|SparseAttention|QAttention)$/;
const CONVOLUTION = /^(Fused|NhwcFused)?Conv$/;

/**
 * MACs of one node, null for what multiplies nothing. Weights that were packed ahead are missing from the profile's
 * inputs, so counts come from the first operand and the output.
 */
export function macsOfEvent(e: NodeEvent, weightDims?: (node: string) => readonly number[] | undefined): { kind: 'linear' | 'attention' | 'convolution'; macs: number } | 'unknown' | null {
  const out = e.outputs[0];
  const a = e.inputs[0];
  if (LINEAR.test(e.op)) {
    if (!out || !a) return 'unknown';
    // Transposed operands of fused products: the axis that is not the output's rows is summed over.
    const rows = out.length > 1 ? out.at(-2) : 1;
    const transposed = a.length > 1 && a.at(-1) === rows && a.at(-2) !== rows;
    const inner = transposed ? (a.at(-2) ?? 1) : (a.at(-1) ?? 1);
    return { kind: 'linear', macs: product(out) * inner };
  }
  if (ATTENTION.test(e.op)) return attention(e);
  if (CONVOLUTION.test(e.op)) {
    const weight = e.inputs.find((d, i) => i > 0 && d.length >= 3) ?? weightDims?.(e.name);
    if (!out || !weight) return 'unknown';
    return { kind: 'convolution', macs: product(out) * product(weight.slice(1)) };
  }
  if (/MatMul|Gemm|Attention|Conv|Einsum|MoE|MLP/i.test(e.op) && !/ConvertTo|Conversion/.test(e.op)) return 'unknown';
  return null;
}

function attention(e: NodeEvent): { kind: 'attention'; macs: number } | 'unknown' {
  const out = e.outputs[0];
  const q = e.inputs[0];
  if (!out || !q) return 'unknown';
  const cache = e.outputs.slice(1).find((d) => d.length === 4);
  if (out.length === 4) {
    // Standard Attention: [B, H, S, Dv], keys [B, kv, T, D].
    const [b = 1, h = 1, s = 1, dv = 1] = out;
    const t = cache?.[2] ?? e.inputs[1]?.[2];
    const d = q[3] ?? dv;
    return t === undefined ? 'unknown' : { kind: 'attention', macs: b * h * s * t * (d + dv) };
  }
  const [b = 1, s = 1, width = 1] = out;
  const t = cache?.[2] ?? (e.inputs[1]?.length === 3 ? e.inputs[1][1] : e.inputs[1]?.length === 4 ? e.inputs[1][2] : s);
  return t === undefined ? 'unknown' : { kind: 'attention', macs: 2 * b * s * t * width };
}

export function executedMacs(run: ProfiledRun, weightDims?: (node: string) => readonly number[] | undefined): ExecutedMacs {
  const sums = { linear: 0, attention: 0, convolution: 0 };
  const uncounted = new Set<string>();
  for (const e of run.nodes) {
    const m = macsOfEvent(e, weightDims);
    if (m === 'unknown') uncounted.add(e.op);
    else if (m) sums[m.kind] += m.macs;
  }
  return { ...sums, total: sums.linear + sums.attention + sums.convolution, uncounted: [...uncounted].sort() };
}
