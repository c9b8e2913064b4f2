/** Phi-3-vision's crops, as onnxruntime-extensions cuts them: the picture on a grid of squares, and an overview before them. */
import { CLIP_MEAN, CLIP_STD, UnfitPicture } from './attributes.js';
import { withOverview } from './patches.js';
import { type Plane, resampled8 } from './resample.js';

const SIDE = 336;
const MOST_CROPS = 16;
/** Image tokens on a side of a crop. */
const TOKENS = 12;

const MEAN = Float32Array.from(CLIP_MEAN);
const DEVIATION = Float32Array.from(CLIP_STD);

export interface Crops {
  /** float32 [17, 3, 336, 336]: the overview, the crops row by row, and zeros where there are fewer than 16. */
  readonly pixelValues: Float32Array;
  /** Of the grid, in pixels. */
  readonly height: number;
  readonly width: number;
  /** Image tokens: 144 a crop and one behind each row of them, the same of the overview, and one between. */
  readonly tokens: number;
}

export function phi3Crops(picture: Plane<Uint8Array>): Crops {
  const padded = onGrid(picture);
  const { width, height } = padded;
  const normalized = normalize(padded);
  const [rows, columns] = [height / SIDE, width / SIDE];
  const pixelValues = withOverview({ data: normalized, width, height, channels: 3 }, SIDE, MOST_CROPS + 1);
  return { pixelValues, height, width, tokens: (rows * columns + 1) * TOKENS * TOKENS + 1 + (rows + 1) * TOKENS };
}

/** The picture as large as at most 16 squares hold it, white where its shorter side does not fill one. */
function onGrid(picture: Plane<Uint8Array>): Plane<Uint8Array> {
  const { width, height } = picture;
  const ratio = Math.max(width, height) / Math.min(width, height);
  let scale = 1;
  while (scale * Math.ceil(scale / ratio) <= MOST_CROPS) scale++;
  const long = (scale - 1) * SIDE;
  const short = Math.trunc(long / ratio);
  if (short < 1) throw new UnfitPicture(`of ${width} × ${height} pixels no row would be left`);
  const upright = width < height;
  const { data } = resampled8(picture, upright ? short : long, upright ? long : short, 'LINEAR');
  const full = Math.ceil(short / SIDE) * SIDE;
  const before = Math.trunc((full - short) / 2);
  const out = new Uint8Array(full * long * 3).fill(255);
  if (upright) for (let y = 0; y < long; y++) out.set(data.subarray(y * short * 3, (y + 1) * short * 3), (y * full + before) * 3);
  else out.set(data, before * long * 3);
  return { data: out, width: upright ? full : long, height: upright ? long : full, channels: 3 };
}

/** By CLIP's means and deviations, in single precision as far as it goes. */
function normalize({ data }: Plane<Uint8Array>): Float32Array {
  const tables = [0, 1, 2].map((c) => Float32Array.from({ length: 256 }, (_, v) => Math.fround(Math.fround(v / 255) - (MEAN[c] as number)) / (DEVIATION[c] as number)));
  const out = new Float32Array(data.length);
  for (let i = 0; i < out.length; i++) out[i] = tables[i % 3]?.[data[i] as number] as number;
  return out;
}
