/**
 * Chains of values may be as long as the graph: nothing recurses along them, and nothing is quadratic in them.
 *
 * Here chains are short, and so is the stack, and they stand at all places of one graph. `npm run chains` runs 100,000 nodes
 * at every place, of every kind.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import ort from 'onnxruntime-node';
import { afterAll, describe, expect, it } from 'vitest';
import { MemorySink, MemorySource } from '../../src/onnx/bytes.js';
import { compileModel, writeCompiled } from '../../src/compile.js';
import { insertChain, LINKS, type Link, type Place, placesOf } from '../support/chains.js';
import { factsOf } from '../support/decoder.js';
import { feedsOf, LoadedFixture, relativeError, SESSION, toNumbers } from '../support/fixtures.js';
import { encodeModel, loadModel } from '../support/proto.js';
import { planArgs } from '../support/run.js';

/** `npm run chains`: every kind of chain at every place, one after another, long enough for Node's own stack. */
const LENGTH = Number(process.env.CHAIN_LENGTH ?? 600);
const ALL = process.env.CHAIN_LENGTH !== undefined;
const ONLY = process.env.CHAIN_ONLY;
/** Kilobytes: an eighth of what Node has, 200 bytes a link. */
const STACK = ALL ? [] : ['--stack-size=120'];
const FIXTURES = (process.env.CHAIN_FIXTURES ?? 'llama-ts17-sdpa,genai-qwen3-fp32,qwen2-dynamo20-ids-tied').split(',');

const folder = mkdtempSync(join(tmpdir(), 'pdrop-chains-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Ran {
  readonly code: number;
  readonly said: string;
  readonly seconds: number;
  readonly steps: number;
}

/** Where a model may compute something else than layers and caches: elsewhere what changes values is refused. */
const OPEN = ['embeddings', 'mask', 'position ids', 'residual', 'norm', 'logits', 'angles', 'mask of the layers'];

/** What stands at all places of one graph: chains that stay until the end, or no-ops, which are looked through. */
const MIXTURES: Readonly<Record<string, (place: Place, i: number) => Link | undefined>> = {
  'that change values': (place) => LINKS.find((l) => OPEN.includes(place.name) && (l.name === 'Neg' || l.name === 'Not') && l.fits(place)),
  'of no-ops': (place, i) => {
    const links = LINKS.filter((l) => l.name !== 'Neg' && l.name !== 'Not' && l.fits(place));
    return links[i % links.length];
  },
};

async function outputsOf(bytes: Uint8Array, fixture: LoadedFixture): Promise<number[][]> {
  const session = await ort.InferenceSession.create(bytes, { ...SESSION, graphOptimizationLevel: 'disabled' });
  const found: number[][] = [];
  let previous: ort.InferenceSession.ReturnType | undefined;
  for (const run of fixture.info.scenarios.find((s) => s.plan === 'default' && s.kind === 'prefill')?.runs.slice(0, 2) ?? []) {
    const outputs = await session.run(feedsOf(session, fixture, run, previous));
    for (const value of Object.values(outputs)) found.push(toNumbers(value as ort.Tensor));
    previous = outputs;
  }
  await session.release();
  return found;
}

function withChains(name: string, places: readonly Place[], mixture: string, length: number): Uint8Array {
  const model = loadModel(name);
  for (const [i, place] of places.entries()) {
    const link = MIXTURES[mixture]?.(place, i + FIXTURES.indexOf(name));
    if (link) insertChain(model, place, link, length, `chain${i}`);
  }
  return encodeModel(model);
}

function commandsOn(cases: readonly { model: string; out: string; options: readonly string[]; only?: readonly string[] }[], options: { steps?: boolean; timeout: number }) {
  const list = join(folder, 'cases.json');
  writeFileSync(list, JSON.stringify(cases));
  const commands = join(import.meta.dirname, '../support/chain-commands.mjs');
  return spawnSync(process.execPath, [...STACK, commands, list, ...(options.steps ? ['--steps'] : [])], { encoding: 'utf8', maxBuffer: 1 << 28, timeout: options.timeout });
}

describe.skipIf(ALL)('work grows with the length of chains, not with its square', () => {
  it.each(Object.keys(MIXTURES))('chains %s', { timeout: 60_000 }, async (mixture) => {
    const name = 'llama-ts17-sdpa';
    const places = placesOf(await factsOf(new LoadedFixture(name).model));
    const cases = [100, 250, 400].map((length) => {
      const model = join(folder, `model-${length}.onnx`);
      writeFileSync(model, withChains(name, places, mixture, length));
      return { model, out: join(folder, 'out.onnx'), options: planArgs(name), only: ['compile'] };
    });
    const ran = commandsOn(cases, { steps: true, timeout: 60_000 });
    expect(ran.stderr).toBe('');
    const [a, b, c] = (JSON.parse(ran.stdout) as Record<string, Ran>[]).map((r) => (r.compile as Ran).steps) as [number, number, number];
    // 1 where it is linear, 1.9 where it is quadratic.
    expect((c - b) / (b - a), `${a}, ${b}, ${c} steps`).toBeLessThan(1.4);
    expect((c - b) / (b - a), `${a}, ${b}, ${c} steps`).toBeGreaterThan(0.7);
  });
});

describe.each(FIXTURES)('%s', (name) => {
  const fixture = new LoadedFixture(name);
  const places = factsOf(fixture.model).then(placesOf);

  it.skipIf(ALL)(`chains of ${LENGTH} nodes at every place pass through all commands`, { timeout: 60_000 }, async () => {
    // One kind a fixture: work on the other is the same code.
    const mixture = Object.keys(MIXTURES)[FIXTURES.indexOf(name) % 2] as string;
    const model = join(folder, 'model.onnx');
    writeFileSync(model, withChains(name, await places, mixture, LENGTH));
    const ran = commandsOn([{ model, out: join(folder, 'out.onnx'), options: planArgs(name) }], { timeout: 60_000 });
    expect(ran.stderr).toBe('');
    const [commands] = JSON.parse(ran.stdout) as Record<string, Ran>[];
    expect(Object.keys(commands ?? {})).toEqual(['inspect', 'compile', 'check', 'flops']);
    for (const [command, { code, said }] of Object.entries(commands ?? {})) {
      // Which tokens are image tokens is not asked of inspect.
      if (command !== 'inspect' || !said.includes('PD320')) expect(code, `${command} ${said}`).toBe(0);
    }
  });

  it.skipIf(ALL)('short chains at every place change no number', { timeout: 60_000 }, async () => {
    const plan = fixture.info.plans.default;
    const compiled = async (bytes: Uint8Array): Promise<Uint8Array> => {
      const made = await compileModel(new MemorySource(bytes), { layers: [...(plan?.layers ?? [])], keep: [...(plan?.keep ?? [])], positions: plan?.positions, imageMask: plan?.imageMask, probe: true, verify: true });
      const sink = new MemorySink();
      await writeCompiled(made, sink);
      return sink.bytes();
    };
    const expected = await outputsOf(await compiled(encodeModel(loadModel(name))), fixture);
    for (const mixture of Object.keys(MIXTURES)) {
      const outputs = await outputsOf(await compiled(withChains(name, await places, mixture, 4)), fixture);
      for (const [i, o] of outputs.entries()) {
        const wanted = expected[i] as number[];
        expect(o.length, mixture).toBe(wanted.length);
        if (!o.every((x, k) => x === wanted[k])) expect(relativeError(o, wanted, 1), mixture).toBeLessThanOrEqual(1e-5);
      }
    }
  });

  it.runIf(ALL)(`all commands take chains of ${LENGTH} nodes`, { timeout: 7_200_000 }, async () => {
    for (const place of await places) {
      for (const link of LINKS.filter((l) => l.fits(place) && (!ONLY || `${place.name}: ${l.name}`.includes(ONLY)))) {
        const where = `${name} ${place.name}: ${link.name}`;
        const changed = loadModel(name);
        insertChain(changed, place, link, LENGTH);
        const model = join(folder, 'model.onnx');
        writeFileSync(model, encodeModel(changed));
        const ran = commandsOn([{ model, out: join(folder, 'out.onnx'), options: planArgs(name) }], { timeout: 600_000 });
        if (ran.status !== 0) {
          console.log(`${where}: ${ran.status} ${ran.signal} ${ran.stderr.slice(0, 300)}`);
          expect.soft(ran.status, where).toBe(0);
          continue;
        }
        const [commands] = JSON.parse(ran.stdout) as Record<string, Ran>[];
        console.log(`${where}: ${Object.entries(commands ?? {}).map(([c, r]) => `${c} ${r.code} ${r.seconds.toFixed(1)} s${r.code === 0 ? '' : ` ${/PD\d+/.exec(r.said)?.[0] ?? r.said.slice(0, 300)}`}`).join(', ')}`);
        for (const [command, { code, said }] of Object.entries(commands ?? {})) {
          expect.soft(command === 'check' || command === 'flops' ? [0] : [0, 3], `${where}: ${command} ${said}`).toContain(code);
        }
      }
    }
  });
});

