/** `pdrop-compile <model.onnx>`: the main job. */
import { type Command, Option } from 'commander';
import { MOST_PROMPT_TOKENS } from '../../cost/stages.js';
import { UsageError } from '../../diagnostics.js';
import { compileFolder, type CompileReport, type FolderReport, type MarksReport, type Runtime } from '../../index.js';
import { compileFile } from '../../library/compile-files.js';
import { readRegularText } from '../../disk/small-files.js';
import { isFolder } from '../../disk/target.js';
import { ReportFiles } from '../../report/write.js';
import { describeRank, type FixedSizes } from '../../plan/plan.js';
import { explain, explained } from '../codes.js';
import { requireSchema } from '../../disk/schemas.js';
import { PASSES } from '../../../passes/index.js';
import { progressLine, whileShowing } from '../progress.js';
import { bytes, percent, si, table } from '../terminal.js';
import { debugDump } from '../debug.js';
import { print, printError, printJson } from '../output.js';

/** Options as commander gives them; a config file has the same names with dashes. */
interface Flags {
  output?: string;
  stages?: number;
  lambda?: string;
  layers?: number[];
  keep?: string[];
  imageMask?: string;
  positions?: 'auto' | 'compact' | 'keep';
  preset?: 'paper';
  only?: string[];
  runtime?: Runtime;
  embed?: string;
  vision?: string;
  visionOutput?: string;
  measure?: boolean;
  config?: string;
  externalData?: 'auto' | 'reference' | 'link' | 'copy';
  allowExternalLinks?: boolean;
  plan?: string;
  report?: string;
  dryRun?: boolean;
  probe?: boolean;
  controlFlow?: boolean;
  for?: 'inference' | 'training';
  fix?: FixedSizes;
  rank?: string;
  force?: boolean;
  json?: boolean;
  quiet?: boolean;
  imageTokens?: number;
  textTokens?: number;
  stopAfter?: string;
  skipPass?: string[];
  explain?: boolean | string;
}

const promptTokens = (text: string): number => {
  const n = wholeNumber(text);
  if (n > MOST_PROMPT_TOKENS) throw new UsageError({ code: 'PD001', message: `${n} tokens are more than costs are counted for`, culprit: text, hint: `give at most ${MOST_PROMPT_TOKENS}` });
  return n;
};

export function wholeNumber(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new UsageError({ code: 'PD001', message: `"${text}" is not a whole number`, culprit: text, hint: 'give whole numbers from 0; see pdrop-compile --help' });
  return Number(text);
}

function fixedSizes(text: string): FixedSizes {
  const sizes = new Map(text.split(',').map((part) => part.split('=').map((t) => t.trim()) as [string, string | undefined]));
  const unknown = [...sizes.keys()].find((k) => k !== 'batch' && k !== 'sequence');
  if (unknown !== undefined || !sizes.has('sequence')) throw new UsageError({ code: 'PD020', message: `--fix ${text} is not understood`, culprit: '--fix', hint: 'write --fix batch=1,sequence=640' });
  return { batch: wholeNumber(sizes.get('batch') ?? '1'), sequence: wholeNumber(sizes.get('sequence') ?? '') };
}

const list = (text: string): string[] => text.split(',').map((t) => t.trim());
/** No terminal, so nothing is shown. */
const SILENT = { isTTY: false, write: () => true };
const passNames = PASSES.map((p) => p.name);

export function register(program: Command): void {
  program
    .command('compile', { isDefault: true })
    .summary('compile PyramidDrop into a decoder graph (default command)')
    .description('Compiles PyramidDrop into an ONNX decoder graph: image tokens are dropped at a few layers, ranked by the last instruction token’s attention.')
    .allowExcessArguments()
    .argument('[model]', 'path of the decoder’s .onnx file, or of a folder as transformers.js, onnxruntime-genai or optimum load it')
    .optionsGroup('Schedule:')
    .option('--stages <n>', 'number of stages; tokens are dropped at floor(i·layers/n) (default: 4)', wholeNumber)
    .option('--lambda <share>', 'share of image tokens kept at each boundary, in (0, 1] (default: 0.5)')
    .option('--layers <list>', 'layers before which tokens are dropped, e.g. 8,16,24', (t) => list(t).map(wholeNumber))
    .option('--keep <list>', 'share of the original image tokens left after each boundary, e.g. 0.5,0.25,0.125', list)
    .option('--rank <method>', 'attention | norope | change | transition | diverse | balanced[:share] | heads:<file> | uniform | random[:seed], each with +grid:<share> if wanted (default: attention); see docs/rankers.md')
    .addOption(new Option('--positions <mode>', 'positions after dropping (default: keep where the graph takes position_ids, else compact)').choices(['auto', 'compact', 'keep']))
    .addOption(new Option('--preset <name>', 'paper: 4 stages, λ 0.5, attention, compact positions, as PyramidDrop’s own code has them').choices(['paper']))
    .option('--plan <file>', 'replay a plan (or the plan of a report) instead of making one')
    .optionsGroup('Image tokens:')
    .option('--image-mask <source>', 'input | input-ids:<id> | input-ids:negative | span:<start>:<count> | marks | none (default: what the graph offers)')
    .option('--embed <file>', 'for marks: the embedding graph they are proved against (default: the one beside the decoder)')
    .option('--vision <file>', 'for marks: the vision encoder that puts them on (default: the one beside the decoder)')
    .option('--vision-output <file>', 'where the marked vision encoder goes (default: <vision>.pdrop.onnx)')
    .option('--no-measure', 'do not run the vision encoder to see what marks change')
    .optionsGroup('Output:')
    .option('-o, --output <path>', 'output path (default: <model>.pdrop.onnx or <folder>-pdrop beside it)')
    .addOption(new Option('--external-data <mode>', 'how the output gets its external data').choices(['auto', 'reference', 'link', 'copy']))
    .option('--allow-external-links', 'follow links of external data (and of files of a folder) that lead out of the model’s folder')
    .option('--force', 'replace existing files')
    .option('--dry-run', 'analyse, plan and rewrite, but write nothing')
    .option('--report <file>', 'write the report as JSON')
    .option('--json', 'print the report as JSON')
    .option('--quiet', 'print nothing but errors')
    .optionsGroup('Folders:')
    .option('--only <list>', 'of a folder: the precisions of the decoder that are compiled, e.g. q4f16 (default: all)', list)
    .addOption(new Option('--runtime <name>', 'what the result runs in (default: by the layout of the folder)').choices(['generic', 'transformers.js', 'genai', 'openvino']))
    .optionsGroup('Graph:')
    .option('--probe', 'add an int64 output per boundary with the kept indices')
    .addOption(new Option('--for <use>', 'what the graph is for; training: ranked at the input query_index, labels follow the kept tokens (default: inference)').choices(['inference', 'training']))
    .option('--no-control-flow', 'no If in the graph, for runtimes that have none: every decode step then ranks and selects')
    .option('--fix <sizes>', 'batch=<n>,sequence=<n>: a graph for prompts of one length, every shape in it a number (with --image-mask span)', fixedSizes)
    .optionsGroup('Costs that are shown:')
    .option('--image-tokens <n>', 'image tokens of the prompt that costs are shown for (default: from config.json, else 576)', promptTokens)
    .option('--text-tokens <n>', 'text tokens of that prompt (default: 64)', promptTokens)
    .optionsGroup('Other:')
    .option('--config <file>', 'JSON file with these options; the command line wins')
    .option('--explain [code]', 'what an error code means; without one: list the passes and what they do')
    .optionsGroup('For pass authors:')
    .addOption(new Option('--stop-after <pass>', 'for pass authors: stop after this pass').choices(passNames))
    .addOption(new Option('--skip-pass <list>', 'for pass authors: leave these passes out').argParser(list))
    .action(run);
}

async function run(model: string | undefined, given: Flags, command: Command): Promise<void> {
  if (typeof given.explain === 'string') {
    const text = explain(given.explain);
    if (text !== undefined && given.json) return printJson(explained(given.explain));
    if (text === undefined) throw new UsageError({ code: 'PD001', message: `there is no code "${given.explain}"`, culprit: '--explain', hint: 'codes look like PD301; docs/errors.md lists them' });
    print(text);
    return;
  }
  if (command.args.length > 1) {
    throw new UsageError({ code: 'PD001', message: `one model at a time: ${command.args.length} were given`, culprit: command.args[0] ?? '', hint: 'run the command once for each; see pdrop-compile --help' });
  }
  if (given.explain && given.json) return printJson(PASSES.map(({ name, summary }) => ({ name, summary })));
  if (given.explain) {
    print(`${table([{ title: 'pass' }, { title: 'what it does' }], PASSES.map((p) => [p.name, p.summary]))}`);
    return;
  }
  if (model === undefined) {
    // Where nothing at all was given, the program knows all its commands: see LAZY in main.
    if ((command.parent?.commands.length ?? 0) > 3) command.parent?.outputHelp();
    throw new UsageError({ code: 'PD001', message: 'no model given', hint: 'give the path of a decoder: pdrop-compile model.onnx --stages 4 --lambda 0.5' });
  }
  const flags = given.config ? merge(readConfig(given.config), given) : given;
  for (const name of flags.skipPass ?? []) {
    if (!passNames.includes(name)) throw new UsageError({ code: 'PD001', message: `there is no pass "${name}"`, culprit: '--skip-pass', hint: `passes: ${passNames.join(', ')}` });
  }
  const level = Number(process.env.PDROP_DEBUG ?? 0);
  const bar = progressLine('writing');
  const options = {
    ...pick(flags, ['output', 'only', 'runtime', 'preset', 'stages', 'lambda', 'layers', 'keep', 'imageMask', 'embed', 'vision', 'visionOutput', 'measure', 'positions', 'externalData', 'allowExternalLinks', 'plan', 'dryRun', 'probe', 'fix', 'for', 'controlFlow', 'rank', 'force', 'imageTokens', 'textTokens', 'stopAfter']),
    skip: flags.skipPass,
    verify: level >= 1,
    observe: level >= 2 ? debugDump(model) : undefined,
    progress: flags.quiet ? undefined : bar,
  };
  const alsoReads = [given.config, given.plan].filter((p) => p !== undefined);
  if (isFolder(model)) {
    const reporting = flags.report === undefined ? undefined : new ReportFiles([...alsoReads, model], { force: flags.force === true });
    const report = reporting?.announce(flags.report as string);
    const folder = await whileShowing(`compiling ${model}`, () => compileFolder(model, options), flags.quiet ? SILENT : process.stderr);
    bar.end();
    if (report) await reporting?.write([[report, `${JSON.stringify(folder, null, 2)}\n`]]);
    return show(folder, flags, renderFolder);
  }
  // A dry run writes no model, but the report it is asked for.
  const reporting = flags.dryRun && flags.report !== undefined ? new ReportFiles([...alsoReads, model], { force: flags.force === true }) : undefined;
  const dry = reporting?.announce(flags.report as string);
  const wanted = !flags.quiet || flags.json === true || flags.report !== undefined;
  const report = await whileShowing(`compiling ${model}`, () => compileFile(model, { ...options, alsoReads, report: flags.dryRun ? undefined : flags.report }, wanted), flags.quiet ? SILENT : process.stderr);
  bar.end();
  if (dry) await reporting?.write([[dry, `${JSON.stringify(report, null, 2)}\n`]]);
  if (report) show(report, flags, render);
}

function show<T extends CompileReport | FolderReport>(report: T, flags: Flags, render: (report: T) => string): void {
  if (flags.json) printJson(report);
  else if (!flags.quiet) print(`${render(report)}`);
  for (const w of flags.quiet ? [] : report.warnings) printError(`warning: ${w}`);
}

function pick<K extends keyof Flags>(flags: Flags, keys: readonly K[]): Pick<Flags, K> {
  return Object.fromEntries(keys.flatMap((k) => (flags[k] === undefined ? [] : [[k, flags[k]]]))) as Pick<Flags, K>;
}

function readConfig(path: string): Flags {
  let json: unknown;
  try {
    json = JSON.parse(readRegularText(path));
  } catch (error) {
    throw new UsageError({ code: 'PD017', message: `cannot read the config: ${(error as Error).message}`, culprit: path, hint: 'give a JSON file after schemas/config.schema.json' }, { cause: error });
  }
  const config = requireSchema<Record<string, unknown>>('config', json, path);
  const camel = (name: string): string => name.replace(/-(\w)/g, (_, c: string) => c.toUpperCase());
  const entries = Object.entries(config).filter(([k]) => k !== '$schema');
  const flags = Object.fromEntries(entries.map(([k, v]) => [camel(k), v])) as Flags;
  if (flags.keep) flags.keep = flags.keep.map(String);
  if (flags.lambda !== undefined) flags.lambda = String(flags.lambda);
  return flags;
}

/** The command line wins; giving one side of a pair there (stages or layers, lambda or keep) drops the config's other side. */
function merge(config: Flags, given: Flags): Flags {
  const merged = { ...config };
  if (given.layers && given.stages === undefined) delete merged.stages;
  if (given.stages !== undefined && !given.layers) delete merged.layers;
  if (given.keep && given.lambda === undefined) delete merged.lambda;
  if (given.lambda !== undefined && !given.keep) delete merged.keep;
  return Object.assign(merged, Object.fromEntries(Object.entries(given).filter(([, v]) => v !== undefined)));
}

function costLines(report: CompileReport): string[] {
  const rows = report.stages.map((s) => [
    String(s.stage),
    s.layers[0] === s.layers[1] ? String(s.layers[0]) : `${s.layers[0]}–${s.layers[1]}`,
    String(s.tokens),
    String(s.imageTokens),
    s.macs === null ? '?' : si(s.macs),
    s.macs === null || !s.originalMacs ? '' : percent(s.macs / s.originalMacs),
  ]);
  const { macs } = report;
  return [
    `${report.layers} layers, hidden size ${report.hiddenSize}; tokens dropped before layer${report.plan.layers.length > 1 ? 's' : ''} ${report.plan.layers.join(', ')}; keep ${report.plan.keep.join(', ')}`,
    '',
    table(
      [{ title: 'stage', right: true }, { title: 'layers' }, { title: 'tokens', right: true }, { title: 'image', right: true }, { title: 'MACs', right: true }, { title: 'of original', right: true }],
      rows,
    ),
    '',
    `prefill of ${report.prompt.imageTokens} image + ${report.prompt.textTokens} text tokens: ${si(macs.original)} → ${si(macs.rewritten)} MACs (${percent(macs.ratio)}), of which ranking ${percent(macs.rankShare)}`,
    `image tokens: ${describeMask(report)}; positions: ${report.plan.positions}; rank: ${describeRank(report.plan)}`,
  ];
}

export function render(report: CompileReport): string {
  const { nodes } = report;
  const lines = [
    ...costLines(report),
    ...marksLines(report.marks),
    `nodes: ${nodes.before} → ${nodes.after} (${nodes.added} added)`,
    report.output === null ? 'dry run: nothing written' : `wrote ${report.output} (${bytes(report.bytes)}${externalWords(report)}) in ${(report.milliseconds / 1000).toFixed(2)} s`,
  ];
  const declined = report.passes.flatMap((p) => p.declined);
  return [...lines, ...declined.map((d) => `note: ${d}`)].join('\n');
}

export function renderFolder(report: FolderReport): string {
  const first = report.decoders[0] as CompileReport;
  const marks = report.marks ? report.visions.slice(0, 1).flatMap((vision) => marksLines({ proof: report.marks as MarksReport['proof'], vision })).slice(0, 2) : [];
  return [
    `${report.input}: laid out for ${report.layout}; compiled for ${report.runtime}`,
    ...costLines(first),
    ...marks,
    '',
    table([{ title: 'file' }, { title: 'what was done' }, { title: '' }], report.files.map((f) => [f.file, f.what, f.note])),
    '',
    report.output === null ? 'dry run: nothing written' : `wrote ${report.output} in ${(report.milliseconds / 1000).toFixed(2)} s`,
  ].join('\n');
}

function marksLines(marks: MarksReport | undefined): string[] {
  if (!marks) return [];
  const { proof, vision } = marks;
  const { effect } = vision;
  const measured = effect
    ? `on made-up pictures ${effect.recognised} of ${effect.rows} rows are recognised, values move by ${effect.largest.toPrecision(2)} at most (${percent(effect.rms / effect.featuresRms)} of their size, in ${proof.of} channels)${effect.clipped > 0 ? `, ${effect.clipped} are clipped at ${vision.limit}` : ''}`
    : `not measured; values move by ${vision.largestMove.toPrecision(2)} at most and are clipped at ${vision.limit}`;
  return [`marks: no row of ${proof.rows} embeddings looks marked (the closest in ${proof.closest} of ${proof.of} channels)`, `  ${vision.features}: ${measured}`, ...(vision.output === null ? [] : [`  wrote ${vision.output}`])];
}

function describeMask(report: CompileReport): string {
  const added = report.addedInputs.length > 0 ? ` (new graph input ${report.addedInputs.join(', ')})` : '';
  return `${report.imageMask}${added}`;
}

function externalWords(report: CompileReport): string {
  const { mode, files } = report.externalData;
  if (mode === 'none') return '';
  const word = { reference: 'referenced', link: 'hard-linked', copy: 'copied' }[mode as 'link'] ?? mode;
  return `, ${files.length} external data file${files.length > 1 ? 's' : ''} ${word}`;
}
