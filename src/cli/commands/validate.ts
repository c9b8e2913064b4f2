/** `pdrop-compile validate`: the gate that makes people trust a rewrite. */
import type { Command } from 'commander';
import { isFolder } from '../../disk/target.js';
import { type FolderPair, filesOfFolders } from '../../folder/validate-folder.js';
import { progressLines } from '../progress.js';
import { validate } from '../../validate/validate.js';
import { addDataOptions, addOutputs, addThresholds, baselinesOf, checkOutputs, type DataFlags, dataOptions, emit, type OutputFlags, parseShard, type ThresholdFlags, thresholdsOf, warn, whole, wrong } from './validate-shared.js';

interface Flags extends DataFlags, OutputFlags, ThresholdFlags {
  only?: string;
  generate?: number;
  baselines?: string;
  gates: boolean;
  gateSamples?: number;
  latency: boolean;
  repeats?: number;
  warmups?: number;
  memory: boolean;
  maps?: number;
  shard?: { index: number; of: number };
  resume: boolean;
  curve?: string;
}

export function register(program: Command): void {
  const command = program
    .command('validate')
    .summary('prove what the rewritten model costs and loses')
    .description('Compares a rewritten model with its original: gates that tell a rewrite bug from pruning loss, divergence, generation, task accuracy, baselines at equal cost, MACs, memory and latency.')
    .argument('<original>', 'path of the original decoder, or of a folder as it was')
    .argument('<rewritten>', 'path of the model or folder pdrop-compile made of it')
    .optionsGroup('What is compared:')
    .option('--only <precision>', 'of folders: the decoder that is compared, e.g. q4f16 (default: the first)')
    .option('--ep <list>', 'execution providers: cpu, webgpu, cuda, tensorrt, coreml, dml; several side by side (default: cpu)', (t: string, all: string[] = []) => [...all, t])
    .option('--generate <n>', 'greedy tokens each model generates through its own cache (default: 0)', whole('--generate'));
  addDataOptions(command)
    .optionsGroup('What is measured:')
    .option('--baselines <list>', 'uniform, random[:seed] or none (default: uniform,random with data, none without)')
    .option('--no-gates', 'leave the gates out')
    .option('--gate-samples <n>', 'samples the gates look at (default: 2)', whole('--gate-samples', 1))
    .option('--no-latency', 'leave the latency out')
    .option('--repeats <n>', 'timed runs of each model (default: 10)', whole('--repeats', 1))
    .option('--warmups <n>', 'runs before timing (default: 2)', whole('--warmups'))
    .option('--no-memory', 'leave peak memory out')
    .option('--maps <n>', 'samples with kept-token maps (default: 8; 0: none)', whole('--maps'))
    .option('--curve <file>', 'JSON of `sweep`, to show the chosen point on its curve')
    .optionsGroup('Large data:')
    .option('--shard <i/n>', 'the i-th of n parts of the data; join the reports with merge', parseShard)
    .option('--no-resume', 'do not take up a partial report');
  addOutputs(addThresholds(command)).action(run);
}

/** Folders are turned into the files in them that are compared. */
function folders(input: string, output: string, f: Flags): { original: string; rewritten: string; ask?: FolderPair['ask']; flags: Flags } {
  if (!isFolder(input) && !isFolder(output)) {
    if (f.only !== undefined) throw wrong('--only chooses among the decoders of a folder', '--only', 'give two folders, or leave --only out');
    return { original: input, rewritten: output, flags: f };
  }
  const pair = filesOfFolders(input, output, f.only);
  if (pair.others.length > 0 && f.only === undefined && !f.quiet) warn([`only ${pair.original} is compared; --only ${pair.others.join(' or --only ')} for the others`]);
  const { embed, eos } = pair;
  return { ...pair, flags: { ...f, ...(f.embed === undefined && embed !== undefined ? { embed } : {}), ...(f.eos === undefined && eos !== undefined ? { eos } : {}) } };
}

async function run(input: string, output: string, given: Flags): Promise<void> {
  const { original, rewritten, ask, flags: f } = folders(input, output, given);
  const outputs = checkOutputs(f, [original, rewritten, ...(f.data ?? []), f.embed, f.curve]);
  const progress = progressLines(f.quiet === true || f.json === true);
  const { report, finish } = await validate(
    {
      ...dataOptions(original, f),
      original,
      rewritten,
      ask,
      generate: f.generate,
      baselines: baselinesOf(f.baselines),
      gates: f.gates,
      gateSamples: f.gateSamples,
      latency: f.latency,
      repeats: f.repeats,
      warmups: f.warmups,
      memory: f.memory,
      maps: f.maps,
      shard: f.shard,
      resume: f.resume,
      report: f.report,
      curve: f.curve,
      thresholds: thresholdsOf(f),
    },
    progress,
  );
  process.exitCode = await emit(report, f, outputs);
  finish();
}
