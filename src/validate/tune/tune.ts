/**
 * A schedule for a target: damages of single boundaries on calibration samples, a choice by dynamic programming, measured
 * together, bisected to the target, and verified on samples that calibration has not seen (every other one).
 */
import { join } from 'node:path';
import type { PromptSizes } from '../../cost/stages.js';
import { UsageError } from '../../diagnostics.js';
import type { Plan } from '../../plan/plan.js';
import { parseRank } from '../../plan/rank-option.js';
import { type Context, prepareData } from '../context.js';
import { Reference } from '../fidelity/reference.js';
import { readModelFile } from '../models/model.js';
import { type Progress, SILENT } from '../options.js';
import { Interrupted } from '../running/faults.js';
import { ablateHeads } from './ablation.js';
import { costMeter } from './costs.js';
import { defaultAtCost, defaultSchedule } from './default-schedule.js';
import { advantage, type Half, measurePlan, type Outcome, summary } from './measuring.js';
import { type Damages, chooseSchedule, coarseFirst, horizon, type Schedule } from './schedule.js';
import { type Measured, TUNE_SCHEMA, type TuneOptions, type TunePoint, type TuneReport } from './result.js';

/** KL that counts as nothing: a hundredth of what 4-bit quantization costs. */
const NOTHING = 3e-4;
/** A text sample has broken when its KL is this, and this many times the others'. */
const BROKEN = { least: 0.1, times: 3 };

/** @throws {PdropError} when a schedule is refused, the data cannot be used, or no schedule meets the target (PD042). */
export async function tune(options: TuneOptions, progress: Progress = SILENT, signal?: AbortSignal): Promise<TuneReport> {
  const { kind, value } = targetOf(options);
  const started = performance.now();
  const left = (): number => options.budget - (performance.now() - started);
  const original = await readModelFile(options.original);
  const layers = original.facts?.layers.length ?? 0;
  const compileOptions = { imageMask: options.imageMask, imageTokenId: options.imageTokenId, positions: 'auto' as const };
  const context = await prepareData(options, original, compileOptions);
  const provider = options.providers?.[0] ?? 'cpu';
  const generate = options.minAccuracy === undefined ? (options.generate ?? 0) : Math.max(1, options.generate ?? 8);
  const reference = new Reference(() => context.open(original.path, provider), {
    positions: context.textMeans || context.data.kind === 'synthetic' ? (options.positions ?? 16) : 1,
    generate,
    eos: options.eos,
    spool: { folder: join(context.folder, 'logits'), limitBytes: options.spoolLimitBytes ?? 4 * 2 ** 30 },
  });
  try {
    const first = await firstSample(context);
    const layout = (await reference.decoder()).layout(first);
    const image = layout.image.subarray(0, layout.length).reduce((a, b) => a + b, 0);
    const prompt: PromptSizes = { batch: 1, imageTokens: image, textTokens: layout.length - image, past: 0 };
    const base = context.plan;
    const planFor = (schedule: Pick<Schedule, 'layers' | 'keep'>, rank: string, positions: 'compact' | 'keep', headWeights?: Plan['headWeights']): Plan => {
      return { ...base, ...parseRank(rank, true), ...(headWeights && { headWeights }), layers: schedule.layers, keep: schedule.keep, positions, probe: false };
    };
    const costs = costMeter(options.original, prompt, layers);
    const measureOutcome = async (plan: Plan, half: Half, label: string): Promise<Outcome> => {
      const key = JSON.stringify([plan, half]);
      const held = options.state?.get(key) as Outcome | undefined;
      if (held) return held;
      if (signal?.aborted) throw new Interrupted(options.state !== undefined);
      const outcome = await measurePlan({ context, reference, provider, generate, progress, signal }, plan, half, label);
      options.state?.put(key, outcome);
      return outcome;
    };
    const measured = (outcome: Outcome): Measured => summary(outcome, options.textSamples);

    // Single boundaries, coarse ones first, until 60% of the time is gone.
    const at = new Map<number, Map<string, number>>();
    const cells: TuneReport['damages'][number][] = [];
    const [mapRank, mapPositions] = [options.ranks[0] as string, options.positionModes[0] as 'compact' | 'keep'];
    let unmeasured = 0;
    for (const layer of coarseFirst(layers)) {
      for (const keep of options.ratios) {
        if (cells.length >= options.ratios.length && left() < 0.4 * options.budget) {
          unmeasured++;
          continue;
        }
        const m = measured(await measureOutcome(planFor({ layers: [layer], keep: [keep] }, mapRank, mapPositions), 'calibration', `layer ${layer}, keep ${keep}`));
        cells.push({ layer, keep, meanKl: m.meanKl, text: m.text });
        const row = at.get(layer) ?? new Map<string, number>();
        at.set(layer, row.set(keep, m.meanKl));
      }
    }
    const damages: Damages = { layers, ratios: options.ratios, at };

    const ablated = (schedule: Schedule, rank: string, positions: 'compact' | 'keep'): Promise<number[][]> =>
      ablateHeads(
        schedule.layers.map((layer, i) => ({ layer, keep: schedule.keep[i] as string })),
        (layer) => original.facts?.layers[layer]?.core?.heads ?? 0,
        async ({ layer, keep, weights }) => measured(await measureOutcome(planFor({ layers: [layer], keep: [keep] }, rank, positions, [weights]), 'calibration', `layer ${layer}, heads ${weights.join(',')}`)).meanKl,
        () => left() > 0.1 * options.budget,
      );

    // Joint points, made once a schedule.
    const share = (ratio: string): number => (prompt.textTokens + Number(ratio) * prompt.imageTokens) / (prompt.textTokens + prompt.imageTokens);
    const frontier: TunePoint[] = [];
    const point = async (schedule: Schedule, rank = mapRank, positions = mapPositions, headWeights?: Plan['headWeights']): Promise<TunePoint> => {
      const plan = planFor(schedule, rank, positions, headWeights);
      const known = frontier.find((p) => JSON.stringify(p.plan) === JSON.stringify(plan));
      if (known) return known;
      const made = { plan, ...(await costs(plan)), calibration: measured(await measureOutcome(plan, 'calibration', `${plan.layers.join(',')} at ${plan.keep.join(',')}`)) };
      frontier.push(made);
      return made;
    };
    const cheap = async (budget: number): Promise<{ schedule: Schedule; cost: number } | undefined> => {
      const schedule = chooseSchedule(damages, budget, share, options.mostBoundaries);
      if (!schedule) return undefined;
      const cost = await costs(planFor(schedule, mapRank, mapPositions));
      return { schedule, cost: kind === 'cache' ? cost.cache : cost.macs };
    };
    let chosen: TunePoint | undefined;
    let [low, high] = [0, 1];
    if (kind === 'flops' || kind === 'cache') {
      // The dearest schedule within the target: the map's cost is a share of tokens, the target's is counted.
      let best: Schedule | undefined;
      for (let i = 0; i < 12; i++) {
        const middle = (low + high) / 2;
        const got = await cheap(middle);
        if (got && got.cost <= value) {
          best = got.schedule;
          low = middle;
        } else if (got) high = middle;
        else low = middle;
      }
      if (best) chosen = await point(best);
    } else {
      const holds = (m: Measured): boolean => (kind === 'kl' ? m.meanKl <= value : (m.accuracy ?? 0) >= value);
      for (let i = 0; i < 7; i++) {
        const middle = (low + high) / 2;
        const got = await cheap(middle);
        const p = got && (await point(got.schedule));
        if (p && holds(p.calibration)) {
          chosen = !chosen || p.macs <= chosen.macs ? p : chosen;
          high = middle;
        } else low = middle;
      }
    }
    if (!chosen) {
      throw new UsageError({ code: 'PD042', message: `no schedule meets ${kind} ${value} on the calibration samples`, culprit: kind, hint: 'set an easier target, or give --ratios that keep more or fewer tokens' });
    }
    const schedule: Schedule = { layers: chosen.plan.layers, keep: chosen.plan.keep, damage: 0 };
    for (const positions of options.positionModes) {
      for (const rank of options.ranks) {
        if (left() < 0.1 * options.budget && frontier.length > 0) continue;
        const weights = parseRank(rank, true).rank === 'heads' ? await ablated(schedule, rank, positions) : undefined;
        const p = await point(schedule, rank, positions, weights);
        const better = p.calibration.meanKl < chosen.calibration.meanKl && (kind !== 'flops' || p.macs <= value) && (kind !== 'accuracy' || (p.calibration.accuracy ?? 0) >= (chosen.calibration.accuracy ?? 0));
        if (better) chosen = p;
      }
    }
    // What was chosen from the map must beat PyramidDrop's own schedule at that cost, or the latter is the answer.
    if (kind === 'flops' && layers >= 4) {
      const p = await point(await defaultSchedule(value, layers, (s) => costs(planFor(s, mapRank, mapPositions))));
      if (p.macs <= value && p.calibration.meanKl < chosen.calibration.meanKl) chosen = p;
    }
    const heldOut = await measureOutcome(chosen.plan, 'held-out', 'held-out samples');
    const baseline = await defaultAtCost(chosen, layers, planFor, costs, (plan) => measureOutcome(plan, 'held-out', 'default schedule, held-out samples'));
    const alarms = cells.flatMap(({ layer, keep, text }) => (text && text.text >= BROKEN.least && text.text > BROKEN.times * text.rest ? [{ layer, keep, ...text }] : []));
    const kept = measured(heldOut);
    return {
      schema: TUNE_SCHEMA,
      tool: 'pdrop-compile',
      original: original.name,
      target: { kind, value, met: kind === 'flops' ? chosen.macs <= value : kind === 'cache' ? chosen.cache <= value : kind === 'kl' ? kept.meanKl <= value : (kept.accuracy ?? 0) >= value },
      prompt,
      samples: { calibration: chosen.calibration.samples, heldOut: kept.samples },
      damages: cells.sort((a, b) => a.layer - b.layer || Number(b.keep) - Number(a.keep)),
      unmeasured,
      horizon: horizon(damages, NOTHING) ?? null,
      alarms,
      frontier: [...frontier].sort((a, b) => a.macs - b.macs),
      plan: chosen.plan,
      chosen: { ...chosen, heldOut: kept },
      baseline: baseline && { plan: baseline.plan, macs: baseline.macs, heldOut: measured(baseline.outcome), advantage: advantage(baseline.outcome, heldOut) },
    };
  } finally {
    await reference.dispose();
    await context.dispose();
  }
}

function targetOf(o: TuneOptions): { kind: TuneReport['target']['kind']; value: number } {
  const given = ([['flops', o.targetFlops], ['cache', o.targetCache], ['kl', o.targetKl], ['accuracy', o.minAccuracy]] as const).filter(([, v]) => v !== undefined);
  const [one] = given;
  if (!one || given.length > 1) throw new UsageError({ code: 'PD041', message: `${given.length} targets were given`, culprit: '--target-flops', hint: 'give one of --target-flops, --target-cache, --target-kl and --min-accuracy' });
  return { kind: one[0], value: one[1] as number };
}

async function firstSample(context: Context): Promise<Parameters<import('../models/decoder.js').Decoder['layout']>[0]> {
  for await (const item of context.data.samples()) if (!('fault' in item)) return item;
  throw new UsageError({ code: 'PD041', message: 'there is no sample that could be read', culprit: '--data', hint: 'see docs/validate.md for the formats' });
}
