/** Pictures in pieces: squares and an overview of Phi's, patches of Qwen-VL's, of which a square of some becomes one token, and of Gemma 4's. */
import { NotFollowed, UnfitPicture } from './attributes.js';
import { type Plane, resampled32, resampledToFloats } from './resample.js';

/**
 * Phi's: the picture brought to one square by the cubic, and behind it its own squares, row by row, channels first.
 *
 * @param picture float32 [height, width, 3], whole squares of `side`
 * @param count of squares with the overview; those that the picture does not have are zeros
 * @returns float32 [count, 3, side, side]
 */
export function withOverview(picture: Plane<Float32Array>, side: number, count: number): Float32Array {
  const out = new Float32Array(count * 3 * side * side);
  let at = 0;
  const put = ({ data, width }: Plane<Float32Array>, left: number, top: number): void => {
    for (let c = 0; c < 3; c++) for (let y = top; y < top + side; y++) for (let x = left; x < left + side; x++) out[at++] = data[(y * width + x) * 3 + c] as number;
  };
  put(resampled32(picture, side, side, 'CUBIC'), 0, 0);
  for (let top = 0; top < picture.height; top += side) for (let left = 0; left < picture.width; left += side) put(picture, left, top);
  return out;
}

/**
 * Qwen-VL's: patches of `patch` pixels a side, square by square of `merge` patches a side; each holds its channels, each of these `frames` times.
 *
 * @param data float32 [height, width, channels]
 * @returns float32 [rows · columns, channels · frames · patch · patch]
 */
export function qwenPatches({ data, width, height, channels }: Plane<Float32Array>, { patch, merge, frames }: { readonly patch: number; readonly merge: number; readonly frames: number }): { readonly values: Float32Array; readonly rows: number; readonly columns: number } {
  const side = patch * merge;
  if (width % side !== 0 || height % side !== 0) throw new NotFollowed(`${width} × ${height} pixels are not whole squares of ${side} pixels`);
  const [rows, columns] = [height / patch, width / patch];
  const values = new Float32Array(width * height * channels * frames);
  let at = 0;
  for (let top = 0; top < rows; top += merge) {
    for (let left = 0; left < columns; left += merge) {
      for (let i = 0; i < merge * merge; i++) {
        const [y0, x0] = [(top + Math.floor(i / merge)) * patch, (left + (i % merge)) * patch];
        for (let c = 0; c < channels; c++) {
          for (let f = 0; f < frames; f++) for (let y = y0; y < y0 + patch; y++) for (let x = x0; x < x0 + patch; x++) values[at++] = data[(y * width + x) * channels + c] as number;
        }
      }
    }
  }
  return { values, rows, columns };
}

export interface GemmaPatches {
  /** float32 [most patches, patch · patch · 3], zeros behind the last. */
  readonly values: Float32Array;
  /** int64 [most patches, 2]: column and row of each, −1 behind the last. */
  readonly places: BigInt64Array;
  readonly most: number;
  readonly tokens: number;
}

/** Gemma 4's: as large as so many tokens hold it, its sides whole tokens; a token is `pool` patches a side. */
export function gemmaPatches(picture: Plane<Uint8Array>, { patch, tokens: mostTokens, pool }: { readonly patch: number; readonly tokens: number; readonly pool: number }): GemmaPatches {
  const most = mostTokens * pool * pool;
  const { width, height } = gemmaSize(picture, { patch, most, pool });
  const { data } = resampledToFloats(picture, width, height);
  const [rows, columns] = [height / patch, width / patch];
  const values = new Float32Array(most * patch * patch * 3);
  const places = new BigInt64Array(most * 2).fill(-1n);
  let at = 0;
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) {
      places[(r * columns + c) * 2] = BigInt(c);
      places[(r * columns + c) * 2 + 1] = BigInt(r);
      for (let y = r * patch; y < (r + 1) * patch; y++, at += patch * 3) values.set(data.subarray((y * width + c * patch) * 3, (y * width + (c + 1) * patch) * 3), at);
    }
  }
  return { values, places, most, tokens: Math.floor((rows * columns) / (pool * pool)) };
}

function gemmaSize({ width, height }: { readonly width: number; readonly height: number }, { patch, most, pool }: { readonly patch: number; readonly most: number; readonly pool: number }): { width: number; height: number } {
  const side = pool * patch;
  const factor = Math.sqrt((most * patch * patch) / (height * width));
  const below = (length: number): number => Math.floor((factor * length) / side) * side;
  const [tall, wide] = [below(height), below(width)];
  if (tall === 0 && wide === 0) throw new UnfitPicture(`of ${width} × ${height} pixels no token would be left`);
  const longest = Math.floor(most / (pool * pool)) * side;
  const beside = (long: number, short: number): number => Math.min(Math.floor(long / short) * side, longest) || side;
  if (tall === 0) return { width: beside(width, height), height: side };
  if (wide === 0) return { width: side, height: beside(height, width) };
  return { width: wide, height: tall };
}
