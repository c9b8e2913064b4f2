/**
 * Chains of values may be as long as the graph: nothing recurses along them, and nothing is quadratic in them.
 *
 * Here chains are short, and so is the stack. `npm run chains` runs 100,000 nodes at every place, of every kind.
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

const LENGTH = Number(process.env.CHAIN_LENGTH ?? 1500);
const ALL = LENGTH > 1500;
const ONLY = process.env.CHAIN_ONLY;
/** Kilobytes: an eighth of what Node has. */
const STACK = ALL ? [] : ['--stack-size=120'];
const FIXTURES = (process.env.CHAIN_FIXTURES ?? 'llama-ts17-sdpa,genai-qwen3-fp32,qwen2-dynamo20-ids-tied').split(',');

const folder = mkdtempSync(join(tmpdir(), 'pdrop-chains-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Ran {
  readonly code: number;
  readonly said: string;
  readonly seconds: number;
}

/** Every place with one kind of link, in turn, or with all. */
function casesOf(places: readonly Place[], shift: number): [Place, Link][] {
  return places.flatMap((place, i) => {
    const links = LINKS.filter((l) => l.fits(place));
    return ALL ? links.map((l): [Place, Link] => [place, l]) : [[place, links[(i + shift) % links.length] as Link]];
  });
}

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

describe.each(FIXTURES)('%s', (name) => {
  const fixture = new LoadedFixture(name);
  const chained = (place: Place, link: Link, length: number): Uint8Array => {
    const model = loadModel(name);
    insertChain(model, place, link, length);
    return encodeModel(model);
  };

  it(`all commands take chains of ${LENGTH} nodes`, { timeout: ALL ? 7_200_000 : 60_000 }, async () => {
    const facts = await factsOf(fixture.model);
    const chains = casesOf(placesOf(facts), FIXTURES.indexOf(name)).filter(([p, l]) => !ONLY || `${p.name}: ${l.name}`.includes(ONLY));
    const groups = ALL ? chains.map((c) => [c]) : [chains];
    for (const group of groups) {
      const cases = group.map(([place, link], i) => {
        const model = join(folder, `${name}-${i}.onnx`);
        writeFileSync(model, chained(place, link, LENGTH));
        return { model, out: join(folder, 'out.onnx'), options: planArgs(name) };
      });
      const list = join(folder, 'cases.json');
      writeFileSync(list, JSON.stringify(cases));
      const ran = spawnSync(process.execPath, [...STACK, join(import.meta.dirname, '../support/chain-commands.mjs'), list], { encoding: 'utf8', maxBuffer: 1 << 28, timeout: ALL ? 600_000 : 120_000 });
      if (ALL && ran.status !== 0) {
        console.log(`${name} ${group[0]?.[0].name}: ${group[0]?.[1].name}: ${ran.status} ${ran.signal} ${ran.stderr.slice(0, 300)}`);
        continue;
      }
      expect(ran.stderr).toBe('');
      for (const [i, commands] of (JSON.parse(ran.stdout) as Record<string, Ran>[]).entries()) {
        const [place, link] = group[i] as [Place, Link];
        const where = `${place.name}: ${link.name}`;
        if (ALL) console.log(`${name} ${where}: ${Object.entries(commands).map(([c, r]) => `${c} ${r.code} ${r.seconds.toFixed(1)} s${r.code === 0 ? '' : ` ${/PD\d+/.exec(r.said)?.[0] ?? r.said.slice(0, 300)}`}`).join(', ')}`);
        for (const [command, { code, said }] of Object.entries(commands)) {
          if (!ALL) expect([0, 3], `${where}: ${command} ${said}`).toContain(code);
          if (command === 'check' || command === 'flops') expect(code, `${where}: ${command} ${said}`).toBe(0);
        }
      }
    }
  });

  it.runIf(!ALL)('short ones change no number', { timeout: 60_000 }, async () => {
    const facts = await factsOf(fixture.model);
    const plan = fixture.info.plans.default;
    const compiled = async (bytes: Uint8Array): Promise<Uint8Array> => {
      const made = await compileModel(new MemorySource(bytes), { layers: [...(plan?.layers ?? [])], keep: [...(plan?.keep ?? [])], positions: plan?.positions, imageMask: plan?.imageMask, probe: true, verify: true });
      const sink = new MemorySink();
      await writeCompiled(made, sink);
      return sink.bytes();
    };
    const expected = await outputsOf(await compiled(encodeModel(loadModel(name))), fixture);
    const refused: string[] = [];
    for (const [place, link] of casesOf(placesOf(facts), FIXTURES.indexOf(name))) {
      const where = `${place.name}: ${link.name}`;
      let bytes: Uint8Array;
      try {
        bytes = await compiled(chained(place, link, 4));
      } catch (error) {
        refused.push(`${where}: ${(error as { code?: string }).code ?? (error as Error).stack}`);
        continue;
      }
      const outputs = await outputsOf(bytes, fixture);
      outputs.forEach((o, i) => {
        const wanted = expected[i] as number[];
        expect(o.length, where).toBe(wanted.length);
        if (!o.every((x, k) => x === wanted[k])) expect(relativeError(o, wanted, 1), where).toBeLessThanOrEqual(1e-5);
      });
    }
    expect(refused.every((r) => /: PD\d+$/.test(r)), refused.join('\n')).toBe(true);
  });
});
