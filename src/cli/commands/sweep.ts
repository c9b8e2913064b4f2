/** `pdrop-compile sweep`: the trade-off curve over λ and stages. */
import { type Command, Option } from 'commander';
import type { OutputFile } from '../../disk/transaction.js';
import { ReportFiles } from '../../report/write.js';
import { figure, share, si } from '../../report/validate-tables.js';
import { sweep } from '../../validate/sweep/sweep.js';
import { parseLambdas } from '../../validate/sweep/sweep-grid.js';
import { table } from '../terminal.js';
import { addDataOptions, type DataFlags, dataOptions, progressLines, whole } from './validate-shared.js';
import { print, printJson } from '../output.js';

interface Flags extends DataFlags {
  lambda: string;
  stages: string;
  imageMask?: string;
  positions?: 'auto' | 'compact' | 'keep';
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
    .option('--lambda <range>', 'from:to:step or a list', '0.3:0.9:0.1')
    .option('--stages <list>', 'numbers of stages', '4')
    .option('--ep <name>', 'execution provider (default: cpu)', (t: string, all: string[] = []) => [...all, t])
    .option('--image-mask <source>', 'as for compile')
    .addOption(new Option('--positions <mode>', 'as for compile').choices(['auto', 'compact', 'keep']))
    .option('--rank <method>', 'as for compile');
  addDataOptions(command)
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
      positionMode: f.positions,
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
    const rows = result.points.map((p) => {
      const all = p.fidelity?.all;
      return [String(p.stages), p.lambda, si(p.macs), share(p.macsCut), share(p.cacheCut), figure(all?.kl.mean), figure(all?.kl.p99), share(all?.sameTop1)];
    });
    const right = true;
    print(`${table([{ title: 'stages', right }, { title: 'λ', right }, { title: 'MACs', right }, { title: 'cut', right }, { title: 'cache cut', right }, { title: 'mean KL', right }, { title: 'KL 99%', right }, { title: 'same top-1', right }], rows)}${result.data.note ? `\nnote: ${result.data.note}` : ''}`);
  }
}
