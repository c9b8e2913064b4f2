/**
 * Samples laid into the one prompt that a graph of fixed shapes takes: as many rows and tokens as it has, what is missing filled with
 * padding at the end that its mask leaves out, and the image where its span is.
 */
import type { FixedSizes, ImageMaskSource } from '../../plan/plan.js';
import { SampleFault } from '../running/faults.js';
import { type DecoderIo, IMAGE_MASK_INPUT, type IoInfo, VISUAL_MASK_INPUT } from '../running/io.js';
import { at, fromNumbers, type HostTensor, resized } from '../running/tensor.js';
import { type Layout, layoutOf } from './prompt.js';
import type { DataSet, Sample } from './sample.js';

export interface FixedPrompt {
  readonly sizes: FixedSizes;
  readonly source: ImageMaskSource;
  /** Of the original: samples are named after its inputs. */
  readonly io: DecoderIo;
  /** Whether both graphs take a mask that leaves padding out. */
  readonly masked: boolean;
}

/** The same samples at the fixed sizes; those that do not fit become faults (PD517). */
export function laidInto(data: DataSet, prompt: FixedPrompt): DataSet {
  return {
    ...data,
    async *samples() {
      for await (const item of data.samples()) {
        if ('fault' in item) {
          yield item;
          continue;
        }
        try {
          yield lay(item, prompt);
        } catch (error) {
          yield { fault: error as Error, id: item.id, index: item.index, source: item.source };
        }
      }
    },
  };
}

/** @throws {SampleFault} PD517 where the sample does not fit */
export function lay(sample: Sample, { sizes, source, io, masked }: FixedPrompt): Sample {
  const layout = layoutOf(sample, io, source);
  const { batch, sequence } = sizes;
  const { rows, length, past } = layout;
  if (rows !== batch) throw misfit(sample, `${many(rows, 'row')} of tokens, the graph takes ${batch}`, `give samples of ${many(batch, 'row')}`);
  if (past > 0) throw misfit(sample, `${many(past, 'token')} in its caches, and the graph of fixed shapes takes none`, 'give the whole prompt as one sample');
  if (length > sequence) throw misfit(sample, `${many(length, 'token')}, the graph takes ${sequence}`, `leave the sample out (--keep-going), or compile with --fix batch=${batch},sequence=${length}`);
  if (length < sequence && !masked) throw misfit(sample, `${many(length, 'token')} and the graph takes ${sequence}: it has no attention mask that could leave padding out`, `give samples of ${many(sequence, 'token')}`);
  requireSpan(sample, layout, source);
  if (length === sequence) return sample;
  const main = io.embeds ?? io.ids;
  const feeds = new Map(sample.feeds);
  for (const [name, value] of sample.feeds) {
    const axis = tokenAxisOf(name, value, { io, main, rows, length });
    if (axis !== undefined) feeds.set(name, resized(value, axis, sequence));
  }
  // A mask that is derived would say that padding is valid.
  if (io.mask) feeds.set(io.mask.name, paddedMask(layout, sequence, feeds.get(io.mask.name)?.dtype ?? (io.mask.dtype === 'unknown' ? 'int64' : io.mask.dtype)));
  return { ...sample, feeds };
}

const many = (n: number, what: string): string => `${n} ${what}${n === 1 ? '' : 's'}`;

function misfit(sample: Sample, has: string, hint: string): SampleFault {
  return new SampleFault({ code: 'PD517', message: `sample ${sample.id}: it does not fit the graph of fixed shapes: it has ${has}`, culprit: sample.source, hint });
}

/** The graph drops from where its span is: the image must lie there, whole, in every row. */
function requireSpan(sample: Sample, { rows, length, image, valid }: Layout, source: ImageMaskSource): void {
  if (source.kind !== 'span') return;
  const where = `span:${source.start}:${source.count}`;
  const marked = sample.feeds.get(IMAGE_MASK_INPUT) ?? sample.feeds.get(VISUAL_MASK_INPUT);
  for (let r = 0; r < rows; r++) {
    const inSpan = image.subarray(r * length, (r + 1) * length).reduce((a, b) => a + b, 0);
    if (inSpan < source.count) throw misfit(sample, `${many(valid.subarray(r * length, (r + 1) * length).reduce((a, b) => a + b, 0), 'valid token')} in row ${r}: the graph’s image (${where}) ends behind them`, 'give samples whose image lies there');
    if (!marked) continue;
    for (let i = 0; i < length; i++) {
      const isImage = at(marked, r * length + i) !== 0 && valid[r * length + i] === 1;
      if (isImage === (image[r * length + i] === 1)) continue;
      throw misfit(sample, `${isImage ? 'an image token' : 'none'} at position ${i} of row ${r}, and the graph’s image is ${where} (counted in valid tokens)`, `give samples whose image lies there, or compile with --fix for where it lies`);
    }
  }
}

/** Axis of the tokens in a feed that has a value a token; undefined for others (pictures, caches). */
function tokenAxisOf(name: string, value: HostTensor, of: { readonly io: DecoderIo; readonly main: IoInfo | undefined; readonly rows: number; readonly length: number }): number | undefined {
  const { io, main, rows, length } = of;
  if (name === io.positions?.name) return value.dims.length - 1;
  if (name === io.mask?.name && value.dims.length !== 2) return undefined;
  if ([io.ids?.name, io.embeds?.name, io.mask?.name, IMAGE_MASK_INPUT, VISUAL_MASK_INPUT].includes(name)) return 1;
  // Others say by their declared extents that they go with the tokens (token types).
  const declared = io.extras.find((e) => e.name === name)?.dims;
  const follows = declared !== undefined && declared.length >= 2 && declared[0] === main?.dims[0] && declared[1] === main?.dims[1];
  return follows && value.dims[0] === rows && value.dims[1] === length ? 1 : undefined;
}

function paddedMask({ rows, length, valid }: Layout, sequence: number, dtype: HostTensor['dtype']): HostTensor {
  const values = new Uint8Array(rows * sequence);
  for (let r = 0; r < rows; r++) values.set(valid.subarray(r * length, (r + 1) * length), r * sequence);
  return fromNumbers(dtype, [rows, sequence], values);
}

/** What is said of every run on a graph of fixed shapes. */
export function fixedNote({ sizes, masked }: FixedPrompt): string {
  const prompts = `the graph takes ${sizes.batch === 1 ? 'one prompt' : `${sizes.batch} prompts`} of ${sizes.sequence} tokens${masked ? ', to which both models get shorter samples padded' : ''}`;
  return `${prompts}; it takes no decode step, so only the prompt’s last position is compared, nothing is generated, and the gates text-only and decode are left out`;
}
