/**
 * A folder in, a folder out: every variant of the decoder compiled with one plan, vision encoders marked where that is
 * how image tokens are known, everything else linked or copied. The output folder is whole or absent.
 */
import { basename, dirname, join, resolve } from 'node:path';
import { UsageError } from '../diagnostics.js';
import { checkExternalData } from '../disk/external-files.js';
import { FileSource } from '../disk/files.js';
import { type MarkedFile, markVisionFile, proveMarksOfFiles } from '../disk/marks-files.js';
import { OutputFolder } from '../disk/output-folder.js';
import { OutputTransaction } from '../disk/transaction.js';
import type { MarksProof } from '../marks/prove.js';
import { readModel } from '../onnx/read.js';
import type { Plan } from '../plan/plan.js';
import { unproved } from '../plan/image-mask.js';
import type { CompileReport, MarksReport } from '../report/compile-report.js';
import { VERSION } from '../version.js';
import { adjustGenaiConfig, refuseBeams } from './genai-config.js';
import { type FolderLayout, type LayoutKind, type Part, recogniseFolder, type Runtime } from './layout.js';
import { now } from '../clock.js';

/** What of the options of `compile` matters for a folder; the rest is handed on. */
export interface FolderOptions {
  /** The output folder. Default: `<folder>-pdrop` beside it. */
  readonly output?: string | undefined;
  /** Precisions to compile, as file names have them (`q4f16`; `fp32` for none). Default: all. */
  readonly only?: readonly string[] | undefined;
  /** Default: by the folder's layout. */
  readonly runtime?: Runtime | undefined;
  readonly imageMask?: string | undefined;
  readonly plan?: Plan | undefined;
  readonly force?: boolean | undefined;
  readonly dryRun?: boolean | undefined;
  readonly measure?: boolean | undefined;
  /** Follow links out of the folder. Default false. */
  readonly allowExternalLinks?: boolean | undefined;
}

/** How one file of the output folder came about. */
export interface FolderFile {
  readonly file: string;
  readonly what: 'compiled' | 'marked' | 'adjusted' | 'linked' | 'copied' | 'left out';
  readonly note: string;
}

export interface FolderReport {
  readonly tool: 'pdrop-compile';
  readonly version: string;
  readonly input: string;
  /** null after a dry run. */
  readonly output: string | null;
  readonly layout: LayoutKind;
  readonly runtime: Runtime;
  readonly plan: Plan;
  readonly files: readonly FolderFile[];
  /** The report of each decoder variant, in the order of their files. */
  readonly decoders: readonly CompileReport[];
  readonly marks: MarksReport['proof'] | null;
  readonly visions: readonly MarksReport['vision'][];
  readonly warnings: readonly string[];
  readonly milliseconds: number;
}

/** Compiles one file; given by the library, which is a floor above. */
export type CompileOne = (input: string, options: { runtime: Runtime; output: string; plan?: Plan | undefined; imageMask?: string | undefined; proved?: MarksProof | undefined; externalData: 'auto'; dryRun: boolean }) => Promise<CompileReport>;

/** Measures marks; undefined where it cannot be done. */
export type MeasureMarks = (marked: MarkedFile, proof: MarksProof) => Promise<MarksReport['vision']['effect']>;

/** `./Model/` → `./Model-pdrop`. */
export function defaultFolderOutput(input: string): string {
  const path = resolve(input);
  return join(dirname(path), `${basename(path)}-pdrop`);
}

/**
 * @throws {UsageError | Refusal} as `compile` does, and for folders that are not understood; nothing is written then
 */
export async function compileFolder(compileOne: CompileOne, measure: MeasureMarks, input: string, options: FolderOptions): Promise<FolderReport> {
  const started = now();
  const layout = recogniseFolder(input);
  const decoders = wanted(layout, options.only);
  const runtime = options.runtime ?? layout.runtime;
  if (runtime === 'genai' && layout.kind === 'genai') refuseBeams(layout.root);
  const imageMask = options.imageMask ?? (options.plan ? undefined : await usualMask(layout, runtime, decoders));
  const marks = imageMask === 'marks' || (imageMask === undefined && options.plan?.imageMask.kind === 'marks');
  if (marks && (layout.embeds.length === 0 || layout.visions.length === 0)) throw unproved();
  const at = (part: { file: string }): string => join(layout.root, part.file);
  const replayed = options.plan?.imageMask.kind === 'marks' && imageMask === undefined ? options.plan.imageMask : undefined;
  const proof = marks ? await proveMarksOfFiles(layout.embeds.map(at), replayed, options.allowExternalLinks) : undefined;
  const output = options.output ?? defaultFolderOutput(input);
  const folder = new OutputFolder(input, output, options.force ?? false);
  try {
    const rows: FolderFile[] = [];
    const reports: CompileReport[] = [];
    const done = new Set<string>();
    let plan = options.plan;
    for (const part of decoders) {
      const report = await compileOne(at(part), { runtime, output: folder.path(part.file), plan, imageMask: plan ? undefined : imageMask, proved: proof, externalData: 'auto', dryRun: options.dryRun ?? false });
      plan ??= report.plan;
      reports.push({ ...report, output: options.dryRun ? null : join(output, part.file) });
      rows.push({ file: part.file, what: 'compiled', note: compiledNote(report) });
      done.add(part.file);
      for (const data of report.externalData.files) done.add(beside(part.file, data));
    }
    const visions: MarksReport['vision'][] = [];
    for (const part of proof ? layout.visions : []) {
      const marked = await markInto(options.dryRun ? undefined : folder.path(part.file), at(part), proof as MarksProof, options.allowExternalLinks);
      const effect = options.dryRun || options.measure === false ? null : await measure(marked, proof as MarksProof);
      const { features, largestMove, limit } = marked;
      visions.push({ input: at(part), output: options.dryRun ? null : join(output, part.file), features, largestMove, limit, effect });
      rows.push({ file: part.file, what: 'marked', note: markedNote(visions.at(-1) as MarksReport['vision']) });
      done.add(part.file);
      for (const data of await externalOf(at(part), options.allowExternalLinks)) done.add(beside(part.file, data));
    }
    const leftOut = new Set<string>();
    for (const part of layout.decoders) {
      if (done.has(part.file)) continue;
      for (const file of [part.file, ...(await externalOf(at(part), options.allowExternalLinks)).map((d) => beside(part.file, d))]) leftOut.add(file);
    }
    if (runtime === 'genai' && layout.kind === 'genai') {
      const changes = adjustGenaiConfig(layout.root, reports[0] as CompileReport);
      if (changes) {
        folder.write('genai_config.json', changes.text);
        rows.push({ file: 'genai_config.json', what: 'adjusted', note: changes.note });
        done.add('genai_config.json');
      }
    }
    for (const file of layout.files) {
      if (done.has(file)) continue;
      if (leftOut.has(file)) rows.push({ file, what: 'left out', note: 'another precision of the decoder' });
      else rows.push({ file, what: options.dryRun ? 'linked' : folder.take(join(layout.root, file), file, options.allowExternalLinks), note: '' });
    }
    if (options.dryRun) folder.abort();
    else folder.commit();
    const order = new Map(layout.files.map((f, i) => [f, i]));
    rows.sort((a, b) => rank(a) - rank(b) || (order.get(a.file) ?? 0) - (order.get(b.file) ?? 0));
    return {
      tool: 'pdrop-compile',
      version: VERSION,
      input,
      output: options.dryRun ? null : output,
      layout: layout.kind,
      runtime,
      plan: plan as Plan,
      files: rows,
      decoders: reports,
      marks: proof ? { rows: proof.rows, closest: proof.closest, of: proof.marks.channels.length } : null,
      visions,
      warnings: [...new Set([...reports.flatMap((r) => r.warnings), ...visions.flatMap(clipped)])],
      milliseconds: now() - started,
    };
  } catch (error) {
    folder.abort();
    throw error;
  }
}

async function markInto(output: string | undefined, vision: string, proof: MarksProof, allowLinks = false): Promise<MarkedFile> {
  const transaction = output === undefined ? undefined : new OutputTransaction(false);
  try {
    const marked = await markVisionFile({ vision, proof, output: output === undefined ? undefined : transaction?.writes(output) }, transaction, allowLinks);
    await transaction?.place();
    transaction?.finish();
    return marked;
  } finally {
    transaction?.rollback();
  }
}

const rank = (row: FolderFile): number => ['compiled', 'marked', 'adjusted', 'left out', 'linked', 'copied'].indexOf(row.what);

/** Marks for runtimes that feed a decoder nothing but what they know; what the graph offers where ids arrive. */
async function usualMask(layout: FolderLayout, runtime: Runtime, decoders: readonly Part[]): Promise<string | undefined> {
  if (runtime === 'genai') return undefined;
  const takesEmbeds = await inputsOf(join(layout.root, (decoders[0] as Part).file));
  const parts = layout.embeds.length > 0 && layout.visions.length > 0;
  return takesEmbeds.includes('inputs_embeds') && (runtime === 'transformers.js' || parts) ? 'marks' : undefined;
}

function wanted(layout: FolderLayout, only: readonly string[] | undefined): readonly Part[] {
  if (!only) return layout.decoders;
  const name = (p: Part): string => p.precision || 'fp32';
  const chosen = layout.decoders.filter((p) => only.includes(name(p)));
  const missing = only.find((o) => !layout.decoders.some((p) => name(p) === o));
  if (missing === undefined) return chosen;
  throw new UsageError({ code: 'PD611', message: `there is no decoder of precision "${missing}" in the folder`, culprit: '--only', hint: `there are: ${layout.decoders.map(name).join(', ')}` });
}

async function inputsOf(path: string): Promise<string[]> {
  const source = new FileSource(path);
  try {
    return (await readModel(source)).graph.inputs.filter((v) => !v.tensor).map((v) => v.name);
  } finally {
    source.close();
  }
}

/** External data files of a graph, checked. */
async function externalOf(path: string, allowLinks = false): Promise<readonly string[]> {
  const source = new FileSource(path, allowLinks);
  try {
    const model = await readModel(source);
    return checkExternalData(model, path, allowLinks).map((f) => f.location);
  } finally {
    source.close();
  }
}

function beside(file: string, location: string): string {
  const folder = dirname(file);
  return folder === '.' ? location : `${folder}/${location}`;
}

function compiledNote(report: CompileReport): string {
  return `${report.nodes.added} nodes added; prefill ${(100 * report.macs.ratio).toFixed(1)}% of the MACs`;
}

function markedNote(vision: MarksReport['vision']): string {
  const { effect } = vision;
  if (!effect) return `${vision.features}: values move by ${vision.largestMove.toPrecision(2)} at most; not measured`;
  return `${vision.features}: ${effect.recognised} of ${effect.rows} rows recognised, moved by ${effect.largest.toPrecision(2)} at most`;
}

function clipped({ effect, limit, features }: MarksReport['vision']): string[] {
  return effect && effect.clipped > 0 ? [`${effect.clipped} values of ${features} are larger than marks can carry and are clipped at ${limit}: measure with validate`] : [];
}
