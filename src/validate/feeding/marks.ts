/** In-band marks in the feeds of samples: read off, put on, taken off. */
import { isMark, type MarkType, toMark } from '../../plan/marks.js';
import type { Marks } from '../../plan/plan.js';
import { at, fromNumbers, type HostTensor } from '../running/tensor.js';

function typeOf(embeds: HostTensor): MarkType | undefined {
  return embeds.dtype === 'float32' || embeds.dtype === 'float16' ? embeds.dtype : undefined;
}

/** [rows · length], 1 where a row of `embeds` [rows, length, hidden] is marked in all channels. */
export function markedRows(embeds: HostTensor, marks: Marks): Uint8Array {
  const type = typeOf(embeds);
  const [rows = 0, length = 0, hidden = 0] = embeds.dims;
  return Uint8Array.from({ length: rows * length }, (_, i) => (type && marks.channels.every((c) => isMark(at(embeds, i * hidden + c), marks.bits[type])) ? 1 : 0));
}

/** `embeds` with marks on the rows where `image` is 1; the channels of other rows stay what they are. */
export function markRows(embeds: HostTensor, image: Uint8Array, marks: Marks): HostTensor {
  return replaced(embeds, marks, (x, row, bits, type) => (image[row] === 1 ? toMark(x, bits, type) : x));
}

/** `embeds` without marks: odd multiples become the even ones beside them, towards zero. */
export function unmark(embeds: HostTensor, marks: Marks): HostTensor {
  return replaced(embeds, marks, (x, _row, bits) => (isMark(x, bits) ? x - Math.sign(x) * 2 ** -bits : x));
}

function replaced(embeds: HostTensor, marks: Marks, by: (x: number, row: number, bits: number, type: MarkType) => number): HostTensor {
  const type = typeOf(embeds);
  if (!type) return embeds;
  const hidden = embeds.dims.at(-1) as number;
  const values = Float64Array.from({ length: embeds.data.length }, (_, i) => at(embeds, i));
  for (let row = 0; row < values.length / hidden; row++) {
    for (const c of marks.channels) values[row * hidden + c] = by(values[row * hidden + c] as number, row, marks.bits[type], type);
  }
  return fromNumbers(embeds.dtype, embeds.dims, values);
}
