/** The trade-off curve: schedules compiled on the fly, what each costs and how far it moves the original. */
import { join } from 'node:path';
import type { Plan } from '../../plan/plan.js';
import { prepareData, type Context } from '../context.js';
import { graphCost, layerMap } from '../cost/cost.js';
import { cut } from '../cost/costreport.js';
import { baselineReport, rankOf } from '../fidelity/baselines.js';
import { evaluatePass } from '../fidelity/evaluate.js';
import { type FaultRecord, fidelityOf, joinRecords, type SampleRecord } from '../fidelity/records.js';
import { Reference } from '../fidelity/reference.js';
import type { Sample } from '../feeding/sample.js';
import type { Decoder } from '../models/decoder.js';
import { cacheBytesPerToken, type ModelFile, readModelFile } from '../models/model.js';
import { scheduleFor, stageOfLayer } from '../models/plan.js';
import type { Variant } from '../models/variants.js';
import { type Progress, SILENT, type ValidateOptions } from '../options.js';
import { faultOf, Interrupted } from '../running/faults.js';
import type { Provider } from '../running/providers.js';
import type { CurvePoint } from '../result.js';
import { type SweepReport, SWEEP_SCHEMA } from './curve.js';
import { gridOf } from './sweep-grid.js';

export interface SweepOptions extends Omit<ValidateOptions, 'rewritten'> {
  /** Shares kept at each boundary: `parseLambdas` makes them of a range. */
  readonly lambdas: readonly string[];
  readonly stages: readonly number[];
  readonly imageMask?: string | undefined;
  /** A curve each. Default `auto`: what the graph gets by default. */
  readonly positionModes?: readonly ('auto' | 'compact' | 'keep')[] | undefined;
  readonly rank?: string | undefined;
}

/** Everything a sweep has open. */
interface Sweep {
  readonly options: SweepOptions;
  readonly context: Context;
  readonly original: ModelFile;
  readonly provider: Provider;
  readonly generate: number;
  readonly reference: Reference;
  readonly progress: Progress;
  readonly signal: AbortSignal | undefined;
}

/** @throws {PdropError} when a schedule is refused or the data cannot be used. */
export async function sweep(options: SweepOptions, progress: Progress = SILENT, signal?: AbortSignal): Promise<SweepReport> {
  const original = await readModelFile(options.original);
  const provider = options.providers?.[0] ?? 'cpu';
  const grid = gridOf(options.positionModes ?? ['auto'], options.stages, options.lambdas);
  const compileOptions = (of: (typeof grid)[number] | undefined) => ({ ...of, imageMask: options.imageMask, rank: options.rank, imageTokenId: options.imageTokenId });
  const context = await prepareData(options, original, compileOptions(grid[0]));
  let reference: Reference | undefined;
  try {
    const means = context.textMeans || context.data.kind === 'synthetic';
    const generate = means ? (options.generate ?? 0) : 0;
    reference = new Reference(() => context.open(original.path, provider), {
      positions: means ? (options.positions ?? 16) : 1,
      generate,
      eos: options.eos,
      spool: { folder: join(context.folder, 'logits'), limitBytes: options.spoolLimitBytes ?? 4 * 2 ** 30 },
    });
    const all: Sweep = { options, context, original, provider, generate, reference, progress, signal };
    const baselines = options.baselines ?? (context.data.kind === 'synthetic' ? [] : ['uniform']);
    const points: CurvePoint[] = [];
    let samples = 0;
    let rank = 'attention';
    for (const at of grid) {
      const variant = await context.variants().compile(`s${at.stages}-l${at.lambda}-${at.positions}`, compileOptions(at));
      const name = `${at.stages} stages, λ ${at.lambda}, positions ${variant.plan.positions}`;
      const own = await measured(all, variant, 'rewritten', name);
      const records = [...own.records];
      for (const baseline of baselines) {
        const other = await context.variants().replay(`s${at.stages}-l${at.lambda}-${at.positions}-${baseline}`, { ...variant.plan, ...rankOf(baseline), probe: false });
        records.push(...(await measured(all, other, baseline, `${name}, ${baseline}`)).records);
      }
      const joined = joinRecords(records);
      if (own.cost) points.push({ stages: at.stages, lambda: at.lambda, positions: variant.plan.positions, layers: variant.plan.layers, keep: variant.plan.keep, ...own.cost, fidelity: fidelityOf(joined, 'rewritten'), baselines: baselines.map((b) => baselineReport(joined, b)) });
      samples = Math.max(samples, own.records.length);
      rank = variant.plan.rank;
    }
    const { data, note } = context;
    return { schema: SWEEP_SCHEMA, original: original.name, provider, rank, generate, data: { kind: data.kind, source: data.source, samples, note }, points };
  } finally {
    await reference?.dispose();
    await context.dispose();
  }
}

/** One schedule over all samples, and what it costs on the first of them; its file is removed. */
async function measured(all: Sweep, variant: Variant, candidate: string, name: string): Promise<{ records: SampleRecord[]; cost: Pick<CurvePoint, 'macs' | 'macsCut' | 'cacheCut'> | undefined }> {
  const { options, reference, progress, signal } = all;
  const context: Context = { ...all.context, plan: variant.plan };
  const decoder = await context.open(variant.path, all.provider);
  const records: SampleRecord[] = [];
  const faults: FaultRecord[] = [];
  try {
    progress.start(name, context.data.count);
    const whole = await evaluatePass(context.data, reference, decoder, {
      candidate,
      generate: all.generate,
      eos: options.eos,
      keepGoing: options.keepGoing === true,
      wants: context.wants,
      done: new Set(),
      onRecord: (r) => records.push(r),
      onFault: (f) => {
        if (!options.keepGoing) throw faultOf(f);
        faults.push(f);
      },
      tick: (n) => progress.tick(n),
      aborted: () => signal?.aborted === true,
    });
    if (!whole && signal?.aborted) throw new Interrupted(false);
    // A session that broke, or nothing to measure: no figures are no curve.
    if (faults[0] && (!whole || records.length === 0)) throw faultOf(faults[0]);
    const first = await firstSample(context);
    return { records, cost: first && candidate === 'rewritten' ? await costAt(all, decoder, variant.plan, variant.path, first) : undefined };
  } finally {
    progress.end();
    await decoder.close();
    context.variants().drop(variant);
  }
}

async function firstSample(context: Context): Promise<Sample | undefined> {
  for await (const item of context.data.samples()) if (!('fault' in item)) return item;
  return undefined;
}

async function costAt({ original, reference }: Sweep, decoder: Decoder, plan: Plan, path: string, sample: Sample): Promise<Pick<CurvePoint, 'macs' | 'macsCut' | 'cacheCut'>> {
  const rewritten = await readModelFile(path, { analyse: false, caches: original.caches });
  const map = layerMap(original);
  const layout = decoder.layout(sample);
  const before = graphCost(original, (await reference.decoder()).feedsFor(sample), map);
  const after = graphCost(rewritten, decoder.feedsFor(sample), map);
  const { stageTokens } = scheduleFor(plan, layout);
  const perToken = cacheBytesPerToken(original.io);
  const bytes = (tokens: (layer: number) => number): number => perToken.reduce((a, b, layer) => a + b * tokens(layer), 0);
  return { macs: after.macs, macsCut: cut(before.macs, after.macs), cacheCut: cut(bytes(() => layout.length), bytes((l) => stageTokens[stageOfLayer(plan, l)] ?? layout.length)) };
}
