/**
 * What each ranker keeps, in exports of several dialects, against plain PyTorch (fixtures/make/ranker_reference.py); what it
 * costs; and what of `--rank` is refused.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as ort from 'onnxruntime-node';
import { afterAll, describe, expect, test } from 'vitest';
import { type CompileReport, compile } from '../../src/index.js';
import { FIXTURES, LoadedFixture, runScenario, SESSION, toNumbers } from '../support/fixtures.js';

interface RankGoldens {
  readonly headWeights: Readonly<Record<string, readonly number[]>>;
  /** By rank, by scenario: for each run, for each boundary, rows of kept indices. */
  readonly ranks: Readonly<Record<string, Readonly<Record<string, readonly (readonly (readonly number[])[])[][]>>>>;
}

const goldens = JSON.parse(readFileSync(join(FIXTURES, 'rankers.json'), 'utf8')) as Record<string, RankGoldens>;
const folder = mkdtempSync(join(tmpdir(), 'pdrop-rankers-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const cases = Object.entries(goldens).flatMap(([name, { ranks }]) => Object.keys(ranks).map((rank) => ({ name, rank })));

describe('what is kept', () => {
  test.each(cases)('$name, $rank', async ({ name, rank }) => {
    const fixture = new LoadedFixture(name);
    const golden = goldens[name] as RankGoldens;
    const { layers, keep, positions, imageMask } = fixture.info.plans.default as (typeof fixture.info.plans)[string];
    const output = join(folder, 'ranked.onnx');
    const weights = join(folder, 'heads.json');
    writeFileSync(weights, JSON.stringify({ weights: golden.headWeights }));
    const report = await compile(fixture.model, { layers, keep, positions, imageMask, probe: true, output, force: true, rank: rank === 'heads' ? `heads:${weights}` : rank });
    // The bound that attention is held to: small graphs, so the share is larger than in real ones.
    expect(report.macs.rankShare).toBeGreaterThanOrEqual(0);
    expect(report.macs.rankShare).toBeLessThan(0.1);
    expect(report.macs.uncounted).toBe(0);
    const session = await ort.InferenceSession.create(output, SESSION);
    for (const [scenarioName, runs] of Object.entries(golden.ranks[rank] as RankGoldens['ranks'][string])) {
      const scenario = fixture.info.scenarios.find((s) => s.name === scenarioName);
      if (!scenario) throw new Error(`no scenario ${scenarioName}`);
      let i = 0;
      await runScenario(session, fixture, scenario, (run, outputs) => {
        const kept = runs[i++] as (readonly number[])[][];
        kept.forEach((rows, boundary) => {
          expect(toNumbers(outputs[`pdrop_kept.${boundary + 1}`] as ort.Tensor), `${scenarioName} / ${run.name}: kept at boundary ${boundary + 1}`).toEqual(rows.flat());
        });
      });
      expect(i).toBe(runs.length);
    }
    await session.release();
  });
});

test('what a ranker adds to the graph is bounded', async () => {
  const fixture = new LoadedFixture('llama-ts17-sdpa');
  const report = async (rank: string): Promise<CompileReport> => compile(fixture.model, { rank, stages: 2, dryRun: true, imageMask: 'input', imageTokens: 576 });
  const attention = await report('attention');
  for (const rank of ['norope', 'change', 'transition', 'diverse', 'balanced', 'norope+grid:0.3']) {
    const { nodes, macs } = await report(rank);
    expect(nodes.added - attention.nodes.added, `nodes of ${rank} at one boundary, over attention's`).toBeLessThanOrEqual(60);
    expect(macs.rankShare, `share of ${rank}`).toBeLessThan(0.05);
  }
});

describe('what --rank takes', () => {
  const model = new LoadedFixture('llama-ts17-sdpa').model;
  const refuses = async (rank: string, code: string): Promise<void> => {
    await expect(compile(model, { rank, dryRun: true, imageMask: 'input' })).rejects.toMatchObject({ code });
  };

  test.each(['atention', 'attention:1', 'random:x', 'balanced:1.5', 'balanced:x', 'heads', 'attention+grid', 'attention+grid:0', 'attention+grid:1', 'attention+grid:2', 'uniform+mesh:0.5', 'toString', ''])('not "%s"', (rank) => refuses(rank, 'PD014'));

  test('a heads file must exist, be one, and have the layers and heads', async () => {
    await refuses(`heads:${join(folder, 'absent.json')}`, 'PD002');
    const file = join(folder, 'other.json');
    writeFileSync(file, '[1, 2');
    await refuses(`heads:${file}`, 'PD017');
    writeFileSync(file, '{"weights": {"2": "x"}}');
    await refuses(`heads:${file}`, 'PD017');
    for (const weights of [{ 2: [1, 1, 1, 1] }, { 2: [1, 1], 4: [1, 1], 6: [1, 1] }, { 2: [0, 0, 0, 0], 4: [1, 1, 1, 1], 6: [1, 1, 1, 1] }]) {
      writeFileSync(file, JSON.stringify({ weights }));
      await refuses(`heads:${file}`, 'PD040');
    }
  });

  test('a plan holds all of it and is replayed to the same bytes', async () => {
    const weights = join(folder, 'replay.json');
    writeFileSync(weights, JSON.stringify({ weights: { 2: [1, 0, 2, 1], 4: [1, 1, 1, 1], 6: [3, 1, 1, 0.5] } }));
    for (const rank of [`heads:${weights}+grid:0.25`, 'balanced:0.3', 'random:7+grid:.5']) {
      const [a, b] = [join(folder, 'a.onnx'), join(folder, 'b.onnx')];
      const { plan } = await compile(model, { rank, imageMask: 'input', output: a, force: true });
      await compile(model, { plan: JSON.parse(JSON.stringify(plan)), output: b, force: true });
      expect(readFileSync(b).equals(readFileSync(a))).toBe(true);
    }
  });
});
