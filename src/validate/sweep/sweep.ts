/** The trade-off curve: schedules compiled on the fly, what each costs and how far it moves the original. */
import { join } from 'node:path';
import { planPositions } from './sweep-grid.js';
import { readModelFile } from '../models/model.js';
import { cacheBytesPerToken } from '../models/model.js';
import { cut } from '../cost/costreport.js';
import { graphCost, layerMap } from '../cost/cost.js';
import { type SweepReport, SWEEP_SCHEMA } from './curve.js';
import { prepareData, type Context } from '../context.js';
import { evaluatePass } from '../fidelity/evaluate.js';
import { faultOf, Interrupted } from '../running/faults.js';
import { type Progress, SILENT, type ValidateOptions } from '../options.js';
import { scheduleFor, stageOfLayer } from '../models/plan.js';
import { type FaultRecord, fidelityOf, type SampleRecord } from '../fidelity/records.js';
import { Reference } from '../fidelity/reference.js';
import type { CurvePoint } from '../result.js';
import type { Sample } from '../feeding/sample.js';

export interface SweepOptions extends Omit<ValidateOptions, 'rewritten'> {
  readonly lambdas: readonly string[];
  readonly stages: readonly number[];
  readonly imageMask?: string | undefined;
  readonly positionMode?: 'auto' | 'compact' | 'keep' | undefined;
  readonly rank?: string | undefined;
}

/** @throws {PdropError} when a schedule is refused or the data cannot be used. */
export async function sweep(options: SweepOptions, progress: Progress = SILENT, signal?: AbortSignal): Promise<SweepReport> {
  const original = await readModelFile(options.original);
  const map = layerMap(original);
  const provider = options.providers?.[0] ?? 'cpu';
  const points: CurvePoint[] = [];
  let context: Context | undefined;
  let reference: Reference | undefined;
  let samples = 0;
  try {
    for (const { stages, lambda } of planPositions(options.stages, options.lambdas)) {
      const compileOptions = { stages, lambda, imageMask: options.imageMask, positions: options.positionMode, rank: options.rank, imageTokenId: options.imageTokenId };
      if (!context) context = await prepareData(options, original, compileOptions);
      const variants = context.variants();
      const variant = await variants.compile(`s${stages}-l${lambda}`, compileOptions);
      const ctx: Context = { ...context, plan: variant.plan };
      reference ??= new Reference(() => ctx.open(original.path, provider), {
        positions: ctx.textMeans || ctx.data.kind === 'synthetic' ? (options.positions ?? 16) : 1,
        generate: 0,
        eos: options.eos,
        spool: { folder: join(ctx.folder, 'logits'), limitBytes: options.spoolLimitBytes ?? 4 * 2 ** 30 },
      });
      const decoder = await ctx.open(variant.path, provider);
      const records: SampleRecord[] = [];
      const faults: FaultRecord[] = [];
      let first: Sample | undefined;
      try {
        progress.start(`${stages} stages, λ ${lambda}`, ctx.data.count);
        const whole = await evaluatePass(ctx.data, reference, decoder, {
          candidate: 'rewritten',
          generate: 0,
          eos: options.eos,
          keepGoing: options.keepGoing === true,
          wants: ctx.wants,
          done: new Set(),
          onRecord: (r) => records.push(r),
          onFault: (f) => {
            if (!options.keepGoing) throw faultOf(f);
            faults.push(f);
          },
          tick: (n) => progress.tick(n),
          aborted: () => signal?.aborted === true,
        });
        progress.end();
        if (!whole && signal?.aborted) throw new Interrupted(false);
        // A session that broke, or nothing to measure: no figures are no curve.
        if (faults[0] && (!whole || records.length === 0)) throw faultOf(faults[0]);
        for await (const item of ctx.data.samples()) {
          if ('fault' in item) continue;
          first = item;
          break;
        }
        const rewritten = await readModelFile(variant.path, { analyse: false, caches: original.caches });
        if (first) {
          const layout = decoder.layout(first);
          const o = graphCost(original, (await reference.decoder()).feedsFor(first), map);
          const r = graphCost(rewritten, decoder.feedsFor(first), map);
          const schedule = scheduleFor(variant.plan, layout);
          const perToken = cacheBytesPerToken(original.io);
          const bytes = (tokens: (layer: number) => number): number => perToken.reduce((a, b, layer) => a + b * tokens(layer), 0);
          const cacheCut = cut(bytes(() => layout.length), bytes((l) => schedule.stageTokens[stageOfLayer(variant.plan, l)] ?? layout.length));
          points.push({ stages, lambda, layers: variant.plan.layers, keep: variant.plan.keep, macs: r.macs, macsCut: cut(o.macs, r.macs), cacheCut, fidelity: fidelityOf(records, 'rewritten') });
        }
        samples = Math.max(samples, records.length);
      } finally {
        await decoder.close();
        variants.drop(variant);
      }
    }
    const data = context?.data;
    return { schema: SWEEP_SCHEMA, original: original.name, provider, data: { kind: data?.kind ?? 'synthetic', source: data?.source ?? '', samples, note: context?.note ?? null }, points };
  } finally {
    await reference?.dispose();
    await context?.dispose();
  }
}
