/** Phi-4-multimodal's crops, as onnxruntime-extensions cuts them: as many squares as the picture covers, its mask in patches of 14 pixels, and an overview. */
import { UnfitPicture } from './attributes.js';
import { withOverview } from './patches.js';
import { type Plane, resampled8 } from './resample.js';

const PATCH = 14;

/** Tokens of the overview, with one behind each of its 16 rows and one between it and the crops. */
const OVERVIEW_TOKENS = 256 + 1 + 16;

export interface Mask {
  /** Rows of 0 and 1, 1 where there is picture. */
  readonly data: BigInt64Array;
  readonly width: number;
  readonly height: number;
}

/** The picture on a grid of squares of `side` pixels, at most `most` of them; white to the right or below, where the mask is 0. */
export function onSquares(picture: Plane<Uint8Array>, { side, most }: { readonly side: number; readonly most: number }): { readonly plane: Plane<Uint8Array>; readonly mask: Mask } {
  const { width, height } = picture;
  const single = Math.fround;
  let [columns, rows] = [Math.ceil(single(width / side)), Math.ceil(single(height / side))];
  if (columns * rows > most) [columns, rows] = nearestGrid(width, height, { side, most });
  const [wide, tall] = [columns * side, rows * side];
  const [across, down] = [single(wide / width), single(tall / height)];
  const [w, h] = across < down ? [wide, Math.trunc(single(height * across))] : [Math.trunc(single(width * down)), tall];
  if (Math.min(w, h) < 10) throw new UnfitPicture(`of ${width} × ${height} pixels ${w} × ${h} would be left`);
  const { data } = resampled8(picture, w, h, 'LINEAR');
  const out = new Uint8Array(wide * tall * 3).fill(255);
  for (let y = 0; y < h; y++) out.set(data.subarray(y * w * 3, (y + 1) * w * 3), y * wide * 3);
  const patches = Math.floor(side / PATCH);
  const [maskWidth, maskHeight] = [patches * columns, patches * rows];
  const [right, below] = [maskWidth - Math.floor((wide - w) / PATCH), maskHeight - Math.floor((tall - h) / PATCH)];
  const mask = new BigInt64Array(maskWidth * maskHeight);
  for (let y = 0; y < below; y++) mask.fill(1n, y * maskWidth, y * maskWidth + right);
  return { plane: { data: out, width: wide, height: tall, channels: 3 }, mask: { data: mask, width: maskWidth, height: maskHeight } };
}

/** Columns and rows whose ratio is nearest to the picture's: the first by their product, or a later one as near where the picture covers half of it. */
function nearestGrid(width: number, height: number, { side, most }: { readonly side: number; readonly most: number }): [number, number] {
  const grids: [number, number][] = [];
  for (let i = 1; i <= most; i++) for (let j = 1; i * j <= most; j++) grids.push([i, j]);
  grids.sort((a, b) => a[0] * a[1] - b[0] * b[1]);
  const ratio = Math.fround(width / height);
  let best: [number, number] = [1, 1];
  let least = Number.POSITIVE_INFINITY;
  for (const grid of grids) {
    const distance = Math.abs(Math.fround(ratio - Math.fround(grid[0] / grid[1])));
    if (distance > least || (distance === least && width * height <= 0.5 * side * side * grid[0] * grid[1])) continue;
    [best, least] = [grid, distance];
  }
  return best;
}

export interface Squares {
  /** float32 [crops + 1, 3, side, side]: the overview and the crops row by row. */
  readonly pixels: Float32Array;
  /** int64 [crops + 1, patches, patches]: all 1 of the overview, and the mask crop by crop. */
  readonly masks: BigInt64Array;
  readonly count: number;
  readonly tokens: number;
}

/** @param picture float32 [height, width, 3], whole squares of `side` */
export function squares({ data, width, height }: Plane<Float32Array>, mask: Mask, side: number): Squares {
  const [rows, columns] = [height / side, width / side];
  const patches = Math.floor(side / PATCH);
  const count = rows * columns + 1;
  const pixels = withOverview({ data, width, height, channels: 3 }, side, count);
  const masks = new BigInt64Array(count * patches * patches).fill(1n, 0, patches * patches);
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) {
      const index = 1 + r * columns + c;
      for (let y = 0; y < patches; y++) {
        const from = (r * patches + y) * mask.width + c * patches;
        masks.set(mask.data.subarray(from, from + patches), (index * patches + y) * patches);
      }
    }
  }
  // Every other patch of every other row is a token, and each such row that has any ends with one more.
  let tokens = OVERVIEW_TOKENS;
  for (let y = 0; y < mask.height; y += 2) {
    for (let x = 0; x < mask.width; x += 2) tokens += Number(mask.data[y * mask.width + x]);
    tokens += Number(mask.data[y * mask.width]);
  }
  return { pixels, masks, count, tokens };
}
