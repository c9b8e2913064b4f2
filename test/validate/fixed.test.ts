/** Graphs of fixed shapes against their originals: samples are laid into the one prompt they take, and what they compute is what the graph of any length computes. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { compile, type CompileOptions } from '../../src/index.js';
import { Random } from '../../src/validate/feeding/random.js';
import { flopsOf } from '../../src/validate/flops.js';
import type { ValidateOptions } from '../../src/validate/options.js';
import type { ProviderReport, ValidateReport } from '../../src/validate/result.js';
import { validate } from '../../src/validate/validate.js';
import { FIXTURES } from '../support/fixtures.js';
import { damage, temporaryFolder } from './support.js';

const folder = temporaryFolder();
const SPAN = { stages: 3, imageMask: 'span:5:20' } as const;
const QUICK = { latency: false, memory: false, maps: 0, workDir: folder } as const;
const fixedExport = (name: string, form: 'fixed' | 'dynamic'): string => join(FIXTURES, 'fixed', name, `${form}.onnx`);

async function compiled(model: string, name: string, options: CompileOptions): Promise<string> {
  const output = join(folder, `${name}.onnx`);
  await compile(model, { ...SPAN, ...options, output, force: true });
  return output;
}

async function run(original: string, rewritten: string, options: Partial<ValidateOptions> = {}): Promise<{ report: ValidateReport; provider: ProviderReport }> {
  const { report } = await validate({ ...QUICK, original, rewritten, ...options });
  return { report, provider: report.providers[0] as ProviderReport };
}

const statuses = (p: ProviderReport): Record<string, string> => Object.fromEntries(p.gates.map((g) => [g.gate, g.status]));
const ALL_BUT_STEPS = { identity: 'passed', 'text-only': 'skipped', counts: 'passed', order: 'passed', 'text-kept': 'passed', choice: 'passed', decode: 'skipped', reproduction: 'passed' };

interface Prompt {
  readonly length: number;
  /** Padding, counted in `length`. */
  readonly left?: number;
  readonly imageAt?: number;
  readonly rows?: number;
}

/** Samples of embeddings `hidden` wide, the same numbers for the same sample, with 20 image tokens. */
function dataOf(name: string, prompts: readonly Prompt[], hidden = 32): string {
  const lines = prompts.map(({ length, left = 0, imageAt = 5, rows = 1 }, s) => {
    const random = new Random(40 + s);
    const inputs_embeds = Array.from({ length: rows }, () => Array.from({ length }, () => Array.from({ length: hidden }, () => random.normal())));
    const row = <T>(make: (i: number) => T): T[][] => Array.from({ length: rows }, () => Array.from({ length }, (_, i) => make(i)));
    const inputs = { inputs_embeds, attention_mask: row((i) => Number(i >= left)), image_token_mask: row((i) => i - left >= imageAt && i - left < imageAt + 20) };
    return JSON.stringify({ id: `s${s}`, inputs, labels: [3, 4] });
  });
  const path = join(folder, `${name}.jsonl`);
  writeFileSync(path, lines.join('\n'));
  return path;
}

// A mask and fed positions, and neither; originals of one length and of any.
test.each([['llama-ts17', 'fixed'], ['llama-ts17', 'dynamic'], ['qwen3-dynamo23-nomask', 'fixed'], ['qwen3-dynamo23-nomask', 'dynamic']] as const)('%s, the %s export: every gate that a prompt alone decides', async (name, form) => {
  const rewritten = await compiled(fixedExport(name, 'fixed'), `${name}-${form}`, {});
  const { report, provider } = await run(fixedExport(name, form), rewritten, { latency: true, repeats: 2, warmups: 0, maps: 1, samples: 2, baselines: ['uniform'], generate: 4 });
  expect(statuses(provider)).toEqual(ALL_BUT_STEPS);
  expect(provider.gates.find((g) => g.gate === 'counts')?.detail).toContain('40, 30, 25');
  expect(provider.gates.find((g) => g.gate === 'order')?.detail).toMatch(/present\.\d\.value/);
  expect(provider.fidelity).toMatchObject({ samples: 2, generation: null, all: { positions: 2 } });
  expect(provider.fidelity?.all?.kl.mean).toBeGreaterThan(1e-4);
  expect(provider.baselines.map((b) => b.fidelity?.samples)).toEqual([2]);
  expect(provider.latency).toMatchObject({ decode: null, breakEven: null });
  expect(provider.latency?.prefill.original.median).toBeGreaterThan(0);
  expect(report.cost).toMatchObject({ countsDiffer: 0, decode: null, at: { tokens: 40, imageTokens: 20 } });
  // Asked for another prompt, costs are those of the only one there is.
  const flops = await flopsOf(rewritten, { imageTokens: 576, textTokens: 64, past: 0, batch: 1 });
  expect([flops.at.imageTokens, flops.at.textTokens, flops.prefill.macs]).toEqual([20, 20, report.cost?.prefill.rewritten.graph]);
  expect(report.kept?.samples[0]?.rows[0]?.imageTokens).toBe(20);
  expect([report.settings.positions, report.settings.generate, report.verdict]).toEqual([1, 0, 'passed']);
  expect(report.data.note).toContain('one prompt of 40 tokens');
});

test('padded prompts of a decoder with caches lose what the graph of any length loses on them as they are', async () => {
  const original = join(FIXTURES, 'llama-ts17-sdpa', 'model.onnx');
  const data = dataOf('prompts', [{ length: 48 }, { length: 37 }, { length: 41, left: 6 }], 64);
  const fixed = await compiled(original, 'fixed', { fix: { batch: 1, sequence: 48 } });
  const padded = await run(original, fixed, { data: [data], baselines: [], gateSamples: 3 });
  expect(statuses(padded.provider)).toEqual(ALL_BUT_STEPS);
  const free = await run(original, await compiled(original, 'free', {}), { data: [data], baselines: [], positions: 1, gates: false });
  const kl = (p: ProviderReport): number[] => p.samples.map((s) => s.candidates.rewritten?.kl[0] as number);
  expect(kl(padded.provider)).toHaveLength(3);
  for (const [i, v] of kl(padded.provider).entries()) {
    expect(v).toBeGreaterThan(1e-4);
    expect(Math.abs(v - (kl(free.provider)[i] as number))).toBeLessThan(1e-5);
  }
});

test('two prompts at once, of token ids', async () => {
  const original = join(FIXTURES, 'llama-ts17-ids', 'model.onnx');
  const rewritten = await compiled(original, 'two', { fix: { batch: 2, sequence: 40 } });
  const { report, provider } = await run(original, rewritten, { samples: 2 });
  expect(statuses(provider)).toEqual(ALL_BUT_STEPS);
  expect(provider.samples.map((s) => s.tokens)).toEqual([0, 1].map(() => ({ length: 40, rows: 2, image: [20, 20] })));
  expect(report.data.note).toContain('2 prompts of 40 tokens');
});

test('a graph that was tampered with fails its gates', async () => {
  const original = fixedExport('llama-ts17', 'dynamic');
  const sound = await compiled(fixedExport('llama-ts17', 'fixed'), 'sound', {});
  const swapped = await run(original, await damage(sound, join(folder, 'swapped.onnx'), 'swap-kept'));
  expect(statuses(swapped.provider)).toMatchObject({ identity: 'passed', order: 'failed', reproduction: 'failed' });
  expect(swapped.report.verdict).toBe('failed');
  const lost = await run(original, await damage(sound, join(folder, 'lost.onnx'), 'drop-text'));
  expect(statuses(lost.provider)).toMatchObject({ 'text-kept': 'failed' });
});

test('samples that do not fit are named with what they have and what the graph takes, and can be left out', async () => {
  const original = fixedExport('llama-ts17', 'dynamic');
  const rewritten = await compiled(fixedExport('llama-ts17', 'fixed'), 'misfits', {});
  const data = dataOf('misfits', [{ length: 41 }, { length: 38, imageAt: 7 }, { length: 30, left: 6 }, { length: 40, rows: 2 }, { length: 39 }]);
  const { report, provider } = await run(original, rewritten, { data: [data], baselines: [], keepGoing: true });
  expect(provider.faults.map((f) => [f.id, f.code])).toEqual([['s0', 'PD517'], ['s1', 'PD517'], ['s2', 'PD517'], ['s3', 'PD517']]);
  const [long, elsewhere, short, rows] = provider.faults.map((f) => f.message);
  expect(long).toContain('41 tokens, the graph takes 40');
  expect(elsewhere).toMatch(/position 5 of row 0.*span:5:20/);
  expect(short).toContain('24 valid tokens in row 0');
  expect(rows).toContain('2 rows of tokens, the graph takes 1');
  expect(provider.samples.map((s) => s.id)).toEqual(['s4']);
  expect(statuses(provider)).toEqual(ALL_BUT_STEPS);
  expect(report.verdict).toBe('incomplete');
  const unmasked = await run(fixedExport('qwen3-dynamo23-nomask', 'dynamic'), await compiled(fixedExport('qwen3-dynamo23-nomask', 'fixed'), 'unmasked', {}), { data: [dataOf('short', [{ length: 39 }])], baselines: [] });
  expect(unmasked.provider.faults[0]).toMatchObject({ code: 'PD517', message: expect.stringContaining('no attention mask') });
});
