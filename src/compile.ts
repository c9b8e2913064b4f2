/**
 * The pipeline, one line a phase: read → analyse → plan → passes → check → write. Nothing of Node: bytes come from a
 * ByteSource and go to a ByteSink, so the same compiler runs in a web page.
 */
import { Refusal } from './diagnostics.js';
import { analyseDecoder } from './analyse/decoder.js';
import type { DecoderFacts } from './analyse/facts.js';
import { requireTokenWise } from './analyse/token-wise.js';
import type { Model } from './ir/graph.js';
import { checkSoundness, selfContradiction } from './check/soundness.js';
import { requireFollowsPlan, triesLengths } from './check/follows-plan.js';
import { type ByteSink, type ByteSource, type Piece, PieceSource } from './onnx/bytes.js';
import { type InPlaceLayout, layoutInPlace, piecesInPlace } from './onnx/in-place.js';
import { payloadOf } from './onnx/payload.js';
import { readModel } from './onnx/read.js';
import { layoutModel, writePieces } from './onnx/write.js';
import type { FixedSizes, Plan } from './plan/plan.js';
import { checkPlan, resolvePlan } from './plan/resolve.js';
import { parseImageMask } from './plan/image-mask.js';
import type { PlanOptions } from './plan/options.js';
import { type SharedProducts, sharedProducts } from './cost/ranking.js';
import { type RewriteOptions, type RewriteResult, rewrite } from './rewrite/rewrite.js';
import { exposeRotary } from './rewrite/expose-rotary.js';
import { type Unfixed, unfixSequence } from './rewrite/unfix.js';
import { PASSES } from '../passes/index.js';
import { VERSION } from './version.js';

/** metadata_props keys of a compiled model. */
export const METADATA = { version: 'pdrop.version', plan: 'pdrop.plan', shared: 'pdrop.shared' } as const;

export interface CompileCoreOptions extends PlanOptions, RewriteOptions {
  /** Replay this plan instead of making one from the other options. */
  readonly planToReplay?: Plan | undefined;
  /** Called when the plan stands and the graph is still as it was read. */
  readonly analysed?: ((facts: DecoderFacts, plan: Plan) => void) | undefined;
  /** Lay the output out around the embedded weights, where the file allows it (see `layoutInPlace`). */
  readonly aroundWeights?: boolean | undefined;
}

export interface Compiled {
  readonly model: Model;
  readonly facts: DecoderFacts;
  readonly plan: Plan;
  readonly warnings: readonly string[];
  readonly rewrite: RewriteResult;
  readonly nodesBefore: number;
  readonly nodesAfter: number;
  /** Size of the output file. */
  readonly byteLength: number;
  readonly pieces: readonly Piece[];
  /** The output as edits of a copy of the source, where that was asked for and the file is laid out for it; `pieces` are the same file. */
  readonly inPlace: InPlaceLayout | undefined;
}

/** The plan a compiled model carries; undefined when there is none, or what stands there is no plan. */
export function planInMetadata(model: Model): { version: string; plan: Plan } | undefined {
  const text = model.metadata.get(METADATA.plan);
  if (text === undefined) return undefined;
  let plan: unknown;
  try {
    plan = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!isPlan(plan)) return undefined;
  return { version: model.metadata.get(METADATA.version) ?? '?', plan };
}

/** Products that ranking shares with boundary layers, as a compiled model says; none where it does not, or what it says is something else. */
export function sharedInMetadata(model: Model): SharedProducts {
  try {
    const names: unknown = JSON.parse(model.metadata.get(METADATA.shared) ?? '[]');
    return Array.isArray(names) && names.every((list) => Array.isArray(list) && list.every((n) => typeof n === 'string')) ? (names as string[][]) : [];
  } catch {
    return [];
  }
}

/** Enough of a check that a plan can be shown; `check` holds it to the schema. */
function isPlan(plan: unknown): plan is Plan {
  const p = plan as Partial<Plan> | null;
  return typeof p === 'object' && p !== null && Array.isArray(p.layers) && Array.isArray(p.keep) && typeof p.imageMask === 'object' && p.imageMask !== null;
}

/** @throws {Refusal} PD316 when the model has been compiled before. */
export function refuseCompiled(model: Model): void {
  if (!model.metadata.has(METADATA.plan)) return;
  throw new Refusal({
    code: 'PD316',
    message: 'this model has been compiled by pdrop-compile already',
    culprit: METADATA.plan,
    hint: 'compile the original model; `pdrop-compile inspect` shows the plan this one was made with',
  });
}

/**
 * Reads, analyses, plans and rewrites, and checks the bytes that are to be written; writes nothing yet.
 *
 * @throws {Refusal} PD330 when what was made fails the check
 */
export async function compileModel(source: ByteSource, options: CompileCoreOptions): Promise<Compiled> {
  const model = await readModel(source);
  refuseCompiled(model);
  const nodesBefore = model.graph.nodes.length;
  const unfixed = await unfix(model);
  let facts = analyseDecoder(model, { sizes: unfixed?.sizes });
  const { plan, warnings } = options.planToReplay
    ? { plan: checkPlan(facts, withFix(withMask(options.planToReplay, options), unfixed)), warnings: [] }
    : resolvePlan(facts, { ...options, fix: fixOf(unfixed, options.fix) });
  requireTokenWise(facts, plan.layers[0] as number);
  options.analysed?.(facts, plan);
  if (plan.positions === 'keep' && exposeRotary(facts)) facts = analyseDecoder(model, { noOps: facts.noOps, sizes: unfixed?.sizes });
  const result = rewrite(facts, plan, PASSES, options);
  const whole = options.stopAfter === undefined && (options.skip ?? []).length === 0;
  if (whole && !plan.fix && !triesLengths(facts, plan)) checkSoundness(model, facts, plan, result);
  const metadata = new Map([
    [METADATA.version, VERSION],
    [METADATA.plan, JSON.stringify(plan)],
    [METADATA.shared, JSON.stringify(sharedProducts(result.stages.shared))],
  ]);
  const inPlace = options.aroundWeights ? layoutInPlace(model, { metadata }) : undefined;
  const { pieces, byteLength } = inPlace ? { pieces: piecesInPlace(inPlace), byteLength: inPlace.byteLength } : layoutModel(model, { metadata });
  if (whole) {
    await requireFollowsPlan(new PieceSource(pieces, source), plan, model).catch((error: unknown) => {
      throw selfContradiction(facts) ?? error;
    });
  }
  return { model, facts, plan, warnings, rewrite: result, nodesBefore, nodesAfter: model.graph.nodes.length, byteLength, pieces, inPlace };
}

/** Makes a graph that was exported for one length follow any, for the time being. */
export function unfix(model: Model): Promise<Unfixed | undefined> {
  const external = (location: string): never => {
    throw new Refusal({ code: 'PD307', message: 'the sequence length is fixed, and a constant that stands for it is external data', culprit: location, hint: 'export with a dynamic sequence axis, or embed small constants in the model' });
  };
  return unfixSequence(model, async (value) => {
    const payload = await payloadOf(model, value, external);
    return payload?.read(0, payload.size);
  });
}

/** The sizes of the export are the ones to fix again. */
export function fixOf(unfixed: Unfixed | undefined, wanted: FixedSizes | undefined): FixedSizes | undefined {
  if (!unfixed) return wanted;
  const { batch, sequence } = unfixed;
  if (wanted && (wanted.batch !== batch || wanted.sequence !== sequence)) {
    throw new Refusal({ code: 'PD622', message: `the graph was exported for ${batch} × ${sequence} tokens, not ${wanted.batch} × ${wanted.sequence}`, culprit: '--fix', hint: `use --fix batch=${batch},sequence=${sequence}, or leave it out` });
  }
  return { batch, sequence };
}

export function withFix(plan: Plan, unfixed: Unfixed | undefined): Plan {
  return unfixed ? { ...plan, fix: fixOf(unfixed, plan.fix) } : plan;
}

/** A pair of graphs shares one plan; where image tokens are marked may differ between its halves. */
function withMask(plan: Plan, options: PlanOptions): Plan {
  return options.imageMask === undefined ? plan : { ...plan, imageMask: parseImageMask(options.imageMask, options.marks) };
}

/** Streams a compiled model. `source` is the one it was read from. */
export async function writeCompiled(compiled: Compiled, sink: ByteSink, progress?: (doneBytes: number) => void): Promise<void> {
  await writePieces(compiled.model, compiled.pieces, sink, progress);
}
