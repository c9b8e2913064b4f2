/**
 * In-band marks: image features that say of themselves, in a few channels, that they are image tokens.
 *
 *   vision encoder, last step:  y = (floor(x·2^(m−1)) + ½)·2^(1−m)     an odd multiple of 2^−m, at most 2^−m away from x
 *   decoder, first step:        row is an image token  ⇔  in all k channels |x|·2^(m−1) has the fraction ½
 *
 * Every step is exact in float32: scaling by powers of two is, floor is, and so is the fraction of a number that is not
 * negative. Half precision has 11 significant bits, so that m is smaller there and odd multiples end at 2^(11−m).
 */
import { Refusal } from '../diagnostics.js';
import { DataType } from '../ir/graph.js';
import type { Marks } from './plan.js';

/** Element types that can carry marks, with their significant bits. */
export const SIGNIFICANT_BITS = { float32: 24, float16: 11 } as const;
export type MarkType = keyof typeof SIGNIFICANT_BITS;

/**
 * m by element type. float32: features move by at most 6·10⁻⁵ and may be as large as 1024. float16: by at most 0.031,
 * as large as 64; image features are of the magnitude of embeddings, some units.
 */
export const MARK_BITS: Readonly<Record<MarkType, number>> = { float32: 14, float16: 5 };

const MARK_CHANNELS = 8;

/** Channels spread over `width`, moved by `shift` channels. */
export function markChannels(width: number, shift = 0): number[] {
  const count = Math.min(MARK_CHANNELS, width);
  return Array.from({ length: count }, (_, i) => (Math.floor(((2 * i + 1) * width) / (2 * count)) + shift) % width).sort((a, b) => a - b);
}

/** @throws {Refusal} PD603 for types that cannot carry marks. */
export function markType(elemType: number | undefined, culprit: string): MarkType {
  if (elemType === DataType.FLOAT) return 'float32';
  if (elemType === DataType.FLOAT16) return 'float16';
  throw new Refusal({
    code: 'PD603',
    message: `embeddings of data type ${elemType ?? 'unknown'} cannot carry marks`,
    culprit,
    hint: 'marks need float32 or float16 embeddings: use another export, or --image-mask input',
  });
}

/** True when `x` is an odd multiple of 2^−bits. */
export function isMark(x: number, bits: number): boolean {
  const h = Math.abs(x) * 2 ** (bits - 1);
  return h - Math.floor(h) === 0.5;
}

/** The odd multiple of 2^−bits that the vision encoder puts in the place of `x`; those of a type end at its significant bits. */
export function toMark(x: number, bits: number, type: MarkType): number {
  const limit = 2 ** (SIGNIFICANT_BITS[type] - 1);
  const h = Math.min(Math.max(x * 2 ** (bits - 1), -limit), limit - 1);
  return (Math.floor(h) + 0.5) * 2 ** (1 - bits);
}

/** True when the row [width] at `start` of `values` is marked in all channels. */
export function isMarkedRow(values: ArrayLike<number>, start: number, marks: Marks, type: MarkType): boolean {
  return marks.channels.every((c) => isMark(values[start + c] as number, marks.bits[type]));
}
