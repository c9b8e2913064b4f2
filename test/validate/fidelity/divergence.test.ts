/** Metrics against values worked out by hand. */
import { describe, expect, it } from 'vitest';
import { answersMatch, divergenceAt, summarize, textDivergence } from '../../../src/validate/fidelity/divergence.js';
import { fidelityOf, joinRecords, type SampleRecord } from '../../../src/validate/fidelity/records.js';
import { quantile, sorted, spread, standardError } from '../../../src/validate/fidelity/statistics.js';

const logits = (p: readonly number[]): Float32Array => Float32Array.from(p.map(Math.log));

describe('divergence', () => {
  it('KL, top-1, Δp of two known distributions', () => {
    const p = [0.5, 0.25, 0.25];
    const q = [0.25, 0.5, 0.25];
    const d = divergenceAt(logits(p), logits(q), undefined);
    expect(d.kl).toBeCloseTo(0.5 * Math.log(2) + 0.25 * Math.log(0.5), 6);
    expect(d.top1).toBe(0);
    expect(d.dp).toBeCloseTo(-0.25, 6);
    expect(d.nll).toBeUndefined();
    const labelled = divergenceAt(logits(p), logits(q), 1);
    expect(labelled.dp).toBeCloseTo(0.25, 6);
    expect(labelled.nll?.[0]).toBeCloseTo(Math.log(4), 6);
    expect(labelled.nll?.[1]).toBeCloseTo(Math.log(2), 6);
  });
  it('is 0 for equal logits, any offset, and finite for impossible tokens', () => {
    expect(divergenceAt(Float32Array.from([1, 2, 3]), Float32Array.from([11, 12, 13]), undefined).kl).toBeCloseTo(0, 6);
    expect(divergenceAt(Float32Array.from([0, Number.NEGATIVE_INFINITY]), Float32Array.from([0, 1]), undefined).kl).toBeCloseTo(Math.log(1 + Math.E), 5);
    expect(Number.isFinite(divergenceAt(Float32Array.from([0, 0]), Float32Array.from([0, Number.NEGATIVE_INFINITY]), undefined).kl)).toBe(true);
  });
  it('sums up: perplexities are exp of mean nll', () => {
    const s = summarize([divergenceAt(logits([0.5, 0.5]), logits([0.25, 0.75]), 0), divergenceAt(logits([0.5, 0.5]), logits([0.75, 0.25]), 0)]);
    expect(s?.perplexity?.original).toBeCloseTo(2, 6);
    expect(s?.perplexity?.rewritten).toBeCloseTo(Math.sqrt(4 * (4 / 3)), 5);
    expect(s?.positions).toBe(2);
    expect(s?.deltaP.rms).toBeCloseTo(0.25, 6);
  });
  it('texts part where they part', () => {
    expect(textDivergence([1, 2, 3, 4], [1, 2, 9, 4])).toEqual({ first: 2, share: 0.25 });
    expect(textDivergence([1, 2], [1, 2])).toEqual({ first: null, share: 0 });
    expect(answersMatch([5, 6, 7], [[9], [5, 6]])).toBe(true);
    expect(answersMatch([5], [[5, 6]])).toBe(false);
  });
});

describe('statistics', () => {
  it('quantiles as numpy has them', () => {
    const s = sorted([4, 1, 3, 2]);
    expect([0, 0.25, 0.5, 0.9, 1].map((q) => quantile(s, q))).toEqual([1, 1.75, 2.5, 3.7, 4]);
    expect(standardError([1, 2, 3, 4])).toBeCloseTo(Math.sqrt(5 / 3 / 4), 12);
    expect(spread([3, 1, 2])).toEqual({ median: 2, p25: 1.5, p75: 2.5, min: 1, max: 3, n: 3 });
  });
});

describe('records', () => {
  const record = (id: string, index: number, candidate: string, kl: number[]): SampleRecord => ({ id, index, tokens: { length: 4, rows: 1, image: [2] }, candidates: { [candidate]: { rows: 1, kl, top1: kl.map(() => 1 as const), dp: kl.map(() => 0) } } });
  it('passes over the same sample are joined, in order; sums do not depend on the order', () => {
    const all = [record('b', 1, 'rewritten', [1, 2]), record('a', 0, 'rewritten', [3, 4]), record('a', 0, 'uniform', [9, 9])];
    const joined = joinRecords(all);
    expect(joined.map((r) => [r.id, Object.keys(r.candidates)])).toEqual([['a', ['rewritten', 'uniform']], ['b', ['rewritten']]]);
    expect(fidelityOf(joined, 'rewritten')?.all?.kl.mean).toBe(2.5);
    expect(fidelityOf(joined, 'rewritten')?.prompt?.kl.mean).toBe(2);
    expect(fidelityOf(joinRecords([...all].reverse()), 'rewritten')).toEqual(fidelityOf(joined, 'rewritten'));
  });
});
