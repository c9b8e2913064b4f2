/**
 * λ = 1 and text-only prompts: the compiled graph must equal the original, whatever the exporter made of it, with
 * onnxruntime's own optimizations off and on. For half precision, where even a Gather of all rows moves results, the
 * bound is what a control (the original with such Gathers) is off by.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as ort from 'onnxruntime-node';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { compile } from '../../src/index.js';
import { writeControl } from '../../src/validate/gates/control.js';
import { fixtureNames, LoadedFixture, relativeError, runScenario, type Scenario, SESSION, toNumbers } from '../support/fixtures.js';

const folder = mkdtempSync(join(tmpdir(), 'pdrop-identity-'));
const FLOAT32_BOUND = 1e-5;

afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

/** What a model gives in scenarios, all in one session: making one costs more than running it. */
async function outputsOf(model: string, fixture: LoadedFixture, scenarios: readonly Scenario[], level: 'disabled' | 'all'): Promise<Map<string, number[]>[]> {
  const session = await ort.InferenceSession.create(model, { ...SESSION, graphOptimizationLevel: level });
  const found: Map<string, number[]>[] = [];
  for (const scenario of scenarios) {
    const all = new Map<string, number[]>();
    await runScenario(session, fixture, scenario, (run, outputs) => {
      for (const [name, value] of Object.entries(outputs)) all.set(`${run.name} / ${name}`, toNumbers(value as ort.Tensor));
    });
    found.push(all);
  }
  await session.release();
  return found;
}

function worst(a: ReadonlyMap<string, number[]>, b: ReadonlyMap<string, number[]>): { error: number; at: string } {
  let found = { error: 0, at: '' };
  for (const [name, original] of b) {
    const other = a.get(name);
    if (!other || other.length !== original.length) return { error: Number.POSITIVE_INFINITY, at: `${name}: ${other?.length} values instead of ${original.length}` };
    if (original.length === 0 || original.every((v, i) => v === other[i])) continue;
    const error = relativeError(other, original, 1);
    if (!(error <= found.error)) found = { error, at: name };
  }
  return found;
}

/** Graphs that only a GPU provider runs are compared there: test/numbers/webgpu.test.ts. */
const names = fixtureNames().filter((name) => new LoadedFixture(name).info.execution_provider !== 'webgpu');

describe.each(names)('%s', (name) => {
  const fixture = new LoadedFixture(name);
  const { info } = fixture;
  const plan = info.plans.default;
  if (!plan) throw new Error(`${name} has no default plan`);
  const scenarios = info.scenarios.filter((s) => s.plan === 'default' && (s.kind === 'prefill' || s.kind === 'batch' || s.kind === 'right-padding'));
  const first = scenarios[0];
  const batch = scenarios.find((s) => s.kind !== 'prefill');
  const text = info.scenarios.find((s) => s.plan === 'default' && s.kind === 'text-only');

  const [whole, half, control] = ['1', '2', 'c'].map((part) => join(folder, `${name}-${part}.onnx`)) as [string, string, string];
  // Half precision inside shows in the tolerance the fixture was given, also where inputs and outputs are float32.
  const isHalf = info.tolerance.logits > 1e-3;
  const images = [first, batch].filter((s) => s !== undefined);
  const texts = text ? [text] : [];

  beforeAll(async () => {
    const { layers, keep, imageMask, positions } = plan;
    await compile(fixture.model, { layers, keep: keep.map(() => '1'), imageMask, positions, output: whole });
    if (text) await compile(fixture.model, { layers, keep, imageMask, positions, output: half });
    if (isHalf) await writeControl(fixture.model, layers, control);
  });
  afterAll(() => {
    for (const path of [whole, half, control]) rmSync(path, { force: true });
  });

  test.each(['disabled', 'all'] as const)('equals the original at λ = 1 and on text, optimizations %s', async (level) => {
    const wanted = [...images, ...texts];
    expect(wanted.length).toBeGreaterThan(0);
    const original = await outputsOf(fixture.model, fixture, wanted, level);
    const compiled = [...(images.length > 0 ? await outputsOf(whole, fixture, images, level) : []), ...(text ? await outputsOf(half, fixture, texts, level) : [])];
    const controlled = isHalf ? await outputsOf(control, fixture, wanted, level) : undefined;
    for (const [i, scenario] of wanted.entries()) {
      const reference = original[i] as Map<string, number[]>;
      const found = worst(compiled[i] as Map<string, number[]>, reference);
      const bound = controlled ? Math.max(FLOAT32_BOUND, 4 * worst(controlled[i] as Map<string, number[]>, reference).error, 2e-3) : FLOAT32_BOUND;
      expect(found.error, `${scenario.name}: ${found.at}`).toBeLessThanOrEqual(bound);
    }
  });
});
