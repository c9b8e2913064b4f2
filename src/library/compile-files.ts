/** Files in, files out: the compiler with everything around it that the disk asks for. */
import { extname } from 'node:path';
import { compileModel, writeCompiled } from '../compile.js';
import { countAtPrompt, MOST_PROMPT_TOKENS, type PromptSizes, TYPICAL_PROMPT } from '../cost/stages.js';
import { PdropError, UsageError } from '../diagnostics.js';
import { CopyUnderWay } from '../disk/copier.js';
import { checkExternalData, type DataPlan, type ExternalFile, planExternalData, requireUnchanged } from '../disk/external-files.js';
import { FileSource } from '../disk/files.js';
import { headWeightsOf } from '../disk/heads-file.js';
import { type MarkedFile, markVisionFile, prepareMarks } from '../disk/marks-files.js';
import { configsBeside, readModelConfig } from '../disk/model-config.js';
import { leaveSignalsToTheSystem } from '../disk/temporaries.js';
import { type OutputFile, OutputTransaction, writeText } from '../disk/transaction.js';
import { verifyWritten } from '../disk/verify-written.js';
import { compileFolder as compileFolderWith, type FolderReport } from '../folder/compile-folder.js';
import type { MarksProof } from '../marks/prove.js';
import { fixedPrompt } from '../plan/fixed.js';
import { type CompileReport, compileReport, type MarksReport, originalCost } from '../report/compile-report.js';
import { requireOptions } from './check-options.js';
import type { CompileFolderOptions, CompileOptions } from './options.js';
import { readPlanFile } from './plan-file.js';
import { now } from '../clock.js';

/** Model files from this size on have their weights copied by the system while the graph is compiled. */
const COPY_FIRST_BYTES = 256 * 1024 * 1024;

/** The default output path: `model.onnx` → `model.pdrop.onnx`. */
export function defaultOutput(input: string): string {
  const extension = extname(input);
  return `${extension ? input.slice(0, -extension.length) : input}.pdrop.onnx`;
}

/**
 * Compiles PyramidDrop into an ONNX decoder graph and writes the result.
 *
 * @param input path of the .onnx file
 * @returns what was done: plan, stages with tokens and MACs, added nodes
 * @throws {UsageError} for wrong options and unreadable or existing files
 * @throws {Refusal} when the graph cannot be compiled, with code, culprit, reason and a way forward
 */
export function compile(input: string, given: CompileOptions = {}): Promise<CompileReport> {
  return compileFile(input, given, true);
}

/** The same. Where no report is wanted none is made: what both graphs cost is counted for it alone. */
export async function compileFile(input: string, given: CompileOptions, wanted: true): Promise<CompileReport>;
export async function compileFile(input: string, given: CompileOptions, wanted: boolean): Promise<CompileReport | undefined>;
export async function compileFile(input: string, given: CompileOptions, wanted: boolean): Promise<CompileReport | undefined> {
  const options = given.runtime === 'transformers.js' && !given.plan ? { imageMask: 'marks', ...given } : given;
  requireCompileOptions(options);
  const started = now();
  const counted = wanted || options.report !== undefined;
  const { allowExternalLinks = false, progress } = options;
  const output = options.output ?? defaultOutput(input);
  const transaction = options.dryRun ? undefined : new OutputTransaction(options.force ?? false);
  transaction?.reads(input);
  for (const path of [...configsBeside(input), ...(options.alsoReads ?? []), ...(typeof options.plan === 'string' ? [options.plan] : [])]) transaction?.reads(path);
  const file = transaction?.writes(output);
  const reportFile = options.report === undefined ? undefined : transaction?.writes(options.report);
  refuseWeights(input);
  const source = new FileSource(input, allowExternalLinks);
  let copy: CopyUnderWay | undefined;
  try {
    const aroundWeights = source.size >= (options.copyFirstBytes ?? COPY_FIRST_BYTES);
    if (file && aroundWeights && !source.sparse && !file.target.through) {
      file.makeFolder();
      copy = new CopyUnderWay(source, file.temporary, output);
    }
    const config = readModelConfig(input);
    const planToReplay = typeof options.plan === 'string' ? readPlanFile(options.plan) : options.plan;
    let prompt: PromptSizes = {
      ...TYPICAL_PROMPT,
      imageTokens: options.imageTokens ?? config.imageTokens ?? TYPICAL_PROMPT.imageTokens,
      textTokens: options.textTokens ?? TYPICAL_PROMPT.textTokens,
    };
    const marking = options.proved ? undefined : await prepareMarks(input, options, planToReplay, transaction);
    // Measured after the files have been put in place, and before that is final.
    if (marking && options.measure !== false) leaveSignalsToTheSystem();
    let original = { macs: 0, byNode: new Map() } as ReturnType<typeof originalCost>;
    let data: readonly ExternalFile[] = [];
    let placing: DataPlan | undefined;
    const compiled = await compileModel(source, {
      ...options,
      planToReplay,
      marks: options.proved?.marks ?? marking?.proof.marks,
      aroundWeights,
      headWeights: options.headWeights ?? headWeightsOf(options.rank),
      imageTokenId: options.imageTokenId ?? config.imageTokenId,
      analysed: (facts, plan) => {
        if (plan.fix) prompt = fixedPrompt(plan, plan.fix, prompt);
        data = checkExternalData(facts.model, input, allowExternalLinks);
        // Beside a device there is no place for it.
        if (transaction && file && !file.target.through) placing = planExternalData(transaction, data, input, output, options.externalData ?? 'auto');
        if (counted) original = originalCost(countAtPrompt(facts.graph, facts, prompt, plan.imageMask).table);
      },
    });
    const vision = marking && (await markVisionFile(marking, transaction, allowExternalLinks));
    if (file) {
      const { inPlace } = compiled;
      const showModel = (done: number): void => progress?.(done, compiled.byteLength);
      const copied = copy && inPlace && (await copy.finish(inPlace, () => file.adopt(), showModel));
      if (!copied) {
        await copy?.abort();
        const sink = file.open();
        try {
          await writeCompiled(compiled, sink, showModel);
        } finally {
          await sink.close();
        }
      }
      copy = undefined;
      if (!file.target.through) await verifyWritten(file.temporary, compiled.pieces, source, output);
    }
    const placed = (await placing?.write(progress)) ?? { mode: data.length > 0 ? 'reference' : 'none', files: data.map((f) => f.location) };
    source.requireUnchanged();
    requireUnchanged(data);
    await transaction?.place();
    const marks = marking && vision && (await marksReport(marking.proof, vision, options.measure ?? true));
    const warnings = [...config.warnings, ...compiled.warnings, ...(marks ? clippingWarnings(marks) : []), ...[file, reportFile].flatMap((f) => (f ? targetNotes(f.target) : []))];
    const report = counted ? compileReport({ ...compiled, warnings }, { input, output: options.dryRun ? null : output, prompt, original, externalData: placed, marks, milliseconds: now() - started }) : undefined;
    if (reportFile && transaction) {
      await writeText(reportFile, `${JSON.stringify(report, null, 2)}\n`);
      await transaction.place();
    }
    transaction?.finish();
    return report;
  } finally {
    await copy?.abort();
    // Without effect once it is finished.
    transaction?.rollback();
    source.close();
  }
}

/** @throws {UsageError} PD002 for a file of external data, by its name: its bytes say nothing */
function refuseWeights(input: string): void {
  const model = /^(.*\.onnx)[._]data(?:_\d+)?$/.exec(input)?.[1];
  if (model !== undefined) throw new UsageError({ code: 'PD002', message: `${input} holds the weights of a model, not its graph`, culprit: input, hint: `give the .onnx file beside it: ${model}` });
}

/** What people should be told about where an output went. */
function targetNotes({ path, real, isLink, through }: OutputFile['target']): string[] {
  if (through) return [`${path} is a device or a pipe: it was written into, and is still what it was`];
  return isLink ? [`${path} is a link: what it points to, ${real}, was replaced, and the link is as it was`] : [];
}

/**
 * Compiles a whole folder into one that the same runtime loads: every variant of the decoder with one plan, vision
 * encoders marked where nothing can be fed, all other files linked or copied. The output folder is whole or absent.
 *
 * @param input a folder in the layout of transformers.js, onnxruntime-genai or optimum, or with a model.onnx
 * @throws {UsageError | Refusal} as `compile` does, and PD607–PD611 for folders that are not understood
 */
export function compileFolder(input: string, options: CompileFolderOptions = {}): Promise<FolderReport> {
  const plan = typeof options.plan === 'string' ? readPlanFile(options.plan) : options.plan;
  return compileFolderWith((file, own) => compile(file, { ...options, ...own, force: false, report: undefined }), effectOf, input, { ...options, plan });
}

/** What marking did to features; null when it is not known: compiling works without ONNX Runtime. */
async function effectOf(vision: MarkedFile, proof: MarksProof): Promise<MarksReport['vision']['effect']> {
  if (vision.output === null) return null;
  try {
    const { measureMarks } = await import('../validate/marks-effect.js');
    return (await measureMarks(vision.input, vision.output, vision.features, proof.marks, vision.type)) ?? null;
  } catch (error) {
    if (!(error instanceof PdropError)) throw error;
    return null;
  }
}

async function marksReport(proof: MarksProof, vision: MarkedFile, measure: boolean): Promise<MarksReport> {
  const effect = measure ? await effectOf(vision, proof) : null;
  const { input, output, features, largestMove, limit } = vision;
  return { proof: { rows: proof.rows, closest: proof.closest, of: proof.marks.channels.length }, vision: { input, output, features, largestMove, limit, effect } };
}

function clippingWarnings({ vision }: MarksReport): string[] {
  const { effect, limit } = vision;
  if (!effect || effect.clipped === 0) return [];
  return [`${effect.clipped} values of image features are larger than marks can carry and are clipped at ${limit}: measure with validate, or use float32 files or --image-mask input`];
}

/** @throws {UsageError} PD001 for an option that does not exist, or is not what it should be. */
function requireCompileOptions(options: CompileOptions): void {
  requireOptions('compile', options);
  for (const name of ['imageTokens', 'textTokens'] as const) {
    const n = options[name];
    if (n === undefined || n <= MOST_PROMPT_TOKENS) continue;
    throw new UsageError({ code: 'PD001', message: `${name} is ${String(n)}`, culprit: name, hint: `give a whole number up to ${MOST_PROMPT_TOKENS}` });
  }
}
