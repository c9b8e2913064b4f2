/** A healthy rewrite passes every gate; each way of breaking it is caught by the gate that names it. */
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { Decoder } from '../../../src/validate/models/decoder.js';
import { standInEmbedder } from '../../../src/validate/feeding/embed.js';
import { boundFor } from '../../../src/validate/gates/bound.js';
import { runGates } from '../../../src/validate/gates/run.js';
import type { GateName, GateResult } from '../../../src/validate/gates/types.js';
import { readModelFile } from '../../../src/validate/models/model.js';
import { planOf } from '../../../src/validate/models/plan.js';
import type { Sample } from '../../../src/validate/feeding/sample.js';
import { Variants } from '../../../src/validate/models/variants.js';
import { LoadedFixture } from '../../support/fixtures.js';
import { compileFixture, type Damage, damage, fixtureSample, temporaryFolder } from '../support.js';

const folder = temporaryFolder();

async function gatesOf(fixture: LoadedFixture, variants: Variants, rewritten: string, samples: readonly Sample[]): Promise<Map<GateName, GateResult>> {
  const original = await readModelFile(fixture.model);
  const file = await readModelFile(rewritten, { caches: original.caches });
  const plan = planOf(file.model, file.name);
  const hidden = original.io.embeds?.dims.at(-1);
  const embedder = typeof hidden === 'number' ? standInEmbedder(hidden, 1) : undefined;
  const open = (path: string): Promise<Decoder> => Decoder.open(path, { imageSource: plan.imageMask, embedder, caches: original.caches });
  const [o, r] = [await open(fixture.model), await open(rewritten)];
  try {
    const results = await runGates({
      plan,
      source: plan.imageMask,
      samples,
      steps: 2,
      bound: boundFor('float32', 'cpu', undefined),
      original: o,
      rewritten: r,
      openIdentity: async () => open((await variants.replay(`identity-${plan.rank}`, { ...plan, keep: plan.keep.map(() => '1') })).path),
      openFresh: async () => open((await variants.replay(`fresh-${plan.rank}`, { ...plan, probe: true })).path),
    });
    return new Map(results.map((g) => [g.gate, g]));
  } finally {
    await o.close();
    await r.close();
  }
}

const failed = (gates: Map<GateName, GateResult>): GateName[] => [...gates.values()].filter((g) => g.status === 'failed').map((g) => g.gate);

describe('gates', () => {
  const fixture = new LoadedFixture('llama-ts17-sdpa');
  const variants = new Variants(fixture.model, folder);
  afterAll(() => variants.dispose());
  const good = join(folder, 'good.onnx');
  const ready = compileFixture(fixture, good);
  // What is broken on purpose is found by name in the graph itself: without branches.
  const flat = compileFixture(fixture, join(folder, 'flat.onnx'), { controlFlow: false });

  it('a sound rewrite passes all of them, one row and a padded batch', async () => {
    await ready;
    const gates = await gatesOf(fixture, variants, good, [fixtureSample(fixture), fixtureSample(fixture, 'batch-left-padding')]);
    expect(failed(gates)).toEqual([]);
    expect([...gates.keys()]).toEqual(['identity', 'text-only', 'counts', 'order', 'text-kept', 'choice', 'decode', 'reproduction']);
    expect([...gates.values()].map((g) => g.status)).not.toContain('skipped');
    expect(gates.get('identity')?.difference).toBeLessThanOrEqual(1e-5);
  });

  const broken: [Damage, GateName, RegExp, GateName[]][] = [
    ['swap-kept', 'order', /token \d+ stands before token \d+/, ['identity', 'counts', 'text-kept', 'choice']],
    ['drop-text', 'text-kept', /position 1$/, ['identity', 'text-only', 'counts', 'order']],
    ['shift-decode', 'decode', /decode steps.*differs by/, ['identity', 'text-only', 'counts', 'order', 'text-kept', 'choice', 'reproduction']],
  ];
  for (const [kind, gate, detail, clean] of broken) {
    it(`${kind} is caught by ${gate}`, async () => {
      const path = await damage(await flat, join(folder, `${kind}.onnx`), kind);
      const gates = await gatesOf(fixture, variants, path, [fixtureSample(fixture)]);
      expect(gates.get(gate)?.status).toBe('failed');
      expect(gates.get(gate)?.detail).toMatch(detail);
      expect(failed(gates).filter((g) => clean.includes(g))).toEqual([]);
    });
  }

  it('a model compiled with another rank keeps other tokens than its plan says', async () => {
    const path = await compileFixture(fixture, join(folder, 'uniform.onnx'), { rank: 'uniform' });
    // Its own plan says uniform, so it is sound by itself.
    expect(failed(await gatesOf(fixture, variants, path, [fixtureSample(fixture)]))).toEqual([]);
  });
});
