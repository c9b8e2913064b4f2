/**
 * The numbers: every fixture's compiled graph against goldens of an independent PyTorch reference of the contract
 * (fixtures/make/pyramid_reference.py) — logits, kept indices, cache lengths, over prefill, batches with padding,
 * decode steps, text-only prompts and second images.
 *
 * The table of docs/families.md is what this run finds: it is compared with it, and rewritten with UPDATE_DOCS=1.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as ort from 'onnxruntime-node';
import { afterAll, describe, expect, test } from 'vitest';
import { compile } from '../../src/index.js';
import { familyTable, type FixtureResult } from '../support/family-table.js';
import { fixtureNames, LoadedFixture, relativeError, runScenario, SESSION, toNumbers } from '../support/fixtures.js';

const folder = mkdtempSync(join(tmpdir(), 'pdrop-golden-'));
const results: FixtureResult[] = [];

/** Fixtures that only run on a GPU provider are compared on WebGPU (test/numbers/webgpu.test.ts); here they are compiled. */
function runsOnCpu(fixture: LoadedFixture): boolean {
  const ep = fixture.info.execution_provider;
  return ep === undefined || ep === 'cpu';
}

const names = fixtureNames();

describe.each(names)('%s', (name) => {
  const fixture = new LoadedFixture(name);
  const { info } = fixture;
  const result: FixtureResult = { name, family: info.family, modelType: info.model_type, exporter: info.exporter, dtype: info.dtype, scenarios: [], worst: 0, tolerance: info.tolerance.logits, compiledOnly: !runsOnCpu(fixture) };
  results.push(result);

  test.each(Object.entries(info.plans))('plan %s', async (planName, plan) => {
    const output = join(folder, `${name}-${planName}.onnx`);
    const report = await compile(fixture.model, { layers: plan.layers, keep: plan.keep, positions: plan.positions, imageMask: plan.imageMask, probe: true, output });
    expect(report.plan.layers).toEqual(plan.layers);
    const scenarios = info.scenarios.filter((s) => s.plan === planName);
    if (!runsOnCpu(fixture)) return;
    expect(scenarios.length).toBeGreaterThan(0);
    const session = await ort.InferenceSession.create(output, SESSION);
    for (const scenario of scenarios) {
      await runScenario(session, fixture, scenario, (run, outputs) => {
        const at = `${scenario.name} / ${run.name}`;
        const golden = fixture.numbers(run.expect.logits);
        const logits = outputs.logits as ort.Tensor;
        expect(logits.dims, `${at}: shape of the logits`).toEqual(run.expect.logits.shape);
        run.expect.kept.forEach((ref, i) => {
          expect(toNumbers(outputs[`pdrop_kept.${i + 1}`] as ort.Tensor), `${at}: indices kept at boundary ${i + 1}`).toEqual(fixture.numbers(ref));
        });
        for (const { present, layer, kind } of info.cache) {
          if (kind === 'state') continue; // it has no length
          expect((outputs[present] as ort.Tensor).dims.at(-2), `${at}: cache length of layer ${layer}`).toBe(run.expect.cache_lengths[layer]);
        }
        const error = relativeError(toNumbers(logits), golden, run.expect.logits.shape.at(-1) as number, run.expect.compare && fixture.numbers(run.expect.compare));
        expect(error, `${at}: logits, relative to their range`).toBeLessThanOrEqual(info.tolerance.logits);
        result.worst = Math.max(result.worst, error);
      });
      result.scenarios.push(scenario.kind, ...(scenario.runs.some((r) => r.name.startsWith('decode')) ? ['decode'] : []));
    }
    await session.release();
    rmSync(output);
  });
});

afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

test('the table of docs/families.md is what this run found', () => {
  const path = join(import.meta.dirname, '..', '..', 'docs', 'families.md');
  const text = readFileSync(path, 'utf8');
  const table = familyTable(results);
  const marked = /(<!-- families:start[^>]*-->\n)([\s\S]*?)(\n<!-- families:end -->)/;
  expect(text).toMatch(marked);
  if (process.env.UPDATE_DOCS) writeFileSync(path, text.replace(marked, (_, start: string, __, end: string) => `${start}${table}${end}`));
  else expect(marked.exec(text)?.[2]).toBe(table);
});
