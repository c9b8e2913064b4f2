/**
 * `--for training`: ranked by the token of query_index, labels follow the kept tokens. The golden is PyTorch's (fixtures/make/training.py, which
 * also holds the gradients of onnxruntime-training against autograd).
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { expect, test } from 'vitest';
import { check } from '../../src/check/check-file.js';
import { compile } from '../../src/index.js';
import { FIXTURES, feedsOf, LoadedFixture, SESSION, toNumbers } from '../support/fixtures.js';
import { folder } from '../support/folder.js';

interface Packed {
  readonly shape: readonly number[];
  readonly dtype: 'float32' | 'int64' | 'bool';
  readonly base64: string;
}

const NOCACHE = 'llama-dynamo20-nocache';
const ARRAYS = { float32: Float32Array, int64: BigInt64Array, bool: Uint8Array } as const;
const unpack = ({ dtype, shape, base64 }: Packed): Tensor => new Tensor(dtype, new ARRAYS[dtype](new Uint8Array(Buffer.from(base64, 'base64')).buffer) as never, [...shape]);
const modelOf = (name: string): string => join(FIXTURES, name, 'model.onnx');

test('logits, labels and kept tokens are those of the reference: padding, and a picture behind the answer', async () => {
  const golden = JSON.parse(readFileSync(join(FIXTURES, NOCACHE, 'training.json'), 'utf8')) as {
    plan: { layers: number[]; keep: string[] };
    scoreGap: number;
    feeds: Record<string, Packed>;
    expect: { logits: Packed; kept_labels: Packed; valid: Packed; kept: Packed[] };
  };
  expect(golden.scoreGap).toBeGreaterThan(1e-3);
  const output = join(folder(), 'out.onnx');
  await compile(modelOf(NOCACHE), { ...golden.plan, positions: 'compact', for: 'training', probe: true, output });
  const session = await InferenceSession.create(output, SESSION);
  const got = await session.run(Object.fromEntries(Object.entries(golden.feeds).map(([name, packed]) => [name, unpack(packed)])));
  golden.expect.kept.forEach((kept, i) => {
    expect(toNumbers(got[`pdrop_kept.${i + 1}`] as Tensor), `kept at boundary ${i + 1}`).toEqual(toNumbers(unpack(kept)));
  });
  expect(toNumbers(got.kept_labels as Tensor)).toEqual(toNumbers(unpack(golden.expect.kept_labels)));
  expect(got.logits?.dims).toEqual(golden.expect.logits.shape);
  const [wanted, valid, logits] = [unpack(golden.expect.logits), unpack(golden.expect.valid), got.logits as Tensor].map(toNumbers) as [number[], number[], number[]];
  const width = wanted.length / valid.length;
  expect(valid.filter((v) => v === 1).length).toBeGreaterThan(30);
  const worst = Math.max(...wanted.map((w, i) => (valid[Math.floor(i / width)] ? Math.abs(w - (logits[i] as number)) : 0)));
  expect(worst).toBeLessThan(1e-4);
});

test.each([NOCACHE, 'tf-llava-mono'])('%s: with the last token as the query it is what the graph for inference computes', async (name) => {
  const fixture = new LoadedFixture(name);
  const { layers, keep, imageMask, positions } = fixture.info.plans.default as NonNullable<LoadedFixture['info']['plans'][string]>;
  const plan = { layers, keep, imageMask, positions, probe: true };
  const [asked, trained] = [join(folder(), 'asked.onnx'), join(folder(), 'trained.onnx')];
  await compile(fixture.model, { ...plan, output: asked });
  await compile(fixture.model, { ...plan, for: 'training', output: trained });
  const sessions = await Promise.all([asked, trained].map((path) => InferenceSession.create(path, SESSION)));
  let compared = 0;
  for (const scenario of fixture.info.scenarios.filter((s) => s.plan === 'default')) {
    const feeds = feedsOf(sessions[0] as InferenceSession, fixture, scenario.runs[0] as (typeof scenario.runs)[number], undefined);
    const mask = toNumbers(feeds.attention_mask as Tensor);
    const [rows, size] = (feeds.attention_mask as Tensor).dims as [number, number];
    const last = Array.from({ length: rows }, (_, r) => BigInt(mask.slice(r * size, (r + 1) * size).lastIndexOf(1)));
    const labels = BigInt64Array.from({ length: rows * size }, (_, i) => BigInt(i));
    const [one, two] = (await Promise.all([
      sessions[0]?.run(feeds),
      sessions[1]?.run({ ...feeds, query_index: new Tensor('int64', BigInt64Array.from(last), [rows]), labels: new Tensor('int64', labels, [rows, size]) }),
    ])) as [Record<string, Tensor>, Record<string, Tensor>];
    const [a, b] = [one.logits, two.logits].map((t) => toNumbers(t as Tensor)) as [number[], number[]];
    expect(b.length).toBe(a.length);
    expect(Math.max(...a.map((v, i) => Math.abs(v - (b[i] as number))))).toBeLessThan(1e-5);
    // Labels that count tell which tokens they went with.
    const kept = toNumbers(two[`pdrop_kept.${layers.length}`] as Tensor);
    expect(kept).toEqual(toNumbers(one[`pdrop_kept.${layers.length}`] as Tensor));
    expect(toNumbers(two.kept_labels as Tensor)).toEqual(kept.map((k, i) => k + Math.floor(i / (kept.length / rows)) * size));
    compared++;
  }
  expect(compared).toBeGreaterThan(2);
});

test('what is written carries its plan, is declared and passes check', async () => {
  const output = join(folder(), 'out.onnx');
  const report = await compile(modelOf('tf-llava-mono'), { stages: 3, for: 'training', output });
  expect(report.plan.training).toBe(true);
  expect((await check(output)).checks.filter((c) => c.problems.length > 0)).toEqual([]);
  const session = await InferenceSession.create(output, SESSION);
  expect(session.inputNames).toEqual(expect.arrayContaining(['query_index', 'labels']));
  expect(session.outputNames).toContain('kept_labels');
});

test.each([
  ['a cache', 'llama-ts17-sdpa', {}, 'PD625'],
  ['fixed sizes', NOCACHE, { fix: { batch: 1, sequence: 64 }, imageMask: 'span:1:16' }, 'PD023'],
  ['no image tokens', NOCACHE, { imageMask: 'none' }, 'PD023'],
  ['onnxruntime-genai', 'tf-llava-mono', { runtime: 'genai' as const }, 'PD023'],
])('refused: %s', async (_, name, options, code) => {
  await expect(compile(modelOf(name), { ...options, for: 'training', output: join(folder(), 'out.onnx') })).rejects.toMatchObject({ code });
});
