/**
 * How far the rewritten model's next-token distribution is from the original's. Dropping tokens changes every number, so
 * element-wise tolerance says nothing: distributions are compared, as quantization validators do.
 */
import { argmax } from '../models/decoder.js';
import { mean, quantile, rms, sorted, standardError } from './statistics.js';

/** One position of one row: scalars only, so that thousands of samples stay small. */
export interface PositionDivergence {
  /** KL(original ‖ rewritten) in nats. */
  readonly kl: number;
  /** 1 when the most likely token is the same. */
  readonly top1: 0 | 1;
  /** Change of the probability of the reference token (the label, else the original's greedy token). */
  readonly dp: number;
  /** −log p of the label under each model; absent without labels. */
  readonly nll?: readonly [original: number, rewritten: number];
}

/** log Σ exp, in double precision. */
function logSumExp(values: Float32Array): number {
  let top = Number.NEGATIVE_INFINITY;
  for (const v of values) if (v > top) top = v;
  let sum = 0;
  for (const v of values) sum += Math.exp(v - top);
  return top + Math.log(sum);
}

/** Compares two rows of logits. `label` is the true token where one is known. */
export function divergenceAt(original: Float32Array, rewritten: Float32Array, label: number | undefined): PositionDivergence {
  if (original.length !== rewritten.length) throw new RangeError(`${original.length} logits against ${rewritten.length}`);
  const zo = logSumExp(original);
  const zr = logSumExp(rewritten);
  let kl = 0;
  for (let i = 0; i < original.length; i++) {
    const lo = (original[i] ?? 0) - zo;
    const p = Math.exp(lo);
    // A token the original gives no chance adds nothing, whatever the other model says.
    if (p > 0) kl += p * (lo - Math.max((rewritten[i] ?? 0) - zr, -1e4));
  }
  const best = argmax(original);
  const target = label ?? best;
  const lo = (original[target] ?? 0) - zo;
  const lr = (rewritten[target] ?? 0) - zr;
  return {
    kl: Math.max(0, kl),
    top1: argmax(rewritten) === best ? 1 : 0,
    dp: Math.exp(lr) - Math.exp(lo),
    ...(label === undefined ? {} : { nll: [-lo, -lr] as const }),
  };
}

export interface Percentiles {
  readonly mean: number;
  readonly max: number;
  readonly p999: number;
  readonly p99: number;
  readonly p95: number;
  readonly p90: number;
  readonly median: number;
  readonly p10: number;
  readonly p05: number;
  readonly p01: number;
  readonly min: number;
}

export function percentiles(values: readonly number[]): Percentiles {
  const s = sorted(values);
  const q = (v: number): number => quantile(s, v);
  return { mean: mean(values), max: q(1), p999: q(0.999), p99: q(0.99), p95: q(0.95), p90: q(0.9), median: q(0.5), p10: q(0.1), p05: q(0.05), p01: q(0.01), min: q(0) };
}

/** The table llama.cpp's --kl-divergence prints, as data. */
export interface DivergenceSummary {
  readonly positions: number;
  readonly kl: Percentiles & { readonly standardError: number };
  readonly sameTop1: number;
  readonly deltaP: Percentiles & { readonly rms: number };
  /** With labels: perplexities and their ratio, rewritten over original. */
  readonly perplexity: { readonly original: number; readonly rewritten: number; readonly ratio: number; readonly tokens: number } | null;
}

export function summarize(positions: readonly PositionDivergence[]): DivergenceSummary | null {
  if (positions.length === 0) return null;
  const kl = positions.map((p) => p.kl);
  const dp = positions.map((p) => p.dp);
  const nll = positions.flatMap((p) => (p.nll ? [p.nll] : []));
  const po = Math.exp(mean(nll.map((n) => n[0])));
  const pr = Math.exp(mean(nll.map((n) => n[1])));
  return {
    positions: positions.length,
    kl: { ...percentiles(kl), standardError: standardError(kl) },
    sameTop1: mean(positions.map((p) => p.top1)),
    deltaP: { ...percentiles(dp), rms: rms(dp) },
    perplexity: nll.length === 0 ? null : { original: po, rewritten: pr, ratio: pr / po, tokens: nll.length },
  };
}

/** Where two generated texts part: who-what-benchmark's first divergent token and share of divergent ones. */
export function textDivergence(original: readonly number[], rewritten: readonly number[]): { first: number | null; share: number } {
  const n = Math.max(original.length, rewritten.length);
  let different = 0;
  let first: number | null = null;
  for (let i = 0; i < n; i++) {
    if (original[i] === rewritten[i]) continue;
    different++;
    first ??= i;
  }
  return { first, share: n === 0 ? 0 : different / n };
}

/** True when the generated tokens start with one of the accepted answers. */
export function answersMatch(generated: readonly number[], answers: readonly (readonly number[])[]): boolean {
  return answers.some((a) => a.length > 0 && a.every((t, i) => generated[i] === t));
}
