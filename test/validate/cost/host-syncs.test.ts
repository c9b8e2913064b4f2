/**
 * What waits for a device: copies to the host (MemcpyToHost) in ONNX Runtime's profile of a WebGPU session, on software
 * Vulkan where there is no GPU. How many tokens are dropped and how long a stage is must not be fetched boundary by boundary.
 */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as ort from 'onnxruntime-node';
import { afterAll, describe, expect, test } from 'vitest';
import { compile } from '../../../src/index.js';
import { type NodeEvent, readProfile } from '../../../src/validate/cost/profile.js';
import { feedsOf, LoadedFixture } from '../../support/fixtures.js';
import { useVulkan } from '../../support/vulkan.js';

const folder = mkdtempSync(join(tmpdir(), 'pdrop-syncs-'));
const available = useVulkan();

afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

/** Copies to the host of a prefill with an image and of the decode step after it. */
async function toHost(model: string, fixture: LoadedFixture, label: string): Promise<NodeEvent[][]> {
  const scenario = fixture.info.scenarios.find((s) => s.plan === 'default' && s.kind === 'prefill' && s.runs[1]?.name.startsWith('decode'));
  if (!scenario) throw new Error('no scenario that prefills and decodes');
  const session = await ort.InferenceSession.create(model, { executionProviders: ['webgpu'], logSeverityLevel: 3, enableProfiling: true, profileFilePrefix: join(folder, `${label}-`) });
  let previous: ort.InferenceSession.ReturnType | undefined;
  for (const run of scenario.runs.slice(0, 2)) previous = await session.run(feedsOf(session, fixture, run, previous));
  session.endProfiling();
  await session.release();
  const file = readdirSync(folder).find((f) => f.startsWith(`${label}-`)) as string;
  return readProfile(join(folder, file)).map((r) => r.nodes.filter((n) => n.op === 'MemcpyToHost'));
}

describe.skipIf(!available)('copies to the host', () => {
  // Their masks, where they have any, are int64, which WebGPU has no arithmetic for: the host makes them, and needs to know which
  // tokens stay. A GroupQueryAttention graph has none.
  test.each([['genai-llama-embeds-fp32', 0], ['ort-llama-mha', 1]])('%s: no counts, no lengths; %i of places a boundary', async (name, places) => {
    const fixture = new LoadedFixture(name);
    const plan = fixture.info.plans.default as NonNullable<(typeof fixture.info.plans)[string]>;
    const compiled = join(folder, `${name}.onnx`);
    await compile(fixture.model, { layers: plan.layers, keep: plan.keep, positions: plan.positions, imageMask: plan.imageMask, output: compiled });
    const [prefill, decode] = await toHost(fixture.model, fixture, `${name}-o`);
    const [dropping, step] = await toHost(compiled, fixture, `${name}-c`);
    expect(step?.length).toBe(decode?.length);
    const more = (dropping ?? []).slice(prefill?.length);
    expect(more.map((n) => n.outputTypes[0])).toEqual(plan.layers.flatMap(() => new Array<string>(places).fill('int64')));
    const kept = fixture.info.scenarios.find((s) => s.plan === 'default' && s.kind === 'prefill')?.runs[0]?.expect.kept.map((k) => k.shape);
    expect(more.map((n) => n.outputs[0])).toEqual(places > 0 ? kept : []);
  }, 300_000);
});
