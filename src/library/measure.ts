/** validate, sweep and tune for programs: what the command line does, without printing. Loaded when one of them is called. */
import { existsSync } from 'node:fs';
import { UsageError } from '../diagnostics.js';
import { readModelConfig } from '../disk/model-config.js';
import type { OutputFile } from '../disk/transaction.js';
import { ReportFiles } from '../report/write.js';
import { type Progress, SILENT, type ValidateOptions } from '../validate/options.js';
import type { ValidateReport } from '../validate/result.js';
import type { SweepReport } from '../validate/sweep/curve.js';
import { parseLambdas, SWEEP_DEFAULTS } from '../validate/sweep/sweep-grid.js';
import { type SweepOptions as ExactSweepOptions, sweep as sweepSchedules } from '../validate/sweep/sweep.js';
import { type TuneOptions as ExactTuneOptions, TUNE_DEFAULTS, type TuneReport } from '../validate/tune/result.js';
import { tune as tuneSchedule } from '../validate/tune/tune.js';
import { validate as validateModels } from '../validate/validate.js';

/** What a long run tells, and how it is ended. */
export interface RunOptions {
  readonly progress?: Progress | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface SweepOptions extends Omit<ExactSweepOptions, 'lambdas' | 'stages'> {
  /** A list, or a range such as `0.3:0.9:0.1`, which is the default. */
  readonly lambdas?: string | readonly (string | number)[] | undefined;
  /** Default [4]. */
  readonly stages?: readonly number[] | undefined;
}

type Defaulted = keyof typeof TUNE_DEFAULTS;
export interface TuneOptions extends Omit<ExactTuneOptions, Defaulted | 'state'>, Partial<Pick<ExactTuneOptions, Defaulted>> {}

/** The report; with `report`, it is written there, and what an interrupted run measured is taken up. */
export async function validateFiles(options: ValidateOptions, { progress = SILENT, signal }: RunOptions): Promise<ValidateReport> {
  const { original, rewritten, data = [], embed, curve } = options;
  const written = announced(options.report, [original, rewritten, ...data, embed, curve]);
  const { report, finish } = await validateModels({ ...fromConfig(original), ...options }, progress, signal);
  await written?.files.write([[written.file, `${JSON.stringify(report, null, 1)}\n`]]);
  finish();
  return report;
}

export async function sweepFile(options: SweepOptions, { progress = SILENT, signal }: RunOptions): Promise<SweepReport> {
  const { lambdas = SWEEP_DEFAULTS.lambdas } = options;
  const written = announced(options.report, [options.original, ...(options.data ?? []), options.embed]);
  const exact = { ...fromConfig(options.original), ...options, stages: options.stages ?? SWEEP_DEFAULTS.stages, lambdas: parseLambdas(typeof lambdas === 'string' ? lambdas : lambdas.join(',')) };
  const report = await sweepSchedules({ ...exact, report: undefined }, progress, signal);
  await written?.files.write([[written.file, `${JSON.stringify(report, null, 1)}\n`]]);
  return report;
}

export async function tuneFile(options: TuneOptions, { progress = SILENT, signal }: RunOptions): Promise<TuneReport> {
  const written = announced(options.report, [options.original, ...(options.data ?? []), options.embed]);
  const report = await tuneSchedule({ ...TUNE_DEFAULTS, ...fromConfig(options.original), ...options, report: undefined }, progress, signal);
  await written?.files.write([[written.file, `${JSON.stringify(report, null, 1)}\n`]]);
  return report;
}

/** What the config beside a model says of its prompts. */
function fromConfig(original: unknown): Pick<ValidateOptions, 'imageTokens' | 'imageTokenId'> {
  if (typeof original !== 'string') throw new UsageError({ code: 'PD001', message: 'no original model was given', culprit: 'original', hint: 'give the path of the original decoder' });
  const { imageTokens, imageTokenId } = existsSync(original) ? readModelConfig(original) : {};
  return { ...(imageTokens === undefined ? {} : { imageTokens }), ...(imageTokenId === undefined ? {} : { imageTokenId }) };
}

function announced(path: string | undefined, reads: readonly (string | undefined)[]): { readonly files: ReportFiles; readonly file: OutputFile } | undefined {
  if (path === undefined) return undefined;
  const files = new ReportFiles(reads.filter((p) => p !== undefined), { reports: true });
  return { files, file: files.announce(path) };
}
