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
  readonly data: { readonly kind: string; readonly source: string; readonly samples: number; readonly note: string | null };
  readonly points: readonly CurvePoint[];
}

export function readCurve(path: string, plan: Plan): CurveReport {
  let sweep: SweepReport | null;
  try {
    sweep = JSON.parse(readRegularText(path)) as SweepReport | null;
  } catch (error) {
    throw new UsageError({ code: 'PD006', message: `${path} cannot be read: ${(error as Error).message}`, culprit: '--curve', hint: 'give the JSON that `pdrop-compile sweep --report` wrote' }, { cause: error });
  }
  if (sweep?.schema !== SWEEP_SCHEMA) throw new UsageError({ code: 'PD006', message: `${path} is not a sweep`, culprit: '--curve', hint: 'give the JSON that `pdrop-compile sweep --report` wrote' });
  const same = (p: CurvePoint): boolean => p.layers.join() === plan.layers.join() && p.keep.join() === plan.keep.join();
  return { points: sweep.points, chosen: sweep.points.findIndex(same) };
}
