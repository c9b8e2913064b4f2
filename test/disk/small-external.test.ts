/** Exports whose every initializer is external data (`size_threshold=0`): constants that steer shapes are read from there. */
import { truncateSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { InferenceSession } from 'onnxruntime-node';
import { describe, expect, it } from 'vitest';
import { check, compile } from '../../src/index.js';
import { externalize } from '../support/external.js';
import { LoadedFixture, relativeError, runScenario, SESSION, toNumbers } from '../support/fixtures.js';
import { expectRefusal } from '../support/refuse.js';

const DATA = 'weights.bin';

// Of newer opsets onnxruntime does not load such a model itself: its shape inference reads no external data.
describe.each(['llama-ts17-sdpa', 'genai-qwen3-fp32', 'qwen2-ts17-4bit'])('%s', (name) => {
  const fixture = new LoadedFixture(name);

  it('compiles as with its constants embedded, and equals the reference', async () => {
    const plan = fixture.info.plans.default as NonNullable<(typeof fixture.info.plans)[string]>;
    const path = externalize(name, DATA, DATA, undefined, 0);
    const output = join(dirname(path), 'out.onnx');
    const { layers, keep, positions, imageMask } = plan;
    const report = await compile(path, { layers, keep, positions, imageMask, output, probe: true });
    expect(report.plan.layers).toEqual(layers);
    expect((await check(output)).checks.flatMap((c) => c.problems)).toEqual([]);
    const session = await InferenceSession.create(output, SESSION);
    const scenario = fixture.info.scenarios.find((s) => s.plan === 'default') as (typeof fixture.info.scenarios)[number];
    let compared = 0;
    await runScenario(session, fixture, scenario, ({ expect: golden }, outputs) => {
      const width = golden.logits.shape.at(-1) as number;
      const error = relativeError(toNumbers(outputs.logits as never), fixture.numbers(golden.logits), width, golden.compare && fixture.numbers(golden.compare));
      expect(error).toBeLessThan(fixture.info.tolerance.logits);
      golden.kept.forEach((k, i) => expect(toNumbers(outputs[`pdrop_kept.${i + 1}`] as never)).toEqual(fixture.numbers(k)));
      compared++;
    });
    await session.release();
    expect(compared).toBe(scenario.runs.length);
  });
});

it('a file that ends before such a constant is refused by that name', async () => {
  const path = externalize('llama-ts17-sdpa', DATA, DATA, undefined, 0);
  truncateSync(join(dirname(path), DATA), 64);
  await expectRefusal(path, 'PD105');
});
