/** What tune takes and what it gives. */
import type { PromptSizes } from '../../cost/stages.js';
import type { Plan } from '../../plan/plan.js';
import type { ValidateOptions } from '../options.js';
import type { TuneState } from './state.js';

export const TUNE_SCHEMA = 'pdrop-compile/tune/1';

export interface TuneOptions extends Omit<ValidateOptions, 'rewritten'> {
  /** Exactly one of these. Shares of the original's prefill MACs and of its KV cache; nats; share of right answers. */
  readonly targetFlops?: number | undefined;
  readonly targetCache?: number | undefined;
  readonly targetKl?: number | undefined;
  readonly minAccuracy?: number | undefined;
  /** Rankers that are tried with the chosen schedule. The first one makes the damage map. */
  readonly ranks: readonly string[];
  readonly ratios: readonly string[];
  readonly positionModes: readonly ('compact' | 'keep')[];
  readonly mostBoundaries: number;
  readonly imageMask?: string | undefined;
  /** Milliseconds the measuring of single boundaries may take together with what follows. */
  readonly budget: number;
  readonly state?: TuneState | undefined;
  /** Pattern of ids of samples whose answer is text in the image: they are watched apart. */
  readonly textSamples?: RegExp | undefined;
}

/** What is tried when nothing is said. */
export const TUNE_DEFAULTS: Pick<TuneOptions, 'ranks' | 'ratios' | 'positionModes' | 'mostBoundaries' | 'budget'> = {
  ranks: ['attention', 'balanced', 'norope', 'change'],
  ratios: ['0.75', '0.5', '0.25', '0.1', '0'],
  positionModes: ['keep'],
  mostBoundaries: 5,
  budget: 600_000,
};

/** One plan on one half of the samples. */
export interface Measured {
  readonly samples: number;
  readonly meanKl: number;
  readonly standardError: number;
  readonly sameTop1: number;
  readonly accuracy: number | null;
  /** Mean KL of text-in-image samples and of the rest; null when not told apart. */
  readonly text: { readonly text: number; readonly rest: number } | null;
}

export interface TunePoint {
  readonly plan: Plan;
  /** Share of the original's prefill MACs, and of its KV cache after the prompt. */
  readonly macs: number;
  readonly cache: number;
  readonly calibration: Measured;
}

export interface TuneReport {
  readonly schema: typeof TUNE_SCHEMA;
  readonly tool: 'pdrop-compile';
  readonly original: string;
  readonly target: { readonly kind: 'flops' | 'cache' | 'kl' | 'accuracy'; readonly value: number; readonly met: boolean };
  readonly prompt: PromptSizes;
  readonly samples: { readonly calibration: number; readonly heldOut: number };
  /** Mean KL by layer and ratio, one boundary at a time. */
  readonly damages: readonly { readonly layer: number; readonly keep: string; readonly meanKl: number; readonly text: { readonly text: number; readonly rest: number } | null }[];
  /** Cells of the map that the budget did not reach. */
  readonly unmeasured: number;
  readonly horizon: number | null;
  /** Where text-in-image samples break while the rest holds. */
  readonly alarms: readonly { readonly layer: number; readonly keep: string; readonly text: number; readonly rest: number }[];
  readonly frontier: readonly TunePoint[];
  readonly plan: Plan;
  readonly chosen: TunePoint & { readonly heldOut: Measured };
  /** The default schedule at the λ nearest in cost, and the paired difference in KL on held-out samples (default − chosen). */
  readonly baseline: { readonly plan: Plan; readonly macs: number; readonly heldOut: Measured; readonly advantage: { readonly mean: number; readonly standardError: number } } | null;
}
