/** The operations of onnxruntime-extensions that prepare pictures, each as it computes in float32 and 8 bits. */
import type { HostTensor } from '../../../running/tensor.js';
import { type Attributes, CLIP_MEAN, CLIP_STD, NotFollowed, UnfitPicture } from './attributes.js';
import { gemmaPatches, qwenPatches } from './patches.js';
import { phi3Crops } from './phi3.js';
import { onSquares, squares } from './phi4.js';
import { type Filter, type Plane, resampled8 } from './resample.js';

/** Tensors to tensors. */
export type Run = (inputs: readonly HostTensor[]) => readonly HostTensor[];

/** What attributes make of an operation. @throws {NotFollowed} */
type Operation = (attributes: Attributes) => Run;

/** Pixels of the largest picture that one is brought to: configs state sizes. */
const MOST_PIXELS = 2 ** 24;

const MOST_SIDE = 8192;

/** Squares that a picture is cut into at most, and the pixels on a side of one: with their overview they are within MOST_PIXELS. */
const [MOST_SQUARES, MOST_SQUARE] = [63, 512];

export const OPERATIONS: Readonly<Record<string, Operation>> = {
  /** uint8 [height, width, 3] of a decoded picture, RGB → the same, RGB or BGR. */
  DecodeImage(attributes) {
    const bgr = attributes.word('color_space', 'RGB', ['RGB', 'BGR', 'rgb', 'bgr']).toUpperCase() === 'BGR';
    return ([picture]) => [bgr ? swapped(pixels(picture)) : pixels(picture)];
  },

  /** uint8 [height, width, 3] → the same, the first and the last channel in each other's place, whatever they are. */
  ConvertRGB: () => ([picture]) => [swapped(pixels(picture))],

  /** uint8 [height, width, 3] → uint8 [height', width', 3]. */
  Resize(attributes) {
    const sizes = { height: attributes.whole('height', 256, 1, MOST_SIDE), width: attributes.whole('width', 256, 1, MOST_SIDE) };
    const filter = attributes.word<Filter>('interpolation', 'CUBIC', ['LINEAR', 'CUBIC', 'LANCZOS']);
    // Either way pictures get the height and the width.
    attributes.ignored('keep_aspect_ratio');
    const smart = attributes.flag('smart_resize', false);
    const least = attributes.whole('min_pixels', 3136, 1, MOST_PIXELS);
    const most = attributes.whole('max_pixels', 12_845_056, 1, MOST_PIXELS);
    const factor = attributes.whole('patch_size', 14, 1, MOST_SIDE) * attributes.whole('merge_size', 2, 1, 64);
    return ([input]) => {
      const picture = planeOf(pixels(input));
      const { width, height } = smart ? smartSize(picture, { factor, least, most }) : sizes;
      return [tensorOf(resampled8(picture, bounded(width, height), height, filter))];
    };
  },

  /** uint8 [height, width, 3] → uint8 [height', width', 3], the middle of it. */
  CenterCrop(attributes) {
    const [tall, wide] = [attributes.whole('height', 224, 1, MOST_SIDE), attributes.whole('width', 224, 1, MOST_SIDE)];
    return ([input]) => {
      const { data, width, height, channels } = planeOf(pixels(input));
      if (tall > height || wide > width) throw new UnfitPicture(`${width} × ${height} pixels are less than the ${wide} × ${tall} that are cut out`);
      const [left, top] = [Math.floor((width - wide) / 2), Math.floor((height - tall) / 2)];
      const out = new Uint8Array(tall * wide * channels);
      for (let y = 0; y < tall; y++) out.set(data.subarray(((y + top) * width + left) * channels, ((y + top) * width + left + wide) * channels), y * wide * channels);
      return [tensorOf({ data: out, width: wide, height: tall, channels })];
    };
  },

  /** uint8 [height, width, 3] → float32 of the same sizes, times a factor. */
  Rescale(attributes) {
    const factor = Math.fround(attributes.positive('rescale_factor', Math.fround(1 / 255)));
    return ([input]) => {
      const { dims, data } = pixels(input);
      const out = new Float32Array(data.length);
      for (let i = 0; i < out.length; i++) out[i] = (data[i] as number) * factor;
      return [{ dtype: 'float32', dims, data: out }];
    };
  },

  /** float32 [height, width, 3] → the same, less the mean of each channel, divided by its deviation. */
  Normalize(attributes) {
    const mean = Float32Array.from(attributes.triple('mean', CLIP_MEAN));
    const deviation = Float32Array.from(attributes.triple('std', CLIP_STD));
    // For Qwen the channels come as BGR, and leave as RGB.
    const turned = [attributes.flag('qwen2_5_vl', false), attributes.flag('qwen3_vl', false)].includes(true);
    return ([input]) => {
      const { dims, data } = floatPicture(input);
      const out = new Float32Array(data.length);
      for (let i = 0; i < out.length; i++) {
        const c = i % 3;
        out[i] = Math.fround((data[turned ? i - c + 2 - c : i] as number) - (mean[c] as number)) / (deviation[c] as number);
      }
      return [{ dtype: 'float32', dims, data: out }];
    };
  },

  /** float32 [a, b, c] → its axes in another order. */
  Permute3D(attributes) {
    const order = attributes.triple('dims', [1, 2, 0]);
    if ([...order].sort().join() !== '0,1,2') throw new NotFollowed(`its attribute "dims" is ${JSON.stringify(order)}, and not an order of three axes`);
    return ([input]) => {
      const { dims, data } = floatPicture(input);
      const strides = [(dims[1] as number) * (dims[2] as number), dims[2] as number, 1];
      const shape = order.map((axis) => dims[axis] as number) as [number, number, number];
      const [a, b, c] = order.map((axis) => strides[axis] as number) as [number, number, number];
      const out = new Float32Array(data.length);
      let at = 0;
      for (let i = 0; i < shape[0]; i++) for (let j = 0; j < shape[1]; j++) for (let k = 0; k < shape[2]; k++) out[at++] = data[i * a + j * b + k * c] as number;
      return [{ dtype: 'float32', dims: shape, data: out }];
    };
  },

  /** uint8 [height, width, 3] → pixel_values float32 [17, 3, 336, 336], image_sizes int64 [2], its number of image tokens int64 [1]. */
  Phi3ImageTransform(attributes) {
    // The number of crops is 16, and that of tokens 144, whatever the file says.
    for (const name of ['num_crops', 'num_img_tokens']) attributes.ignored(name);
    return ([input]) => {
      const { pixelValues, height, width, tokens } = phi3Crops(planeOf(pixels(input)));
      return [{ dtype: 'float32', dims: [17, 3, 336, 336], data: pixelValues }, int64(height, width), int64(tokens)];
    };
  },

  /** uint8 [height, width, 3] → uint8 [rows · side, columns · side, 3] and its mask int64 [rows · side / 14, columns · side / 14]. */
  Phi4VisionDynamicPreprocess(attributes) {
    const how = { side: attributes.whole('dyhd_base_resolution', 448, 14, MOST_SQUARE), most: attributes.whole('dynamic_hd', 36, 1, MOST_SQUARES) };
    return ([input]) => {
      const { plane, mask } = onSquares(planeOf(pixels(input)), how);
      return [tensorOf(plane), { dtype: 'int64', dims: [mask.height, mask.width], data: mask.data }];
    };
  },

  /**
   * float32 [height, width, 3] and its mask → pixel_values float32 [crops + 1, 3, side, side], image_sizes int64 [2], masks int64
   * [crops + 1, side / 14, side / 14], the number of image tokens int64 [1].
   */
  Phi4VisionProcessor(attributes) {
    const side = attributes.whole('dyhd_base_resolution', 448, 14, MOST_SQUARE);
    // The overview is scaled by the cubic, whatever the file says.
    attributes.ignored('interpolation');
    return ([input, given]) => {
      const { dims, data } = floatPicture(input);
      const [height, width] = dims as [number, number, number];
      const patches = Math.floor(side / 14);
      const sizes = [(height / side) * patches, (width / side) * patches];
      if (height % side !== 0 || width % side !== 0 || given?.dtype !== 'int64' || given.dims.join() !== sizes.join()) throw new NotFollowed(`it takes whole squares of ${side} pixels and their mask, and gets something else`);
      const made = squares({ data, width, height, channels: 3 }, { data: given.data as BigInt64Array, height: sizes[0] as number, width: sizes[1] as number }, side);
      return [{ dtype: 'float32', dims: [made.count, 3, side, side], data: made.pixels }, int64(height, width), { dtype: 'int64', dims: [made.count, patches, patches], data: made.masks }, int64(made.tokens)];
    };
  },

  /** float32 [height, width, channels] → pixel_values float32 [patches, channels · frames · side · side], image_grid_thw int64 [1, 3]. */
  PatchImage(attributes) {
    const how = { patch: attributes.whole('patch_size', 14, 1, 1024), frames: attributes.whole('temporal_patch_size', 2, 1, 16), merge: attributes.whole('merge_size', 2, 1, 64) };
    return ([input]) => {
      const { dims, data } = floatPicture(input);
      const [height, width, channels] = dims as [number, number, number];
      if (width * height * how.frames > 2 * MOST_PIXELS) throw new UnfitPicture(`it would give ${how.frames} times ${width} × ${height} pixels`);
      const { values, rows, columns } = qwenPatches({ data, width, height, channels }, how);
      return [{ dtype: 'float32', dims: [rows * columns, values.length / (rows * columns)], data: values }, { dtype: 'int64', dims: [1, 3], data: BigInt64Array.of(1n, BigInt(rows), BigInt(columns)) }];
    };
  },

  /** uint8 [height, width, 3] → pixel_values float32 [most patches, side · side · 3], pixel_position_ids int64 [most patches, 2], the number of image tokens int64 [1]. */
  Gemma4ImageTransform(attributes) {
    const how = { patch: attributes.whole('patch_size', 16, 1, 256), tokens: attributes.whole('max_soft_tokens', 280, 1, 65_536), pool: attributes.whole('pooling_kernel_size', 3, 1, 16) };
    const pixelsInAll = how.tokens * (how.pool * how.patch) ** 2;
    if (pixelsInAll > MOST_PIXELS) throw new NotFollowed(`its attributes ask for ${pixelsInAll} pixels, and at most ${MOST_PIXELS} are made`);
    return ([input]) => {
      const { values, places, most, tokens } = gemmaPatches(planeOf(pixels(input)), how);
      return [{ dtype: 'float32', dims: [most, values.length / most], data: values }, { dtype: 'int64', dims: [most, 2], data: places }, int64(tokens)];
    };
  },

  /** float32 [3, height, width] → the same, and its sizes int64 [2]: height, width. */
  PixtralImageSizes: () => ([input]) => {
    const picture = floatPicture(input);
    const [channels, height, width] = picture.dims as [number, number, number];
    if (channels !== 3) throw new NotFollowed('it takes channels first, and gets something else');
    return [picture, int64(height, width)];
  },
};

function int64(...values: readonly number[]): HostTensor {
  return { dtype: 'int64', dims: [values.length], data: BigInt64Array.from(values, BigInt) };
}

/** uint8 [height, width, 3]. */
function pixels(tensor: HostTensor | undefined): HostTensor & { readonly data: Uint8Array } {
  if (tensor?.dtype !== 'uint8' || tensor.dims.length !== 3 || tensor.dims[2] !== 3) throw new NotFollowed('it takes a picture of 8 bits a channel, and gets something else');
  return tensor as HostTensor & { readonly data: Uint8Array };
}

/** float32 on three axes. */
function floatPicture(tensor: HostTensor | undefined): HostTensor & { readonly data: Float32Array } {
  if (tensor?.dtype !== 'float32' || tensor.dims.length !== 3) throw new NotFollowed('it takes float32 on three axes, and gets something else');
  return tensor as HostTensor & { readonly data: Float32Array };
}

function planeOf({ dims, data }: HostTensor & { readonly data: Uint8Array }): Plane<Uint8Array> {
  const [height, width, channels] = dims as [number, number, number];
  return { data, width, height, channels };
}

function tensorOf({ data, width, height, channels }: Plane<Uint8Array>): HostTensor {
  return { dtype: 'uint8', dims: [height, width, channels], data };
}

function swapped({ dims, data }: HostTensor & { readonly data: Uint8Array }): HostTensor {
  const out = new Uint8Array(data.length);
  for (let i = 0; i < out.length; i += 3) {
    out[i] = data[i + 2] as number;
    out[i + 1] = data[i + 1] as number;
    out[i + 2] = data[i] as number;
  }
  return { dtype: 'uint8', dims, data: out };
}

/** The width, where the picture has pixels and not too many of them. */
function bounded(width: number, height: number): number {
  if (width < 1 || height < 1 || width * height > MOST_PIXELS) throw new UnfitPicture(`it would give ${width} × ${height} pixels`);
  return width;
}

/** The nearest sizes that a grid of `factor` divides, within so many pixels: as Qwen's processors do it. */
function smartSize({ width, height }: { readonly width: number; readonly height: number }, { factor, least, most }: { readonly factor: number; readonly least: number; readonly most: number }): { width: number; height: number } {
  if (Math.max(width, height) / Math.min(width, height) > 200) throw new UnfitPicture(`${width} × ${height} pixels: one side is longer than 200 times the other`);
  const near = (side: number): number => Math.max(factor, Math.floor(side / factor + 0.5) * factor);
  const [tall, wide] = [near(height), near(width)];
  if (tall * wide > most) {
    const shrink = Math.sqrt((height * width) / most);
    const below = (side: number): number => Math.floor(Math.trunc(side / shrink) / factor) * factor;
    return { width: below(width), height: below(height) };
  }
  if (tall * wide < least) {
    const grow = Math.sqrt(least / (height * width));
    const above = (side: number): number => Math.ceil(Math.trunc(side * grow) / factor) * factor;
    return { width: above(width), height: above(height) };
  }
  return { width: wide, height: tall };
}

