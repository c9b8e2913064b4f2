/** Options and facts → plan. Everything the user can get wrong about a schedule is told here. */
import { formatRatio, isLess, parseRatio, powRatio } from '../cost/keep.js';
import { Refusal, UsageError } from '../diagnostics.js';
import type { DecoderFacts } from '../analyse/facts.js';
import { imageIdComparedInGraph } from './image-source.js';
import { markType } from './marks.js';
import type { FixedSizes, ImageMaskSource, Marks, Plan } from './plan.js';
import { requireFixable } from './fixed.js';
import { requireTrainable } from './training.js';
import { type HeadWeights, headWeightsAt, parseRank } from './rank-option.js';
import { rankNeeds } from './ranks.js';
import { requireWholeKeys, withWholeKeys } from './shared-keys.js';

/** The paper's exact setting, whatever the defaults are; what is given besides wins. */
const PRESETS = { paper: { stages: 4, lambda: '0.5', positions: 'compact', rank: 'attention' } } as const;

/** Options of planning; the same names as on the command line and in a config file. */
export interface PlanOptions {
  /** `paper`: 4 stages, λ 0.5, attention's rank, compact positions, as PyramidDrop's own code has them. */
  readonly preset?: keyof typeof PRESETS | undefined;
  /** Number of stages S; boundaries at floor(i·L/S). Default 4. */
  readonly stages?: number | undefined;
  /** Share of image tokens kept at each boundary, a decimal in (0, 1]. Default 0.5. */
  readonly lambda?: string | number | undefined;
  /** Layers before which tokens are dropped; instead of `stages`. */
  readonly layers?: readonly number[] | undefined;
  /** Cumulative keep ratios, one per boundary; instead of `lambda`. */
  readonly keep?: readonly (string | number)[] | undefined;
  /** `input`, `input-ids:<id>`, `span:<start>:<count>`, `marks` or `none`. Default: what the graph offers. */
  readonly imageMask?: string | undefined;
  /** For `marks`: channels and bits proved against the embedding table (src/marks/prove.ts). */
  readonly marks?: Marks | undefined;
  readonly positions?: 'auto' | 'compact' | 'keep' | undefined;
  /** A ranker, as `--rank` takes it: see parseRank. */
  readonly rank?: string | undefined;
  /** Weights of rank `heads`, by layer. */
  readonly headWeights?: HeadWeights | undefined;
  readonly probe?: boolean | undefined;
  /** False: no `If` in the graph, for runtimes that have none. Default true. */
  readonly controlFlow?: boolean | undefined;
  /** `training`: ranked at the token that an input names, labels follow the kept tokens. Default `inference`. */
  readonly for?: 'inference' | 'training' | undefined;
  /** What the result runs in; `genai` and `openvino` (no `If`) change the graph, the others only what is chosen by default. */
  readonly runtime?: 'generic' | 'transformers.js' | 'genai' | 'openvino' | undefined;
  /** Sizes of the one prompt that the graph is compiled for. Default: any. */
  readonly fix?: FixedSizes | undefined;
  /** Image token id found beside the model (config.json); used when the graph takes input_ids. */
  readonly imageTokenId?: number | undefined;
}

export interface ResolvedPlan {
  readonly plan: Plan;
  readonly warnings: readonly string[];
}

export function resolvePlan(facts: DecoderFacts, given: PlanOptions): ResolvedPlan {
  const warnings: string[] = [];
  const options = withPreset(given);
  requireDynamicSequence(facts, options.imageMask);
  const { headsFile, ...rank } = parseRank(options.rank ?? 'attention');
  const ranked = rankNeeds(rank.rank, 'keys') && options.imageMask !== 'none' && facts.fixedSequence !== 1;
  const layers = resolveLayers(facts, options, ranked, warnings);
  const keep = resolveKeep(layers.length, options);
  const imageMask = resolveImageMask(facts, options, warnings);
  const positions = resolvePositions(facts, options.positions ?? 'auto');
  const fix = options.fix && { batch: options.fix.batch, sequence: options.fix.sequence };
  if (fix) requireFixable(facts, fix, imageMask, options.runtime);
  const training = options.for === 'training';
  if (training) requireTrainable(facts, imageMask, options);
  const weights = headsFile === undefined ? {} : { headWeights: headWeightsAt(facts, layers, options.headWeights) };
  return {
    plan: { version: 1, layers, keep, imageMask, positions, ...rank, ...weights, probe: options.probe ?? false, ...(fix ? { fix } : {}), ...(training ? { training } : {}), ...(hasBranches(options) ? {} : { controlFlow: false }), ...(options.runtime === 'genai' ? { runtime: options.runtime } : {}) },
    warnings,
  };
}

/**
 * OpenVINO's CPU plugin (2026.4) plans memory for the nodes of both branches in one line: where a branch that did not run holds ops
 * whose sizes come from data, the first inference at new sizes may read what a resize has freed. Without an `If` it does not.
 */
function hasBranches({ controlFlow, runtime }: PlanOptions): boolean {
  return controlFlow !== false && runtime !== 'openvino';
}

function withPreset({ preset, ...given }: PlanOptions): PlanOptions {
  if (preset === undefined) return given;
  if (!(preset in PRESETS)) throw usage('PD001', `there is no preset "${String(preset)}"`, '--preset', `presets: ${Object.keys(PRESETS).join(', ')}`);
  const { stages, lambda, ...rest } = PRESETS[preset];
  const schedule = { ...(given.layers ? {} : { stages }), ...(given.keep ? {} : { lambda }) };
  return { ...schedule, ...rest, ...Object.fromEntries(Object.entries(given).filter(([, v]) => v !== undefined)) };
}

/** Checks a plan (from a file, or edited) against the graph it is meant for. */
export function checkPlan(facts: DecoderFacts, plan: Plan): Plan {
  const source: ImageMaskSource = facts.fixedSequence === 1 ? { kind: 'none' } : plan.imageMask;
  requireDynamicSequence(facts, source.kind);
  const layers = resolveLayers(facts, { layers: plan.layers }, rankNeeds(plan.rank, 'keys') && source.kind !== 'none', []);
  const keep = resolveKeep(layers.length, { keep: plan.keep });
  if (plan.imageMask.kind === 'marks') requireEmbeds(facts, plan.imageMask);
  if (plan.imageMask.kind === 'input-ids' || plan.imageMask.kind === 'span') parseImageMask(`${plan.imageMask.kind}:${plan.imageMask.kind === 'span' ? `${plan.imageMask.start}:${plan.imageMask.count}` : plan.imageMask.id}`);
  if (plan.fix) requireFixable(facts, plan.fix, source, plan.runtime);
  if (plan.training) requireTrainable(facts, source, plan);
  const weights = plan.rank === 'heads' ? { headWeights: headWeightsAt(facts, layers, Object.fromEntries(layers.map((l, i) => [l, plan.headWeights?.[i] ?? []]))) } : {};
  return { ...plan, ...weights, imageMask: source, layers, keep, positions: resolvePositions(facts, plan.positions) };
}

/** @throws {Refusal} PD307: tokens can only be dropped from a chunk whose length may change. */
function requireDynamicSequence(facts: DecoderFacts, imageMask: string | undefined): void {
  // The decode half of a split pair takes one token and drops nothing.
  if (facts.fixedSequence === undefined || imageMask === 'none' || (facts.fixedSequence === 1 && imageMask === undefined)) return;
  throw new Refusal({
    code: 'PD307',
    message: `the sequence length is fixed to ${facts.fixedSequence}: later stages could not be shorter`,
    culprit: (facts.roles.inputIds ?? facts.roles.source).name,
    hint:
      facts.fixedSequence === 1
        ? 'a decode-only graph drops nothing: compile it with --image-mask none (its default) and the --plan of the prefill graph'
        : 'export with a dynamic sequence axis (dynamic_axes / dynamic_shapes)',
  });
}

function usage(code: string, message: string, culprit: string, hint: string): UsageError {
  return new UsageError({ code, message, culprit, hint });
}

function resolveLayers(facts: DecoderFacts, options: PlanOptions, ranked: boolean, warnings: string[]): number[] {
  const count = facts.layers.length;
  if (options.layers && options.stages !== undefined && options.stages !== options.layers.length + 1) {
    throw usage('PD011', `--stages ${options.stages} and --layers ${options.layers.join(',')} contradict each other`, '--stages', 'give one of the two');
  }
  if (options.layers) {
    options.layers.forEach((l, i) => {
      if (!Number.isInteger(l) || l < 1) throw usage('PD011', `--layers: ${l} is not a layer tokens can be dropped before`, '--layers', 'layers are counted from 0; the first that can see fewer tokens is 1');
      if (i > 0 && l <= (options.layers?.[i - 1] as number)) throw usage('PD011', `--layers must ascend: ${options.layers?.join(',')}`, '--layers', 'list each layer once, in ascending order');
      if (l >= count) {
        throw new Refusal({ code: 'PD314', message: `there is no layer ${l}: the decoder has ${count} (0 … ${count - 1})`, culprit: '--layers', hint: `choose layers below ${count}` });
      }
    });
    if (options.layers.length === 0) throw usage('PD011', '--layers is empty', '--layers', 'give at least one layer');
    if (ranked) for (const l of options.layers) requireAttention(facts, l);
    requireWholeKeys(facts, options.layers, ranked);
    return [...options.layers];
  }
  const stages = options.stages ?? 4;
  if (!Number.isInteger(stages) || stages < 2) throw usage('PD011', `--stages ${stages}: at least 2 stages are needed to drop anything`, '--stages', 'use a whole number from 2 to the number of layers');
  if (stages > count) {
    throw new Refusal({ code: 'PD314', message: `${stages} stages are more than the decoder has layers (${count})`, culprit: '--stages', hint: `use at most ${count} stages` });
  }
  const even = Array.from({ length: stages - 1 }, (_, i) => Math.floor(((i + 1) * count) / stages));
  return withWholeKeys(facts, ranked ? beforeAttention(facts, even, warnings) : even, ranked, warnings);
}

/** @throws {Refusal} PD326: a layer without attention has nothing to rank with */
function requireAttention(facts: DecoderFacts, layer: number): void {
  if (facts.layers[layer]?.core) return;
  throw new Refusal({
    code: 'PD326',
    message: `layer ${layer} has no attention to rank tokens with: it mixes them by convolution or recurrence`,
    culprit: '--layers',
    hint: `drop before one of the layers that have attention (${facts.attention.map((l) => l.index).filter((l) => l > 0).join(', ')}), or rank without it: --rank uniform`,
  });
}

/** Each boundary at the next layer that has attention; those of a hybrid's other layers move down. */
function beforeAttention(facts: DecoderFacts, wanted: readonly number[], warnings: string[]): number[] {
  const layers: number[] = [];
  for (const b of wanted) {
    const next = facts.attention.find((l) => l.index >= b && l.index > (layers.at(-1) ?? 0))?.index;
    if (next === undefined) {
      throw new Refusal({
        code: 'PD314',
        message: `${wanted.length + 1} stages are more than this hybrid's attention layers allow: there is none left to rank with for a boundary at layer ${b}`,
        culprit: '--stages',
        hint: `use fewer stages, or give --layers out of ${facts.attention.map((l) => l.index).filter((l) => l > 0).join(', ')}`,
      });
    }
    if (next !== b) warnings.push(`the boundary before layer ${b} is moved to layer ${next}: layer ${b} has no attention to rank with`);
    layers.push(next);
  }
  return layers;
}

function resolveKeep(boundaries: number, options: PlanOptions): string[] {
  if (options.keep && options.lambda !== undefined) throw usage('PD012', '--keep and --lambda both say how much is kept', '--keep', 'give one of the two');
  if (options.keep) {
    const ratios = options.keep.map((k) => parseRatio(String(k)));
    if (ratios.length !== boundaries) throw usage('PD012', `--keep has ${ratios.length} ratios for ${boundaries} boundaries`, '--keep', 'give one cumulative ratio for each boundary');
    ratios.forEach((r, i) => {
      const before = ratios[i - 1];
      if (before && isLess(before, r)) throw usage('PD012', `--keep must not increase: ${options.keep?.join(',')}`, '--keep', 'ratios are cumulative: shares of the original image tokens that are left');
    });
    return ratios.map(formatRatio);
  }
  const text = String(options.lambda ?? '0.5');
  const lambda = parseRatio(text);
  if (lambda.num === 0n) throw usage('PD010', '--lambda 0 is outside (0, 1]', '--lambda', 'to drop all image tokens at a boundary use --keep with 0');
  return Array.from({ length: boundaries }, (_, i) => formatRatio(powRatio(lambda, i + 1)));
}

/** Reads `input`, `input-ids:<id>`, `span:<start>:<count>`, `marks` (with what was proved of them) or `none`. */
export function parseImageMask(text: string, marks?: Marks): ImageMaskSource {
  const wrong = (): UsageError => usage('PD013', `--image-mask ${text} is not understood`, '--image-mask', 'use input, input-ids:<id>, span:<start>:<count>, marks or none');
  const [kind, a, b, ...rest] = text.split(':');
  const whole = (t: string | undefined): number => {
    if (t === undefined || !/^\d+$/.test(t)) throw wrong();
    return Number(t);
  };
  if (rest.length > 0) throw wrong();
  if (kind === 'marks' && a === undefined) {
    if (!marks) throw unproved();
    return { kind, channels: marks.channels, bits: marks.bits };
  }
  if ((kind === 'input' || kind === 'none') && a === undefined) return { kind };
  if (kind === 'input-ids' && b === undefined) return { kind, id: whole(a) };
  if (kind === 'span') {
    const count = whole(b);
    if (count === 0) throw wrong();
    return { kind, start: whole(a), count };
  }
  throw wrong();
}

function resolveImageMask(facts: DecoderFacts, options: PlanOptions, warnings: string[]): ImageMaskSource {
  if (options.imageMask !== undefined) {
    const source = parseImageMask(options.imageMask, options.marks);
    if (source.kind === 'marks') requireEmbeds(facts, source);
    if (source.kind === 'input-ids') requireId(facts, source.id, warnings);
    if (source.kind === 'none' && facts.fixedSequence !== 1) warnings.push('with --image-mask none nothing is dropped: every chunk goes through whole; it is for the half of a split pair that only decodes. For prompts with images leave it out, or use input');
    if (source.kind === 'span' && !options.fix) warnings.push(`span:${source.start}:${source.count} marks these tokens in every first prompt that is long enough, also in one without an image`);
    return source;
  }
  if (facts.fixedSequence === 1) return { kind: 'none' };
  // genai feeds input_ids to a decoder that declares them, and no mask.
  if (facts.roles.imageMask || (facts.roles.sourceKind === 'inputs_embeds' && options.runtime !== 'genai')) return { kind: 'input' };
  const id = options.imageTokenId ?? imageIdComparedInGraph(facts);
  if (id !== undefined) return { kind: 'input-ids', id };
  throw new Refusal({
    code: 'PD320',
    message: 'it is not known which tokens are image tokens: the graph takes input_ids, and the image token id was found neither in the graph nor in a config.json or genai_config.json beside it',
    culprit: facts.roles.inputIds?.name,
    hint: 'give it with --image-mask input-ids:<id> (image_token_id or image_token_index of the model’s config), or add an input with --image-mask input; a language model for text only has no image tokens, and nothing to drop',
  });
}

/**
 * An id that no prompt can have would drop nothing, in silence. Where ids are looked up in a table of the graph, ids beyond it fail;
 * elsewhere an image token may be one that the logits do not have.
 *
 * @throws {UsageError} PD013
 */
function requireId(facts: DecoderFacts, id: number, warnings: string[]): void {
  const rows = facts.roles.inputIds?.uses.flatMap(({ node, index }) => (index === 1 && node.is('Gather') && node.int('axis', 0) === 0 && node.inputs[0]?.tensor?.dims.length === 2 ? (node.inputs[0].tensor.dims[0] ?? []) : []))[0];
  if (rows !== undefined && id >= rows) throw usage('PD013', `there is no token ${id}: the embedding table has ${rows} rows`, '--image-mask', 'give the image_token_id (or image_token_index) of the model’s config.json');
  const vocabulary = facts.logits.type?.dims?.at(-1);
  if (rows === undefined && typeof vocabulary === 'number' && id >= vocabulary) warnings.push(`image token id ${id} is beyond the vocabulary (${vocabulary} logits): where prompts do not have it nothing is dropped; compare it with the model’s config.json`);
}

/** @throws {Refusal} PD602 when marks were asked for and no embedding table was given to hold them to. */
export function unproved(): Refusal {
  return new Refusal({
    code: 'PD602',
    message: 'marks need the embedding graph: it must be proved that no text token’s embedding looks like a marked one',
    culprit: '--image-mask marks',
    hint: 'give --embed embed_tokens.onnx and --vision vision_encoder.onnx (looked for beside the decoder), compile the whole folder, or use --image-mask input',
  });
}

function requireEmbeds(facts: DecoderFacts, marks: Marks): void {
  if (facts.roles.sourceKind !== 'inputs_embeds') {
    throw new Refusal({
      code: 'PD601',
      message: 'marks are read off inputs_embeds, and this graph takes input_ids',
      culprit: facts.roles.inputIds?.name,
      hint: 'use --image-mask input-ids:<id> (the default where the id is known)',
    });
  }
  markType(facts.probes.dtype(facts.roles.source), facts.roles.source.name);
  const beyond = marks.channels.find((c) => c >= facts.hiddenSize);
  if (beyond !== undefined) throw usage('PD013', `marks in channel ${beyond}, but embeddings are ${facts.hiddenSize} wide`, 'imageMask', 'the plan was made for another model: compile with --image-mask marks instead');
}

/**
 * Where positions are given, kept tokens keep them: made compact, a token that was seen at one place is looked for at another
 * (docs/accuracy.md measures what that costs). Where an attention op rotates inside, or the graph counts for itself, keeping them would take more nodes.
 */
function keepsByDefault({ roles, attention }: DecoderFacts): boolean {
  return roles.positionIds !== undefined && attention.every((l) => l.core.rotary === undefined);
}

function resolvePositions(facts: DecoderFacts, positions: 'auto' | 'compact' | 'keep'): 'compact' | 'keep' {
  const multi = (facts.roles.positionIds?.type?.dims?.length ?? 2) > 2;
  if (positions === 'compact' && multi) {
    throw new Refusal({
      code: 'PD315',
      message: 'multi-dimensional rotary positions (mRoPE) cannot be compacted: an image token’s place is not a running number',
      culprit: facts.roles.positionIds?.name,
      hint: 'use --positions keep (the default for this graph)',
    });
  }
  if (!['auto', 'compact', 'keep'].includes(positions)) throw usage('PD001', `positions "${String(positions)}" are not understood`, '--positions', 'use auto, compact or keep');
  if (positions !== 'auto') return positions;
  return keepsByDefault(facts) ? 'keep' : 'compact';
}
