/**
 * What a decode step and a prompt of text pay: kernels that ONNX Runtime executed (its profile, all optimizations on, CPU),
 * compiled beside original. Counts, not times: they are the same on every machine.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as ort from 'onnxruntime-node';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { analyseDecoder } from '../../../src/analyse/decoder.js';
import { compile } from '../../../src/index.js';
import type { Graph, Value } from '../../../src/ir/graph.js';
import { MemorySource } from '../../../src/onnx/bytes.js';
import { readModel } from '../../../src/onnx/read.js';
import { readProfile } from '../../../src/validate/cost/profile.js';
import { feedsOf, fixtureNames, LoadedFixture, SESSION } from '../../support/fixtures.js';

const folder = mkdtempSync(join(tmpdir(), 'pdrop-kernels-'));

afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

/** Kernels of the first two runs of a scenario. */
async function kernels(model: string, fixture: LoadedFixture, scenario: LoadedFixture['info']['scenarios'][number], label: string): Promise<{ ops: string[]; count: number }[]> {
  const prefix = join(folder, `${label}-`);
  const session = await ort.InferenceSession.create(model, { ...SESSION, enableProfiling: true, profileFilePrefix: prefix });
  let previous: ort.InferenceSession.ReturnType | undefined;
  for (const run of scenario.runs.slice(0, 2)) previous = await session.run(feedsOf(session, fixture, run, previous));
  session.endProfiling();
  await session.release();
  const file = readdirSync(folder).find((f) => f.startsWith(`${label}-`)) as string;
  return readProfile(join(folder, file)).map((r) => ({ ops: r.nodes.map((n) => n.op), count: r.nodes.length }));
}

/** Kernels allowed on top of the original's: for the whole run, and for each boundary. */
const bound = (fused: boolean, boundaries: number): number => (fused ? 12 : 30) * boundaries + 8;

const names = fixtureNames().filter((name) => {
  const { info } = new LoadedFixture(name);
  return (info.execution_provider ?? 'cpu') === 'cpu' && info.plans.default?.imageMask !== 'none' && info.plans.default !== undefined;
});

describe.each(names)('%s', (name) => {
  const fixture = new LoadedFixture(name);
  const { info } = fixture;
  const plan = info.plans.default as NonNullable<(typeof info.plans)[string]>;
  const text = info.scenarios.find((s) => s.plan === 'default' && s.kind === 'text-only');
  const withDecode = info.scenarios.find((s) => s.plan === 'default' && s.runs[1]?.name.startsWith('decode'));

  const output = join(folder, `${name}.onnx`);
  beforeAll(async () => {
    await compile(fixture.model, { layers: plan.layers, keep: plan.keep, positions: plan.positions, imageMask: plan.imageMask, output });
  });
  afterAll(() => rmSync(output, { force: true }));

  test('a step and a text pay no more than the bound', async () => {
    for (const [kind, scenario, run] of [['text', text, 0], ['decode', withDecode, 1]] as const) {
      if (!scenario) continue;
      const original = (await kernels(fixture.model, fixture, scenario, `${name}-${kind}-o`))[run];
      const compiled = (await kernels(output, fixture, scenario, `${name}-${kind}-c`))[run];
      if (!original || !compiled) throw new Error(`${name}: no profile of the ${kind} run`);
      const allowed = bound(original.ops.includes('GroupQueryAttention'), plan.layers.length);
      expect(compiled.count - original.count, `${kind}: ${original.count} kernels before`).toBeLessThanOrEqual(allowed);
      // Nothing is ranked and nothing is selected.
      expect(compiled.ops.filter((op) => op === 'TopK').length - original.ops.filter((op) => op === 'TopK').length, kind).toBe(0);
      expect(compiled.ops.filter((op) => op === 'If').length, kind).toBeGreaterThanOrEqual(plan.layers.length);
    }
  });

  test('hidden states are gathered once a boundary, copied where they all stay by nothing, and caches are not touched', async () => {
    const { graph } = await readModel(new MemorySource(readFileSync(output)));
    const original = await readModel(new MemorySource(readFileSync(fixture.model)));
    const content = new Set([...analyseDecoder(original).content].map((v) => v.name));
    const ifs = graph.nodes.filter((n) => n.is('If') && /^pdrop\/b\d+\/branch\//.test(n.name));
    expect(ifs.length).toBe(plan.layers.length);
    for (const n of ifs) {
      const [then, other] = n.subgraphs as [Graph, Graph];
      // Only what quantizes on the way keeps its neighbours outside, and hands on copies.
      const copied = other.nodes.filter((m) => m.is('Identity') && m.inputs[0] && content.has(m.inputs[0].name));
      if (!original.graph.nodes.some((m) => /Integer|^DynamicQuantize/.test(m.opType))) expect(copied.map((m) => m.inputs[0]?.name), n.name).toEqual([]);
      const rows = then.nodes.find((m) => /\/select\/rows(_\d+)?$/.test(m.name))?.outputs[0];
      const sources = then.nodes.filter((m) => m.is('Gather') && m.inputs[1] === rows).map((m) => rootOf(m.inputs[0] as Value).name);
      expect(sources.length, `${n.name}: gathered`).toBeGreaterThan(0);
      expect(new Set(sources).size, `${n.name}: gathered once each`).toBe(sources.length);
    }
    for (const { past, present } of info.cache) {
      const before = original.graph.values.get(present)?.producer?.name;
      expect(graph.values.get(present)?.producer?.name, present).toBe(before);
      for (const v of [past, present].flatMap((x) => (x === null ? [] : [graph.values.get(x)]))) {
        const readers = [...(v?.uses ?? []).map((u) => u.node), ...(v?.capturedBy ?? []).flatMap((c) => c.subgraphs.flatMap((g) => g.nodes.filter((m) => m.inputs.includes(v as Value))))];
        // Multi-head latent attention: keys that are ranked are made of what the cache holds.
        for (const r of readers) if (r.name.startsWith('pdrop/') && !(['deepseek_v3', 'minicpm3'].includes(info.model_type) && /\/rank\//.test(r.name))) expect(r.opType, `${r.name} reads ${v?.name}`).toBe('Shape');
      }
    }
  });
});

/** What a value is the rows of. */
function rootOf(value: Value): Value {
  return value.producer?.is('Reshape') && /_rows(_\d+)?$/.test(value.producer.name) ? rootOf(value.producer.inputs[0] as Value) : value;
}
