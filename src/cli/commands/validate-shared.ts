/** What validate, sweep and merge share on the command line: options, progress, Ctrl-C, output. */
import { existsSync } from 'node:fs';
import { type Command, Option } from 'commander';
import { UsageError } from '../../diagnostics.js';
import { readModelConfig } from '../../disk/model-config.js';
import { readRegularText } from '../../disk/small-files.js';
import type { OutputFile } from '../../disk/transaction.js';
import { MOST_PROMPT_TOKENS } from '../../cost/stages.js';
import { append, ReportFiles } from '../../report/write.js';
import { toJunit } from '../../report/validate-junit.js';
import { toMarkdown } from '../../report/validate-markdown.js';
import { allTables, type TextTable, thresholdsTable } from '../../report/validate-tables.js';
import { nextSteps } from '../../validate/next-steps.js';
import type { Thresholds } from '../../validate/findings.js';
import type { ValidateOptions } from '../../validate/options.js';
import { parseProviders } from '../../validate/running/providers.js';
import type { ValidateReport } from '../../validate/result.js';
import { table } from '../terminal.js';
import { print, printError, printJson } from '../output.js';

export function wrong(message: string, culprit: string, hint = 'see --help'): UsageError {
  return new UsageError({ code: 'PD001', message, culprit, hint });
}

export function whole(name: string, least = 0, most = 999_999_999): (text: string) => number {
  return (text) => {
    const n = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
    if (!(n >= least && n <= most)) throw wrong(`${name}: "${text}" is not a whole number from ${least} to ${most}`, name);
    return n;
  };
}

/** Lines on the error stream: what was left out, what may not be meant. */
export function warn(warnings: readonly string[]): void {
  for (const w of warnings) printError(`warning: ${w}`);
}

export function decimal(name: string): (text: string) => number {
  return (text) => {
    const v = Number(text);
    if (text.trim() === '' || !Number.isFinite(v)) throw wrong(`${name}: "${text}" is not a number`, name);
    return v;
  };
}

/** A number from -1 to 1: a share that cannot be missed, or can only be, is a slip of the unit. */
export function share(name: string): (text: string) => number {
  return (text) => {
    const v = decimal(name)(text);
    if (Math.abs(v) > 1) throw wrong(`${name} ${text}: shares go up to 1`, name, v <= 100 && v > 1 ? `write ${v / 100} for ${text}%` : 'write a number from 0 to 1');
    return v;
  };
}

const collect = (value: string, all: string[] = []): string[] => [...all, value];

/** Options that say what the samples are and how they are run. */
export function addDataOptions(command: Command): Command {
  return command
    .optionsGroup('Samples:')
    .option('--data <path>', 'samples: a folder, .npz, .json or .jsonl; may be given several times', collect)
    .option('--embed <file>', 'embed_tokens model or .npy table, for decoders that take embeddings (default: embed_tokens.onnx beside the model)')
    .option('--continue <n>', 'positions compared: the prompt’s end and teacher-forced ones after it (default: 16)', whole('--continue', 1))
    .option('--eos <id>', 'token that ends generation', whole('--eos'))
    .option('--limit <n>', 'use only the first samples', whole('--limit', 1))
    .optionsGroup('Synthetic prompts, where there are no samples:')
    .option('--samples <n>', 'synthetic prompts when there is no data (default: 4)', whole('--samples', 1))
    .option('--image-tokens <n>', 'image tokens of synthetic prompts (default: from config.json, else 64)', whole('--image-tokens', 0, MOST_PROMPT_TOKENS))
    .option('--text-tokens <n>', 'text tokens of synthetic prompts (default: 16)', whole('--text-tokens', 1, MOST_PROMPT_TOKENS))
    .option('--seed <n>', 'seed of synthetic prompts (default: 1)', whole('--seed'))
    .option('--vocab <n>', 'draw token ids below this where the graph does not say', whole('--vocab', 1))
    .option('--dim <name=size>', 'size of a symbolic dimension of synthetic inputs; may be given several times', collect)
    .optionsGroup('How models are run:')
    .addOption(new Option('--optimize <level>', 'ONNX Runtime’s graph optimizations (default: all)').choices(['disabled', 'basic', 'extended', 'all']))
    .option('--keep-going', 'a bad sample does not end the run; the exit code is 4')
    .option('--work-dir <folder>', 'where variants of the original are written (default: beside it)');
}

export function baselinesOf(text: string | undefined): string[] | undefined {
  if (text === undefined) return undefined;
  if (text === 'none') return [];
  const list = text.split(',').map((t) => t.trim());
  for (const t of list) if (!/^(uniform|random(:\d{1,9})?)$/.test(t)) throw wrong(`--baselines: "${t}" is not a baseline`, '--baselines', 'use uniform, random, random:<seed> or none');
  return list;
}

/** Limits; a missed one is exit code 1. */
export function addThresholds(command: Command): Command {
  return command
    .optionsGroup('Thresholds (a missed one is exit code 1):')
    .option('--max-kl <x>', 'mean KL divergence, nats', decimal('--max-kl'))
    .option('--max-kl-p99 <x>', '99th percentile of the KL divergence', decimal('--max-kl-p99'))
    .option('--min-top1 <x>', 'share of positions with the same most likely token', share('--min-top1'))
    .option('--max-ppl-ratio <x>', 'perplexity, rewritten over original (needs labels)', decimal('--max-ppl-ratio'))
    .option('--max-divergent <x>', 'share of divergent tokens in greedy text (needs --generate)', share('--max-divergent'))
    .option('--min-accuracy <x>', 'task accuracy of the rewritten model (needs answers and --generate)', share('--min-accuracy'))
    .option('--max-accuracy-drop <x>', 'task accuracy, original minus rewritten', share('--max-accuracy-drop'))
    .option('--min-flops-cut <x>', 'share of the prefill FLOPs that is saved', share('--min-flops-cut'))
    .option('--min-cache-cut <x>', 'share of the KV cache that is saved', share('--min-cache-cut'))
    .option('--min-speedup <x>', 'prefill latency, original over rewritten', decimal('--min-speedup'))
    .option('--require-ep [share]', 'share of the MACs that must have run on the provider (default: 1)', (t: string) => share('--require-ep')(t))
    .option('--beat-baselines', 'the ranker must not lose to the baselines in mean KL');
}

export interface ThresholdFlags {
  maxKl?: number;
  maxKlP99?: number;
  minTop1?: number;
  maxPplRatio?: number;
  maxDivergent?: number;
  minAccuracy?: number;
  maxAccuracyDrop?: number;
  minFlopsCut?: number;
  minCacheCut?: number;
  minSpeedup?: number;
  requireEp?: number | true;
  beatBaselines?: boolean;
}

export function thresholdsOf(f: ThresholdFlags): Thresholds {
  const names = ['maxKl', 'maxKlP99', 'minTop1', 'maxPplRatio', 'maxDivergent', 'minAccuracy', 'maxAccuracyDrop', 'minFlopsCut', 'minCacheCut', 'minSpeedup'] as const;
  const out: Record<string, number | boolean> = {};
  for (const n of names) if (f[n] !== undefined) out[n] = f[n];
  if (f.requireEp !== undefined) out.requireEp = f.requireEp === true ? 1 : f.requireEp;
  if (f.beatBaselines) out.beatBaselines = true;
  return out as Thresholds;
}

export interface DataFlags {
  data?: string[];
  ep?: string[];
  embed?: string;
  continue?: number;
  eos?: number | readonly number[];
  limit?: number;
  samples?: number;
  imageTokens?: number;
  textTokens?: number;
  seed?: number;
  vocab?: number;
  dim?: string[];
  optimize?: 'disabled' | 'basic' | 'extended' | 'all';
  keepGoing?: boolean;
  workDir?: string;
}

export function dataOptions(original: string, f: DataFlags): Omit<ValidateOptions, 'original' | 'rewritten'> {
  const config = existsSync(original) ? readModelConfig(original) : undefined;
  warn(config?.warnings ?? []);
  const dims = Object.fromEntries((f.dim ?? []).map((d) => {
    const [name, size] = d.split('=');
    if (!name || !/^\d+$/.test(size ?? '')) throw wrong(`--dim ${d} is not name=size`, '--dim');
    return [name, Number(size)];
  }));
  return {
    data: f.data,
    providers: parseProviders(f.ep),
    embed: f.embed,
    positions: f.continue,
    eos: f.eos,
    limit: f.limit,
    samples: f.samples,
    imageTokens: f.imageTokens,
    configuredImageTokens: config?.imageTokens,
    textTokens: f.textTokens,
    seed: f.seed,
    vocab: f.vocab,
    dims,
    optimize: f.optimize,
    keepGoing: f.keepGoing,
    workDir: f.workDir,
    imageTokenId: config?.imageTokenId,
  };
}

/** `i/n`, counted from 1. */
export function parseShard(text: string): { index: number; of: number } {
  const m = /^(\d+)\/(\d+)$/.exec(text);
  const [index, of] = [Number(m?.[1]), Number(m?.[2])];
  if (!m || index < 1 || index > of) throw wrong(`--shard ${text} is not i/n with 1 ≤ i ≤ n`, '--shard');
  return { index, of };
}

export function renderTables(tables: readonly TextTable[]): string {
  return tables.map((t) => `${t.title}\n${table(t.columns, t.rows).replace(/^/gm, '  ')}${t.note ? `\n  ${t.note}` : ''}`).join('\n\n');
}

export interface OutputFlags {
  report?: string;
  html?: string;
  summary?: string;
  junit?: string;
  json?: boolean;
  quiet?: boolean;
}

export function addOutputs(command: Command): Command {
  return command
    .optionsGroup('Output:')
    .option('--report <file>', 'write the report as JSON; an interrupted run resumes from <file>.partial.jsonl')
    .option('--html <file>', 'write the report as one HTML page')
    .option('--summary <file>', 'append a Markdown summary (default: $GITHUB_STEP_SUMMARY when set)')
    .option('--junit <file>', 'write JUnit XML')
    .option('--json', 'print the report as JSON')
    .option('--quiet', 'print nothing but errors and what fell short');
}

export interface Outputs {
  readonly files: ReportFiles;
  readonly report: OutputFile | undefined;
  readonly html: OutputFile | undefined;
  readonly junit: OutputFile | undefined;
  readonly summary: string | undefined;
}

/** Announces everything that will be written; fails early when it cannot be, or is one of the files that are read. */
export function checkOutputs(f: OutputFlags, reads: readonly (string | undefined)[]): Outputs {
  const files = new ReportFiles(reads.filter((p) => p !== undefined), { reports: true });
  const announce = (path: string | undefined): OutputFile | undefined => (path ? files.announce(path) : undefined);
  const summary = f.summary ?? process.env.GITHUB_STEP_SUMMARY;
  const outputs = { files, report: announce(f.report), html: announce(f.html), junit: announce(f.junit), summary: summary || undefined };
  if (outputs.summary) files.announceAppended(outputs.summary);
  return outputs;
}

/** Writes everything asked for, prints, and returns the exit code: 0 passed, 1 something fell short, 4 samples failed. */
export async function emit(report: ValidateReport, f: OutputFlags, outputs: Outputs): Promise<number> {
  const texts: [OutputFile, string][] = [];
  if (outputs.report) texts.push([outputs.report, `${JSON.stringify(report, null, 1)}\n`]);
  if (outputs.html) {
    // Loaded when asked for only.
    const { toHtml } = await import('../../report/html.js');
    texts.push([outputs.html, toHtml(report)]);
  }
  if (outputs.junit) texts.push([outputs.junit, toJunit(report)]);
  await outputs.files.write(texts);
  if (outputs.summary) append(outputs.summary, toMarkdown(report));
  if (f.json) printJson(report, 1);
  else if (!f.quiet) {
    const { data } = report;
    const lines = [
      renderTables(allTables(report)),
      ...(data.note ? [`note: ${data.note}`] : []),
      report.findings.join('\n'),
      `${report.verdict}: ${data.samples} sample${data.samples === 1 ? '' : 's'}${data.failed ? `, ${data.failed} failed` : ''}${data.resumed ? `, ${data.resumed} records resumed` : ''}${f.report ? `; report in ${f.report}` : ''}`,
    ];
    print(`${lines.filter((l) => l !== '').join('\n\n')}`);
  }
  const missed = thresholdsTable(report, true);
  const gates = report.providers.flatMap((p) => p.gates.filter((g) => g.status === 'failed').map((g) => [g.gate, p.provider, g.detail]));
  if (gates.length > 0) printError(`${renderTables([{ title: 'Gates that failed', columns: [{ title: 'gate' }, { title: 'provider' }, { title: 'what was seen' }], rows: gates }])}`);
  if (missed) printError(`${renderTables([missed])}`);
  if (missed || gates.length > 0) for (const step of nextSteps(report)) printError(`next: ${step}`);
  for (const p of report.providers) for (const fault of p.faults.slice(0, 10)) printError(`error ${fault.code}: ${fault.message}\n  ${fault.hint}`);
  return report.verdict === 'failed' ? 1 : report.verdict === 'incomplete' ? 4 : 0;
}

export function readJson<T>(path: string): T {
  try {
    return JSON.parse(readRegularText(path)) as T;
  } catch (error) {
    throw new UsageError({ code: 'PD002', message: `cannot read ${path}: ${(error as Error).message}`, culprit: path, hint: 'give a report that pdrop-compile wrote' }, { cause: error });
  }
}
