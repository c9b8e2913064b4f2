/** Seeded feeds when there is no data. What they say about accuracy is little; shapes, identity, cost and speed they do tell. */
import { UsageError } from '../../../diagnostics.js';
import { anImageToken, type ImageTokenId } from '../../../plan/image-token-id.js';
import type { DecoderIo, IoInfo } from '../../running/io.js';
import { Random } from '../random.js';
import type { DataSet, Sample } from '../sample.js';
import { allocatable, fromNumbers, type HostTensor } from '../../running/tensor.js';

export interface SyntheticOptions {
  readonly samples: number;
  readonly imageTokens: number;
  readonly textTokens: number;
  readonly rows?: number | undefined;
  /** Text tokens before the image; a third of them by default. */
  readonly before?: number | undefined;
  readonly seed: number;
  /** Ids below this are drawn; from the logits' declared width when it is a number. */
  readonly vocab?: number | undefined;
  readonly imageTokenId?: ImageTokenId | undefined;
  /** Sizes of symbolic dimensions of other inputs (pixel_values, ...). */
  readonly dims?: Readonly<Record<string, number>> | undefined;
  /** Floats get no numbers, only sizes: a file may declare a width of 10⁹. */
  readonly sizesOnly?: boolean | undefined;
}

export const SYNTHETIC_NOTE = 'synthetic feeds: accuracy on random prompts means little; identity, NaN, shapes, cost and speed still count';

/** A grid of about the shape of a picture for `n` image tokens: the most square factors. */
export function squarish(n: number): { rows: number; columns: number } {
  let rows = Math.max(1, Math.floor(Math.sqrt(n)));
  while (n % rows !== 0) rows--;
  return { rows, columns: n / rows };
}

/** Prompts of some text, one image, the rest of the text. */
export function syntheticData(io: DecoderIo, options: SyntheticOptions): DataSet {
  return {
    kind: 'synthetic',
    source: `seed ${options.seed}`,
    count: options.samples,
    async *samples() {
      for (let index = 0; index < options.samples; index++) yield draw(io, options, index);
    },
  };
}

function draw(io: DecoderIo, options: SyntheticOptions, index: number): Sample {
  const random = new Random(options.seed * 7919 + index);
  const rows = options.rows ?? 1;
  const { imageTokens: n, textTokens } = options;
  const before = options.before ?? Math.min(textTokens, Math.max(1, Math.floor(textTokens / 3)));
  const length = n + textTokens;
  const feeds = new Map<string, HostTensor>();
  const isImage = (i: number): boolean => i % length >= before && i % length < before + n;
  const vocabDim = io.logits.dims.at(-1);
  const vocab = options.vocab ?? (typeof vocabDim === 'number' ? vocabDim : 1000);
  if (io.ids) {
    const ids = Array.from({ length: rows * length }, (_, i) => {
      if (isImage(i) && options.imageTokenId !== undefined) return anImageToken(options.imageTokenId);
      const id = random.integer(vocab);
      return id === options.imageTokenId ? (id + 1) % vocab : id;
    });
    feeds.set(io.ids.name, fromNumbers(io.ids.dtype === 'int32' ? 'int32' : 'int64', [rows, length], ids));
  }
  if (io.embeds) feeds.set(io.embeds.name, normal(random, io.embeds, [rows, length, lastDim(io.embeds, options)], options));
  // Sent along whether or not this model takes it: the rewritten one usually does.
  feeds.set('image_token_mask', fromNumbers('bool', [rows, length], Array.from({ length: rows * length }, (_, i) => (isImage(i) ? 1 : 0))));
  for (const extra of io.extras) feeds.set(extra.name, extraFeed(random, extra, rows, length, options));
  return {
    id: `synthetic-${index}`,
    index,
    source: 'synthetic',
    feeds,
    grids: n > 0 ? Array.from({ length: rows }, (_, row) => ({ ...squarish(n), first: 0, row, area: [0, 0, 1, 1] as const })) : undefined,
  };
}

function lastDim(input: IoInfo, options: SyntheticOptions): number {
  const d = input.dims.at(-1);
  const size = typeof d === 'number' ? d : options.dims?.[d ?? ''];
  if (size === undefined) throw unknownDim(input.name, String(d));
  return size;
}

function unknownDim(input: string, dim: string): UsageError {
  return new UsageError({ code: 'PD007', message: `the size of dimension "${dim}" of input "${input}" is not declared`, culprit: input, hint: `give it with --dim ${dim}=<size>, or give real samples with --data` });
}

function extraFeed(random: Random, input: IoInfo, rows: number, length: number, options: SyntheticOptions): HostTensor {
  const dims = input.dims.map((d, axis) => {
    if (typeof d === 'number') return d;
    const given = options.dims?.[d];
    if (given !== undefined) return given;
    if (axis === 0 && /batch/i.test(d)) return rows;
    if (/seq/i.test(d)) return length;
    throw unknownDim(input.name, d);
  });
  if (input.dtype === 'float32' || input.dtype === 'float16' || input.dtype === 'float64') return normal(random, input, dims, options);
  return fromNumbers(input.dtype === 'unknown' ? 'int64' : input.dtype, dims, new Uint8Array(allocatable(input.name, dims)));
}

function normal(random: Random, input: IoInfo, dims: readonly number[], options: SyntheticOptions): HostTensor {
  if (options.sizesOnly) return { dtype: input.dtype === 'float16' || input.dtype === 'float64' ? input.dtype : 'float32', dims, data: new Uint8Array(0) };
  const values = new Float32Array(allocatable(input.name, dims));
  for (let i = 0; i < values.length; i++) values[i] = random.normal();
  return fromNumbers(input.dtype === 'float16' || input.dtype === 'float64' ? input.dtype : 'float32', dims, values);
}
