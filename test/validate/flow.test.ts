/** validate, merge and sweep as the command line runs them, on a shipped decoder that takes token ids. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { register as registerMerge } from '../../src/cli/commands/merge.js';
import { register as registerSweep } from '../../src/cli/commands/sweep.js';
import { register as registerValidate } from '../../src/cli/commands/validate.js';
import { PdropError } from '../../src/diagnostics.js';
import { requireSchema, schemaComplaint, schemaOf } from '../../src/disk/schemas.js';
import { Random } from '../../src/validate/feeding/random.js';
import type { ValidateReport } from '../../src/validate/result.js';
import type { SweepReport } from '../../src/validate/sweep/curve.js';
import { validate } from '../../src/validate/validate.js';
import { LoadedFixture } from '../support/fixtures.js';
import { compileFixture, fixtureSample, temporaryFolder } from './support.js';

const folder = temporaryFolder();
const fixture = new LoadedFixture('llama-ts17-ids');
const image = Number(fixture.info.plans.default?.imageMask.split(':')[1]);
const compiled = join(folder, 'compiled.onnx');
const data = join(folder, 'data.jsonl');
const QUICK = ['--no-latency', '--no-memory', '--no-gates', '--maps', '0', '--baselines', 'none', '--quiet', '--work-dir', folder];

function sample(i: number): { id: string; inputs: { input_ids: number[][] }; labels: number[]; answers: number[][]; images: unknown[] } {
  const random = new Random(100 + i);
  const word = (): number => {
    const id = random.integer(128);
    return id === image ? 0 : id;
  };
  const prompt = [...Array.from({ length: 3 }, word), ...Array.from({ length: 16 }, () => image), ...Array.from({ length: 5 + (i % 3) }, word)];
  return { id: `q${i}`, inputs: { input_ids: [prompt] }, labels: Array.from({ length: 4 }, word), answers: [[word()]], images: [{ rows: 4, columns: 4 }] };
}

beforeAll(async () => {
  await compileFixture(fixture, compiled);
  writeFileSync(data, Array.from({ length: 6 }, (_, i) => JSON.stringify(sample(i))).join('\n'));
});
afterEach(() => {
  process.exitCode = 0;
  vi.restoreAllMocks();
});

async function cli(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const program = new Command('pdrop-compile').exitOverride();
  for (const register of [registerValidate, registerMerge, registerSweep]) register(program);
  let out = '';
  let err = '';
  vi.spyOn(process.stdout, 'write').mockImplementation((t) => {
    out += String(t);
    return true;
  });
  vi.spyOn(process.stderr, 'write').mockImplementation((t) => {
    err += String(t);
    return true;
  });
  process.exitCode = 0;
  try {
    await program.parseAsync(['node', 'pdrop-compile', ...args]);
    return { code: Number(process.exitCode), out, err };
  } catch (error) {
    if (error instanceof PdropError) return { code: error.exitCode, out, err: `${error.code}: ${error.message}` };
    throw error;
  } finally {
    vi.restoreAllMocks();
  }
}

const load = (path: string): ValidateReport => JSON.parse(readFileSync(path, 'utf8')) as ValidateReport;

describe('validate', () => {
  it('measures everything, obeys the schema, leaves nothing behind', async () => {
    const [report, junit, summary] = ['full.json', 'full.xml', 'full.md'].map((f) => join(folder, f));
    const { code, out } = await cli('validate', fixture.model, compiled, '--data', data, '--generate', '4', '--continue', '4', '--repeats', '2', '--warmups', '1', '--maps', '2', '--min-flops-cut', '0.2', '--report', report ?? '', '--junit', junit ?? '', '--summary', summary ?? '');
    expect(code).toBe(0);
    const r = load(report ?? '');
    const check = schemaOf('report-validate');
    expect(check(r) ? '' : schemaComplaint(check)).toBe('');
    const p = r.providers[0];
    expect(p?.gates.map((g) => g.status)).toEqual(new Array(8).fill('passed'));
    expect(p?.fidelity?.samples).toBe(6);
    expect(p?.fidelity?.all?.positions).toBe(24);
    expect(p?.fidelity?.all?.perplexity?.tokens).toBe(24);
    expect(p?.fidelity?.generation?.texts).toBe(6);
    expect(p?.fidelity?.answers?.samples).toBe(6);
    expect(p?.baselines.map((b) => [b.rank, b.fidelity?.samples])).toEqual([['uniform', 6], ['random', 6]]);
    expect(r.findings.filter((f) => /ranker/.test(f))).toHaveLength(2);
    expect(r.cost?.countsDiffer).toBe(0);
    expect(r.cost?.layers.map((l) => l.tokens.rewritten)).toEqual([24, 24, 16, 16, 12, 12, 10, 10]);
    expect(r.cost?.prefill.rewritten.parts.decoder).toBe(r.cost?.layers.reduce((a, l) => a + l.macs.rewritten, 0));
    expect(p?.placement?.rewritten.prefill.nodeShare).toBe(1);
    expect(p?.latency?.prefill.original.n).toBe(2);
    expect(p?.memory?.rewritten?.peak).toBeGreaterThan(10e6);
    expect(r.kept?.samples).toHaveLength(2);
    expect(r.kept?.samples[0]?.rows[0]?.kept.map((k) => k.length)).toEqual([8, 4, 2]);
    expect(r.kept?.histogram.samples).toBe(6);
    expect(readFileSync(junit ?? '', 'utf8')).toMatch(/<testsuites name="pdrop-compile validate" tests="\d+" failures="0"/);
    expect(readFileSync(summary ?? '', 'utf8')).toMatch(/### pdrop-compile validate: ✅ passed/);
    expect(out).toMatch(/KL divergence, mean/);
    expect(readdirSync(join(fixture.model, '..')).filter((f) => f.includes('tmp-pdrop'))).toEqual([]);
    expect(existsSync(`${report}.partial.jsonl`)).toBe(false);
  });

  it('a missed threshold is exit code 1 and a table of what fell short', async () => {
    const { code, err } = await cli('validate', fixture.model, compiled, '--data', data, '--limit', '2', ...QUICK, '--max-kl', '0.000001', '--min-flops-cut', '0.9');
    expect(code).toBe(1);
    expect(err).toMatch(/What fell short/);
    expect(err).toMatch(/--max-kl/);
    expect(err).toMatch(/--min-flops-cut/);
  });

  it('bad samples name sample and tensor; with --keep-going the others count, and the exit code is 4', async () => {
    const path = join(folder, 'faulty.jsonl');
    const good = sample(0);
    writeFileSync(path, [
      { ...good, id: 'fine' },
      { ...good, id: 'flat', inputs: { input_ids: good.inputs.input_ids[0] } },
      { ...good, id: 'typed', inputs: { input_ids: { dtype: 'float32', data: good.inputs.input_ids } } },
      { ...good, id: 'empty', inputs: { other: [1] } },
      { ...good, id: 'beyond', inputs: { input_ids: [[1, 2, 99999]] } },
      { ...good, id: 'last' },
    ].map((s) => JSON.stringify(s)).join('\n'));
    const report = join(folder, 'faulty.json');
    const { code, err } = await cli('validate', fixture.model, compiled, '--data', path, ...QUICK, '--keep-going', '--report', report);
    expect(code).toBe(4);
    const p = load(report).providers[0];
    expect(p?.samples.map((s) => s.id)).toEqual(['fine', 'last']);
    expect(p?.faults.map((f) => [f.id, f.code])).toEqual([['flat', 'PD513'], ['typed', 'PD512'], ['empty', 'PD511'], ['beyond', 'PD502']]);
    expect(err).toMatch(/sample flat: "input_ids" has shape/);
    expect(err).toMatch(/sample typed: "input_ids" is float32, the model takes int64/);
    expect(load(report).verdict).toBe('incomplete');
    const stopped = await cli('validate', fixture.model, compiled, '--data', path, ...QUICK, '--report', report);
    expect(stopped.code).toBe(4);
    expect(load(report).providers[0]?.samples.map((s) => s.id)).toEqual(['fine']);
  });

  it('shards merge into what one run gives', async () => {
    const whole = join(folder, 'whole.json');
    const args = ['--data', data, '--generate', '3', '--continue', '3', '--no-latency', '--no-memory', '--no-gates', '--quiet', '--work-dir', folder, '--baselines', 'random:3'];
    await cli('validate', fixture.model, compiled, ...args, '--report', whole);
    const parts = [1, 2].map((i) => join(folder, `part${i}.json`));
    for (const [i, path] of parts.entries()) expect((await cli('validate', fixture.model, compiled, ...args, '--shard', `${i + 1}/2`, '--report', path)).code).toBe(0);
    expect(load(parts[0] ?? '').providers[0]?.samples.map((s) => s.id)).toEqual(['q0', 'q2', 'q4']);
    const merged = join(folder, 'merged.json');
    expect((await cli('merge', ...parts, '--report', merged, '--quiet', '--max-kl', '0.000001')).code).toBe(1);
    const [a, b] = [load(whole), load(merged)];
    expect(b.providers[0]?.samples).toEqual(a.providers[0]?.samples);
    expect(b.providers[0]?.fidelity).toEqual(a.providers[0]?.fidelity);
    expect(b.providers[0]?.baselines).toEqual(a.providers[0]?.baselines);
    expect(b.data.samples).toBe(6);
    expect(b.shard).toBeNull();
    expect((await cli('merge', parts[0] ?? '', '--quiet')).err).toMatch(/shard 2 of 2 is missing/);
    expect((await cli('merge', parts[0] ?? '', parts[0] ?? '', '--quiet')).err).toMatch(/there twice/);
  });

  it('an interrupted run leaves no report, and resumes from its partial one', async () => {
    const report = join(folder, 'resumed.json');
    const options = { original: fixture.model, rewritten: compiled, data: [data], report, gates: false, latency: false, memory: false, maps: 0, baselines: [], positions: 3 } as const;
    const abort = new AbortController();
    const stop = { start() {}, end() {}, tick: (n: number) => n === 2 && abort.abort() };
    await expect(validate(options, stop as never, abort.signal)).rejects.toMatchObject({ code: 'PD530', exitCode: 130 });
    expect(existsSync(report)).toBe(false);
    expect(readFileSync(`${report}.partial.jsonl`, 'utf8').trim().split('\n')).toHaveLength(3);
    const resumed = await validate(options);
    expect(resumed.report.data).toMatchObject({ samples: 6, resumed: 2 });
    const fresh = await validate({ ...options, report: undefined });
    expect(resumed.report.providers[0]?.samples).toEqual(fresh.report.providers[0]?.samples);
    resumed.finish();
    expect(existsSync(`${report}.partial.jsonl`)).toBe(false);
  });

  it('says early what cannot be done', async () => {
    const nowhere = join(folder, 'file-not-folder');
    writeFileSync(nowhere, '');
    expect(await cli('validate', fixture.model, compiled, '--report', join(nowhere, 'r.json'))).toMatchObject({ code: 2, err: expect.stringMatching(/PD003: cannot write/) });
    expect(await cli('validate', fixture.model, fixture.model)).toMatchObject({ code: 2, err: expect.stringMatching(/PD009: model.onnx carries no plan/) });
    expect(await cli('validate', fixture.model, compiled, '--ep', 'quantum')).toMatchObject({ code: 2, err: expect.stringMatching(/unknown execution provider/) });
    expect(await cli('validate', fixture.model, compiled, '--data', join(folder, 'none'))).toMatchObject({ code: 2, err: expect.stringMatching(/there is no data at/) });
    expect(await cli('validate', fixture.model, compiled, '--shard', '3/2')).toMatchObject({ code: 2 });
    expect(await cli('validate', fixture.model, compiled, '--ep', 'coreml', ...QUICK)).toMatchObject({ code: 4, err: expect.stringMatching(/PD501: no session for .* on coreml/) });
  });
});

describe('faults in outputs', () => {
  it('NaN names the sample, the tensor and the model', async () => {
    const embeds = new LoadedFixture('llama-ts17-sdpa');
    const path = await compileFixture(embeds, join(folder, 'embeds.onnx'));
    const feeds = fixtureSample(embeds).feeds;
    const x = feeds.get('inputs_embeds');
    const nan = join(folder, 'nan');
    mkdirSync(nan);
    writeFileSync(join(nan, 'a.json'), JSON.stringify({ id: 'broken', inputs: { inputs_embeds: { dtype: 'float32', shape: x?.dims, base64: Buffer.alloc((x?.data.byteLength ?? 0), Buffer.from(Float32Array.from([Number.NaN]).buffer)).toString('base64') } }, images: [{ rows: 4, columns: 6, start: 4 }] }));
    const { code, err } = await cli('validate', embeds.model, path, '--data', nan, ...QUICK);
    expect(code).toBe(4);
    expect(err).toMatch(/PD514: sample broken: 128 of 128 values of the output "logits" of model.onnx are NaN/);
  });
});

describe('sweep', () => {
  it('gives the curve, and validate finds its own point on it', async () => {
    const curve = join(folder, 'curve.json');
    const { code, out } = await cli('sweep', fixture.model, '--lambda', '0.25:0.75:0.25', '--stages', '2,4', '--positions', 'compact', '--generate', '2', '--baselines', 'none', '--image-mask', `input-ids:${image}`, '--data', data, '--limit', '3', '--continue', '2', '--work-dir', join(folder, 'not', 'there', 'yet'), '--report', curve);
    expect(code).toBe(0);
    expect(out.trim().split('\n')).toHaveLength(7);
    const report = join(folder, 'curved.json');
    await cli('validate', fixture.model, compiled, '--data', data, '--limit', '1', ...QUICK, '--curve', curve, '--report', report);
    const r = load(report);
    expect(r.curve?.points[r.curve.chosen]).toMatchObject({ stages: 4, lambda: '0.5' });
    const four = r.curve?.points.filter((p) => p.stages === 4) ?? [];
    expect(four.map((p) => p.macsCut)).toEqual([...four.map((p) => p.macsCut)].sort((a, b) => b - a));
    expect(r.curve?.points.every((p) => p.positions === 'compact' && p.fidelity?.generation?.texts === 3)).toBe(true);
    expect(readdirSync(folder).filter((f) => f.includes('tmp-pdrop'))).toEqual([]);
    // Points of the other position mode, or of another ranker, say nothing of this model.
    const sweep = requireSchema<SweepReport>('sweep', JSON.parse(readFileSync(curve, 'utf8')), curve);
    for (const [other, hint] of [[{ ...sweep, points: sweep.points.map((p) => ({ ...p, positions: 'keep' })) }, /made with positions keep/], [{ ...sweep, rank: 'uniform' }, /made with rank uniform/]] as const) {
      writeFileSync(join(folder, 'other.json'), JSON.stringify(other));
      const refused = await cli('validate', fixture.model, compiled, '--data', data, '--limit', '1', ...QUICK, '--no-gates', '--curve', join(folder, 'other.json'));
      expect([refused.code, refused.err]).toEqual([2, expect.stringMatching(hint)]);
    }
  });

  it('draws a curve for each position mode, with a baseline at every point', async () => {
    const { code, out } = await cli('sweep', fixture.model, '--lambda', '0.5', '--stages', '2', '--positions', 'compact,keep', '--image-mask', `input-ids:${image}`, '--data', data, '--limit', '2', '--continue', '1', '--json');
    expect(code).toBe(0);
    const { points } = JSON.parse(out) as SweepReport;
    expect(points.map((p) => [p.positions, p.baselines.map((b) => [b.rank, b.klAdvantage?.samples])])).toEqual(['compact', 'keep'].map((mode) => [mode, [['uniform', 2]]]));
    expect((await cli('sweep', fixture.model, '--positions', 'compact,kep')).err).toContain('"kep" is no position mode');
  });
});
