/** The file of `--plan`. */
import { requirePlan } from '../disk/schemas.js';
import { readJson } from '../disk/small-files.js';
import type { Plan } from '../plan/plan.js';

/** Reads and checks a plan file: a plan, or a report that holds one. */
export function readPlanFile(path: string): Plan {
  const json = readJson(path, 'the plan is', 'a plan is written by `pdrop-compile … --report`, or by hand after schemas/plan.schema.json');
  const inner = json !== null && typeof json === 'object' && 'plan' in json ? (json as { plan: unknown }).plan : json;
  return requirePlan(inner, path);
}
