/**
 * How many pictures a whole vision-language graph takes, and how large they are, where its export leaves that open. The vision tower knows:
 * its first convolution says how large a patch is, and how many patches there are is told by the table of positions that is added to
 * them, or by constant Slices and Splits that take the convolution's grid apart. A guess of 1 would leave no patch, and the tower would
 * contradict itself.
 */
import { constantTensorOf, type Node, type Value } from '../ir/graph.js';
import { isFloat } from '../ir/data-type.js';
import { constantFact } from './shapes/constant-fact.js';
import { fromLeft } from './token-rules/step.js';

/** What nothing tells: a grid of so many patches a side, which towers that merge patches by 2, 4 or 8 take as well. */
const PATCHES = 16;

type GridAxis = 'images' | 'height' | 'width' | undefined;

/**
 * Sizes by axis, as far as they are told: [images, –, height, width], or [–, –, –, height, width] for pictures in tiles. Undefined where
 * no convolution reads the input. Height and width are always given: at worst they are a guess that leaves no grid empty.
 */
export function pictureSize(input: Value): readonly (number | undefined)[] | undefined {
  const rank = input.type?.dims?.length ?? 0;
  if (!isFloat(input.type?.elemType) || (rank !== 4 && rank !== 5)) return undefined;
  const convolution = firstConvolution(input);
  const weight = convolution?.inputs[1];
  const [channels, , ...kernel] = weight?.tensor?.dims ?? [];
  if (!convolution || !weight || !channels || !kernel[0] || !kernel[1]) return undefined;
  const strides = convolution.ints('strides') ?? [1, 1];
  const side = rowsOfPositions(weight, channels);
  const grid = gridOf(convolution);
  const length = (patches: number | undefined, axis: 0 | 1): number | undefined => patches && (patches - 1) * (strides[axis] ?? 1) + (kernel[axis] as number);
  const height = length(side ?? grid.height ?? grid.width ?? PATCHES, 0);
  const width = length(side ?? grid.width ?? grid.height ?? PATCHES, 1);
  return rank === 4 ? [grid.images, undefined, height, width] : [undefined, undefined, undefined, height, width];
}

/** The convolution that reads the pictures, with a weight [channels, colours, height, width]. */
function firstConvolution(input: Value): Node | undefined {
  const queue = [input];
  for (let steps = 0, v = queue.shift(); v && steps < 32; v = queue.shift(), steps++) {
    for (const { node, index } of v.uses) {
      if (node.is('Conv') && index === 0 && node.inputs[1]?.tensor?.dims.length === 4) return node;
      if (index === 0 && node.domain === '' && ['Cast', 'Identity', 'Reshape', 'Gather', 'GatherND', 'Squeeze', 'Transpose', 'Mul', 'Sub', 'Div'].includes(node.opType)) for (const o of node.outputs) if (o) queue.push(o);
    }
  }
  return undefined;
}

/** What may stand between patches and their positions: layout, and norms. */
const BEFORE_POSITIONS: ReadonlySet<string> = new Set([
  'Add', 'Reshape', 'Transpose', 'Flatten', 'Concat', 'Cast', 'Identity',
  'Sub', 'Mul', 'Div', 'Pow', 'Sqrt', 'Reciprocal', 'ReduceMean', 'LayerNormalization', 'RMSNormalization',
]);

/** Patches a side, of a square table of positions that is added to what the weight makes; one row more is the class's. */
function rowsOfPositions(weight: Value, channels: number): number | undefined {
  const seen = new Set<Value>();
  const queue = weight.uses.flatMap(({ node }) => node.outputs.filter((o) => o !== null));
  for (let v = queue.shift(); v && seen.size < 64; v = queue.shift()) {
    if (seen.has(v)) continue;
    seen.add(v);
    for (const { node } of v.uses) {
      if (node.domain !== '' || !BEFORE_POSITIONS.has(node.opType)) continue;
      const table = node.is('Add') ? node.inputs.map((i) => i && rowsOfTable(i, channels)).find((rows) => rows) : undefined;
      const side = table && [table, table - 1].map(Math.sqrt).find((s) => Number.isInteger(s) && s > 0);
      if (side) return side;
      for (const o of node.outputs) if (o) queue.push(o);
    }
  }
  return undefined;
}

/** Rows of a table [rows, channels] or [1, rows, channels], or of one that is looked up. */
function rowsOfTable(value: Value, channels: number): number | undefined {
  const table = value.tensor ? value : value.producer?.is('Gather') ? value.producer.inputs[0] : undefined;
  const dims = table?.tensor?.dims;
  if (!dims || dims.length < 2 || dims.at(-1) !== channels || dims.slice(0, -2).some((d) => d !== 1)) return undefined;
  return dims.at(-2);
}

/** The least grid that holds what constants take out of the convolution's result [images, channels, height, width]. */
function gridOf(convolution: Node): { readonly images?: number; readonly height?: number; readonly width?: number } {
  const least: { images?: number; height?: number; width?: number } = {};
  const pending: { value: Value; axes: readonly GridAxis[] }[] = [];
  const add = (value: Value | null | undefined, axes: readonly GridAxis[]): void => {
    if (value) pending.push({ value, axes });
  };
  add(convolution.outputs[0], ['images', undefined, 'height', 'width']);
  for (let steps = 0, at = pending.shift(); at && steps < 256; at = pending.shift(), steps++) {
    const { axes } = at;
    for (const { node, index } of at.value.uses) {
      if (index !== 0 || node.domain !== '') continue;
      for (const { axis, size } of takenBy(node, axes.length)) {
        const name = axes[axis];
        if (name) least[name] = Math.max(least[name] ?? 0, size);
      }
      const left = axesAfter(node, axes);
      if (left) for (const o of node.outputs) add(o, left);
    }
  }
  return least;
}

/** Sizes that axes must have at least for what a node takes of them. */
function takenBy(node: Node, rank: number): { axis: number; size: number }[] {
  if (node.is('Slice')) {
    const [ends, axes] = [node.inputs[2], node.inputs[3]].map(constantOf);
    return (ends ?? []).flatMap((end, i) => (end > 0 && end < 2 ** 31 ? [{ axis: fromLeft(axes?.[i] ?? i, rank), size: end }] : []));
  }
  if (node.is('Split')) {
    const parts = constantOf(node.inputs[1]);
    return [{ axis: fromLeft(node.int('axis', 0), rank), size: parts ? parts.reduce((a, b) => a + b, 0) : node.outputs.length }];
  }
  if (node.is('Gather')) return [{ axis: fromLeft(node.int('axis', 0), rank), size: Math.max(0, ...(constantOf(node.inputs[1]) ?? [])) + 1 }];
  return [];
}

/** What the axes of a node's outputs are; undefined where the grid is not followed further. */
function axesAfter(node: Node, axes: readonly GridAxis[]): readonly GridAxis[] | undefined {
  if (['Slice', 'Split', 'Cast', 'Identity'].includes(node.opType)) return axes;
  const gone = node.is('Squeeze') ? constantOf(node.inputs[1]) : node.is('Gather') && isScalar(node.inputs[1]) ? [node.int('axis', 0)] : undefined;
  return gone && axes.filter((_, i) => !gone.some((g) => fromLeft(g, axes.length) === i));
}

function isScalar(value: Value | null | undefined): boolean {
  return value ? constantTensorOf(value)?.dims.length === 0 : false;
}

function constantOf(value: Value | null | undefined): readonly number[] | undefined {
  const tensor = value && constantTensorOf(value);
  return tensor ? constantFact(tensor, 64).data : undefined;
}
