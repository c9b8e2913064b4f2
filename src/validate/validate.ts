/**
 * The whole validation, one phase after another: gates tell a rewrite bug from pruning loss, then fidelity, baselines,
 * cost and speed, for each execution provider; then thresholds. Returns the report; writes nothing but the partial one.
 */
import { join } from 'node:path';
import { newTag } from '../disk/owner.js';
import { temporaryName } from '../disk/stale.js';
import { begun, drop } from '../disk/temporaries.js';
import { VERSION } from '../version.js';
import { type Context as BaseContext, machine, partialKey, prepare, summaryOf } from './context.js';
import { baselineReport, rankOf } from './fidelity/baselines.js';
import { writeControl } from './gates/control.js';
import { evaluatePass } from './fidelity/evaluate.js';
import { readCurve } from './sweep/curve.js';
import { Interrupted } from './running/faults.js';
import { findings, judgeThresholds } from './findings.js';
import { boundFor } from './gates/bound.js';
import { compareOutputs, worse, NO_DIFFERENCE } from './gates/compare.js';
import { runGates } from './gates/run.js';
import type { GateResult } from './gates/types.js';
import { keptReport } from './fidelity/keptmaps.js';
import { measure } from './speed/measure.js';
import type { ModelFile } from './models/model.js';
import { type Progress, SILENT, type ValidateOptions } from './options.js';
import { PartialReport } from './fidelity/partial.js';
import type { Provider } from './running/providers.js';
import { type FaultRecord, fidelityOf, type SampleRecord } from './fidelity/records.js';
import { Reference } from './fidelity/reference.js';
import { type BaselineReport, type CostReport, type KeptReport, type ProviderReport, REPORT_SCHEMA, type ValidateReport } from './result.js';
import type { Sample } from './feeding/sample.js';
import { wordsOf } from './feeding/words.js';

type Context = BaseContext & { readonly rewritten: ModelFile };

/** One execution provider's part of a run. */
interface OnProvider {
  readonly context: Context;
  readonly provider: Provider;
  readonly partial: PartialReport;
  readonly progress: Progress;
  readonly signal: AbortSignal | undefined;
}

export interface Validation {
  readonly report: ValidateReport;
  /** Removes the partial report; call it once the report itself is written. */
  readonly finish: () => void;
}

/** @throws {PdropError} when nothing can be validated at all; faults of samples are in the report. */
export async function validate(options: ValidateOptions, progress: Progress = SILENT, signal?: AbortSignal): Promise<Validation> {
  const context = await prepare(options);
  let partial: PartialReport | undefined;
  try {
    partial = new PartialReport(options.report && `${options.report}.partial.jsonl`, partialKey(context, options), options.resume !== false);
    const done = partial;
    const providers: ProviderReport[] = [];
    let cost: CostReport | null = null;
    let kept: KeptReport | null = null;
    for (const provider of options.providers ?? ['cpu']) {
      const one = await validateOn({ context, provider, partial: done, progress, signal }, kept === null);
      providers.push(one.report);
      cost ??= one.cost;
      kept ??= one.kept;
    }
    return { report: await assemble(context, providers, cost, kept, done.resumed), finish: () => done.remove() };
  } catch (error) {
    partial?.removeIfEmpty();
    throw error;
  } finally {
    await context.dispose();
  }
}

async function assemble(context: Context, providers: ProviderReport[], cost: CostReport | null, kept: KeptReport | null, resumed: number): Promise<ValidateReport> {
  const { options } = context;
  const synthetic = context.data.kind === 'synthetic';
  const thresholds = judgeThresholds(options.thresholds ?? {}, providers, cost);
  const faults = providers.flatMap((p) => p.faults);
  const failed = thresholds.some((t) => !t.met) || providers.some((p) => p.gates.some((g) => g.status === 'failed'));
  return {
    schema: REPORT_SCHEMA,
    tool: { name: 'pdrop-compile', version: VERSION },
    machine: await machine(),
    original: summaryOf(context.original, context.original),
    rewritten: { ...summaryOf(context.rewritten, context.original), plan: context.plan },
    data: { kind: context.data.kind, source: context.data.source, samples: new Set(providers.flatMap((p) => p.samples.map((s) => s.id))).size, failed: new Set(faults.map((f) => f.id)).size, resumed, note: context.note },
    shard: options.shard ?? null,
    settings: { positions: context.plan.fix ? 1 : (options.positions ?? 16), generate: context.plan.fix ? 0 : (options.generate ?? 0), embeddings: context.embedder?.kind ?? null, gateSamples: options.gateSamples ?? 2 },
    providers,
    cost,
    kept,
    words: wordsOf(context.original.path, idsOf(providers)),
    curve: options.curve ? readCurve(options.curve, context.plan) : null,
    thresholds,
    findings: findings(providers, cost, kept, synthetic),
    verdict: failed ? 'failed' : faults.length > 0 ? 'incomplete' : 'passed',
  };
}

/** Ids in texts and answers. */
function idsOf(providers: readonly ProviderReport[]): Set<number> {
  const [first] = providers;
  return new Set((first?.samples ?? []).flatMap((s) => [...(s.generated ?? []), ...(s.candidates.rewritten?.generated ?? []), ...(s.answers ?? []).flat()].flat()));
}

async function validateOn(on: OnProvider, wantKept: boolean): Promise<{ report: ProviderReport; cost: CostReport | null; kept: KeptReport | null }> {
  const { context, provider, progress, signal } = on;
  const { options } = context;
  const samples = await firstSamples(context, options.gateSamples ?? 2);
  const notes: string[] = [];
  const faults = new Map<string, FaultRecord>();
  let gates: { results: GateResult[]; control: number | null } = { results: [], control: null };
  if (options.gates !== false && samples.length > 0) {
    try {
      gates = await gatesOn(on, samples);
    } catch (error) {
      // A sample that breaks a model is reported with the samples; the gates could not be decided with it.
      if (!options.keepGoing || error instanceof Interrupted) throw error;
      notes.push(`the gates could not be decided: ${(error as Error).message}`);
    }
  }
  const { records, baselines } = await fidelityOn(on, faults);
  if (signal?.aborted) throw new Interrupted(options.report !== undefined);
  const good = new Set(records.map((r) => r.id));
  const sample = samples.find((s) => good.has(s.id)) ?? samples[0];
  const measured = sample ? await measure(context, provider, sample, progress, signal) : undefined;
  if (signal?.aborted) throw new Interrupted(options.report !== undefined);
  notes.push(...(measured?.notes ?? []));
  let kept: KeptReport | null = null;
  if (wantKept && options.maps !== 0 && sample) kept = await keptOn(on, new Set(faults.keys()), notes);
  return {
    report: {
      provider,
      gates: gates.results,
      control: gates.control,
      fidelity: fidelityOf(records, 'rewritten'),
      baselines,
      placement: measured?.placement ?? null,
      latency: measured?.latency ?? null,
      memory: measured?.memory ?? null,
      samples: records,
      faults: [...faults.values()],
      notes,
    },
    cost: measured?.cost ?? null,
    kept,
  };
}

/** The first samples that can be read at all: gates, cost and speed use them. */
async function firstSamples(context: Context, count: number): Promise<Sample[]> {
  const out: Sample[] = [];
  for await (const item of context.data.samples()) {
    if (!('fault' in item)) out.push(item);
    if (out.length >= Math.max(1, count)) break;
  }
  return out;
}

async function gatesOn({ context, provider, progress, signal }: OnProvider, samples: readonly Sample[]): Promise<{ results: GateResult[]; control: number | null }> {
  const variants = context.variants();
  const { plan } = context;
  const dtype = context.original.precision;
  progress.start(`gates on ${provider}`, undefined);
  const original = await context.open(context.original.path, provider);
  try {
    const control = dtype === 'float32' && provider === 'cpu' ? null : await controlDifference(context, provider, original, samples);
    const rewritten = await context.open(context.rewritten.path, provider);
    try {
      const results = await runGates({
        plan,
        source: plan.imageMask,
        samples,
        steps: plan.fix ? 0 : 2,
        bound: boundFor(dtype, provider, control ?? undefined),
        original,
        rewritten,
        tick: () => {
          if (signal?.aborted) throw new Interrupted(true);
        },
        openIdentity: async () => context.open((await variants.replay('identity', { ...plan, keep: plan.keep.map(() => '1'), probe: false })).path, provider),
        openFresh: async () => context.open((await variants.replay('fresh', { ...plan, probe: true })).path, provider),
      });
      return { results, control };
    } finally {
      await rewritten.close();
    }
  } finally {
    await original.close();
    progress.end();
  }
}

async function controlDifference(context: Context, provider: Provider, original: Awaited<ReturnType<Context['open']>>, samples: readonly Sample[]): Promise<number> {
  const path = temporaryName(join(context.original.path, '..', 'control'), 'tmp', newTag(), '.onnx');
  begun(path);
  try {
    await writeControl(context.original.path, context.plan.layers, path);
    const control = await context.open(path, provider);
    try {
      let worst = NO_DIFFERENCE;
      for (const s of samples) worst = worse(worst, compareOutputs((await control.prefill(s)).outputs, (await original.prefill(s)).outputs, original.session.outputs.map((o) => o.name)));
      return worst.relative;
    } finally {
      await control.close();
    }
  } finally {
    drop(path);
  }
}

async function fidelityOn({ context, provider, partial, progress, signal }: OnProvider, faults: Map<string, FaultRecord>): Promise<{ records: SampleRecord[]; baselines: BaselineReport[] }> {
  const { options, data } = context;
  // A graph of fixed shapes takes no steps.
  const means = (context.textMeans || data.kind === 'synthetic') && !context.plan.fix;
  const generate = means ? (options.generate ?? 0) : 0;
  // Without embeddings the continuation means nothing, unless the samples bring their labels' embeddings.
  const positions = means ? (options.positions ?? 16) : 1;
  const ranks = options.baselines ?? (data.kind === 'synthetic' ? [] : ['uniform', 'random']);
  const reference = new Reference(() => context.open(context.original.path, provider), {
    positions,
    generate,
    eos: options.eos,
    spool: ranks.length > 0 ? { folder: join(context.folder, `logits-${provider}`), limitBytes: options.spoolLimitBytes ?? 4 * 2 ** 30 } : undefined,
  });
  const pass = async (candidate: string, path: string): Promise<boolean> => {
    const done = partial.done(provider, candidate);
    const decoder = await context.open(path, provider);
    progress.start(`${candidate} on ${provider}`, data.count);
    try {
      return await evaluatePass(data, reference, decoder, {
        candidate,
        generate,
        eos: options.eos,
        keepGoing: options.keepGoing === true,
        wants: context.wants,
        aborted: () => signal?.aborted === true,
        done: new Set([...done, ...(candidate === 'rewritten' ? [] : faults.keys())]),
        onRecord: (r) => partial.add(provider, r),
        onFault: (f) => {
          if (!faults.has(f.id)) faults.set(f.id, f);
        },
        tick: (n) => progress.tick(n),
      });
    } finally {
      progress.end();
      await decoder.close();
    }
  };
  try {
    const complete = await pass('rewritten', context.rewritten.path);
    await reference.close();
    if (complete) {
      for (const rank of ranks) {
        if (signal?.aborted) break;
        const variant = await context.variants().replay(rank.replace(':', '-'), { ...context.plan, ...rankOf(rank), probe: false });
        const whole = await pass(rank, variant.path);
        context.variants().drop(variant);
        if (!whole) break;
      }
    }
  } finally {
    await reference.dispose();
  }
  const records = partial.records(provider);
  return { records, baselines: ranks.map((rank) => baselineReport(records, rank)) };
}

async function keptOn({ context, provider, progress }: OnProvider, skip: ReadonlySet<string>, notes: string[]): Promise<KeptReport | null> {
  progress.start('kept tokens', undefined);
  try {
    const fresh = await context.variants().replay('fresh', { ...context.plan, probe: true });
    const decoder = await context.open(fresh.path, provider);
    try {
      return await keptReport(context.data, decoder, { layers: context.plan.layers, samples: 64, maps: context.options.maps ?? 8, wants: context.wants, skip, tick: (n) => progress.tick(n) });
    } finally {
      await decoder.close();
    }
  } catch (error) {
    notes.push(`no kept-token maps: ${(error as Error).message}`);
    return null;
  } finally {
    progress.end();
  }
}
