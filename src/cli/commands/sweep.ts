/** `pdrop-compile sweep`: the trade-off curve over λ and stages. */
import type { Command } from 'commander';
import type { OutputFile } from '../../disk/transaction.js';
import { ReportFiles } from '../../report/write.js';
import { figure, share, si } from '../../report/validate-tables.js';
import type { SweepReport } from '../../validate/sweep/curve.js';
import { sweep } from '../../validate/sweep/sweep.js';
import { parseLambdas, SWEEP_DEFAULTS } from '../../validate/sweep/sweep-grid.js';
import { table } from '../terminal.js';
import { addDataOptions, baselinesOf, type DataFlags, dataOptions, whole, wrong } from './validate-shared.js';
import { print, printJson } from '../output.js';
import { progressLines } from '../progress.js';

interface Flags extends DataFlags {
  lambda: string;
  stages: string;
  imageMask?: string;
  positions: string;
  generate?: number;
  baselines?: string;
  rank?: string;
  report?: string;
  html?: string;
  json?: boolean;
  quiet?: boolean;
}

export function register(program: Command): void {
  const command = program
    .command('sweep')
    .summary('the trade-off curve over λ and stages')
    .description('Compiles the original for every λ and number of stages, and measures MACs, cache and divergence of each: the curve to choose a point from.')
    .argument('<original>', 'path of the original decoder')
    .optionsGroup('Schedules:')
    .option('--lambda <range>', 'from:to:step or a list', SWEEP_DEFAULTS.lambdas)
    .option('--stages <list>', 'numbers of stages', SWEEP_DEFAULTS.stages.join())
    .option('--ep <name>', 'execution provider (default: cpu)', (t: string, all: string[] = []) => [...all, t])
    .option('--image-mask <source>', 'as for compile')
    .option('--positions <list>', 'auto, compact, keep, or several: a curve each', 'auto')
    .option('--rank <method>', 'as for compile')
    .option('--generate <n>', 'greedy tokens each model generates, for answers (default: 0)', whole('--generate'))
    .option('--baselines <list>', 'uniform, random[:seed] or none at every point (default: uniform with data, none without)');
  addDataOptions(command)
    .optionsGroup('Output:')
    .option('--report <file>', 'write the curve as JSON; `validate --curve` shows it')
    .option('--html <file>', 'write the curve as one HTML page')
    .option('--json', 'print JSON')
    .option('--quiet', 'print nothing')
    .action(run);
}

async function run(original: string, f: Flags): Promise<void> {
  const files = new ReportFiles([original, ...(f.data ?? []), ...(f.embed ? [f.embed] : [])], { reports: true });
  const [report, page] = [f.report, f.html].map((path) => (path ? files.announce(path) : undefined));
  const progress = progressLines(f.quiet === true || f.json === true);
  const result = await sweep(
    {
      ...dataOptions(original, f),
      original,
      lambdas: parseLambdas(f.lambda),
      stages: f.stages.split(',').map((s) => whole('--stages', 2)(s.trim())),
      imageMask: f.imageMask,
      positionModes: modesOf(f.positions),
      generate: f.generate,
      baselines: baselinesOf(f.baselines),
      rank: f.rank,
    },
    progress,
  );
  const texts: [OutputFile, string][] = report ? [[report, `${JSON.stringify(result, null, 1)}\n`]] : [];
  if (page) {
    const { sweepToHtml } = await import('../../report/html.js');
    texts.push([page, sweepToHtml(result)]);
  }
  await files.write(texts);
  if (f.json) printJson(result, 1);
  else if (!f.quiet) {
    print(`${table(...points(result))}${result.data.note ? `\nnote: ${result.data.note}` : ''}`);
  }
}

const MODES = ['auto', 'compact', 'keep'] as const;

function modesOf(text: string): (typeof MODES)[number][] {
  return [...new Set(text.split(','))].map((t) => {
    const mode = MODES.find((m) => m === t.trim());
    if (!mode) throw wrong(`--positions: "${t}" is no position mode`, '--positions', `use ${MODES.join(', ')}, or several with commas`);
    return mode;
  });
}

function points({ points }: SweepReport): Parameters<typeof table> {
  const answered = points.some((p) => p.fidelity?.answers);
  const baselines = points[0]?.baselines.map((b) => b.rank) ?? [];
  const right = true;
  const rows = points.map((p) => {
    const all = p.fidelity?.all;
    const others = p.baselines.flatMap((b) => [figure(b.fidelity?.all?.kl.mean), ...(answered ? [share(b.fidelity?.answers?.rewritten)] : [])]);
    return [p.positions, String(p.stages), p.lambda, si(p.macs), share(p.macsCut), share(p.cacheCut), figure(all?.kl.mean), figure(all?.kl.p99), share(all?.sameTop1), ...(answered ? [share(p.fidelity?.answers?.rewritten)] : []), ...others];
  });
  const heads = ['stages', 'λ', 'MACs', 'cut', 'cache cut', 'mean KL', 'KL 99%', 'same top-1', ...(answered ? ['accuracy'] : []), ...baselines.flatMap((b) => [`${b}: KL`, ...(answered ? ['accuracy'] : [])])];
  return [[{ title: 'positions' }, ...heads.map((title) => ({ title, right }))], rows];
}
