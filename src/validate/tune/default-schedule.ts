/** PyramidDrop's own schedule at a given cost: what every choice is held against. */
import type { Plan } from '../../plan/plan.js';
import type { Outcome } from './measuring.js';
import type { TunePoint } from './result.js';
import type { Schedule } from './schedule.js';

/** PyramidDrop's boundaries at 4 stages with the largest λ that costs at most `macs`. */
export async function defaultSchedule(macs: number, layers: number, costOf: (schedule: Schedule) => Promise<{ macs: number }>, atLeast = false): Promise<Schedule> {
  const at = [1, 2, 3].map((i) => Math.floor((i * layers) / 4));
  const scheduleAt = (lambda: number): Schedule => ({ layers: at, keep: [lambda, lambda ** 2, lambda ** 3].map((r) => String(Number(r.toFixed(6)))), damage: 0 });
  let [low, high] = [0.01, 0.999];
  for (let i = 0; i < 10; i++) {
    const middle = (low + high) / 2;
    if ((await costOf(scheduleAt(middle))).macs <= macs) low = middle;
    else high = middle;
  }
  return scheduleAt(atLeast ? high : low);
}

/** The default schedule, at no lower a cost than the chosen one: the comparison must not favour the latter. */
export async function defaultAtCost(chosen: TunePoint, layers: number, planFor: (s: Pick<Schedule, 'layers' | 'keep'>, rank: string, positions: 'compact' | 'keep') => Plan, costs: (plan: Plan) => Promise<{ macs: number }>, outcomeOf: (plan: Plan) => Promise<Outcome>): Promise<{ plan: Plan; macs: number; outcome: Outcome } | null> {
  if (layers < 4) return null;
  const planAt = (s: Schedule): Plan => planFor(s, 'attention', chosen.plan.positions);
  const plan = planAt(await defaultSchedule(chosen.macs, layers, (s) => costs(planAt(s)), true));
  return { plan, macs: (await costs(plan)).macs, outcome: await outcomeOf(plan) };
}
