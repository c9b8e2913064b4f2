/** One plan measured on one half of the samples: calibration, or those that are held out of the choice. */
import { UsageError } from '../../diagnostics.js';
import type { Plan } from '../../plan/plan.js';
import type { Context } from '../context.js';
import { evaluatePass } from '../fidelity/evaluate.js';
import { type FaultRecord, fidelityOf, type SampleRecord } from '../fidelity/records.js';
import type { Reference } from '../fidelity/reference.js';
import { mean, standardError } from '../fidelity/statistics.js';
import type { Progress } from '../options.js';
import { faultOf, Interrupted } from '../running/faults.js';
import type { Measured } from './result.js';

export type Half = 'calibration' | 'held-out';

/** What was measured, KL by sample. */
export interface Outcome {
  readonly kl: readonly (readonly [string, number])[];
  readonly sameTop1: number;
  readonly accuracy: number | null;
}

/** What all measurements of a search share. */
export interface Measuring {
  readonly context: Context;
  readonly reference: Reference;
  readonly provider: Parameters<Context['open']>[1];
  readonly generate: number;
  readonly progress: Progress;
  readonly signal: AbortSignal | undefined;
}

/**
 * Compiles the plan, and compares what it answers to one half of the samples with what the original answers.
 *
 * @throws {PdropError} PD041 there are no samples in that half; what a sample or a session broke with; that the run was interrupted
 */
export async function measurePlan({ context, reference, provider, generate, progress, signal }: Measuring, plan: Plan, half: Half, label: string): Promise<Outcome> {
  const variants = context.variants();
  const variant = await variants.replay(`tune-${plan.layers.join('-')}-${plan.keep.join('-')}-${plan.rank}-${plan.positions}`, plan);
  const decoder = await context.open(variant.path, provider);
  const records: SampleRecord[] = [];
  const faults: FaultRecord[] = [];
  const remainder = half === 'calibration' ? 0 : 1;
  try {
    progress.start(label, undefined);
    const whole = await evaluatePass(context.data, reference, decoder, {
      candidate: 'rewritten',
      generate,
      eos: context.options.eos,
      keepGoing: context.options.keepGoing === true,
      wants: (index) => context.wants(index) && index % 2 === remainder,
      done: new Set(),
      onRecord: (r) => records.push(r),
      onFault: (f) => {
        if (!context.options.keepGoing) throw faultOf(f);
        faults.push(f);
      },
      tick: (n) => progress.tick(n),
      aborted: () => signal?.aborted === true,
    });
    progress.end();
    if (!whole && signal?.aborted) throw new Interrupted(true);
    if (faults[0] && (!whole || records.length === 0)) throw faultOf(faults[0]);
  } finally {
    await decoder.close();
    variants.drop(variant);
  }
  if (records.length === 0) throw new UsageError({ code: 'PD041', message: `there are no ${half} samples`, culprit: '--data', hint: 'give at least two samples: every other one verifies what the rest chose' });
  const fidelity = fidelityOf(records, 'rewritten');
  return {
    kl: records.map((r) => [r.id, mean(r.candidates.rewritten?.kl ?? [])] as const),
    sameTop1: fidelity?.all?.sameTop1 ?? 0,
    accuracy: fidelity?.answers?.rewritten ?? null,
  };
}

/** Means over samples; `pattern`: names of samples that are read apart (pictures of text). */
export function summary({ kl, sameTop1, accuracy }: Outcome, pattern: RegExp | undefined): Measured {
  const values = kl.map(([, v]) => v);
  const [text, rest] = [true, false].map((own) => kl.flatMap(([id, v]) => (pattern && pattern.test(id) === own ? [v] : [])));
  return {
    samples: values.length,
    meanKl: mean(values),
    standardError: standardError(values),
    sameTop1,
    accuracy,
    text: text?.length && rest?.length ? { text: mean(text), rest: mean(rest) } : null,
  };
}

/** How much less the chosen plan diverges, over the samples that both were measured on. */
export function advantage(baseline: Outcome, chosen: Outcome): { mean: number; standardError: number } {
  const own = new Map(chosen.kl);
  const differences = baseline.kl.flatMap(([id, v]) => (own.has(id) ? [v - (own.get(id) as number)] : []));
  return { mean: mean(differences), standardError: standardError(differences) };
}
