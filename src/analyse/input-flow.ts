/** Where the graph's inputs go: the cache slot of an attention, a rotary table, an attention mask, the embedding lookup. */
import { isFloat } from '../ir/data-type.js';
import { DataType, type Graph, type Node, type Value } from '../ir/graph.js';

const MS = 'com.microsoft';

export const INTS: readonly number[] = [DataType.INT64, DataType.INT32];

/** Ops that pass a value on with its axes unchanged. */
function isTransparent(node: Node): boolean {
  return node.domain === '' && (node.opType === 'Identity' || node.opType === 'Cast' || (node.opType === 'Concat' && node.inputs.length === 1));
}

/** Input slots of fused attention ops that take a KV cache. */
export const PAST_SLOTS: Record<string, readonly number[]> = {
  'com.microsoft.GroupQueryAttention': [3, 4],
  'com.microsoft.MultiHeadAttention': [6, 7],
  'com.microsoft.DecoderMaskedMultiHeadAttention': [5, 6],
  'com.microsoft.SparseAttention': [3, 4],
  '.Attention': [4, 5],
};

/** True when the input is fed into an attention cache: a Concat with new keys, or a fused op's past slot. */
export function isPast(value: Value): boolean {
  const seen = new Set<Value>();
  // A list, not recursion: what only passes the cache on may be a chain as long as the graph.
  const pending: Value[] = [value];
  for (let v = pending.pop(); v; v = pending.pop()) {
    if (seen.has(v)) continue;
    seen.add(v);
    for (const { node, index } of v.uses) {
      if (PAST_SLOTS[`${node.domain}.${node.opType}`]?.includes(index)) return true;
      if (node.is('Concat') && node.inputs.length > 1) {
        if (index === 0) return true;
      } else if (isTransparent(node) || ['Slice', 'Transpose', 'QuantizeLinear', 'DequantizeLinear'].some((op) => node.is(op))) {
        const out = node.outputs[0];
        if (index === 0 && out) pending.push(out);
      }
    }
  }
  return false;
}

/**
 * A lookup in a constant float table: Gather, or GatherElements and GatherND with the table repeated to the shape of the
 * indices (GPT-J's sin and cos).
 */
export function isTableLookup(node: Node): boolean {
  if (node.domain !== '' || !['Gather', 'GatherElements', 'GatherND'].includes(node.opType)) return false;
  let v = node.inputs[0];
  for (let steps = 0; v && steps < 12; steps++) {
    if (v.tensor) return isFloat(v.tensor.dataType);
    const from: Node | null = v.producer;
    if (!from || from.domain !== '') return false;
    if (from.is('Constant')) return [...from.attributes.values()].some((a) => a.kind === 'tensor' && isFloat(a.value.dataType));
    if (!['Identity', 'Cast', 'Tile', 'Expand', 'Unsqueeze', 'Squeeze', 'Reshape', 'Transpose', 'Slice'].includes(from.opType)) return false;
    v = from.inputs[0];
  }
  return false;
}

/** Ops behind which what was looked up says what it means, and no longer where a token stands. */
const LEARNED = /MatMul|Gemm|^(Conv|Einsum|Softmax)|Normalization$|Attention$/;

/** Whether what `node` gives joins what depends on the tokens (`content`) as positions do: added, multiplied or rotated with, nothing learned in between. */
function joins(node: Node, content: ReadonlySet<Value>): boolean {
  const seen = new Set<Node>([node]);
  const queue = [node];
  for (let n = queue.pop(); n; n = queue.pop()) {
    if (n.outputs.some((o) => o && content.has(o))) return true;
    for (const out of n.outputs) {
      for (const reader of out ? [...out.uses.map((u) => u.node), ...out.capturedBy] : []) {
        if (seen.has(reader) || LEARNED.test(reader.opType)) continue;
        seen.add(reader);
        queue.push(reader);
      }
    }
  }
  return false;
}

/**
 * What an input's contents (not its shape) reach: rotary tables, attention masks.
 *
 * @param content what depends on the tokens: tables and masks of a vision tower or a Q-Former, which do not, are not counted. Without it all are.
 */
export function flowsOf(input: Value, content?: ReadonlySet<Value>): { rotary: boolean; mask: boolean } {
  const flows = { rotary: false, mask: false };
  const ofTokens = (node: Node): boolean => content === undefined || node.outputs.some((o) => o !== null && content.has(o));
  const seen = new Set<Value>([input]);
  const queue = [input];
  for (let v = queue.pop(); v; v = queue.pop()) {
    for (const { node, index } of v.uses) {
      if (node.is('Shape') || node.is('Size')) continue;
      const op = node.opType;
      const turns = node.is('Cos') || node.is('Sin') || (/RotaryEmbedding$/.test(op) && index > 0) || (op === 'GroupQueryAttention' && index === 9);
      if (turns || (index === 1 && isTableLookup(node))) {
        flows.rotary ||= content === undefined || joins(node, content);
        continue;
      }
      if (
        node.is('Softmax') ||
        (op === 'GroupQueryAttention' && (index === 5 || index === 6 || index === 10)) ||
        (op === 'MultiHeadAttention' && node.domain === MS && (index === 4 || index === 5)) ||
        (op === 'Attention' && index === 3)
      ) {
        flows.mask ||= ofTokens(node);
        continue;
      }
      for (const out of node.outputs) {
        if (out && !seen.has(out)) {
          seen.add(out);
          queue.push(out);
        }
      }
    }
  }
  return flows;
}

/** The embedding lookup: a Gather (or its quantized form) of a float table by integers that come from a graph input. */
export function findLookups(graph: Graph): { node: Node; ids: Value; rows: number }[] {
  const found: { node: Node; ids: Value; rows: number }[] = [];
  for (let i = 0; i < graph.nodes.length; i++) {
    const node = graph.nodes[i] as Node;
    const quantized = node.opType === 'GatherBlockQuantized' && node.domain === MS;
    if (!(node.is('Gather') && node.int('axis', 0) === 0) && !quantized) continue;
    const table = tableOf(node.inputs[0] ?? null);
    if (!table?.tensor || table.tensor.dims.length !== 2 || !(quantized || isFloat(table.tensor.dataType) || table.uses[0]?.node.is('DequantizeLinear'))) continue;
    const ids = idsBehind(node.inputs[1] ?? null);
    if (ids) found.push({ node, ids, rows: table.tensor.dims[0] ?? 0 });
  }
  return found;
}

/** The initializer behind Cast, Identity and DequantizeLinear. */
function tableOf(value: Value | null): Value | undefined {
  let v: Value | null | undefined = value;
  while (v && !v.tensor && v.producer && (isTransparent(v.producer) || v.producer.is('DequantizeLinear'))) v = v.producer.inputs[0];
  return v ?? undefined;
}

/** The rank-2 integer graph input that a lookup's indices are made of, through Where, Clip and arithmetic. */
function idsBehind(value: Value | null): Value | undefined {
  const seen = new Set<Value>();
  const queue = value ? [value] : [];
  for (let v = queue.pop(); v; v = queue.pop()) {
    if (seen.has(v) || seen.size > 64) continue;
    seen.add(v);
    if (v.isInput && INTS.includes(v.type?.elemType ?? 0) && v.type?.dims?.length === 2) return v;
    if (v.producer && !v.producer.is('Shape')) for (const i of v.producer.inputs) if (i) queue.push(i);
  }
  return undefined;
}
