/** The file of `--plan`. */
import { UsageError } from '../diagnostics.js';
import { requirePlan } from '../disk/schemas.js';
import { readRegularText } from '../disk/small-files.js';
import type { Plan } from '../plan/plan.js';

/** Reads and checks a plan file: a plan, or a report that holds one. */
export function readPlanFile(path: string): Plan {
  let text: string;
  try {
    text = readRegularText(path);
  } catch (error) {
    throw new UsageError({ code: 'PD002', message: `cannot read the plan: ${(error as Error).message}`, culprit: path, hint: 'check the path' }, { cause: error });
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new UsageError({ code: 'PD017', message: `the plan is not JSON: ${(error as Error).message}`, culprit: path, hint: 'a plan is written by `pdrop-compile … --report`, or by hand after schemas/plan.schema.json' }, { cause: error });
  }
  const inner = json !== null && typeof json === 'object' && 'plan' in json ? (json as { plan: unknown }).plan : json;
  return requirePlan(inner, path);
}
