/**
 * The same goldens on onnxruntime's WebGPU provider, for one fixture of each attention dialect, prefill and decode. Runs on
 * software Vulkan where there is no GPU; skipped, visibly, where there is no Vulkan driver at all.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as ort from 'onnxruntime-node';
import { afterAll, describe, expect, test } from 'vitest';
import { compile } from '../../src/index.js';
import { LoadedFixture, relativeError, runScenario, type Scenario, SESSION, toNumbers } from '../support/fixtures.js';
import { useVulkan } from '../support/vulkan.js';

const folder = mkdtempSync(join(tmpdir(), 'pdrop-webgpu-'));
const available = useVulkan();

/** What GPU kernels may be off by, relative to the range of the logits, when the original is off by no more. */
const BOUND = 5e-3;

afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

const NAMES = ['llama-ts17-sdpa', 'qwen3-dynamo23-sdpa', 'mobius-llava-decoder', 'genai-llama-embeds-fp32', 'genai-qwen3-webgpu-fp32', 'ort-llama-mha'];

async function webgpu(model: string): Promise<ort.InferenceSession> {
  return ort.InferenceSession.create(model, { executionProviders: ['webgpu'], logSeverityLevel: 3 });
}

async function logitsOf(session: ort.InferenceSession, fixture: LoadedFixture, scenario: Scenario): Promise<{ values: number[]; width: number }[]> {
  const all: { values: number[]; width: number }[] = [];
  await runScenario(session, fixture, scenario, (_, outputs) => {
    const logits = outputs.logits as ort.Tensor;
    all.push({ values: toNumbers(logits), width: logits.dims.at(-1) as number });
  });
  return all;
}

/** False also where the CPU provider has no kernel for the graph. */
async function agreesWithCpu(fixture: LoadedFixture, scenario: Scenario, found: readonly { values: number[]; width: number }[]): Promise<boolean> {
  const session = await ort.InferenceSession.create(fixture.model, SESSION);
  try {
    const expected = await logitsOf(session, fixture, scenario);
    return expected.every((e, i) => relativeError(found[i]?.values ?? [], e.values, e.width) <= BOUND);
  } catch {
    return false;
  } finally {
    await session.release();
  }
}

describe.skipIf(!available)('on WebGPU', () => {
  test.each(NAMES)('%s', async (name) => {
    const fixture = new LoadedFixture(name);
    const plan = fixture.info.plans.default;
    const scenario = fixture.info.scenarios.find((s) => s.plan === 'default' && s.kind === 'prefill');
    const text = fixture.info.scenarios.find((s) => s.plan === 'default' && s.kind === 'text-only');
    if (!plan || !scenario || !text) throw new Error(`${name} lacks a scenario`);
    const options = { layers: plan.layers, positions: plan.positions, imageMask: plan.imageMask };
    const whole = join(folder, `${name}-1.onnx`);
    await compile(fixture.model, { ...options, keep: plan.keep.map(() => '1'), output: whole });
    const dropping = join(folder, `${name}.onnx`);
    await compile(fixture.model, { ...options, keep: plan.keep, probe: true, output: dropping });

    // On the same provider: λ = 1 and text-only equal the original, prefill and decode.
    const original = await webgpu(fixture.model);
    const identity = await webgpu(whole);
    const session = await webgpu(dropping);
    for (const [s, compiled] of [[scenario, identity], [text, session]] as const) {
      const expected = await logitsOf(original, fixture, s);
      const found = await logitsOf(compiled, fixture, s);
      expected.forEach((e, i) => {
        expect(relativeError(found[i]?.values ?? [], e.values, e.width), `${s.name}, run ${i}: against the original`).toBeLessThanOrEqual(BOUND);
      });
    }

    // Against the reference, where this driver computes the original right: on software Vulkan the fused attention ops
    // do not from 32 tokens on (the original differs between CPU and WebGPU), so there is nothing to compare with.
    const sound = await agreesWithCpu(fixture, scenario, await logitsOf(original, fixture, scenario));
    if (['llama-ts17-sdpa', 'qwen3-dynamo23-sdpa'].includes(name)) expect(sound, 'the driver computes the original right').toBe(true);
    if (sound) {
      await runScenario(session, fixture, scenario, (run, outputs) => {
        const at = `${scenario.name} / ${run.name}`;
        run.expect.kept.forEach((ref, i) => {
          expect(toNumbers(outputs[`pdrop_kept.${i + 1}`] as ort.Tensor), `${at}: kept at boundary ${i + 1}`).toEqual(fixture.numbers(ref));
        });
        const error = relativeError(toNumbers(outputs.logits as ort.Tensor), fixture.numbers(run.expect.logits), run.expect.logits.shape.at(-1) as number);
        expect(error, at).toBeLessThanOrEqual(BOUND);
      });
    }
    for (const s of [original, identity, session]) await s.release();
  });
});
