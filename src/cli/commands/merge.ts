/** `pdrop-compile merge`: reports of shards → one report. */
import type { Command } from 'commander';
import { mergeReports } from '../../report/merge.js';
import { requireSchema } from '../../disk/schemas.js';
import type { ValidateReport } from '../../validate/result.js';
import { addOutputs, addThresholds, checkOutputs, emit, type OutputFlags, readJson, type ThresholdFlags, thresholdsOf } from './validate-shared.js';

interface Flags extends OutputFlags, ThresholdFlags {
  allowMissing?: boolean;
}

export function register(program: Command): void {
  const command = program
    .command('merge')
    .summary('join the reports of shards')
    .description('Joins the reports that `validate --shard i/n` wrote: samples are put together and everything that sums over them is computed anew. Thresholds are those given here, else those the shards had.')
    .argument('<reports...>', 'report files')
    .option('--allow-missing', 'join although shards are missing');
  addOutputs(addThresholds(command)).action(async (paths: string[], f: Flags) => {
    const outputs = checkOutputs(f, paths);
    const reports = paths.map((p) => requireSchema<ValidateReport>('report-validate', readJson(p), p));
    process.exitCode = await emit(mergeReports(reports, thresholdsOf(f), f.allowMissing === true), f, outputs);
  });
}
