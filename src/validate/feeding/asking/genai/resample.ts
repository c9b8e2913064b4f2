/** Pictures brought to another size as Pillow does it, which onnxruntime-extensions follows to the bit: two passes, weights summed over a widened filter. */

export type Filter = 'LINEAR' | 'CUBIC' | 'LANCZOS';

/** Channels beside each other in every pixel: [height, width, channels]. */
export interface Plane<T extends Uint8Array | Float32Array> {
  readonly data: T;
  readonly width: number;
  readonly height: number;
  readonly channels: number;
}

interface Kernel {
  readonly at: (x: number) => number;
  /** Beyond this distance it is 0. */
  readonly support: number;
}

const sinc = (x: number): number => (x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI));

const KERNELS: Readonly<Record<Filter | 'CUBIC_OF_FLOATS', Kernel>> = {
  LINEAR: { at: (x) => Math.max(0, 1 - Math.abs(x)), support: 1 },
  // Keys' cubic with a = −1/2, in the order of operations that decides the last bit.
  CUBIC: {
    at(signed) {
      const x = Math.abs(signed);
      if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
      return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
    },
    support: 2,
  },
  // The same cubic in another order.
  CUBIC_OF_FLOATS: {
    at(signed) {
      const x = Math.abs(signed);
      if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
      return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
    },
    support: 2,
  },
  LANCZOS: { at: (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0), support: 3 },
};

/** For each output pixel: where its inputs start, how many there are, and their weights from `at` on. */
interface Weights {
  readonly starts: Int32Array;
  readonly counts: Int32Array;
  readonly width: number;
  readonly values: Float64Array;
}

function weightsOf(from: number, to: number, { at, support }: Kernel): Weights {
  const scale = from / to;
  const stretch = Math.max(scale, 1);
  const reach = support * stretch;
  const width = Math.ceil(reach) * 2 + 1;
  const [starts, counts, values] = [new Int32Array(to), new Int32Array(to), new Float64Array(to * width)];
  for (let i = 0; i < to; i++) {
    const center = (i + 0.5) * scale;
    const start = Math.max(0, Math.trunc(center - reach + 0.5));
    const count = Math.min(from, Math.trunc(center + reach + 0.5)) - start;
    let sum = 0;
    for (let k = 0; k < count; k++) {
      const weight = at((k + start - center + 0.5) * (1 / stretch));
      values[i * width + k] = weight;
      sum += weight;
    }
    if (sum !== 0) for (let k = 0; k < count; k++) values[i * width + k] = (values[i * width + k] as number) / sum;
    starts[i] = start;
    counts[i] = count;
  }
  return { starts, counts, width, values };
}

/** Fraction bits of a weight where pixels have 8 bits: 32, less 8 for the result and 2 for what overshoots. */
const BITS = 22;

const clipped = (sum: number): number => Math.min(255, Math.max(0, sum >> BITS));

/** 8 bits a channel: weights become whole numbers, and each pass rounds. `width` and `height` are positive. */
export function resampled8({ data, width: from, height, channels }: Plane<Uint8Array>, width: number, tall: number, filter: Filter): Plane<Uint8Array> {
  const whole = (w: Weights): Weights => ({ ...w, values: w.values.map((v) => Math.trunc(v * (1 << BITS) + (v < 0 ? -0.5 : 0.5))) });
  const half = 1 << (BITS - 1);
  const across = from === width ? undefined : whole(weightsOf(from, width, KERNELS[filter]));
  const down = height === tall ? undefined : whole(weightsOf(height, tall, KERNELS[filter]));
  const wide = across ? pass(data, new Uint8Array(height * width * channels), { lines: height, from, to: width, channels, weights: across }, half, clipped) : data;
  const done = down ? passDown(wide, new Uint8Array(tall * width * channels), { row: width * channels, to: tall, weights: down }, half, clipped) : wide;
  return { data: done, width, height: tall, channels };
}

/** float32 a channel: each pass sums in double precision and rounds to single; what overshoots stays. */
export function resampled32({ data, width: from, height, channels }: Plane<Float32Array>, width: number, tall: number, filter: Filter): Plane<Float32Array> {
  const same = (sum: number): number => sum;
  const across = from === width ? undefined : weightsOf(from, width, KERNELS[filter]);
  const down = height === tall ? undefined : weightsOf(height, tall, KERNELS[filter]);
  const wide = across ? pass(data, new Float32Array(height * width * channels), { lines: height, from, to: width, channels, weights: across }, 0, same) : data;
  const done = down ? passDown(wide, new Float32Array(tall * width * channels), { row: width * channels, to: tall, weights: down }, 0, same) : wide;
  return { data: done, width, height: tall, channels };
}

/** 8 bits a channel to float32 from 0 to 1 and a little beyond: as float32, but divided by 255 on the way. */
export function resampledToFloats({ data, width: from, height, channels }: Plane<Uint8Array>, width: number, tall: number): Plane<Float32Array> {
  const kernel = KERNELS.CUBIC_OF_FLOATS;
  const wide = new Float32Array(height * width * channels);
  if (from === width) for (let i = 0; i < wide.length; i++) wide[i] = (data[i] as number) * Math.fround(1 / 255);
  else pass(data, wide, { lines: height, from, to: width, channels, weights: weightsOf(from, width, kernel) }, 0, (sum) => sum * (1 / 255));
  const done = height === tall ? wide : passDown(wide, new Float32Array(tall * width * channels), { row: width * channels, to: tall, weights: weightsOf(height, tall, kernel) }, 0, (sum) => sum);
  return { data: done, width, height: tall, channels };
}

function pass<T extends Uint8Array | Float32Array>(data: Uint8Array | Float32Array, out: T, { lines, from, to, channels, weights }: { lines: number; from: number; to: number; channels: number; weights: Weights }, first: number, last: (sum: number) => number): T {
  const { starts, counts, width, values } = weights;
  for (let y = 0; y < lines; y++) {
    for (let x = 0; x < to; x++) {
      const [start, count] = [starts[x] as number, counts[x] as number];
      for (let c = 0; c < channels; c++) {
        let sum = first;
        for (let k = 0, at = (y * from + start) * channels + c; k < count; k++, at += channels) sum += (data[at] as number) * (values[x * width + k] as number);
        out[(y * to + x) * channels + c] = last(sum);
      }
    }
  }
  return out;
}

function passDown<T extends Uint8Array | Float32Array>(data: T, out: T, { row, to, weights }: { row: number; to: number; weights: Weights }, first: number, last: (sum: number) => number): T {
  const { starts, counts, width, values } = weights;
  const sums = new Float64Array(row);
  for (let y = 0; y < to; y++) {
    sums.fill(first);
    const start = starts[y] as number;
    for (let k = 0; k < (counts[y] as number); k++) {
      const weight = values[y * width + k] as number;
      const at = (start + k) * row;
      for (let x = 0; x < row; x++) sums[x] = (sums[x] as number) + (data[at + x] as number) * weight;
    }
    for (let x = 0; x < row; x++) out[y * row + x] = last(sums[x] as number);
  }
  return out;
}
