/** A sample → complete feeds for one model: what is missing is derived, what is wrong is named. */
import { anImageToken, anotherToken, isImageToken } from '../../plan/image-token-id.js';
import type { ImageMaskSource } from '../../plan/plan.js';
import { isLoose } from './data/json.js';
import { missingInput, SampleFault, wrongDtype, wrongShape } from '../running/faults.js';
import { type CacheSlot, type DecoderIo, IMAGE_MASK_INPUT, type IoInfo, VISUAL_MASK_INPUT } from '../running/io.js';
import { markedRows, markRows } from './marks.js';
import type { Sample } from './sample.js';
import { at, cast, elementCount, fromNumbers, type HostTensor, zeros } from '../running/tensor.js';

/** What of the prompt's tokens is what, row by row. */
export interface Layout {
  readonly rows: number;
  readonly length: number;
  /** [rows · length], 1 where attended. */
  readonly valid: Uint8Array;
  /** [rows · length], 1 where an image token (marked and valid). */
  readonly image: Uint8Array;
  /** False when neither the sample nor the plan says where the image tokens are. */
  readonly imageKnown: boolean;
  /** Tokens after the last valid one, a row each: right padding. */
  readonly trailing: readonly number[];
  readonly past: number;
}

/** Where the rewritten graph takes its image tokens from; from the plan. */
export type ImageSource = ImageMaskSource;

/** Reads the layout of a sample. @throws {SampleFault} when it has no tokens. */
export function layoutOf(sample: Sample, io: DecoderIo, source: ImageSource | undefined): Layout {
  const main = io.embeds ?? io.ids;
  const tokens = (io.embeds && sample.feeds.get(io.embeds.name)) ?? (io.ids && sample.feeds.get(io.ids.name));
  if (!main || !tokens) throw missingInput(sample.id, main?.name ?? 'input_ids', `[${main?.dims.join(', ') ?? ''}]`);
  const [rows = 0, length = 0] = tokens.dims;
  if (rows === 0 || length === 0 || tokens.dims.length < 2) throw wrongShape(sample.id, main.name, tokens.dims, `[${main.dims.join(', ')}], with at least one token`);
  const given = io.mask && sample.feeds.get(io.mask.name);
  // The mask says how much is cached; a cache of fixed size (a ring) does not.
  const lengths = io.caches.flatMap((c) => (c.tokenAxis >= 0 && sample.feeds.has(c.past) ? [sample.feeds.get(c.past)?.dims[c.tokenAxis] ?? 0] : []));
  const past = given?.dims.length === 2 ? Math.max(0, (given.dims[1] ?? length) - length) : lengths.length > 0 ? Math.min(...lengths) : 0;
  const valid = new Uint8Array(rows * length).fill(1);
  const mask = io.mask && sample.feeds.get(io.mask.name);
  if (mask && mask.dims.length === 2) {
    const width = mask.dims[1] ?? 0;
    for (let r = 0; r < rows; r++) for (let i = 0; i < length; i++) valid[r * length + i] = at(mask, r * width + (width - length) + i) === 0 ? 0 : 1;
  }
  const image = new Uint8Array(rows * length);
  const marked = sample.feeds.get(IMAGE_MASK_INPUT) ?? sample.feeds.get(VISUAL_MASK_INPUT);
  const ids = sample.feeds.get(io.ids?.name ?? 'input_ids');
  let imageKnown = true;
  if (source?.kind === 'span') {
    for (let r = 0; r < rows; r++) markSpan(valid.subarray(r * length, (r + 1) * length), image.subarray(r * length, (r + 1) * length), source.start, source.count);
  } else if (source?.kind === 'input-ids' && ids) {
    for (let i = 0; i < image.length; i++) image[i] = isImageToken(source.id, at(ids, i)) ? 1 : 0;
  } else if (source?.kind === 'marks' && io.embeds && !marked) {
    image.set(markedRows(tokens, source));
  } else if (marked) {
    if (elementCount(marked.dims) !== rows * length) throw wrongShape(sample.id, 'image_token_mask', marked.dims, `[${rows}, ${length}]`);
    for (let i = 0; i < image.length; i++) image[i] = at(marked, i) === 0 ? 0 : 1;
  } else imageKnown = false;
  for (let i = 0; i < image.length; i++) image[i] = (image[i] ?? 0) & (valid[i] ?? 0);
  const trailing = Array.from({ length: rows }, (_, r) => {
    let n = 0;
    while (n < length && valid[r * length + length - 1 - n] === 0) n++;
    return n === length ? 0 : n;
  });
  return { rows, length, valid, image, imageKnown, trailing, past };
}

/** Marks `count` of a row's valid tokens, from the `start`th on. */
function markSpan(valid: Uint8Array, image: Uint8Array, start: number, count: number): void {
  let seen = 0;
  for (let i = 0; i < valid.length; i++) {
    if (valid[i] === 0) continue;
    if (seen >= start && seen < start + count) image[i] = 1;
    seen++;
  }
}

/** Prompt feeds for the model whose io is given. Missing inputs that follow from others are derived. */
export function completeFeeds(sample: Sample, io: DecoderIo, layout: Layout, inputs: readonly IoInfo[], source?: ImageSource): Map<string, HostTensor> {
  const feeds = new Map<string, HostTensor>();
  for (const input of inputs) {
    const given = sample.feeds.get(input.name) ?? derive(input, sample, io, layout) ?? (input === io.ids ? idsThatMark(io, layout, source) : undefined);
    if (!given) {
      if (input === io.imageMask) {
        throw new SampleFault({
          code: 'PD515',
          message: `sample ${sample.id}: nothing says which tokens are image tokens, and the rewritten model takes "${input.name}"`,
          culprit: input.name,
          hint: 'add a bool input "image_token_mask" [rows, tokens], or "images" with "start" (schemas/data.schema.json), or --image-token-id',
        });
      }
      throw missingInput(sample.id, input.name, `${input.dtype} [${input.dims.join(', ')}]`);
    }
    const tensor = conform(sample.id, input, given);
    // Embeddings of samples made without the marked vision encoder: both models get them marked.
    const unmarked = source?.kind === 'marks' && input === io.embeds && sample.feeds.has('image_token_mask');
    feeds.set(input.name, unmarked ? markRows(tensor, layout.image, source) : tensor);
  }
  return feeds;
}

function conform(sample: string, input: IoInfo, given: HostTensor): HostTensor {
  const want = `${input.dtype} [${input.dims.map((d) => (d === '' ? '?' : d)).join(', ')}]`;
  const tensor = isLoose(given) && input.dtype !== 'unknown' ? cast(given, input.dtype) : given;
  if (input.dtype !== 'unknown' && tensor.dtype !== input.dtype) throw wrongDtype(sample, input.name, tensor.dtype, input.dtype);
  if (tensor.dims.length !== input.dims.length || input.dims.some((d, i) => typeof d === 'number' && d !== tensor.dims[i])) throw wrongShape(sample, input.name, tensor.dims, want);
  return tensor;
}

function derive(input: IoInfo, sample: Sample, io: DecoderIo, layout: Layout): HostTensor | undefined {
  const { rows, length, past } = layout;
  const integer = input.dtype === 'int32' ? 'int32' : input.dtype === 'bool' ? 'bool' : 'int64';
  if (input === io.mask) return fromNumbers(integer, [rows, past + length], new Uint8Array(rows * (past + length)).fill(1));
  if (input === io.imageMask || input.name === VISUAL_MASK_INPUT) return layout.imageKnown ? { dtype: 'bool', dims: [rows, length], data: layout.image } : undefined;
  if (input === io.positions) {
    const axes = io.positionAxes;
    const tokens = new Float64Array(rows * length);
    for (let r = 0; r < rows; r++) {
      let p = past;
      for (let i = 0; i < length; i++) tokens[r * length + i] = layout.valid[r * length + i] === 0 ? 0 : p++;
    }
    // Image tokens have grid positions under mRoPE: those must be given.
    if (axes > 0 && layout.image.includes(1) && sample.source !== 'synthetic') return undefined;
    return axes === 0 ? fromNumbers(integer, [rows, length], tokens) : fromNumbers(integer, [axes, rows, length], repeat(tokens, axes));
  }
  const slot = io.caches.find((c) => c.past === input.name);
  if (slot) return emptyCache(slot, rows);
  if (/num_logits_to_keep/.test(input.name)) return fromNumbers(integer, input.dims.map((d) => (typeof d === 'number' ? d : 1)), new Array(elementCount(input.dims.map((d) => (typeof d === 'number' ? d : 1)))).fill(0));
  return undefined;
}

/** Where embeddings are fed, ids say no more than which tokens are image tokens. */
function idsThatMark(io: DecoderIo, layout: Layout, source: ImageSource | undefined): HostTensor | undefined {
  if (!io.embeds || !layout.imageKnown || source?.kind !== 'input-ids') return undefined;
  const [image, other] = [anImageToken(source.id), anotherToken(source.id)];
  return fromNumbers(io.ids?.dtype === 'int32' ? 'int32' : 'int64', [layout.rows, layout.length], Array.from(layout.image, (marked) => (marked ? image : other)));
}

function repeat(values: Float64Array, times: number): Float64Array {
  const out = new Float64Array(values.length * times);
  for (let k = 0; k < times; k++) out.set(values, k * values.length);
  return out;
}

/** A past of no tokens: the batch as given, every other symbolic size 0. */
export function emptyCache(slot: CacheSlot, rows: number): HostTensor {
  const dims = slot.dims.map((d, axis) => (typeof d === 'number' ? d : axis === 0 ? rows : 0));
  return zeros(slot.dtype === 'unknown' ? 'float32' : slot.dtype, dims);
}
