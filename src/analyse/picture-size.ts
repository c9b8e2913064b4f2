/**
 * Height and width of pictures where an export leaves both open: the vision tower's table of positions says how many patches it knows,
 * and its first convolution how large one is. A guess of 1 would leave no patch, and the tower would contradict itself.
 */
import type { Value } from '../ir/graph.js';
import { isFloat } from '../ir/data-type.js';

/** Sizes of the last two axes, [height, width]; undefined where the input is no picture or no table fits. */
export function pictureSize(input: Value): readonly [number, number] | undefined {
  const rank = input.type?.dims?.length ?? 0;
  const weight = isFloat(input.type?.elemType) && (rank === 4 || rank === 5) ? firstConvolution(input) : undefined;
  const [channels, , height, width] = weight?.tensor?.dims ?? [];
  if (!weight || !channels || !height || !width) return undefined;
  const seen = new Set<Value>();
  const queue = weight.uses.flatMap(({ node }) => node.outputs.filter((o) => o !== null));
  for (let v = queue.shift(); v && seen.size < 64; v = queue.shift()) {
    if (seen.has(v)) continue;
    seen.add(v);
    for (const { node } of v.uses) {
      if (node.domain !== '' || !['Add', 'Reshape', 'Transpose', 'Flatten', 'Concat', 'Cast', 'Identity'].includes(node.opType)) continue;
      const table = node.is('Add') ? node.inputs.map((i) => i && rowsOfTable(i, channels)).find((rows) => rows) : undefined;
      const side = table && [table, table - 1].map(Math.sqrt).find((s) => Number.isInteger(s) && s > 0);
      if (side) return [height * side, width * side];
      for (const o of node.outputs) if (o) queue.push(o);
    }
  }
  return undefined;
}

/** The weight [channels, colours, height, width] of the convolution that reads the pictures. */
function firstConvolution(input: Value): Value | undefined {
  const queue = [input];
  for (let steps = 0, v = queue.shift(); v && steps < 32; v = queue.shift(), steps++) {
    for (const { node, index } of v.uses) {
      const weight = node.is('Conv') && index === 0 ? node.inputs[1] : undefined;
      if (weight?.tensor?.dims.length === 4) return weight;
      if (index === 0 && node.domain === '' && ['Cast', 'Identity', 'Reshape', 'Gather', 'GatherND', 'Squeeze', 'Transpose', 'Mul', 'Sub', 'Div'].includes(node.opType)) for (const o of node.outputs) if (o) queue.push(o);
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
