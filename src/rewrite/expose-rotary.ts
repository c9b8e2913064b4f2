/**
 * GroupQueryAttention with the rotary embedding inside counts positions itself: compact is all it can do. To keep
 * positions, the rotation is done outside with RotaryEmbedding, at positions that the frames can then gather.
 *
 *   in:   GQA(qkv, …, cos, sin; do_rotary=1)
 *   out:  q, k, v = slices of qkv; GQA(RotaryEmbedding(q, pos), RotaryEmbedding(k, pos), v, …; do_rotary=0)
 */
import { Refusal } from '../diagnostics.js';
import { DataType, type Node, type Value } from '../ir/graph.js';
import type { DecoderFacts } from '../analyse/facts.js';
import { Builder } from './builder.js';
import { GraphEditor } from './editor.js';
import { rotateInside, slicePacked } from './fused-operands.js';

/** Returns true when the graph was changed: it must be analysed anew. */
export function exposeRotary(facts: DecoderFacts): boolean {
  const inside = facts.attention.filter((l) => l.core.rotary);
  if (inside.length === 0) return false;
  const builder = new Builder(facts.model);
  const editor = new GraphEditor(facts.graph, builder);
  builder.scope('expose-rotary');
  const positions = new Map<Value | undefined, Value>();
  for (const { core } of inside) {
    const { rotary, anchor } = core;
    if (!rotary) continue;
    if (core.norm) {
      throw new Refusal({
        code: 'PD313',
        message: 'positions cannot be kept: the attention op norms q and k inside before it rotates them',
        culprit: anchor.name,
        hint: 'use --positions compact',
      });
    }
    let ids = rotary.positions ?? positions.get(core.seqlensK);
    if (!ids) {
      ids = countPositions(builder, facts, core.seqlensK);
      positions.set(core.seqlensK, ids);
    }
    const kvWidth = core.kvHeads * core.headDim;
    const q = slicePacked(builder, core.q, core.q.value, core.heads * core.headDim, 'q');
    const k = slicePacked(builder, core.k, core.k.value, kvWidth, 'k');
    const v = anchor.inputs[2] ?? slicePacked(builder, { ...core.k, offset: (core.k.offset ?? 0) + kvWidth }, core.k.value, kvWidth, 'v');
    editor.setInput(anchor, 0, rotateInside(builder, rotary, { value: q, heads: core.heads, label: 'q' }, ids));
    editor.setInput(anchor, 1, rotateInside(builder, rotary, { value: k, heads: core.kvHeads, label: 'k' }, ids));
    editor.setInput(anchor, 2, v);
    for (const slot of [7, 8, 9]) if (anchor.inputs[slot]) editor.setInput(anchor, slot, null);
    trimInputs(anchor);
    anchor.setAttribute('do_rotary', { kind: 'int', value: 0 });
  }
  editor.sort();
  return true;
}

function trimInputs(node: Node): void {
  while (node.inputs.length > 0 && node.inputs.at(-1) === null) node.inputs.pop();
}

/** int64 [B, S]: past length + index, as the op counts: past = seqlens_k + 1 − S, not below 0. */
function countPositions(b: Builder, facts: DecoderFacts, seqlensK: Value | undefined): Value {
  const { roles } = facts;
  const anchor = roles.sourceKind === 'inputs_embeds' ? roles.source : (roles.inputIds as Value);
  const shape = b.op('Shape', 'chunk_shape', [anchor]);
  const length1 = b.slice('length', shape, b.ints([1]), b.ints([2]), 0);
  const length = b.op('Squeeze', 'length_scalar', b.opset >= 13 ? [length1, b.ints([0])] : [length1]);
  const range = b.op('Range', 'range', [b.int(0), length, b.int(1)]);
  if (!seqlensK) {
    const batch1 = b.slice('batch', shape, b.ints([0]), b.ints([1]), 0);
    return b.op('Expand', 'positions', [range, b.concat('positions_shape', [batch1, length1], 0)]);
  }
  const seqlens = b.cast('seqlens', b.reshape('seqlens_column', seqlensK, [-1, 1]), DataType.INT64);
  const past = b.op('Max', 'past', [b.op('Sub', 'past_signed', [b.op('Add', 'total', [seqlens, b.ints([1])]), length1]), b.ints([0])]);
  return b.op('Add', 'positions', [past, range]);
}
