/**
 * Declared shapes are true: ONNX Runtime plans memory by them and infers shapes from them. Every value with a declaration, and
 * every output of an If, becomes an output; in each run a number is that extent, and a symbol one extent, whatever it is declared of.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { InferenceSession } from 'onnxruntime-node';
import { describe, expect, test } from 'vitest';
import { compile } from '../../src/index.js';
import { feedsOf, fixtureNames, LoadedFixture, SESSION } from '../support/fixtures.js';
import { folder } from '../support/folder.js';
import { decodeModel, encodeModel, type GraphProto, graphOf, valueInfo } from '../support/proto.js';

/** Exporters and opsets of each kind, several boundaries, windows, quantized weights; all of them with DECLARED=all. */
const SOME = ['llama-ts17-sdpa', 'llama-dynamo24-sdpa', 'gemma3-dynamo23', 'genai-gemma2-windowed-fp32', 'mobius-qwen3-vl-decoder', 'qwen2.5-vl-dynamo18', 'tf-lfm2', 'gptoss-dynamo20', 'qwen2-ts17-4bit', 'tf-llava-mono-cache', 'bloom-ts17', 'genai-qwen3-fp32'];
const names = process.env.DECLARED === 'all' ? fixtureNames().filter((n) => (new LoadedFixture(n).info.execution_provider ?? 'cpu') === 'cpu') : SOME;

type Dims = readonly (number | string | undefined)[];

/** Declared dims by name: inputs, outputs, value_info, and outputs of Ifs as their branches declare them (no name: anything). */
function declarations(graph: GraphProto): Map<string, Dims> {
  const found = new Map<string, Dims>();
  const dims = (v: object): Dims | undefined => {
    const shape = (v as { type?: { tensorType?: { shape?: { dim?: { dimValue?: unknown; dimParam?: string }[] } } } }).type?.tensorType?.shape;
    return shape?.dim?.map((d) => d.dimParam || (Number(d.dimValue) > 0 ? Number(d.dimValue) : undefined));
  };
  for (const v of [...(graph.input ?? []), ...(graph.output ?? []), ...(graph.valueInfo ?? [])]) {
    const d = dims(v);
    if (d && v.name) found.set(v.name, d);
  }
  for (const n of graph.node ?? []) {
    if (n.opType !== 'If' || !n.name?.startsWith('pdrop/')) continue;
    const branches = (n.attribute ?? []).flatMap((a) => (a.g ? [a.g] : []));
    n.output?.forEach((name, i) => {
      const [then, other] = branches.map((g) => dims(g.output?.[i] as object));
      expect(then?.length, `${name} has no rank`).toBeGreaterThanOrEqual(0);
      expect(other, name).toEqual(then);
      found.set(name, then as Dims);
    });
  }
  return found;
}

describe.each(names)('%s', (name) => {
  const fixture = new LoadedFixture(name);
  const plan = fixture.info.plans.default;

  test.runIf(plan)('what is declared is what is', async () => {
    const path = join(folder(), 'out.onnx');
    const { layers, keep, positions, imageMask } = plan as NonNullable<typeof plan>;
    await compile(fixture.model, { layers, keep, positions, imageMask, output: path });
    const model = decodeModel(readFileSync(path));
    const graph = graphOf(model);
    const made = new Set(graph.node?.flatMap((n) => n.output ?? []));
    const before = declarations(graphOf(decodeModel(readFileSync(fixture.model))));
    // What an exporter declares wrongly (a vector of one as a scalar) stays as it was.
    const declared = new Map([...declarations(graph)].filter(([v, dims]) => JSON.stringify(before.get(v)) !== JSON.stringify(dims) || !made.has(v)));
    const outputs = new Set(graph.output?.map((o) => o.name));
    for (const v of declared.keys()) if (made.has(v) && !outputs.has(v)) graph.output?.push(Object.assign(valueInfo(v, 0, []), { type: null }));
    const probed = join(folder(), 'probed.onnx');
    writeFileSync(probed, encodeModel(model));
    const session = await InferenceSession.create(probed, { ...SESSION, graphOptimizationLevel: 'disabled' });
    let compared = 0;
    for (const scenario of fixture.info.scenarios.filter((s) => s.plan === 'default')) {
      let previous: InferenceSession.ReturnType | undefined;
      for (const run of scenario.runs.slice(0, 2)) {
        const feeds = feedsOf(session, fixture, run, previous);
        previous = await session.run(feeds);
        const sizes = new Map<string, { extent: number; of: string }>();
        for (const [value, tensor] of [...Object.entries(feeds), ...Object.entries(previous)]) {
          const dims = declared.get(value);
          if (!dims) continue;
          expect(tensor.dims.length, value).toBe(dims.length);
          dims.forEach((d, axis) => {
            const extent = tensor.dims[axis] as number;
            if (typeof d === 'number') expect(extent, `${value}, axis ${axis}`).toBe(d);
            if (typeof d !== 'string') return;
            const seen = sizes.get(d);
            if (seen) expect({ value, extent }, `"${d}" is ${seen.extent} in ${seen.of}`).toEqual({ value, extent: seen.extent });
            else sizes.set(d, { extent, of: value });
            compared++;
          });
        }
      }
    }
    await session.release();
    expect(compared).toBeGreaterThan(50);
  });
});
