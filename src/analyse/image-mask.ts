/**
 * A mask of image tokens that a graph has already: a bool input [batch, sequence] by which rows of the hidden states are picked
 * (`visual_pos_masks` of Qwen3-VL, whose first layers add image features at its places).
 *
 *   mask ─ NonZero ─ (Transpose) ─ indices of GatherND, ScatterND
 */
import { DataType, type Value } from '../ir/graph.js';

const PASSING = ['Cast', 'Identity', 'Unsqueeze', 'Squeeze', 'Expand', 'Reshape', 'Transpose', 'Concat', 'Slice', 'Split', 'Gather', 'NonZero'];

export function imageMaskOf(inputs: readonly Value[]): Value | undefined {
  return inputs.find((v) => v.type?.elemType === DataType.BOOL && v.type.dims?.length === 2 && picksRows(v));
}

function picksRows(mask: Value): boolean {
  const seen = new Set<Value>([mask]);
  const queue = [{ value: mask, placed: false }];
  for (let item = queue.pop(); item; item = queue.pop()) {
    for (const { node, index } of item.value.uses) {
      if (item.placed && index === 1 && (node.is('GatherND') || node.is('ScatterND'))) return true;
      if (node.domain !== '' || index !== 0 || !PASSING.includes(node.opType)) continue;
      for (const o of node.outputs) {
        if (!o || seen.has(o)) continue;
        seen.add(o);
        queue.push({ value: o, placed: item.placed || node.is('NonZero') });
      }
    }
  }
  return false;
}
