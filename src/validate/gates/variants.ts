/** Samples derived for gates: the same prompt with nothing to drop. */
import { anotherToken, isImageToken } from '../../plan/image-token-id.js';
import type { DecoderIo } from '../running/io.js';
import type { ImageSource, Layout } from '../feeding/prompt.js';
import type { Sample } from '../feeding/sample.js';
import { unmark } from '../feeding/marks.js';
import { at, fromNumbers, type HostTensor, resized, zeros } from '../running/tensor.js';

/** The prompt with no token marked as image; a reason where that cannot be had without changing what the original sees. */
export function textOnly(sample: Sample, io: DecoderIo, layout: Layout, source: ImageSource): Sample | string {
  const feeds = new Map(sample.feeds);
  if (source.kind === 'none') return sample;
  const unmarked = (): Sample => ({ ...sample, id: `${sample.id} (text only)`, feeds: feeds.set('image_token_mask', zeros('bool', [layout.rows, layout.length])) });
  if (source.kind === 'input' || source.kind === 'marks') {
    const embeds = io.embeds && feeds.get(io.embeds.name);
    if (source.kind === 'marks' && io.embeds && embeds) feeds.set(io.embeds.name, unmark(embeds, source));
    return unmarked();
  }
  if (source.kind === 'span') {
    const keep = Math.min(layout.length, source.start + source.count - 1);
    if (keep < 1) return 'the span starts with the prompt, so every prompt is pruned';
    if (layout.valid.includes(0)) return 'a padded prompt cannot be shortened below the span';
    const cut = shorten(sample, io, keep);
    return cut ? { ...sample, id: `${sample.id} (first ${keep} tokens)`, feeds: cut } : 'the prompt cannot be shortened';
  }
  if (io.extras.some((e) => !/num_logits/.test(e.name))) return 'the graph needs as many image tokens as its pictures have patches';
  const name = io.ids?.name ?? 'input_ids';
  const ids = feeds.get(name);
  // Ids that only mark follow from the mask.
  if (!ids && io.embeds && feeds.has('image_token_mask')) return unmarked();
  if (!ids) return `the sample has no ${name}`;
  const other = anotherToken(source.id);
  feeds.set(name, fromNumbers(ids.dtype, ids.dims, Array.from({ length: ids.data.length }, (_, i) => (isImageToken(source.id, at(ids, i)) ? other : at(ids, i)))));
  feeds.delete('image_token_mask');
  return { ...sample, id: `${sample.id} (text only)`, feeds };
}

/** The first `count` tokens of a prompt without a past. */
function shorten(sample: Sample, io: DecoderIo, count: number): Map<string, HostTensor> | undefined {
  const feeds = new Map(sample.feeds);
  for (const input of [io.ids, io.embeds, io.mask, io.positions]) {
    const t = input && feeds.get(input.name);
    if (!input || !t) continue;
    const axis = input === io.positions && io.positionAxes > 0 ? 2 : 1;
    feeds.set(input.name, resized(t, axis, count));
  }
  const marked = feeds.get('image_token_mask');
  if (marked) feeds.set('image_token_mask', resized(marked, 1, count));
  return feeds;
}
