/**
 * pdrop-compile as a library.
 *
 * ```ts
 * import { compile, inspect, plan, validate } from 'pdrop-compile';
 * const report = await compile('model.onnx', { stages: 4, lambda: 0.5 });
 * const { findings } = await validate({ original: 'model.onnx', rewritten: 'model.pdrop.onnx', data: ['samples'] });
 * ```
 */
import { extname, join } from 'node:path';
import { analyseDecoder } from './analyse/decoder.js';
import type { Trace } from './analyse/near-miss.js';
import type { DecoderFacts } from './analyse/facts.js';
import { requireTokenWise } from './analyse/token-wise.js';
import type { CompileFolderOptions, CompileOptions } from './library/options.js';
import { compileModel, fixOf, planInMetadata, refuseCompiled, unfix, withFix, writeCompiled } from './compile.js';
import { countAtPrompt, MOST_PROMPT_TOKENS, type PromptSizes, TYPICAL_PROMPT } from './cost/stages.js';
import { type DiagnosticDetail, PdropError, Refusal, UsageError } from './diagnostics.js';
import { CopyUnderWay } from './disk/copier.js';
import { checkExternalData, type DataPlan, type ExternalFile, planExternalData, requireUnchanged } from './disk/external-files.js';
import { FileSource } from './disk/files.js';
import { headWeightsOf } from './disk/heads-file.js';
import { configsBeside, readModelConfig } from './disk/model-config.js';
import { readRegularText } from './disk/small-files.js';
import { leaveSignalsToTheSystem } from './disk/temporaries.js';
import { type OutputFile, OutputTransaction, writeText } from './disk/transaction.js';
import { verifyWritten } from './disk/verify-written.js';
import { compileFolder as compileFolderWith, type FolderReport } from './folder/compile-folder.js';
import { type LayoutKind, recogniseFolder, type Runtime } from './folder/layout.js';
import { requireOptions } from './library/check-options.js';
import type { RunOptions, SweepOptions, TuneOptions } from './library/measure.js';
import { readModel } from './onnx/read.js';
import type { Plan } from './plan/plan.js';
import { type MarkedFile, markVisionFile, prepareMarks } from './disk/marks-files.js';
import type { MarksProof } from './marks/prove.js';
import { fixedPrompt } from './plan/fixed.js';
import { checkPlan, type PlanOptions, resolvePlan } from './plan/resolve.js';
import { requirePlan } from './disk/schemas.js';
import { type CompileReport, compileReport, type MarksReport, originalCost } from './report/compile-report.js';
import { type InspectReport, inspectReport } from './report/inspect-report.js';
import type { Unfixed } from './rewrite/unfix.js';
import type { ValidateOptions } from './validate/options.js';
import type { ValidateReport } from './validate/result.js';
import type { SweepReport } from './validate/sweep/curve.js';
import type { TuneReport } from './validate/tune/result.js';

export { InternalError, PdropError, Refusal, UsageError, type DiagnosticDetail } from './diagnostics.js';
export type { CompileFolderOptions, CompileOptions } from './library/options.js';
export type { ImageMaskSource, Plan } from './plan/plan.js';
export type { RankMethod } from './plan/ranks.js';
export type { PlanOptions } from './plan/resolve.js';
export type { CompileReport, MarksReport, StageReport } from './report/compile-report.js';
export type { FolderFile, FolderReport } from './folder/compile-folder.js';
export type { Runtime } from './folder/layout.js';
export type { InspectReport, LayerReport } from './report/inspect-report.js';
export type { PromptSizes } from './cost/stages.js';
export type { ExternalDataMode } from './disk/external-files.js';
export type { RunOptions, SweepOptions, TuneOptions } from './library/measure.js';
export type { Progress, ValidateOptions } from './validate/options.js';
export type { Thresholds } from './validate/findings.js';
export type { ValidateReport } from './validate/result.js';
export type { SweepReport } from './validate/sweep/curve.js';
export type { TuneReport } from './validate/tune/result.js';
export { VERSION } from './version.js';
export { check, type CheckOptions, type CheckReport } from './check/check-file.js';

/** @throws {UsageError} PD001 for an option that does not exist, or is not what it should be. */
function requireCompileOptions(options: CompileOptions): void {
  requireOptions('compile', options);
  for (const name of ['imageTokens', 'textTokens'] as const) {
    const n = options[name];
    if (n === undefined || n <= MOST_PROMPT_TOKENS) continue;
    throw new UsageError({ code: 'PD001', message: `${name} is ${String(n)}`, culprit: name, hint: `give a whole number up to ${MOST_PROMPT_TOKENS}` });
  }
}

/**
 * Compares a compiled model with its original: gates, fidelity, baselines, cost, speed. Needs onnxruntime-node.
 *
 * @returns the report, as `pdrop-compile validate --json` prints it
 * @throws {PdropError} when nothing can be validated at all; faults of samples and missed thresholds are in the report
 */
export async function validate(options: ValidateOptions, run: RunOptions = {}): Promise<ValidateReport> {
  requireOptions('validate', options);
  return (await import('./library/measure.js')).validateFiles(options, run);
}

/** The trade-off curve: schedules compiled on the fly, what each costs and how far it moves the original. Needs onnxruntime-node. */
export async function sweep(options: SweepOptions, run: RunOptions = {}): Promise<SweepReport> {
  requireOptions('sweep', options);
  return (await import('./library/measure.js')).sweepFile(options, run);
}

/** A schedule for a target, verified on samples that it was not chosen on; its `plan` is for `compile`. Needs onnxruntime-node. */
export async function tune(options: TuneOptions, run: RunOptions = {}): Promise<TuneReport> {
  requireOptions('tune', options);
  return (await import('./library/measure.js')).tuneFile(options, run);
}

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
export async function compile(input: string, given: CompileOptions = {}): Promise<CompileReport> {
  const options = given.runtime === 'transformers.js' && !given.plan ? { imageMask: 'marks', ...given } : given;
  requireCompileOptions(options);
  const started = performance.now();
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
        original = originalCost(countAtPrompt(facts.graph, facts, prompt, plan.imageMask).table);
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
    const report = compileReport({ ...compiled, warnings }, { input, output: options.dryRun ? null : output, prompt, original, externalData: placed, marks, milliseconds: performance.now() - started });
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
    const { measureMarks } = await import('./validate/marks-effect.js');
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

/** Model files from this size on have their weights copied by the system while the graph is compiled. */
const COPY_FIRST_BYTES = 256 * 1024 * 1024;

/**
 * Makes the plan `compile` would follow, without touching anything.
 *
 * @throws {UsageError | Refusal} as `compile` does
 */
export async function plan(input: string, options: PlanOptions = {}): Promise<Plan> {
  return withFacts(input, (facts, unfixed) => followable(facts, resolvePlan(facts, { ...options, fix: fixOf(unfixed, options.fix), headWeights: options.headWeights ?? headWeightsOf(options.rank), imageTokenId: options.imageTokenId ?? readModelConfig(input).imageTokenId }).plan));
}

/** Checks a plan against the graph it is meant for, and returns it completed. */
export async function verifyPlan(input: string, candidate: Plan): Promise<Plan> {
  return withFacts(input, (facts, unfixed) => followable(facts, checkPlan(facts, withFix(requirePlan(candidate, 'plan'), unfixed))));
}

function followable(facts: DecoderFacts, made: Plan): Plan {
  requireTokenWise(facts, made.layers[0] as number);
  return made;
}

async function withFacts<T>(input: string, use: (facts: DecoderFacts, unfixed: Unfixed | undefined) => T): Promise<T> {
  const source = new FileSource(input);
  try {
    const model = await readModel(source);
    refuseCompiled(model);
    const unfixed = await unfix(model);
    return use(analyseDecoder(model, { sizes: unfixed?.sizes }), unfixed);
  } finally {
    source.close();
  }
}

/**
 * What analysis finds in a graph. A graph that would be refused is reported with the first reason, not thrown.
 *
 * @throws {UsageError} when the file cannot be read
 * @throws {Refusal} PD101 when it is not an ONNX model at all
 */
export async function inspect(input: string): Promise<InspectReport> {
  const source = new FileSource(input);
  try {
    const model = await readModel(source);
    const compiled = planInMetadata(model);
    let facts: DecoderFacts | undefined;
    let refusal: DiagnosticDetail | undefined;
    const trace: Trace = { understood: 0, declines: [], cross: [] };
    try {
      checkExternalData(model, input);
      refuseCompiled(model);
      facts = analyseDecoder(model, { trace, sizes: (await unfix(model))?.sizes });
      resolvePlan(facts, { stages: 2, imageTokenId: readModelConfig(input).imageTokenId });
      // The first boundary of the default schedule.
      requireTokenWise(facts, Math.max(1, Math.floor(facts.layers.length / 4)));
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      refusal = error.toJSON();
    }
    return inspectReport(model, facts, { input, bytes: source.size, imageTokenId: readModelConfig(input).imageTokenId, compiled, refusal, trace });
  } finally {
    source.close();
  }
}

/** What a folder holds, and what analysis finds in each variant of its decoder. */
export interface InspectFolderReport {
  readonly input: string;
  readonly layout: LayoutKind;
  readonly runtime: Runtime;
  readonly embeds: readonly string[];
  readonly visions: readonly string[];
  readonly decoders: readonly InspectReport[];
}

/** @throws {UsageError | Refusal} PD607–PD610 for folders that are not understood */
export async function inspectFolder(input: string): Promise<InspectFolderReport> {
  const layout = recogniseFolder(input);
  const decoders: InspectReport[] = [];
  for (const part of layout.decoders) decoders.push(await inspect(join(input, part.file)));
  const names = (parts: readonly { readonly file: string }[]): string[] => parts.map((p) => p.file);
  return { input, layout: layout.kind, runtime: layout.runtime, embeds: names(layout.embeds), visions: names(layout.visions), decoders };
}

/** Reads and checks a plan file: a plan, or a report that holds one. */
export function readPlanFile(path: string): Plan {
  let text: string;
  try {
    text = readRegularText(path);
  } catch (error) {
    throw new UsageError({ code: 'PD002', message: `cannot read the plan: ${(error as Error).message}`, culprit: path, hint: 'check the path' }, { cause: error });
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new UsageError({ code: 'PD017', message: `the plan is not JSON: ${(error as Error).message}`, culprit: path, hint: 'a plan is written by `pdrop-compile … --report`, or by hand after schemas/plan.schema.json' }, { cause: error });
  }
  const inner = json !== null && typeof json === 'object' && 'plan' in json ? (json as { plan: unknown }).plan : json;
  return requirePlan(inner, path);
}
