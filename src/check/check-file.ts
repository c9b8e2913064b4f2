/** Checking a compiled model on disk: is it sound, and does it do what the plan in its metadata says? */
import { planInMetadata } from '../compile.js';
import { UsageError } from '../diagnostics.js';
import { checkExternalData } from '../disk/external-files.js';
import { FileSource } from '../disk/files.js';
import { type Check, checkFollowsPlan, problemsOf } from './follows-plan.js';
import { readModel } from '../onnx/read.js';
import type { Plan } from '../plan/plan.js';
import { requirePlan } from '../disk/schemas.js';

export interface CheckReport {
  readonly input: string;
  readonly plan: Plan;
  /** What was looked at, and what is wrong with it; empty problems mean the check passed. */
  readonly checks: readonly Check[];
  readonly ok: boolean;
}

export interface CheckOptions {
  /** Read the model a second time, with onnx-proto, and compare. */
  readonly strict?: boolean | undefined;
}

/**
 * Checks a compiled model.
 *
 * @throws {UsageError} PD018 when the file was not made by pdrop-compile
 * @throws {Refusal} when it is not a readable ONNX model at all
 */
export async function check(input: string, options: CheckOptions = {}): Promise<CheckReport> {
  const source = new FileSource(input);
  try {
    const model = await readModel(source);
    const compiled = planInMetadata(model);
    if (!compiled) {
      throw new UsageError({ code: 'PD018', message: `${input} carries no plan: pdrop-compile did not make it, or its metadata was stripped`, culprit: input, hint: 'give a compiled model' });
    }
    const plan = requirePlan(compiled.plan, `plan in ${input}`);
    const checks = [{ name: 'external data', problems: problemsOf(() => checkExternalData(model, input)) }, ...checkFollowsPlan(model, plan)];
    if (options.strict) {
      const { compareWithSecondReading } = await import('./second-reading.js');
      checks.push({ name: 'a second reading, by onnx-proto, agrees', problems: await compareWithSecondReading(source, model) });
    }
    return { input, plan, checks, ok: checks.every((c) => c.problems.length === 0) };
  } finally {
    source.close();
  }
}
