/** Options and facts → plan. What the user can get wrong is told here and where it is asked: `options.ts`, `schedule.ts`, `image-mask.ts`. */
import { Refusal } from '../diagnostics.js';
import type { DecoderFacts } from '../analyse/facts.js';
import type { ImageMaskSource, Plan } from './plan.js';
import { requireFixable } from './fixed.js';
import { requireTrainable } from './training.js';
import { headWeightsAt, parseRank } from './rank-option.js';
import { rankNeeds } from './ranks.js';
import { type PlanOptions, usage, withPreset } from './options.js';
import { resolveKeep, resolveLayers } from './schedule.js';
import { parseImageMask, requireEmbeds, resolveImageMask } from './image-mask.js';

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
  if (options.runtime === 'genai') warnings.push(GENAI_LIMITS);
  const weights = headsFile === undefined ? {} : { headWeights: headWeightsAt(facts, layers, options.headWeights) };
  return {
    plan: { version: 1, layers, keep, imageMask, positions, ...rank, ...weights, probe: options.probe ?? false, ...(fix ? { fix } : {}), ...(training ? { training } : {}), ...(hasBranches(options) ? {} : { controlFlow: false }), ...(options.runtime === 'genai' ? { runtime: options.runtime } : {}) },
    warnings,
  };
}

const GENAI_LIMITS = 'for onnxruntime-genai: one beam (search.num_beams 1), rewind_to 0 only, and with search.chunk_size each piece of a prompt drops by itself';

/**
 * OpenVINO's CPU plugin (2026.4) plans memory for the nodes of both branches in one line: where a branch that did not run holds ops
 * whose sizes come from data, the first inference at new sizes may read what a resize has freed. Without an `If` it does not.
 */
function hasBranches({ controlFlow, runtime }: PlanOptions): boolean {
  return controlFlow !== false && runtime !== 'openvino';
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
