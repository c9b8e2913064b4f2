/** tune: the choice of a schedule from damages (against trying them all), and the command from data to a plan that compiles. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { compile } from '../../../src/index.js';
import { type Ablated, ablateHeads } from '../../../src/validate/tune/ablation.js';
import { chooseSchedule, coarseFirst, type Damages, damageAt, horizon } from '../../../src/validate/tune/schedule.js';
import { TuneState } from '../../../src/validate/tune/state.js';
import type { TuneOptions } from '../../../src/validate/tune/result.js';
import { tune } from '../../../src/validate/tune/tune.js';
import { requireSchema } from '../../../src/disk/schemas.js';
import { tuneToHtml } from '../../../src/report/html/tune.js';
import { LoadedFixture } from '../../support/fixtures.js';

const folder = mkdtempSync(join(tmpdir(), 'pdrop-tune-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const RATIOS = ['0.5', '0.25', '0'];
const share = (r: string): number => (4 + 12 * Number(r)) / 16;

/** Seeded damages: falling with depth, rising with what is dropped, and a little uneven. */
function damagesOf(layers: number, seed: number): Damages {
  let state = seed;
  const noise = (): number => {
    state = (state * 48271) % 2147483647;
    return state / 2147483647;
  };
  return { layers, ratios: RATIOS, at: new Map(Array.from({ length: layers - 1 }, (_, i) => [i + 1, new Map(RATIOS.map((r) => [r, ((1 - Number(r)) * (layers - i)) / layers + 0.2 * noise()]))])) };
}

/** Every assignment of a non-increasing ratio to each layer. */
function bestByTrying(damages: Damages, budget: number, most: number): number {
  const all = ['1', ...RATIOS];
  let best = Number.POSITIVE_INFINITY;
  const go = (layer: number, ratio: number, cost: number, damage: number, used: number): void => {
    if (layer === damages.layers) {
      // The same rounding of costs as the choice has.
      if (used > 0 && cost <= Math.floor(budget * 400)) best = Math.min(best, damage);
      return;
    }
    for (let to = ratio; to < all.length; to++) {
      if (to !== ratio && used === most) continue;
      const s = (r: number): number => (r === 0 ? 0 : (damageAt(damages, layer, all[r] as string) as number));
      go(layer + 1, to, cost + Math.round((share(all[to] as string) * 400) / damages.layers), damage + (to === ratio ? 0 : Math.max(0, s(to) - s(ratio))), used + Number(to !== ratio));
    }
  };
  go(1, 0, Math.round(400 / damages.layers), 0, 0);
  return best;
}

describe('the choice', () => {
  test.each([1, 2, 3, 4, 5, 6])('is the best there is, seed %i', (seed) => {
    const damages = damagesOf(7, seed);
    for (const budget of [0.45, 0.6, 0.8]) {
      for (const most of [1, 2, 4]) {
        const got = chooseSchedule(damages, budget, share, most);
        const best = bestByTrying(damages, budget, most);
        expect(got?.damage ?? Number.POSITIVE_INFINITY).toBeCloseTo(best, 10);
        if (!got) continue;
        expect(got.layers.length).toBeLessThanOrEqual(most);
        expect([...got.keep].sort((a, b) => Number(b) - Number(a))).toEqual(got.keep);
      }
    }
  });

  test('nothing when the budget is below what text alone costs', () => {
    expect(chooseSchedule(damagesOf(6, 1), 0.1, share, 4)).toBeUndefined();
  });

  test('layers that were not measured are interpolated; coarse layers come first; the horizon is the last stretch', () => {
    const damages: Damages = { layers: 9, ratios: ['0'], at: new Map([[2, new Map([['0', 0.8]])], [6, new Map([['0', 0.0001]])], [7, new Map([['0', 0.0002]])]]) };
    expect(damageAt(damages, 4, '0')).toBeCloseTo(0.40005, 6);
    expect(damageAt(damages, 8, '0')).toBe(0.0002);
    // Unknown, not as good as what was measured behind it.
    expect(damageAt(damages, 1, '0')).toBeUndefined();
    expect(damageAt(damages, 4, '0.5')).toBeUndefined();
    expect(horizon(damages, 3e-4)).toBe(6);
    expect(horizon(damages, 1e-5)).toBeUndefined();
    const order = coarseFirst(8);
    expect(order.slice(0, 3)).toEqual([4, 2, 6]);
    expect([...order].sort((a, b) => a - b)).toEqual([1, 2, 3, 4, 5, 6, 7]);
  });
});

describe('from samples to a plan', () => {
  const model = new LoadedFixture('llama-ts17-ids').model;
  const options = (extra: Partial<TuneOptions>): TuneOptions => ({
    original: model, ranks: ['attention', 'change'], ratios: ['0.25'], positionModes: ['keep'], mostBoundaries: 2, imageMask: 'input-ids:99',
    samples: 4, imageTokens: 24, textTokens: 8, positions: 2, budget: 600_000, workDir: folder, ...extra,
  });

  test('a share of the MACs is met, the plan compiles to what was counted, and a second run takes up the first', async () => {
    const path = join(folder, 'state.jsonl');
    const state = new TuneState(path, 'key');
    const report = await tune(options({ targetFlops: 0.7, state }));
    requireSchema('tune', JSON.parse(JSON.stringify(report)), 'tune');
    expect(report.target).toMatchObject({ kind: 'flops', value: 0.7, met: true });
    expect(report.chosen.macs).toBeLessThanOrEqual(0.7);
    expect(report.damages.length).toBe(7);
    expect(report.unmeasured).toBe(0);
    expect(report.samples).toEqual({ calibration: 2, heldOut: 2 });
    // Of what was tried with the schedule, the one with the least divergence.
    expect(report.chosen.calibration.meanKl).toBe(Math.min(...report.frontier.map((p) => p.calibration.meanKl)));
    expect(report.baseline?.macs).toBeGreaterThanOrEqual(report.chosen.macs);
    const compiled = await compile(model, { plan: report.plan, dryRun: true, imageTokens: report.prompt.imageTokens, textTokens: report.prompt.textTokens });
    expect(compiled.macs.ratio).toBeCloseTo(report.chosen.macs, 10);
    const again = new TuneState(path, 'key');
    expect(again.size).toBe(state.size);
    expect(await tune(options({ targetFlops: 0.7, state: again }))).toEqual(report);
    await expect(tune(options({ targetFlops: 0.01, state: again }))).rejects.toMatchObject({ code: 'PD042' });
    // Another key begins anew; half a line at the end is not read.
    expect(new TuneState(path, 'other').size).toBe(0);
    writeFileSync(path, `${JSON.stringify({ tool: 'pdrop-compile', tune: 'key' })}\n["a",1]\n["b",`);
    expect(new TuneState(path, 'key').size).toBe(1);
    const page = tuneToHtml(report);
    expect(page).toContain('Damage of one boundary');
    expect(page).not.toContain('undefined');
  });

  test('weights of heads are what the answers lose without each, and compile', async () => {
    const report = await tune(options({ targetFlops: 0.7, ranks: ['attention', 'heads'], state: new TuneState(join(folder, 'heads.jsonl'), 'key') }));
    const measured = report.frontier.find((p) => p.plan.rank === 'heads');
    const weights = measured?.plan.headWeights ?? [];
    expect(weights.length).toBe(measured?.plan.layers.length);
    for (const row of weights) {
      expect(row.length).toBe(4);
      expect(Math.max(...row)).toBe(1);
      expect(Math.min(...row)).toBeGreaterThanOrEqual(0);
    }
    // Heads are not alike.
    expect(new Set(weights.flat()).size).toBeGreaterThan(1);
    const compiled = await compile(model, { plan: measured?.plan, dryRun: true });
    expect(compiled.plan.headWeights).toEqual(weights);
  });

  test('a head without which the answers get worse weighs more; where time is up, all weigh alike', async () => {
    const damage = async ({ weights }: Ablated): Promise<number> => 1 + (weights[1] === 0 ? 0.5 : 0) + (weights[2] === 0 ? 0.25 : 0) - (weights[3] === 0 ? 0.1 : 0);
    const boundaries = [{ layer: 2, keep: '0.5' }, { layer: 4, keep: '0.25' }];
    let asked = 0;
    expect(await ablateHeads(boundaries, () => 4, damage, () => asked++ === 0)).toEqual([[0, 1, 0.5, 0], [1, 1, 1, 1]]);
  });

  test('one target', async () => {
    await expect(tune(options({}))).rejects.toMatchObject({ code: 'PD041' });
    await expect(tune(options({ targetFlops: 0.5, targetKl: 0.1 }))).rejects.toMatchObject({ code: 'PD041' });
  });
});
