/** What marks do to a vision encoder's features, measured: the original and the marked graph on the same pictures. */
import { readModel } from '../onnx/read.js';
import { FileSource } from '../disk/files.js';
import { isMarkedRow, type MarkType, SIGNIFICANT_BITS } from '../plan/marks.js';
import type { Marks } from '../plan/plan.js';
import { Random } from './feeding/random.js';
import { openSession } from './running/session.js';
import { at, cast, type Feeds, fromNumbers, isDtype } from './running/tensor.js';

/** What was measured. */
export interface MarksEffect {
  /** Feature rows, and how many of them are recognised as image tokens. */
  readonly rows: number;
  readonly recognised: number;
  /** Largest and root mean square change of a value in a marked channel, and the features' own root mean square there. */
  readonly largest: number;
  readonly rms: number;
  readonly featuresRms: number;
  /** Values beyond what can be marked: they are clipped. */
  readonly clipped: number;
}

const PICTURES = 2;

/**
 * Runs both graphs on made-up pictures: values in [−1, 1], smooth and noisy.
 *
 * @returns undefined when the inputs of the graph are not one tensor of pixels of known size
 */
export async function measureMarks(original: string, marked: string, features: string, marks: Marks, type: MarkType): Promise<MarksEffect | undefined> {
  const feeds = await pictures(original);
  if (!feeds) return undefined;
  const results = [];
  for (const path of [original, marked]) {
    const session = await openSession(path);
    try {
      results.push((await session.run(feeds, { outputs: [features] })).get(features));
    } finally {
      await session.close();
    }
  }
  const [before, after] = results;
  if (!before || !after) return undefined;
  const hidden = before.dims.at(-1) as number;
  const limit = 2 ** (SIGNIFICANT_BITS[type] - marks.bits[type]);
  const values = Float64Array.from({ length: after.data.length }, (_, i) => at(after, i));
  let largest = 0;
  let squares = 0;
  let own = 0;
  let clipped = 0;
  let recognised = 0;
  const rows = values.length / hidden;
  for (let row = 0; row < rows; row++) {
    if (isMarkedRow(values, row * hidden, marks, type)) recognised++;
    for (const c of marks.channels) {
      const x = at(before, row * hidden + c);
      const moved = Math.abs((values[row * hidden + c] as number) - x);
      if (Math.abs(x) >= limit) clipped++;
      largest = Math.max(largest, moved);
      squares += moved * moved;
      own += x * x;
    }
  }
  const count = rows * marks.channels.length;
  return { rows, recognised, largest, rms: Math.sqrt(squares / count), featuresRms: Math.sqrt(own / count), clipped };
}

/** Feeds of pixels, when the graph takes nothing else. */
async function pictures(path: string): Promise<Feeds | undefined> {
  const source = new FileSource(path);
  let dims: readonly (number | string | null)[] | undefined;
  let name = '';
  try {
    const model = await readModel(source);
    const inputs = model.graph.inputs.filter((v) => !v.tensor);
    if (inputs.length !== 1) return undefined;
    name = inputs[0]?.name as string;
    dims = inputs[0]?.type?.dims;
  } finally {
    source.close();
  }
  if (dims?.length !== 4 || dims.slice(1).some((d) => typeof d !== 'number') || (typeof dims[0] === 'number' && dims[0] < 1)) return undefined;
  const batch = typeof dims[0] === 'number' ? dims[0] : PICTURES;
  const [, channels, height, width] = dims as number[];
  const random = new Random(1);
  const session = await openSession(path);
  const dtype = session.inputs[0]?.dtype ?? 'float32';
  await session.close();
  const shape = [batch, channels as number, height as number, width as number];
  const count = shape.reduce((a, b) => a * b, 1);
  const values = Float64Array.from({ length: count }, (_, i) => {
    const x = i % (width as number);
    const y = Math.floor(i / (width as number)) % (height as number);
    return Math.max(-1, Math.min(1, 0.6 * Math.sin((6.3 * x) / (width as number)) * Math.cos((9.4 * y) / (height as number)) + 0.2 * random.normal()));
  });
  const tensor = fromNumbers('float32', shape, values);
  return new Map([[name, isDtype(dtype) && dtype !== 'float32' ? cast(tensor, dtype) : tensor]]);
}
