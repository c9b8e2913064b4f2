/** `pdrop-compile tune`: boundaries, ratios, ranker and positions for a target. */
import { statSync } from 'node:fs';
import { type Command, Option } from 'commander';
import type { OutputFile } from '../../disk/transaction.js';
import { formatRatio, parseRatio } from '../../cost/keep.js';
import { parseRank } from '../../plan/rank-option.js';
import { describeRank } from '../../plan/plan.js';
import { figure, share } from '../../report/validate-tables.js';
import { ReportFiles } from '../../report/write.js';
import { TuneState } from '../../validate/tune/state.js';
import { TUNE_DEFAULTS, type TuneReport } from '../../validate/tune/result.js';
import { tune } from '../../validate/tune/tune.js';
import { table } from '../terminal.js';
import { print, printJson } from '../output.js';
import { progressLines } from '../progress.js';
import { addDataOptions, type DataFlags, dataOptions, decimal, whole, wrong } from './validate-shared.js';

interface Flags extends DataFlags {
  targetFlops?: number;
  targetCache?: number;
  targetKl?: number;
  minAccuracy?: number;
  generate?: number;
  ranks: string;
  ratios: string;
  positions: 'both' | 'compact' | 'keep';
  boundaries: number;
  budget: string;
  textSamples?: string;
  imageMask?: string;
  output?: string;
  report?: string;
  html?: string;
  json?: boolean;
  quiet?: boolean;
}

export function register(program: Command): void {
  const command = program
    .command('tune')
    .summary('choose a schedule for a target')
    .description('Measures what single boundaries cost, chooses boundaries and ratios for a target, tries rankers and positions with them, and verifies the result on every other sample. The plan is for `compile --plan`.')
    .argument('<original>', 'path of the original decoder')
    .optionsGroup('Target (one of these):')
    .option('--target-flops <share>', 'prefill MACs, as a share of the original’s', decimal('--target-flops'))
    .option('--target-cache <share>', 'KV cache after the prompt, as a share of the original’s', decimal('--target-cache'))
    .option('--target-kl <nats>', 'mean KL divergence from the original', decimal('--target-kl'))
    .option('--min-accuracy <share>', 'right answers of the samples (needs answers)', decimal('--min-accuracy'))
    .option('--generate <n>', 'greedy tokens generated for answers', whole('--generate'))
    .optionsGroup('What is tried:')
    .option('--ranks <list>', 'rankers that are tried, as for compile; the first makes the map; the weights of heads are measured by ablation', TUNE_DEFAULTS.ranks.join())
    .option('--ratios <list>', 'shares of image tokens that may be left', TUNE_DEFAULTS.ratios.join())
    .addOption(new Option('--positions <mode>', 'position modes that are tried').choices(['both', 'compact', 'keep']).default(TUNE_DEFAULTS.positionModes[0]))
    .option('--boundaries <n>', 'most boundaries of a schedule', whole('--boundaries', 1, 60), TUNE_DEFAULTS.mostBoundaries)
    .option('--budget <time>', 'time to measure in, such as 90s, 10m or 2h', `${TUNE_DEFAULTS.budget / 60_000}m`)
    .option('--text-samples <pattern>', 'ids of samples whose answer is text in the image: watched apart')
    .option('--ep <name>', 'execution provider (default: cpu)', (t: string, all: string[] = []) => [...all, t])
    .option('--image-mask <source>', 'as for compile');
  addDataOptions(command)
    .optionsGroup('Output:')
    .option('-o, --output <file>', 'where the plan is written')
    .option('--report <file>', 'write everything as JSON; what is measured is kept beside it until the end, so that an interrupted run is taken up')
    .option('--html <file>', 'write it as one HTML page')
    .option('--json', 'print JSON')
    .option('--quiet', 'print nothing')
    .action(run);
}

/** Milliseconds. */
export function parseDuration(text: string): number {
  const match = /^(\d{1,6}(?:\.\d+)?)(s|m|h)$/.exec(text);
  if (!match) throw wrong(`--budget ${text} is not a time`, '--budget', 'write 90s, 10m or 2h');
  return Number(match[1]) * { s: 1000, m: 60_000, h: 3_600_000 }[match[2] as 's' | 'm' | 'h'];
}

async function run(original: string, f: Flags): Promise<void> {
  const ranks = f.ranks.split(',').map((r) => r.trim());
  if (ranks.some((r) => r.startsWith('heads:'))) throw wrong('tune measures the weights of rank heads itself', '--ranks', 'write heads without a file');
  const [first] = ranks.map((r) => parseRank(r, true));
  if (first?.rank === 'heads') throw wrong('the map of damages is made with another rank than heads', '--ranks', 'put heads behind the first, such as attention,heads');
  const ratios = [...new Set(f.ratios.split(',').map((r) => formatRatio(parseRatio(r.trim()))))].filter((r) => r !== '1').sort((a, b) => Number(b) - Number(a));
  if (ratios.length === 0) throw wrong('--ratios leaves nothing to choose from', '--ratios', 'give shares below 1, such as 0.5,0.25');
  let pattern: RegExp | undefined;
  try {
    pattern = f.textSamples === undefined ? undefined : new RegExp(f.textSamples);
  } catch {
    throw wrong(`--text-samples ${f.textSamples} is not a regular expression`, '--text-samples');
  }
  const budget = parseDuration(f.budget);
  const files = new ReportFiles([original, ...(f.data ?? []), ...(f.embed ? [f.embed] : [])], { reports: true });
  const [plan, report, page] = [f.output, f.report, f.html].map((path) => (path ? files.announce(path) : undefined));
  const options = { ...dataOptions(original, f), original, generate: f.generate };
  const stat = statSync(original, { throwIfNoEntry: false });
  const state = f.report ? new TuneState(`${f.report}.partial.jsonl`, JSON.stringify([stat?.size, stat?.mtimeMs, options])) : undefined;
  const result = await tune(
    {
      ...options,
      targetFlops: f.targetFlops,
      targetCache: f.targetCache,
      targetKl: f.targetKl,
      minAccuracy: f.minAccuracy,
      ranks,
      ratios,
      positionModes: f.positions === 'both' ? ['keep', 'compact'] : [f.positions],
      mostBoundaries: f.boundaries,
      imageMask: f.imageMask,
      budget,
      state,
      textSamples: pattern,
    },
    progressLines(f.quiet === true || f.json === true),
  );
  const texts: [OutputFile, string][] = [];
  if (plan) texts.push([plan, `${JSON.stringify(result.plan, null, 1)}\n`]);
  if (report) texts.push([report, `${JSON.stringify(result, null, 1)}\n`]);
  if (page) texts.push([page, (await import('../../report/html/tune.js')).tuneToHtml(result)]);
  await files.write(texts);
  state?.remove();
  if (f.json) printJson(result, 1);
  else if (!f.quiet) print(render(result));
  if (!result.target.met) process.exitCode = 1;
}

function render(r: TuneReport): string {
  const right = true;
  const rows = r.frontier.map((p) => [p.plan.layers.join(','), p.plan.keep.join(','), describeRank(p.plan), p.plan.positions, share(p.macs), share(p.cache), figure(p.calibration.meanKl), p.calibration.accuracy === null ? '' : share(p.calibration.accuracy), p.plan === r.plan ? '←' : '']);
  const { chosen, baseline } = r;
  const lines = [
    table([{ title: 'before layers' }, { title: 'keep' }, { title: 'rank' }, { title: 'positions' }, { title: 'MACs', right }, { title: 'cache', right }, { title: 'mean KL', right }, { title: 'accuracy', right }, { title: '' }], rows),
    '',
    `held out (${r.samples.heldOut} samples): mean KL ${figure(chosen.heldOut.meanKl)} ± ${figure(chosen.heldOut.standardError)}, same top-1 ${share(chosen.heldOut.sameTop1)}${chosen.heldOut.accuracy === null ? '' : `, accuracy ${share(chosen.heldOut.accuracy)}`}`,
  ];
  if (baseline) {
    lines.push(`default schedule at ${share(baseline.macs)} of the MACs: mean KL ${figure(baseline.heldOut.meanKl)}; paired difference ${figure(baseline.advantage.mean)} ± ${figure(baseline.advantage.standardError)}${Math.abs(baseline.advantage.mean) < 2 * baseline.advantage.standardError ? ', within the uncertainty' : ''}`);
  }
  lines.push(r.horizon === null ? 'no layer was found behind which image tokens are not needed' : `from layer ${r.horizon} on, dropping all image tokens changes nothing to speak of`);
  for (const a of r.alarms) lines.push(`text in the image breaks first: one boundary before layer ${a.layer} at ${a.keep} costs it ${figure(a.text)}, the other samples ${figure(a.rest)}`);
  if (r.unmeasured > 0) lines.push(`note: ${r.unmeasured} cells of the map were not reached in the budget; their layers are interpolated`);
  if (!r.target.met) lines.push(`the target (${r.target.kind} ${r.target.value}) is MISSED on held-out samples`);
  return lines.join('\n');
}
