/** Positions on three axes (mRoPE), as onnxruntime-genai gives them to decoders of the Qwen-VL family. */
import { fromNumbers, type HostTensor } from '../../../running/tensor.js';

export interface Marks {
  readonly image: number | undefined;
  readonly visionStart: number | undefined;
}

/**
 * A text counts on from the largest position before it, the same on all axes; a picture's tokens share one on the first, and have their row and their
 * column added on the others. A picture is where an image token follows one that begins a picture.
 *
 * @param grids rows and columns of each picture's tokens
 * @returns int64 [3, 1, tokens]
 */
export function mropePositions(ids: readonly number[], grids: readonly { readonly rows: number; readonly columns: number }[], { image, visionStart }: Marks): HostTensor {
  const axes = [0, 1, 2].map(() => new Float64Array(ids.length));
  const put = (i: number, ...values: readonly [number, number, number]): void => {
    for (const [a, value] of values.entries()) (axes[a] as Float64Array)[i] = value;
  };
  const pictures = [...grids];
  let next = 0;
  for (let i = 0; i < ids.length; i++) {
    const grid = i > 0 && ids[i] === image && ids[i - 1] === visionStart ? pictures.shift() : undefined;
    if (!grid) {
      put(i, next, next, next);
      next++;
      continue;
    }
    const { rows, columns } = grid;
    for (let k = 0; k < rows * columns; k++) put(i + k, next, next + Math.floor(k / columns), next + (k % columns));
    next += Math.max(rows, columns);
    i += rows * columns - 1;
  }
  return fromNumbers('int64', [3, 1, ids.length], axes.flatMap((axis) => Array.from(axis)));
}
