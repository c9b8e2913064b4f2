/**
 * `--runtime openvino`: what OpenVINO's plugin gets wrong (memory around an If) and does not read (places that folded to an
 * empty list) is not in the graph, which gives the same numbers. OpenVINO itself: npm run test:runtimes.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as ort from 'onnxruntime-node';
import { expect, test } from 'vitest';
import { compile } from '../../src/index.js';
import { LoadedFixture, relativeError, runScenario, SESSION, toNumbers } from '../support/fixtures.js';
import { folder } from '../support/folder.js';
import { decodeModel, graphOf } from '../support/proto.js';

/** Those that went wrong there as compiled by default (2026.4), or did not load. */
test.each(['gptj-ts17', 'gemma4-dynamo20-shared', 'gptoss-dynamo20', 'tf-qwen3.5'])('%s', async (name) => {
  const fixture = new LoadedFixture(name);
  const scenario = fixture.info.scenarios[0] as (typeof fixture.info.scenarios)[number];
  const { layers, keep, positions, imageMask } = fixture.info.plans[scenario.plan] as (typeof fixture.info.plans)[string];
  const output = join(folder(), `${name}.onnx`);
  const { plan } = await compile(fixture.model, { layers, keep, positions, imageMask, runtime: 'openvino', probe: true, output });
  expect(plan.controlFlow).toBe(false);
  const graph = graphOf(decodeModel(readFileSync(output)));
  const empty = new Set(graph.initializer?.filter((t) => t.dims?.some((d) => Number(d) === 0)).map((t) => t.name));
  expect(graph.node?.filter((n) => n.opType === 'If' || (n.opType === 'ScatterND' && empty.has(n.input?.[1] ?? ''))).map((n) => n.name)).toEqual([]);
  const session = await ort.InferenceSession.create(output, SESSION);
  await runScenario(session, fixture, scenario, (run, outputs) => {
    run.expect.kept.forEach((ref, i) => {
      expect(toNumbers(outputs[`pdrop_kept.${i + 1}`] as ort.Tensor), `${run.name}: indices kept at boundary ${i + 1}`).toEqual(fixture.numbers(ref));
    });
    const error = relativeError(toNumbers(outputs.logits as ort.Tensor), fixture.numbers(run.expect.logits), run.expect.logits.shape.at(-1) as number, run.expect.compare && fixture.numbers(run.expect.compare));
    expect(error, run.name).toBeLessThanOrEqual(fixture.info.tolerance.logits);
  });
  await session.release();
});
