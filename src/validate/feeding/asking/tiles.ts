/** How the image tokens of a picture that was cut into pieces lie on it. */
import { isTensor } from './transformers.js';

/** Tokens of a piece of a picture; `area`: left, top, right, bottom in shares of the picture, the whole by default. */
export interface Grid {
  readonly rows: number;
  readonly columns: number;
  /** Position of the first token in the prompt, where the others follow it. */
  readonly start?: number;
  readonly area?: readonly [number, number, number, number];
}

/**
 * Grids of one picture, in the order of its image tokens: of a processor that says into how many rows and columns of square tiles it cut it (Idefics3),
 * or how many patches it has on each side (Qwen2-VL). Undefined for others, and for several pictures.
 */
export function gridsOf(made: Readonly<Record<string, unknown>>, mergeSize: unknown, imageTokens: number): readonly Grid[] | undefined {
  const { rows, cols, image_grid_thw: sides } = made;
  if (isTensor(sides) && sides.dims[0] === 1 && typeof mergeSize === 'number') {
    const [height = 0, width = 0] = Array.from(sides.data as BigInt64Array, Number).slice(1);
    const grid = { rows: height / mergeSize, columns: width / mergeSize };
    return grid.rows * grid.columns === imageTokens ? [grid] : undefined;
  }
  const [r, c] = [onlyOf(rows), onlyOf(cols)];
  if (r === undefined || c === undefined) return undefined;
  const side = Math.sqrt(imageTokens / (r * c + 1));
  if (!Number.isInteger(side) || side === 0) return undefined;
  const tiles = Array.from({ length: r * c }, (_, i): Grid => {
    const [x, y] = [i % c, Math.floor(i / c)];
    return { rows: side, columns: side, area: [x / c, y / r, (x + 1) / c, (y + 1) / r] };
  });
  // Row by row, and the whole picture at the end.
  return [...tiles, { rows: side, columns: side }];
}

/** The number of [[number]]: one text with one picture. */
function onlyOf(nested: unknown): number | undefined {
  const [first, ...texts] = Array.isArray(nested) ? (nested as unknown[]) : [];
  const [count, ...pictures] = Array.isArray(first) ? (first as unknown[]) : [];
  return texts.length === 0 && pictures.length === 0 && typeof count === 'number' ? count : undefined;
}
