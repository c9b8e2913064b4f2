/** Cost, placement, latency and memory of both models on one prompt. */
import { join } from 'node:path';
import { runInChild, writeFeeds } from '../running/child.js';
import type { Context as BaseContext } from '../context.js';
import { costReport } from '../cost/costreport.js';
import { Interrupted } from '../running/faults.js';
import { breakEven } from './break-even.js';
import { measureLatency } from './latency.js';
import type { ModelFile } from '../models/model.js';
import type { Progress } from '../options.js';
import { profileModel, type ProfiledModel } from '../cost/placement.js';
import type { Provider } from '../running/providers.js';
import type { CostReport, LatencyReport, MemoryReport, PlacementReport } from '../result.js';
import type { Sample } from '../feeding/sample.js';

type Context = BaseContext & { readonly rewritten: ModelFile };

export interface Measured {
  readonly cost: CostReport | null;
  readonly placement: PlacementReport | null;
  readonly latency: LatencyReport | null;
  readonly memory: MemoryReport | null;
  readonly notes: readonly string[];
}

export async function measure(context: Context, provider: Provider, sample: Sample, progress: Progress, signal?: AbortSignal): Promise<Measured> {
  const notes: string[] = [];
  const attempt = async <T>(what: string, work: () => Promise<T>): Promise<T | null> => {
    try {
      return await work();
    } catch (error) {
      if (error instanceof Interrupted) throw error;
      notes.push(`${what} could not be measured: ${(error as Error).message}`);
      return null;
    }
  };
  progress.start(`profile on ${provider}`, undefined);
  const profiled = await attempt('placement', async () => {
    const shared = { provider, optimize: context.options.optimize, imageSource: context.plan.imageMask, embedder: context.embedder, promptsOnly: context.plan.fix !== undefined };
    return { original: await profileModel(context.original, sample, shared), rewritten: await profileModel(context.rewritten, sample, shared) };
  });
  progress.end();
  const cost = await attempt('cost', async () => costOf(context, provider, sample, profiled ?? undefined));
  const latency = context.options.latency === false ? null : await attempt('latency', () => latencyOf(context, provider, sample, cost, { progress, signal }));
  const memory = context.options.memory === false || signal?.aborted ? null : await attempt('memory', () => memoryOf(context, provider, sample, progress));
  return { cost, placement: profiled && placementReport(profiled), latency, memory, notes };
}

type Both = { readonly original: ProfiledModel; readonly rewritten: ProfiledModel };

function placementReport(p: Both): PlacementReport {
  const of = (m: ProfiledModel): PlacementReport['original'] => ({ prefill: m.prefill.placement, decode: m.decode?.placement ?? null });
  return { original: of(p.original), rewritten: of(p.rewritten) };
}

async function costOf(context: Context, provider: Provider, sample: Sample, profiled: Both | undefined): Promise<CostReport> {
  let feeds: { original: ProfiledModel['prefill']['feeds']; rewritten: ProfiledModel['prefill']['feeds'] };
  let decodeFeeds = profiled?.original.decode && profiled.rewritten.decode ? { original: profiled.original.decode.feeds, rewritten: profiled.rewritten.decode.feeds } : undefined;
  const layout = await withDecoder(context, provider, async (d) => d.layout(sample));
  if (profiled) feeds = { original: profiled.original.prefill.feeds, rewritten: profiled.rewritten.prefill.feeds };
  else {
    decodeFeeds = undefined;
    feeds = {
      original: await withDecoder(context, provider, async (d) => d.feedsFor(sample), context.original.path),
      rewritten: await withDecoder(context, provider, async (d) => d.feedsFor(sample)),
    };
  }
  return costReport({ original: context.original, rewritten: context.rewritten, plan: context.plan, sample: sample.id, layout, feeds, decodeFeeds, profiled });
}

async function withDecoder<T>(context: Context, provider: Provider, work: (d: Awaited<ReturnType<Context['open']>>) => Promise<T>, path = context.rewritten.path): Promise<T> {
  const d = await context.open(path, provider);
  try {
    return await work(d);
  } finally {
    await d.close();
  }
}

async function latencyOf(context: Context, provider: Provider, sample: Sample, cost: CostReport | null, { progress, signal }: { progress: Progress; signal: AbortSignal | undefined }): Promise<LatencyReport> {
  const { repeats = 10, warmups = 2 } = context.options;
  const open = (path: string): ReturnType<Context['open']> => context.open(path, provider, { keepOnDevice: context.original.io.caches.map((c) => c.present) });
  const original = await open(context.original.path);
  try {
    const rewritten = await open(context.rewritten.path);
    try {
      progress.start(`latency on ${provider}`, 2 * (repeats + warmups));
      const l = await measureLatency(original, rewritten, sample, { warmups, repeats, budgetMs: 120_000, aborted: () => signal?.aborted === true }, (done) => progress.tick(done));
      progress.end();
      const idealPrefill = cost?.prefill.idealSpeedup ?? Number.NaN;
      const idealDecode = cost?.decode?.idealSpeedup ?? null;
      return { ...l, idealPrefill, idealDecode, achievedPrefill: l.prefill.speedup / idealPrefill, achievedDecode: l.decode && idealDecode !== null ? l.decode.speedup / idealDecode : null, breakEven: cost && !context.plan.fix ? breakEven(l, cost.at.imageTokens, idealPrefill) : null };
    } finally {
      await rewritten.close();
    }
  } finally {
    await original.close();
  }
}

async function memoryOf(context: Context, provider: Provider, sample: Sample, progress: Progress): Promise<MemoryReport> {
  progress.start(`memory on ${provider}`, 2);
  const notes: string[] = [];
  const one = async (path: string, label: string): Promise<MemoryReport['original']> => {
    const feeds = join(context.folder, `${label}.feeds`);
    writeFeeds(feeds, await withDecoder(context, provider, async (d) => d.feedsFor(sample), path));
    const answer = await runInChild({ model: path, provider, feeds, optimize: context.options.optimize });
    if (!answer.ok) notes.push(`${label}: ${answer.error}`);
    return answer.rss ? { loaded: answer.rss.loaded - answer.rss.before, peak: answer.rss.peak } : null;
  };
  const original = await one(context.original.path, 'original');
  progress.tick(1);
  const rewritten = await one(context.rewritten.path, 'rewritten');
  progress.end();
  if (provider !== 'cpu') notes.push('host memory only; what the device holds is not in it');
  return { original, rewritten, note: notes.length > 0 ? notes.join('; ') : null };
}

