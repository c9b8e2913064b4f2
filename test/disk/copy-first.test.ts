/** Large files: the weights are copied by the system while the graph is compiled, and the graph is laid out around them. */
import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as ort from 'onnxruntime-node';
import { afterAll, describe, expect, test } from 'vitest';
import { check, compile, inspect } from '../../src/index.js';
import { LoadedFixture, runScenario, SESSION, toNumbers } from '../support/fixtures.js';

const folder = mkdtempSync(join(tmpdir(), 'pdrop-copy-'));
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

describe.each(['llama-ts17-sdpa', 'qwen3-dynamo23-sdpa', 'genai-llama-int4', 'mobius-llava-decoder', 'tf-llava-mono-cache'])('%s', (name) => {
  const fixture = new LoadedFixture(name);
  const plan = fixture.info.plans.default;
  if (!plan) throw new Error(`${name} has no default plan`);

  test('computes what the streamed file computes, and says the same of itself', async () => {
    const options = { layers: plan.layers, keep: plan.keep, positions: plan.positions, imageMask: plan.imageMask };
    const streamed = join(folder, `${name}-streamed.onnx`);
    const around = join(folder, `${name}-around.onnx`);
    await compile(fixture.model, { ...options, output: streamed });
    const report = await compile(fixture.model, { ...options, output: around, copyFirstBytes: 0 });
    const bytes = readFileSync(around);
    expect(report.bytes).toBe(bytes.length);
    expect(bytes.includes('pdrop.fill')).toBe(true);
    expect((await check(around)).checks.flatMap((c) => c.problems)).toEqual([]);
    const [a, b] = [await inspect(around), await inspect(streamed)];
    expect({ ...a, input: '', bytes: 0 }).toEqual({ ...b, input: '', bytes: 0 });
    const outputs: number[][][] = [];
    for (const path of [around, streamed]) {
      const session = await ort.InferenceSession.create(path, SESSION);
      const found: number[][] = [];
      const scenario = fixture.info.scenarios.find((s) => s.plan === 'default' && s.kind === 'prefill');
      if (!scenario) throw new Error('no scenario');
      await runScenario(session, fixture, scenario, (_, out) => found.push(...Object.values(out).map((v) => toNumbers(v as ort.Tensor))));
      await session.release();
      outputs.push(found);
    }
    expect(outputs[0]).toEqual(outputs[1]);
    // Where the weights lie, the file is the source, byte for byte.
    const source = readFileSync(fixture.model);
    let same = 0;
    for (let i = 0; i < Math.min(source.length, bytes.length); i++) if (source[i] === bytes[i]) same++;
    expect(same / source.length).toBeGreaterThan(0.3);
  });

  test('is deterministic', async () => {
    const [a, b] = [join(folder, `${name}-1.onnx`), join(folder, `${name}-2.onnx`)];
    for (const output of [a, b]) await compile(fixture.model, { imageMask: plan.imageMask, output, copyFirstBytes: 0 });
    expect(readFileSync(a).equals(readFileSync(b))).toBe(true);
  });
});

test('a refusal leaves nothing behind, nor does an existing output without force', async () => {
  const place = mkdtempSync(join(folder, 'refused-'));
  const input = join(place, 'model.onnx');
  copyFileSync(new LoadedFixture('llama-ts17-sdpa').model, input);
  const output = join(place, 'out.onnx');
  await expect(compile(input, { stages: 99, output, copyFirstBytes: 0 })).rejects.toMatchObject({ code: 'PD314' });
  expect(readdirSync(place)).toEqual(['model.onnx']);
  writeFileSync(output, 'mine');
  await expect(compile(input, { output, copyFirstBytes: 0 })).rejects.toMatchObject({ code: 'PD004' });
  expect(readFileSync(output, 'utf8')).toBe('mine');
  expect(readdirSync(place).sort()).toEqual(['model.onnx', 'out.onnx']);
});
