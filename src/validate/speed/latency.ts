/** Latency of prefill and of one decode step: original and rewritten alternate in one run, so that drift hits both alike. */
import { argmax, type Decoder, type StepResult } from '../models/decoder.js';
import { Interrupted } from '../running/faults.js';
import type { Sample } from '../feeding/sample.js';
import { release } from '../running/session.js';
import type { HostTensor } from '../running/tensor.js';
import { quantile, type Spread, sorted, spread } from '../fidelity/statistics.js';

export interface LatencyOptions {
  readonly warmups: number;
  readonly repeats: number;
  /** Stop repeating after this many milliseconds, but not before 3 repeats. */
  readonly budgetMs: number;
  /** Ctrl-C: stop before the next run. */
  readonly aborted?: () => boolean;
}

export interface PhaseLatency {
  /** Milliseconds. */
  readonly original: Spread;
  readonly rewritten: Spread;
  /** Median original over median rewritten. */
  readonly speedup: number;
  /** Half the distance between the quartiles of the pairwise ratios. */
  readonly uncertainty: number;
}

export interface Latency {
  readonly prefill: PhaseLatency;
  readonly decode: PhaseLatency | null;
  readonly warmups: number;
}

async function timed<T>(work: () => Promise<T>): Promise<[number, T]> {
  const start = performance.now();
  const result = await work();
  return [performance.now() - start, result];
}

/** Runs both models on one sample. Sessions opened with `keepOnDevice` leave caches on the device. */
export async function measureLatency(original: Decoder, rewritten: Decoder, sample: Sample, options: LatencyOptions, tick: (done: number, of: number) => void = () => {}): Promise<Latency> {
  const both = [original, rewritten] as const;
  const feeds = both.map((d) => d.feedsFor(sample));
  const total = 2 * (options.warmups + options.repeats);
  let done = 0;
  const rounds = async (work: (side: 0 | 1) => Promise<number>): Promise<[number[], number[]]> => {
    const times: [number[], number[]] = [[], []];
    const begin = performance.now();
    for (let i = -options.warmups; i < options.repeats; i++) {
      // Who goes first alternates too.
      const order: (0 | 1)[] = i % 2 === 0 ? [0, 1] : [1, 0];
      for (const side of order) {
        if (options.aborted?.()) throw new Interrupted(true);
        const ms = await work(side);
        if (i >= 0) times[side].push(ms);
      }
      tick(++done, total);
      if (i >= 2 && performance.now() - begin > options.budgetMs) break;
    }
    return times;
  };
  const prefill = await rounds(async (side) => {
    const decoder = both[side];
    const [ms, result] = await timed(() => decoder.session.run(feeds[side] ?? new Map(), { sample: sample.id }));
    release(result.values());
    return ms;
  });
  let decode: [number[], number[]] | undefined;
  if (original.canGenerate && rewritten.canGenerate && original.io.caches.length > 0) {
    const starts: { at: StepResult; feeds: Map<string, HostTensor> }[] = [];
    for (const d of both) {
      const at = await d.prefill(sample);
      starts.push({ at, feeds: await d.stepFeeds(at.state, at.logits.map(argmax)) });
    }
    decode = await rounds(async (side) => {
      const [ms, result] = await timed(() => both[side].session.run(starts[side]?.feeds ?? new Map(), { sample: sample.id }));
      release(result.values());
      return ms;
    });
    for (const s of starts) release(s.at.outputs.values());
  }
  return { prefill: phase(prefill), decode: decode ? phase(decode) : null, warmups: options.warmups };
}

function phase([o, r]: readonly [readonly number[], readonly number[]]): PhaseLatency {
  const original = spread(o);
  const rewritten = spread(r);
  const ratios = sorted(o.map((v, i) => v / (r[i] ?? v)));
  return { original, rewritten, speedup: original.median / rewritten.median, uncertainty: (quantile(ratios, 0.75) - quantile(ratios, 0.25)) / 2 };
}
