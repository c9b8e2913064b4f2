/** Plans for training forwards: what they need of a graph. */
import { Refusal, UsageError } from '../diagnostics.js';
import type { DecoderFacts } from '../analyse/facts.js';
import type { FixedSizes, ImageMaskSource } from './plan.js';

/**
 * @throws {UsageError} PD023 for options that a training forward contradicts
 * @throws {Refusal} PD625 for a decoder with a cache
 */
export function requireTrainable(facts: DecoderFacts, source: ImageMaskSource, options: { readonly fix?: FixedSizes | undefined; readonly runtime?: string | undefined }): void {
  const refuse = (with_: string, why: string, hint: string): UsageError => new UsageError({ code: 'PD023', message: `--for training and ${with_} contradict each other: ${why}`, culprit: '--for', hint });
  if (options.fix) throw refuse('--fix', 'where the instruction ends, and so what is dropped, differs from sample to sample', 'leave out one of the two');
  if (options.runtime === 'genai') throw refuse('--runtime genai', 'it generates', 'leave out one of the two');
  if (source.kind === 'none' || source.kind === 'marks') throw refuse(`--image-mask ${source.kind}`, source.kind === 'none' ? 'nothing would be dropped' : 'marks are put on by a vision encoder that is compiled for them', 'use --image-mask input or input-ids:<id>');
  const past = facts.roles.pasts[0];
  if (!past) return;
  throw new Refusal({
    code: 'PD625',
    message: 'a training forward takes whole samples, and this decoder has a cache',
    culprit: past.value.name,
    hint: 'export the model without a cache (transformers: use_cache=False) and compile that',
  });
}
