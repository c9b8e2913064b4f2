/** Plans for one prompt's sizes: what they need, and how many tokens each boundary drops then. */
import { Refusal, UsageError } from '../diagnostics.js';
import type { DecoderFacts } from '../analyse/facts.js';
import { keepCount } from '../cost/keep.js';
import type { PromptSizes } from '../cost/stages.js';
import type { FixedSizes, ImageMaskSource, Plan } from './plan.js';

/** Longest prompt a graph is fixed to. */
const MOST_TOKENS = 2 ** 20;

/**
 * @throws {UsageError} PD020 for sizes that are none, PD022 when the plan does not say where the image is
 * @throws {Refusal} PD622 for graphs that are fixed to other sizes
 */
export function requireFixable(facts: DecoderFacts, fix: FixedSizes, source: ImageMaskSource, runtime: string | undefined): void {
  for (const [name, n] of [['batch', fix.batch], ['sequence', fix.sequence]] as const) {
    if (!Number.isSafeInteger(n) || n < 1 || n > MOST_TOKENS) throw new UsageError({ code: 'PD020', message: `--fix: ${name} is ${String(n)}`, culprit: '--fix', hint: `write --fix batch=1,sequence=640, whole numbers up to ${MOST_TOKENS}` });
  }
  if (runtime === 'genai') throw new UsageError({ code: 'PD020', message: 'onnxruntime-genai feeds prompts of any length: a graph for it cannot be fixed to one', culprit: '--fix', hint: 'leave out --fix or --runtime genai' });
  if (source.kind !== 'span') {
    throw new UsageError({
      code: 'PD022',
      message: `a graph of fixed shapes counts nothing: how many image tokens there are, and where, must be told, and --image-mask ${source.kind} does not tell`,
      culprit: '--image-mask',
      hint: 'give --image-mask span:<start>:<count>, counted in valid tokens from the first',
    });
  }
  const end = source.start + source.count;
  if (end > fix.sequence) throw new UsageError({ code: 'PD022', message: `the image ends at token ${end}, the prompt has ${fix.sequence}`, culprit: '--image-mask', hint: 'give a span within the sequence of --fix' });
  const anchor = facts.roles.sourceKind === 'inputs_embeds' ? facts.roles.source : facts.roles.inputIds;
  const declared = anchor?.type?.dims?.slice(0, 2) ?? [];
  for (const [i, [name, n]] of ([['batch', fix.batch], ['sequence', fix.sequence]] as const).entries()) {
    const d = declared[i];
    if (typeof d !== 'number' || d === n) continue;
    throw new Refusal({ code: 'PD622', message: `the graph was exported with a ${name} of ${d}, not ${n}`, culprit: anchor?.name, hint: `use --fix with ${name}=${d}, or export again` });
  }
}

/** Tokens that every row has lost after each boundary. */
export function fixedDrops(plan: Plan, fix: FixedSizes): number[] {
  const { imageMask: source } = plan;
  if (source.kind !== 'span') return plan.keep.map(() => 0);
  // The last token is never dropped, and an image may stand at the very end.
  const limit = source.start + source.count >= fix.sequence ? source.count - 1 : source.count;
  return plan.keep.map((k) => Math.min(source.count - keepCount(source.count, k), limit));
}

/** The prompt that a graph of fixed shapes is for, as costs are counted. */
export function fixedPrompt(plan: Plan, { batch, sequence }: FixedSizes, otherwise: PromptSizes): PromptSizes {
  const imageTokens = plan.imageMask.kind === 'span' ? plan.imageMask.count : otherwise.imageTokens;
  return { batch, imageTokens, textTokens: Math.max(0, sequence - imageTokens), past: 0 };
}
