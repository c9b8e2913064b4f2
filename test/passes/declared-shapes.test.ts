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

test('a false declaration of the original goes: builders declare a norm’s mean as wide as what it is the mean of', async () => {
  const bytes = readFileSync(new LoadedFixture('llama-ts17-sdpa').model);
  const model = decodeModel(bytes);
  const graph = graphOf(model);
  const mean = graph.node?.find((n) => n.opType === 'ReduceMean')?.output?.[0] as string;
  graph.valueInfo = [...(graph.valueInfo ?? []).filter((v) => v.name !== mean), valueInfo(mean, 1, ['batch_size', 'sequence_length', 64])];
  const path = join(folder(), 'model.onnx');
  writeFileSync(path, encodeModel(model));
  const output = join(folder(), 'out.onnx');
  await compile(path, { layers: [2], keep: ['0.5'], imageMask: 'input', output });
  expect(graphOf(decodeModel(readFileSync(output))).valueInfo?.some((v) => v.name === mean)).toBe(false);
});

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

/** A model as decoded, with an output for every declared value that it makes. */
function probed(model: object, declared: ReadonlyMap<string, Dims>): string {
  const graph = graphOf(model);
  const made = new Set(graph.node?.flatMap((n) => n.output ?? []));
  const outputs = new Set(graph.output?.map((o) => o.name));
  for (const v of declared.keys()) if (made.has(v) && !outputs.has(v)) graph.output?.push(Object.assign(valueInfo(v, 0, []), { type: null }));
  const path = join(folder(), 'probed.onnx');
  writeFileSync(path, encodeModel(model));
  return path;
}

interface Finding {
  readonly value: string;
  readonly says: string;
}

/** Runs the scenarios of the default plan; what is not as declared, and how many symbols were compared. */
async function untrue(fixture: LoadedFixture, path: string, declared: ReadonlyMap<string, Dims>, kinds = (_: string) => true): Promise<{ found: Finding[]; compared: number }> {
  const session = await InferenceSession.create(path, { ...SESSION, graphOptimizationLevel: 'disabled' });
  const found: Finding[] = [];
  let compared = 0;
  for (const scenario of fixture.info.scenarios.filter((s) => s.plan === 'default' && kinds(s.kind))) {
    let previous: InferenceSession.ReturnType | undefined;
    for (const run of scenario.runs.slice(0, 2)) {
      const feeds = feedsOf(session, fixture, run, previous);
      previous = await session.run(feeds);
      const sizes = new Map<string, { extent: number; of: string }>();
      for (const [value, tensor] of [...Object.entries(feeds), ...Object.entries(previous)]) {
        const dims = declared.get(value);
        if (!dims) continue;
        if (tensor.dims.length !== dims.length) {
          found.push({ value, says: `rank ${dims.length} is ${tensor.dims.length}` });
          continue;
        }
        dims.forEach((d, axis) => {
          const extent = tensor.dims[axis] as number;
          if (typeof d === 'number' && extent !== d) found.push({ value, says: `axis ${axis}: ${d} is ${extent}` });
          if (typeof d !== 'string') return;
          const seen = sizes.get(d);
          if (!seen) sizes.set(d, { extent, of: value });
          else if (extent !== seen.extent) found.push({ value, says: `axis ${axis}: "${d}" is ${extent}, and ${seen.extent} in ${seen.of}` });
          compared++;
        });
      }
    }
  }
  await session.release();
  return { found, compared };
}

describe.each(names)('%s', (name) => {
  const fixture = new LoadedFixture(name);
  const plan = fixture.info.plans.default;

  test.runIf(plan)('what is declared is what is', async () => {
    const path = join(folder(), 'out.onnx');
    const { layers, keep, positions, imageMask } = plan as NonNullable<typeof plan>;
    await compile(fixture.model, { layers, keep, positions, imageMask, output: path });
    const original = decodeModel(readFileSync(fixture.model));
    const before = declarations(graphOf(original));
    const model = decodeModel(readFileSync(path));
    const declared = declarations(graphOf(model));
    // What an exporter declares wrongly (a vector of one as a scalar) stays as it was. The decode half of a pair is fed with caches the original does not take.
    const wrong = (await untrue(fixture, probed(original, before), before, (kind) => kind !== 'decode')).found;
    for (const { value } of wrong) if (JSON.stringify(declared.get(value)) === JSON.stringify(before.get(value))) declared.delete(value);
    const { found, compared } = await untrue(fixture, probed(model, declared), declared);
    expect(found).toEqual([]);
    expect(compared).toBeGreaterThan(50);
  });
});

/** The compiled graph of a fixture's default plan. */
async function compiled(name: string): Promise<GraphProto> {
  const fixture = new LoadedFixture(name);
  const path = join(folder(), 'out.onnx');
  const { layers, keep, positions, imageMask } = fixture.info.plans.default as NonNullable<(typeof fixture.info.plans)[string]>;
  await compile(fixture.model, { layers, keep, positions, imageMask, output: path });
  return graphOf(decodeModel(readFileSync(path)));
}

test('masks that leave a boundary are declared by their stage: their columns are picked in an If of ours', async () => {
  const dims = [...declarations(await compiled('gemma2-ts17')).values()].map((d) => JSON.stringify(d));
  for (const stage of [1, 2, 3]) expect(dims).toContain(JSON.stringify(['batch_size', 1, `sequence_length_stage${stage}`, `total_length_stage${stage}`]));
});

test("no slice starts at minus a later stage's length: symbolic shape inference gives up on it", async () => {
  const starts: string[] = [];
  const walk = (graph: GraphProto, outer: ReadonlySet<string>): void => {
    const negated = new Set([...outer, ...(graph.node ?? []).flatMap((n) => (n.opType === 'Neg' && n.input?.[0] !== 'pdrop/image-tokens/length:0' ? (n.output ?? []) : []))]);
    for (const n of graph.node ?? []) {
      if (n.opType === 'Slice' && negated.has(n.input?.[1] ?? '')) starts.push(n.name ?? '');
      for (const a of n.attribute ?? []) if (a.g) walk(a.g as GraphProto, negated);
    }
  };
  walk(await compiled('bloom-ts17'), new Set());
  expect(starts).toEqual([]);
});
