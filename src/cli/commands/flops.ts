/** `pdrop-compile flops`: what a graph costs at given sizes, and the paper's own figure. */
import type { Command } from 'commander';
import { MOST_PROMPT_TOKENS } from '../../cost/stages.js';
import { paperMacs, paperStages } from '../../cost/paper.js';
import { parseRatio } from '../../cost/keep.js';
import { readModelConfig } from '../../disk/model-config.js';
import { share } from '../../report/validate-tables.js';
import { flopsOf } from '../../validate/flops.js';
import { mlpWidth } from '../../validate/cost/costreport.js';
import { readModelFile } from '../../validate/models/model.js';
import { bytes, si, table } from '../terminal.js';
import { warn, whole, wrong } from './validate-shared.js';
import { print, printJson } from '../output.js';
import { whileShowing } from '../progress.js';

interface Flags {
  imageTokens?: number;
  textTokens: number;
  past: number;
  batch: number;
  dim?: string[];
  paper?: boolean;
  layers?: number;
  hidden?: number;
  mlp?: number;
  stages: number;
  lambda: string;
  json?: boolean;
}

/** The architectures of the paper's tables. */
const PAPER = [
  { name: 'LLaVA-1.5-7B', imageTokens: 576, layers: 32, hidden: 4096, mlp: 11008 },
  { name: 'LLaVA-NeXT-7B', imageTokens: 2880, layers: 32, hidden: 4096, mlp: 11008 },
];

const collect = (value: string, all: string[] = []): string[] => [...all, value];

export function register(program: Command): void {
  program
    .command('flops')
    .summary('count MACs at given sizes, or by the paper’s formula')
    .description('Counts multiply-accumulates on a graph, original or compiled, at given sizes; nothing is run. With --paper: the PyramidDrop paper’s figure, MACs of image tokens only, for a model, for given sizes, or for the paper’s own architectures.')
    .argument('[model]', 'path of a decoder')
    .optionsGroup('Sizes:')
    .option('--image-tokens <n>', 'image tokens of the prompt (default: from config.json, else 576)', whole('--image-tokens', 0, MOST_PROMPT_TOKENS))
    .option('--text-tokens <n>', 'text tokens of the prompt', whole('--text-tokens', 1, MOST_PROMPT_TOKENS), 64)
    .option('--past <n>', 'tokens in every layer’s cache before the prompt', whole('--past', 0, MOST_PROMPT_TOKENS), 0)
    .option('--batch <n>', 'rows', whole('--batch', 1, 4096), 1)
    .option('--dim <name=size>', 'size of a symbolic dimension; may be given several times', collect)
    .optionsGroup('The paper’s formula:')
    .option('--paper', 'the paper’s formula: Σ layers·(4·n·d² + 2·n²·d + 3·n·d·m)')
    .option('--layers <n>', 'with --paper: decoder layers', whole('--layers', 1))
    .option('--hidden <n>', 'with --paper: width of the hidden states', whole('--hidden', 1))
    .option('--mlp <n>', 'with --paper: width of the MLP', whole('--mlp', 1))
    .option('--stages <n>', 'with --paper: number of stages', whole('--stages', 1), 4)
    .option('--lambda <list>', 'with --paper: shares kept at each boundary', '0.4,0.5,0.6')
    .optionsGroup('Output:')
    .option('--json', 'print JSON')
    .action(run);
}

async function run(model: string | undefined, f: Flags): Promise<void> {
  const out = (value: unknown, text: () => string): void => {
    if (f.json) printJson(value);
    else print(text());
  };
  if (f.paper) {
    const rows = await paperRows(model, f);
    out(rows, () => paperTable(rows));
    return;
  }
  if (model === undefined) throw wrong('no model given', 'flops', 'give a decoder, or --paper for the paper’s formula');
  const config = readModelConfig(model);
  warn(config.warnings);
  const imageTokens = f.imageTokens ?? config.imageTokens ?? 576;
  if (f.batch * (imageTokens + f.textTokens + f.past) > MOST_PROMPT_TOKENS) throw wrong(`these are ${f.batch * (imageTokens + f.textTokens + f.past)} tokens in all; up to ${MOST_PROMPT_TOKENS} are counted`, '--batch', 'count one row and multiply');
  const dims = Object.fromEntries((f.dim ?? []).map((d) => [d.split('=')[0] ?? '', Number(d.split('=')[1])]));
  const report = await whileShowing(`counting ${model}`, () => flopsOf(model, { imageTokens, textTokens: f.textTokens, past: f.past, batch: f.batch, imageTokenId: config.imageTokenId, dims }));
  out(report, () => {
    const columns = [{ title: '' }, { title: 'prefill', right: true }, ...(report.decode ? [{ title: 'decode step', right: true }] : [])];
    const line = (name: string, pick: (c: typeof report.prefill) => number): string[] => [name, si(pick(report.prefill)), ...(report.decode ? [si(pick(report.decode))] : [])];
    const cache = report.cacheBytes.reduce((a, b) => a + b, 0);
    const uncounted = [...new Set([...report.prefill.uncounted, ...(report.decode?.uncounted ?? [])])];
    return [
      `${report.model}${report.compiled ? ' (compiled)' : ''}: ${f.batch} row${f.batch > 1 ? 's' : ''} of ${report.at.imageTokens} image and ${report.at.textTokens} text tokens${f.past ? ` after ${f.past} cached` : ''}`,
      '',
      table(columns, [line('MACs', (c) => c.macs), line('FLOPs (2 a MAC)', (c) => 2 * c.macs), line('  decoder', (c) => c.parts.decoder), line('  LM head', (c) => c.parts.lmHead), line('  ranking', (c) => c.parts.rank), line('  other (vision tower)', (c) => c.parts.other), line('element-wise work, elements', (c) => c.elementOps)]),
      '',
      `tokens a stage: ${report.stageTokens.join(', ')}${report.prefill.parts.rank > 0 ? `; ranking is ${share(report.prefill.parts.rank / report.prefill.macs)} of prefill` : ''}${cache > 0 ? `; KV cache after the prompt: ${bytes(cache)}` : ''}`,
      ...(uncounted.length > 0 ? [`not counted: ${uncounted.join(', ')}`] : []),
    ].join('\n');
  });
}

interface PaperRow {
  readonly model: string;
  readonly imageTokens: number;
  readonly layers: number;
  readonly hidden: number;
  readonly mlp: number;
  readonly stages: number;
  readonly vanilla: number;
  readonly lambda: Readonly<Record<string, number>>;
}

async function paperRows(model: string | undefined, f: Flags): Promise<PaperRow[]> {
  const lambdas = f.lambda.split(',').map((l) => l.trim());
  for (const l of lambdas) parseRatio(l);
  const row = (a: (typeof PAPER)[number]): PaperRow => {
    const at = (lambda: string, stages: number): number => paperMacs({ hidden: a.hidden, mlp: a.mlp, stages: paperStages(a.layers, stages, a.imageTokens, lambda) });
    return { model: a.name, imageTokens: a.imageTokens, layers: a.layers, hidden: a.hidden, mlp: a.mlp, stages: f.stages, vanilla: at('1', 1), lambda: Object.fromEntries(lambdas.map((l) => [l, at(l, f.stages)])) };
  };
  if (model === undefined && f.layers === undefined && f.hidden === undefined && f.mlp === undefined) {
    return PAPER.filter((a) => f.imageTokens === undefined || a.imageTokens === f.imageTokens).map(row);
  }
  const file = model === undefined ? undefined : await readModelFile(model);
  const config = model === undefined ? undefined : readModelConfig(model);
  const layers = f.layers ?? file?.facts?.layers.length;
  const hidden = f.hidden ?? file?.facts?.hiddenSize;
  const mlp = f.mlp ?? config?.mlp ?? (file && mlpWidth(file));
  if (!layers || !hidden || !mlp) throw wrong('--paper needs the number of layers, the hidden size and the width of the MLP', '--paper', 'give --layers, --hidden and --mlp, or an original decoder');
  return [row({ name: file?.name ?? 'given sizes', imageTokens: f.imageTokens ?? config?.imageTokens ?? 576, layers, hidden, mlp })];
}

/** In units of 10¹², three digits: as the paper prints them. */
const tera = (v: number): string => (v >= 1e10 ? (v / 1e12).toPrecision(3) : si(v));

function paperTable(rows: readonly PaperRow[]): string {
  const lambdas = Object.keys(rows[0]?.lambda ?? {});
  const right = true;
  return [
    table(
      [{ title: 'model' }, { title: 'image tokens', right }, { title: 'layers', right }, { title: 'd', right }, { title: 'm', right }, { title: 'vanilla', right }, ...lambdas.map((l) => ({ title: `λ ${l}`, right }))],
      rows.map((r) => [r.model, String(r.imageTokens), String(r.layers), String(r.hidden), String(r.mlp), tera(r.vanilla), ...lambdas.map((l) => tera(r.lambda[l] ?? 0))]),
    ),
    '',
    `MACs of image tokens only, in T (10¹²), ${rows[0]?.stages} stages: the paper’s formula, which it calls FLOPs`,
  ].join('\n');
}
