/**
 * Nodes that do nothing, put on every edge of a layer, from its entry to the next one's: the layers found, the cut and
 * the numbers stay what they are without, or the model is refused. A layer never vanishes.
 *
 * All edges at once, with the kinds dealt out in turn, and a few edges alone. `npm run no-ops` takes every kind on every
 * edge, one at a time (hours).
 */
import * as ort from 'onnxruntime-node';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { compileModel, writeCompiled } from '../../src/compile.js';
import { Refusal } from '../../src/diagnostics.js';
import { MemorySink, MemorySource } from '../../src/onnx/bytes.js';
import { factsOf } from '../support/decoder.js';
import { feedsOf, LoadedFixture, relativeError, SESSION, toNumbers } from '../support/fixtures.js';
import { type Edge, edgesOf, insertNoOps, KINDS, type Kind } from '../support/no-ops.js';
import { encodeModel, loadModel } from '../support/proto.js';
import { seeded } from '../support/random.js';

const ALL = process.env.NO_OPS === 'all';
/** How often the kinds are dealt out to all edges anew; edges that are tried alone. */
const DEALS = 4;
const ALONE = 3;
const LAYER = 2;

const FIXTURES = ['llama-ts17-skipnorm', 'qwen2-dynamo20-ids-tied', 'llama-ts14-slim', 'qwen3-dynamo23-sdpa', 'genai-qwen3-fp32', 'ort-llama-mha'];

/** Logits and kept tokens of a prefill and a decode step. */
async function outputsOf(bytes: Uint8Array, fixture: LoadedFixture): Promise<number[][]> {
  const session = await ort.InferenceSession.create(bytes, { ...SESSION, graphOptimizationLevel: 'disabled' });
  const found: number[][] = [];
  const scenario = fixture.info.scenarios.find((s) => s.plan === 'default' && s.kind === 'prefill');
  let previous: ort.InferenceSession.ReturnType | undefined;
  for (const run of scenario?.runs.slice(0, 2) ?? []) {
    const outputs = await session.run(feedsOf(session, fixture, run, previous));
    for (const [name, value] of Object.entries(outputs)) if (!/present/.test(name)) found.push(toNumbers(value as ort.Tensor));
    previous = outputs;
  }
  await session.release();
  return found;
}

async function compiled(bytes: Uint8Array, fixture: LoadedFixture): Promise<{ layers: number; bytes: Uint8Array }> {
  const plan = fixture.info.plans.default;
  const made = await compileModel(new MemorySource(bytes), { layers: [LAYER, LAYER + 1], keep: ['0.5', '0.25'], positions: plan?.positions, imageMask: plan?.imageMask, probe: true, verify: true });
  const sink = new MemorySink();
  await writeCompiled(made, sink);
  return { layers: made.facts.layers.length, bytes: sink.bytes() };
}

describe.each(FIXTURES)('%s', (name) => {
  const fixture = new LoadedFixture(name);
  let expected: { layers: number; outputs: number[][] };
  let edges: Edge[] = [];
  const refused: string[] = [];
  let proved = 0;

  beforeAll(async () => {
    const original = await compiled(encodeModel(loadModel(name)), fixture);
    expected = { layers: original.layers, outputs: await outputsOf(original.bytes, fixture) };
    const facts = await factsOf(fixture.model);
    edges = [LAYER - 1, LAYER].flatMap((l) => edgesOf(facts, l));
    facts.noOps.restore();
  });

  const holds = async (where: string, kindOf: (i: number) => Kind, at: readonly Edge[]): Promise<void> => {
    const model = loadModel(name);
    if (insertNoOps(model, kindOf, at) === 0) return;
    let made: { layers: number; bytes: Uint8Array };
    try {
      made = await compiled(encodeModel(model), fixture);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      refused.push(`${where}: ${error.code} ${error.message}`);
      return;
    }
    expect(made.layers, `${where}: layers`).toBe(expected.layers);
    const outputs = await outputsOf(made.bytes, fixture);
    expect(outputs.length).toBe(expected.outputs.length);
    outputs.forEach((o, i) => {
      const wanted = expected.outputs[i] as number[];
      expect(o.length, where).toBe(wanted.length);
      if (!o.every((x, k) => x === wanted[k])) expect(relativeError(o, wanted, 1), where).toBeLessThanOrEqual(1e-5);
    });
    proved++;
  };

  it.each(Array.from({ length: DEALS }, (_, i) => i))('on all edges, deal %i', async (deal) => {
    const step = Math.ceil(KINDS.length / DEALS);
    await holds(`deal ${deal}`, (i) => KINDS[(i + deal * step) % KINDS.length] as Kind, edges);
  });

  it('on an edge alone', { timeout: ALL ? 7_200_000 : 60_000 }, async () => {
    const random = seeded(7);
    const cases = ALL ? edges.flatMap((e) => KINDS.map((k): [Kind, Edge] => [k, e])) : Array.from({ length: ALONE }, (): [Kind, Edge] => [random.pick(KINDS), random.pick(edges)]);
    for (const [kind, edge] of cases) await holds(`${kind.name} on ${edge.consumer} input ${edge.index}`, () => kind, [edge]);
  });

  afterAll(() => {
    if (ALL) console.log(`${name}: ${edges.length} edges, ${KINDS.length} kinds: ${proved} equal, ${refused.length} refused\n${refused.join('\n')}`);
    expect(edges.length).toBeGreaterThan(40);
    // What is refused has not vanished, but here none needs to be.
    expect(refused).toEqual([]);
    expect(proved).toBeGreaterThan(DEALS);
  });
});
