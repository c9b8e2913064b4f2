/** What the report says in words: losses first, figures that add up, and one definition of what ranking costs. */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { compile } from '../../src/index.js';
import { baselineReport } from '../../src/validate/fidelity/baselines.js';
import { fidelityOf, type SampleRecord } from '../../src/validate/fidelity/records.js';
import { estimate, t95 } from '../../src/validate/fidelity/statistics.js';
import { baselineFinding, findings, judgeThresholds } from '../../src/validate/findings.js';
import { flopsOf } from '../../src/validate/flops.js';
import { validate } from '../../src/validate/validate.js';
import type { ProviderReport } from '../../src/validate/result.js';
import { fullReport } from '../report/html-sample.js';
import { folder } from '../support/folder.js';
import { fixturePath } from '../support/proto.js';

const full = fullReport();
const [first] = full.providers as [ProviderReport];
const slow = (speedup: number, uncertainty: number) => ({ ...first.latency!.prefill, speedup, uncertainty });
const passing = { ...first, gates: [], faults: [], baselines: [], latency: { ...first.latency!, prefill: slow(1.9, 0.1), decode: slow(0.79, 0.05) } };

describe('what got worse is said first', () => {
  it('a slower decode step, before everything else', () => {
    const [head, ...rest] = findings([passing], full.cost, full.kept, false);
    expect(head).toMatch(/^A decode step is SLOWER on cpu: 0\.79× as fast \(± 0\.05/);
    expect(rest.join(' ')).toContain('Prefill on cpu is 1.90× as fast');
  });

  it('within the spread of the repeats it is said as well, as what it is', () => {
    const [head] = findings([{ ...passing, latency: { ...passing.latency, decode: slow(0.97, 0.1) } }], full.cost, full.kept, false);
    expect(head).toMatch(/a little slower .*within it/);
  });

  it.each([
    ['MACs of prefill', { ...full.cost!, prefill: { ...full.cost!.prefill, rewritten: { ...full.cost!.prefill.rewritten, graph: 2.2e13 } } }],
    ['MACs of a decode step', { ...full.cost!, decode: { ...full.cost!.decode!, rewritten: { ...full.cost!.decode!.rewritten, graph: 9e9 } } }],
    ['Element-wise work of a decode step', { ...full.cost!, decode: { ...full.cost!.decode!, rewritten: { ...full.cost!.decode!.rewritten, elementOps: 1e15 } } }],
    ['The KV cache', { ...full.cost!, cacheBytes: { original: 1e9, rewritten: 1.1e9, cut: -0.1 } }],
  ])('%s that grew', (what, cost) => {
    expect(findings([{ ...passing, latency: null }], cost, null, false)[0]).toMatch(new RegExp(`^${what} GREW by`));
  });

  it('memory that grew', () => {
    const memory = { original: { loaded: 100e6, peak: 200e6 }, rewritten: { loaded: 100e6, peak: 230e6 }, note: null };
    expect(findings([{ ...passing, latency: null, memory }], null, null, false)[0]).toMatch(/^Peak memory .* GREW on cpu: 190\.7 MiB → 219\.3 MiB/);
  });

  it('nothing got worse: no such sentence; a failed gate stands before all costs', () => {
    const better = { ...passing, latency: { ...passing.latency, decode: slow(1.1, 0.05) }, memory: null };
    expect(findings([better], full.cost, full.kept, false).filter((f) => /SLOWER|slower|GREW/.test(f))).toEqual([]);
    expect(findings([{ ...passing, gates: first.gates }], full.cost, null, false)[0]).toMatch(/^Gate choice failed/);
  });
});

describe('the ranker against baselines: one basis', () => {
  // Samples of different lengths: means over positions and means over samples differ.
  const record = (index: number, own: number[], other: number[], answer: readonly [number, number] = [1, 1]): SampleRecord => {
    const candidate = (kl: number[], token: number) => ({ rows: 1, kl, top1: kl.map(() => 1 as const), dp: kl.map(() => 0), generated: [[token]] });
    return { id: `${index}`, index, tokens: { length: 8, rows: 1, image: [4] }, generated: [[1]], answers: [[[1]]], candidates: { rewritten: candidate(own, answer[0]), uniform: candidate(other, answer[1]) } };
  };
  const reportOf = (records: SampleRecord[]): ProviderReport => {
    const baseline = baselineReport(records, 'uniform');
    return { ...passing, fidelity: { ...first.fidelity!, answers: { samples: records.length, original: 1, rewritten: 0.5 } }, baselines: [baseline], samples: records };
  };
  const numbers = (text: string): number[] => [...(/sample ([\d.]+) against ([\d.]+), the ranker’s advantage ([+−]?)([\d.]+)/.exec(text) ?? [])].slice(1).flatMap((n) => (n === '−' ? [-1] : n === '+' || n === '' ? [1] : [Number(n)]));

  it('its figures add up, and the interval is named', () => {
    const records = [record(0, [0.1], [0.2, 0.2, 0.2]), record(1, [0.3, 0.3, 0.5, 0.1], [0.1]), record(2, [0.2], [0.25])];
    const p = reportOf(records);
    const text = baselineFinding(p, p.baselines[0]!) as string;
    const [own, other, sign, size] = numbers(text) as [number, number, number, number];
    expect(sign * size).toBeCloseTo(other - own, 3);
    expect(text).toContain('95% interval');
    expect(text).toContain('over 3 samples');
    const { klAdvantage: a } = p.baselines[0]!;
    expect(a!.mean).toBeCloseTo(a!.baseline - a!.own, 12);
  });

  it('where KL and answers say different things, each verdict names its measure', () => {
    const p = reportOf(Array.from({ length: 12 }, (_, i) => record(i, [0.1 + i / 1000], [0.3], [2, i === 0 ? 2 : 1])));
    expect(baselineFinding(p, p.baselines[0]!)).toMatch(/^The ranker beats uniform .* by KL over 12 samples; by right answers it LOSES: /);
    const q = reportOf(Array.from({ length: 12 }, (_, i) => record(i, [0.3 + i / 1000], [0.1], [1, i === 0 ? 1 : 2])));
    expect(baselineFinding(q, q.baselines[0]!)).toMatch(/LOSES to uniform .*; by right answers it beats it: /);
    expect(baselineFinding(q, q.baselines[0]!)).not.toContain('buys nothing');
  });

  it('intervals are Student’s', () => {
    expect([1, 5, 6, 10, 30, 1000].map((n) => Number(t95(n).toFixed(2)))).toEqual([12.71, 2.57, 2.45, 2.23, 2.04, 1.96]);
    const e = estimate([1, 2, 3, 4]);
    expect([e.mean, Number(e.low.toFixed(3)), Number(e.high.toFixed(3)), e.samples]).toEqual([2.5, 0.446, 4.554, 4]);
    expect(estimate([1]).low).toBeNaN();
  });
});

describe('ranking’s share', () => {
  it.each(['lvlm', 'bloom-ts17', 'genai-llama-fp32'])('is the same in compile, flops and validate: %s', { timeout: 60_000 }, async (fixture) => {
    const model = fixture === 'lvlm' ? join(fixturePath('lvlm'), '..', 'decoder_model_merged.onnx') : fixturePath(fixture);
    const output = join(folder(), 'out.onnx');
    const sizes = { imageTokens: 24, textTokens: 8 };
    const { macs } = await compile(model, { ...sizes, output, ...(fixture === 'genai-llama-fp32' ? { imageMask: 'input' } : {}) });
    const flops = await flopsOf(output, { ...sizes, past: 0, batch: 1 });
    const { report, finish } = await validate({ original: model, rewritten: output, ...sizes, samples: 1, positions: 1, gates: false, latency: false, memory: false, maps: 0 });
    finish();
    expect(macs.rank).toBeGreaterThan(0);
    expect(flops.prefill.parts.rank).toBeCloseTo(macs.rank, 3);
    expect(report.cost?.prefill.rewritten.parts.rank).toBeCloseTo(macs.rank, 3);
    expect([flops.prefill.parts.rank / flops.prefill.macs, report.cost?.rankShare].map((v) => v?.toFixed(9))).toEqual(Array(2).fill(macs.rankShare.toFixed(9)));
  });
});

describe('thresholds and findings', () => {
  const provider = (kl: number, other: number): ProviderReport => {
    const samples = [0, 1, 2, 3].map((i): SampleRecord => ({ id: `${i}`, index: i, tokens: { length: 1, rows: 1, image: [1] }, candidates: { rewritten: { rows: 1, kl: [kl + i / 1000], top1: [1], dp: [0] }, random: { rows: 1, kl: [other], top1: [1], dp: [0] } } }));
    return { provider: 'cpu', gates: [], control: null, fidelity: fidelityOf(samples, 'rewritten'), baselines: [baselineReport(samples, 'random')], placement: null, latency: null, memory: null, samples, faults: [], notes: [] };
  };
  it('a missed limit, and one without a figure, is a miss', () => {
    const results = judgeThresholds({ maxKl: 0.05, minTop1: 0.9, maxPplRatio: 1.1, minFlopsCut: 0.4 }, [provider(0.1, 0.2)], null);
    expect(results.map((r) => [r.option, r.met])).toEqual([['--min-flops-cut', false], ['--max-kl', false], ['--min-top1', true], ['--max-ppl-ratio', false]]);
  });
  it('says plainly when ranking loses', () => {
    const lost = provider(0.2, 0.1);
    expect(baselineFinding(lost, lost.baselines[0] as never)).toMatch(/LOSES to random.*Ranking buys nothing/);
    const won = provider(0.1, 0.2);
    expect(baselineFinding(won, won.baselines[0] as never)).toMatch(/beats random/);
    expect(judgeThresholds({ beatBaselines: true }, [lost], null)[0]?.met).toBe(false);
  });
});
