/** What is found in files, and planned for them, without touching anything. */
import { join } from 'node:path';
import { analyseDecoder } from '../analyse/decoder.js';
import type { DecoderFacts } from '../analyse/facts.js';
import type { Trace } from '../analyse/near-miss.js';
import { requireTokenWise } from '../analyse/token-wise.js';
import { fixOf, planInMetadata, refuseCompiled, unfix, withFix } from '../compile.js';
import { type DiagnosticDetail, Refusal } from '../diagnostics.js';
import { checkExternalData } from '../disk/external-files.js';
import { FileSource } from '../disk/files.js';
import { headWeightsOf } from '../disk/heads-file.js';
import { readModelConfig } from '../disk/model-config.js';
import { requirePlan } from '../disk/schemas.js';
import { type LayoutKind, recogniseFolder, type Runtime } from '../folder/layout.js';
import { readModel } from '../onnx/read.js';
import type { Plan } from '../plan/plan.js';
import { checkPlan, resolvePlan } from '../plan/resolve.js';
import type { PlanOptions } from '../plan/options.js';
import { type InspectReport, inspectReport } from '../report/inspect-report.js';
import type { Unfixed } from '../rewrite/unfix.js';

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
    const { imageTokenId } = readModelConfig(input);
    try {
      checkExternalData(model, input);
      refuseCompiled(model);
      facts = analyseDecoder(model, { trace, sizes: (await unfix(model))?.sizes });
      resolvePlan(facts, { stages: 2, imageTokenId });
      // The first boundary of the default schedule.
      requireTokenWise(facts, Math.max(1, Math.floor(facts.layers.length / 4)));
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      refusal = error.toJSON();
    }
    return inspectReport(model, facts, { input, bytes: source.size, imageTokenId, compiled, refusal, trace });
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
