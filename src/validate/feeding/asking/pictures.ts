/** Pictures as a vision encoder takes them: decoded and scaled by sharp, then rescaled and normalized as preprocessor_config.json says. */
import type { Sharp } from 'sharp';
import { UsageError } from '../../../diagnostics.js';
import { readRegularFile, readRegularText } from '../../../disk/small-files.js';
import { badPicture } from '../../running/faults.js';
import { type HostTensor, zeros } from '../../running/tensor.js';

/** What of preprocessor_config.json is followed. */
export interface Preprocessing {
  readonly width: number;
  readonly height: number;
  /** The shorter side is scaled to this, and the middle cut out; undefined: both sides are scaled. */
  readonly shortest: number | undefined;
  readonly kernel: 'nearest' | 'lanczos3' | 'linear' | 'cubic';
  readonly rescale: number;
  readonly mean: readonly [number, number, number];
  readonly std: readonly [number, number, number];
}

/** Processors that give one picture of one size, whatever came in. */
const KNOWN = ['Siglip', 'CLIP', 'ViT', 'DeiT', 'Blip', 'Bit', 'Llava', 'Gemma3'];

/** By Pillow's numbers. */
const KERNELS = ['nearest', 'lanczos3', 'linear', 'cubic'] as const;

const MOST_PIXELS = 8192;

/** Largest file of a picture. */
const MOST_PICTURE_BYTES = 256 * 1024 * 1024;

interface Json {
  readonly [key: string]: unknown;
}

/**
 * @returns undefined for a processor that is not done here: it cuts pictures into pieces, or is not known
 * @throws {UsageError} PD521 when the file is missing, or names no size
 */
export function readPreprocessing(path: string): Preprocessing | undefined {
  const wrong = (why: string): UsageError =>
    new UsageError({ code: 'PD521', message: `pictures cannot be prepared as the vision encoder takes them: ${why}`, culprit: path, hint: 'give samples with inputs of their own (docs/validate.md): pixels or embeddings that were made elsewhere' });
  let config: Json;
  try {
    config = JSON.parse(readRegularText(path)) as Json;
  } catch (error) {
    throw wrong(`preprocessor_config.json cannot be read: ${(error as Error).message}`);
  }
  const type = String(config.image_processor_type ?? config.feature_extractor_type ?? '');
  if (!KNOWN.some((k) => new RegExp(`^${k}(ImageProcessor(Fast)?|FeatureExtractor)$`).test(type)) || config.do_pan_and_scan === true) return undefined;
  const positive = (value: unknown): value is number => Number.isInteger(value) && (value as number) > 0 && (value as number) <= MOST_PIXELS;
  const sizeOf = (value: unknown): { width: number; height: number; shortest?: number } | undefined => {
    if (positive(value)) return { width: value, height: value };
    const { width, height, shortest_edge: shortest } = (value ?? {}) as Json;
    if (positive(width) && positive(height)) return { width, height };
    return positive(shortest) ? { width: shortest, height: shortest, shortest } : undefined;
  };
  const size = sizeOf(config.size);
  const crop = config.do_center_crop === true ? sizeOf(config.crop_size) : undefined;
  if (!size || config.do_resize === false || (config.do_center_crop === true && !crop)) throw wrong('it names no size that pictures are brought to');
  const triple = (value: unknown, otherwise: number): [number, number, number] => {
    const list = Array.isArray(value) && value.length === 3 && value.every((v) => typeof v === 'number' && Number.isFinite(v)) ? (value as [number, number, number]) : undefined;
    return list ?? [otherwise, otherwise, otherwise];
  };
  const normalize = config.do_normalize !== false;
  const resample = config.resample;
  return {
    width: crop?.width ?? size.width,
    height: crop?.height ?? size.height,
    shortest: size.shortest,
    kernel: KERNELS[typeof resample === 'number' ? resample : 2] ?? 'linear',
    rescale: config.do_rescale === false ? 1 : typeof config.rescale_factor === 'number' ? config.rescale_factor : 1 / 255,
    mean: normalize ? triple(config.image_mean, 0) : [0, 0, 0],
    std: normalize ? triple(config.image_std, 1) : [1, 1, 1],
  };
}

/** Rows of pixels, 8 bits a channel. */
export interface Picture {
  readonly data: Uint8Array;
  readonly width: number;
  readonly height: number;
  readonly channels: number;
}

interface Decoding {
  /** What is done to it before its pixels are read. */
  readonly scaled?: (picture: Sharp) => Sharp;
  /** Pixels as they lie in the file: not turned upright, and their colours not told by its profile. */
  readonly asStored?: boolean;
  /** The file, where it has been read (`readPicture`). */
  readonly bytes?: Buffer;
}

/** A picture's file: read here, so that a path is a path, since sharp takes other things for one. @throws {SampleFault} PD520 */
export function readPicture(sample: string, path: string): Buffer {
  try {
    return readRegularFile(path, MOST_PICTURE_BYTES);
  } catch (error) {
    throw badPicture(sample, path, (error as Error).message, error);
  }
}

/**
 * A picture as it is, without transparency, and upright unless said otherwise.
 *
 * @throws {SampleFault} PD520 when it is no picture; {UsageError} PD522 without sharp
 */
export async function decoded(sample: string, path: string, { scaled = (picture) => picture, asStored = false, bytes }: Decoding = {}): Promise<Picture> {
  const { default: sharp } = await import('sharp').catch((cause: unknown) => {
    throw new UsageError({ code: 'PD522', message: 'pictures are decoded by sharp, which is not installed or cannot be loaded', culprit: 'sharp', hint: 'npm install sharp (an optional dependency), or give samples with inputs of their own' }, { cause });
  });
  const file = bytes ?? readPicture(sample, path);
  try {
    const picture = sharp(file, { limitInputPixels: 2 ** 28, failOn: 'error', ignoreIcc: asStored });
    if (asStored && (await picture.metadata()).space === 'cmyk') throw new Error('its colours are CMYK');
    const { data, info } = await scaled((asStored ? picture : picture.rotate()).toColourspace('srgb').removeAlpha()).raw().toBuffer({ resolveWithObject: true });
    return { data, ...info };
  } catch (error) {
    throw badPicture(sample, path, (error as Error).message.split('\n')[0] as string, error);
  }
}

/** float32 [1, 3, height, width]. @throws {SampleFault} PD520 when it is no picture, or too small; {UsageError} PD522 without sharp */
export async function pixelsOf(sample: string, path: string, how: Preprocessing): Promise<HostTensor> {
  const { width, height, kernel, shortest, rescale, mean, std } = how;
  const picture = await decoded(sample, path, { scaled: (p) => (shortest === undefined ? p.resize(width, height, { fit: 'fill', kernel }) : p.resize(shortest, shortest, { fit: 'outside', kernel })) });
  if (picture.width < width || picture.height < height) throw badPicture(sample, path, `${picture.width} × ${picture.height} pixels are less than the ${width} × ${height} that are cut out`);
  const rgb = middle(picture, how);
  const tensor = zeros('float32', [1, 3, height, width]);
  const values = tensor.data as Float32Array;
  for (let c = 0; c < 3; c++) for (let i = 0; i < width * height; i++) values[c * width * height + i] = ((rgb[i * 3 + c] as number) * rescale - (mean[c] as number)) / (std[c] as number);
  return tensor;
}

/** The middle of a picture, three channels a pixel (a grey one has the same in all): cut out here, since a second step of sharp's would be merged with the first. */
function middle({ data, width, height, channels }: Picture, { width: w, height: h }: Preprocessing): Uint8Array {
  const [left, top] = [Math.floor((width - w) / 2), Math.floor((height - h) / 2)];
  const out = new Uint8Array(w * h * 3);
  for (let y = 0; y < h; y++) for (let x = 0; x < w; x++) for (let c = 0; c < 3; c++) out[(y * w + x) * 3 + c] = data[((y + top) * width + x + left) * channels + Math.min(c, channels - 1)] as number;
  return out;
}
