/**
 * pdrop-compile as a library.
 *
 * ```ts
 * import { compile, inspect, plan, validate } from 'pdrop-compile';
 * const report = await compile('model.onnx', { stages: 4, lambda: 0.5 });
 * const { findings } = await validate({ original: 'model.onnx', rewritten: 'model.pdrop.onnx', data: ['samples'] });
 * ```
 */
import { requireOptions } from './library/check-options.js';
import type { RunOptions, SweepOptions, TuneOptions } from './library/measure.js';
import type { ValidateOptions } from './validate/options.js';
import type { ValidateReport } from './validate/result.js';
import type { SweepReport } from './validate/sweep/curve.js';
import type { TuneReport } from './validate/tune/result.js';

export { compile, compileFolder, defaultOutput } from './library/compile-files.js';
export { inspect, inspectFolder, type InspectFolderReport, plan, verifyPlan } from './library/look.js';
export { readPlanFile } from './library/plan-file.js';
export { InternalError, PdropError, Refusal, UsageError, type DiagnosticDetail } from './diagnostics.js';
export type { CompileFolderOptions, CompileOptions } from './library/options.js';
export type { ImageMaskSource, Plan } from './plan/plan.js';
export type { RankMethod } from './plan/ranks.js';
export type { PlanOptions } from './plan/options.js';
export type { CompileReport, MarksReport, StageReport } from './report/compile-report.js';
export type { FolderFile, FolderReport } from './folder/compile-folder.js';
export type { Runtime } from './folder/layout.js';
export type { InspectReport, LayerReport } from './report/inspect-report.js';
export type { PromptSizes } from './cost/stages.js';
export type { ExternalDataMode } from './disk/external-files.js';
export type { RunOptions, SweepOptions, TuneOptions } from './library/measure.js';
export type { Progress, ValidateOptions } from './validate/options.js';
export type { Thresholds } from './validate/findings.js';
export type { ValidateReport } from './validate/result.js';
export type { SweepReport } from './validate/sweep/curve.js';
export type { TuneReport } from './validate/tune/result.js';
export { VERSION } from './version.js';
export { check, type CheckOptions, type CheckReport } from './check/check-file.js';

/**
 * Compares a compiled model with its original: gates, fidelity, baselines, cost, speed. Needs onnxruntime-node.
 *
 * @returns the report, as `pdrop-compile validate --json` prints it
 * @throws {PdropError} when nothing can be validated at all; faults of samples and missed thresholds are in the report
 */
export async function validate(options: ValidateOptions, run: RunOptions = {}): Promise<ValidateReport> {
  requireOptions('validate', options);
  return (await import('./library/measure.js')).validateFiles(options, run);
}

/** The trade-off curve: schedules compiled on the fly, what each costs and how far it moves the original. Needs onnxruntime-node. */
export async function sweep(options: SweepOptions, run: RunOptions = {}): Promise<SweepReport> {
  requireOptions('sweep', options);
  return (await import('./library/measure.js')).sweepFile(options, run);
}

/** A schedule for a target, verified on samples that it was not chosen on; its `plan` is for `compile`. Needs onnxruntime-node. */
export async function tune(options: TuneOptions, run: RunOptions = {}): Promise<TuneReport> {
  requireOptions('tune', options);
  return (await import('./library/measure.js')).tuneFile(options, run);
}
