/** The trade-off curve that `sweep` wrote, for the report of one plan. */
import { UsageError } from '../../diagnostics.js';
import { readRegularText } from '../../disk/small-files.js';
import type { Plan } from '../../plan/plan.js';
import type { CurvePoint, CurveReport } from '../result.js';

export const SWEEP_SCHEMA = 'pdrop-compile/sweep/1';

export interface SweepReport {
  readonly schema: typeof SWEEP_SCHEMA;
  readonly original: string;
  readonly provider: string;
  readonly rank: string;
  /** Greedy tokens generated for answers. */
  readonly generate: number;
  readonly data: { readonly kind: string; readonly source: string; readonly samples: number; readonly note: string | null };
  readonly points: readonly CurvePoint[];
}

/** @throws {UsageError} PD006 for what is no curve, or that of another way of dropping: its points would say nothing of this plan. */
export function readCurve(path: string, plan: Plan): CurveReport {
  let sweep: SweepReport | null;
  try {
    sweep = JSON.parse(readRegularText(path)) as SweepReport | null;
  } catch (error) {
    throw new UsageError({ code: 'PD006', message: `${path} cannot be read: ${(error as Error).message}`, culprit: '--curve', hint: 'give the JSON that `pdrop-compile sweep --report` wrote' }, { cause: error });
  }
  if (sweep?.schema !== SWEEP_SCHEMA) throw new UsageError({ code: 'PD006', message: `${path} is not a sweep`, culprit: '--curve', hint: 'give the JSON that `pdrop-compile sweep --report` wrote' });
  const modes = [...new Set(sweep.points.map((p) => p.positions))];
  if (sweep.points.length > 0 && !modes.includes(plan.positions)) {
    const made = modes.some((m) => m === undefined) ? 'it does not say with which positions it was made' : `it was made with positions ${modes.join(', ')}`;
    throw new UsageError({ code: 'PD006', message: `${path} is no curve of this model: ${made}, and the model keeps positions ${plan.positions}`, culprit: '--curve', hint: `run sweep with --positions ${plan.positions}` });
  }
  if (sweep.rank !== plan.rank) throw new UsageError({ code: 'PD006', message: `${path} is no curve of this model: it was made with rank ${sweep.rank}, and the model ranks by ${plan.rank}`, culprit: '--curve', hint: `run sweep with --rank ${plan.rank}` });
  const same = (p: CurvePoint): boolean => p.positions === plan.positions && p.layers.join() === plan.layers.join() && p.keep.join() === plan.keep.join();
  return { points: sweep.points, chosen: sweep.points.findIndex(same) };
}
