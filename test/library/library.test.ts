/** The library: what the command line measures, without it; options that are slips; and what would do nothing in silence. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { compile, type CompileOptions, sweep, tune, type TuneOptions, validate, type ValidateOptions } from '../../src/index.js';
import { requireSchema } from '../../src/disk/schemas.js';
import { cli } from '../support/cli.js';
import { fixturePath } from '../support/proto.js';

const MODEL = fixturePath('llama-ts17-sdpa');
const SMALL = { original: MODEL, imageTokens: 12, textTokens: 6, positions: 1, samples: 1 };

describe('validate, sweep and tune', () => {
  let rewritten: string;
  let work: string;
  beforeAll(async () => {
    work = mkdtempSync(join(tmpdir(), 'pdrop-library-'));
    rewritten = join(work, 'out.onnx');
    await compile(MODEL, { output: rewritten });
  });
  afterAll(() => rmSync(work, { recursive: true, force: true }));

  it('give the reports of the command line, and write them where that is asked for', { timeout: 120_000 }, async () => {
    const report = join(work, 'report.json');
    const seen: string[] = [];
    const r = await validate({ ...SMALL, rewritten, gates: false, latency: false, memory: false, maps: 0, workDir: work, report, thresholds: { minFlopsCut: 0.9 } }, { progress: { start: (label) => seen.push(label), tick() {}, end() {} } });
    expect([r.verdict, r.thresholds[0]?.met]).toEqual(['failed', false]);
    requireSchema('report-validate', JSON.parse(readFileSync(report, 'utf8')), report);
    expect(seen).toContain('rewritten on cpu');
    const curve = await sweep({ ...SMALL, lambdas: '0.5:0.75:0.25', stages: [2], positionModes: ['keep'], workDir: work });
    expect(curve.points.map((p) => [p.positions, p.lambda])).toEqual([['keep', '0.5'], ['keep', '0.75']]);
    // What tune finds is in test/validate/tune/tune.test.ts; here: that it is reached, with its defaults.
    await expect(tune({ ...SMALL, workDir: work })).rejects.toMatchObject({ code: 'PD041' });
  });

  it('a run is ended by its signal', async () => {
    const ended = AbortSignal.abort();
    await expect(validate({ ...SMALL, rewritten, gates: false, latency: false, memory: false, maps: 0, workDir: work }, { signal: ended })).rejects.toMatchObject({ code: 'PD530' });
  });

  it.each<[string, object, RegExp]>([
    ['compile', { lamda: 0.9 }, /did you mean lambda/],
    ['compile', { stages: '4' }, /stages is "4"/],
    ['compile', { layers: 4 }, /layers is 4/],
    ['compile', { keep: [0.5, null] }, /keep is \[0\.5, null\]/],
    ['compile', { force: 'yes' }, /force is "yes"/],
    ['compile', { imageMask: 7 }, /imageMask is 7/],
    ['compile', { runtime: 'ort' }, /runtime is "ort"/],
    ['compile', { progress: true }, /progress is true/],
    ['compile', { imageTokens: 1.5 }, /imageTokens is 1\.5/],
    ['validate', { generat: 3 }, /did you mean generate/],
    ['validate', { data: 'samples' }, /data is "samples"/],
    ['validate', { repeats: -1 }, /repeats is -1/],
    ['validate', { thresholds: { minTop1: 95 } }, /minTop1 is 95: shares go up to 1/],
    ['validate', { thresholds: { maxKL: 0.1 } }, /did you mean thresholds\.maxKl/],
    ['sweep', { lambda: 0.5 }, /did you mean lambdas/],
    ['sweep', { positionModes: ['sideways'] }, /positionModes is \["sideways"\]/],
    ['tune', { targetFlop: 0.5 }, /did you mean targetFlops/],
    ['tune', { budget: '10m' }, /budget is "10m"/],
  ])('%s with %o is a usage error that names it', async (what, options, message) => {
    const run = { compile: () => compile(MODEL, { dryRun: true, ...(options as CompileOptions) }), validate: () => validate({ original: MODEL, rewritten: MODEL, ...(options as ValidateOptions) }), sweep: () => sweep({ original: MODEL, ...options }), tune: () => tune({ original: MODEL, ...(options as TuneOptions) }) }[what];
    await expect(run?.()).rejects.toMatchObject({ code: 'PD001', message: expect.stringMatching(message) });
  });

  it('without an original they say so', async () => {
    await expect(sweep({} as never)).rejects.toMatchObject({ code: 'PD001', message: 'no original model was given' });
  });
});

describe('what would do nothing in silence', () => {
  const IDS = fixturePath('llama-ts17-ids');
  it('an image token that the embedding table does not have is refused', async () => {
    await expect(compile(IDS, { imageMask: 'input-ids:999999', dryRun: true })).rejects.toMatchObject({ code: 'PD013', message: 'there is no token 999999: the embedding table has 128 rows' });
    expect((await compile(IDS, { imageMask: 'input-ids:127', dryRun: true })).warnings).toEqual([]);
  });

  it('where only logits bound the vocabulary, it is warned of', async () => {
    expect((await cli(MODEL, '--image-mask', 'input-ids:999999', '--dry-run')).err).toMatch(/warning: image token id 999999 is beyond the vocabulary \(128 logits\)/);
  });

  it('--image-mask none on a decoder that takes prompts is warned of; on one that only decodes it is what is meant', async () => {
    expect((await cli(MODEL, '--image-mask', 'none', '--dry-run')).err).toMatch(/warning: with --image-mask none nothing is dropped/);
    expect((await cli(fixturePath('tf-llama-split-decode'), '--image-mask', 'none', '--dry-run')).err).toBe('');
  });
});
