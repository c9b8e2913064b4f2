/**
 * What the graph's inputs are. Roles come from data flow: what reaches a rotary table, a mask, a cache slot or the
 * embedding lookup. Names only break ties between inputs that flow to the same places.
 */
import { Refusal } from '../diagnostics.js';
import { isFloat } from '../ir/data-type.js';
import { DataType, type Dim, extentOf, type Graph, type Node, type Value } from '../ir/graph.js';
import { CARRIED, IMAGE_TOKEN_MASK, isTrainingForward, TRAINING } from './added-names.js';
import type { AttentionCore, InputRoles, PastInput } from './facts.js';
import { imageMaskOf } from './image-mask.js';
import { pictureSize } from './picture-size.js';
import type { ProbeSizes } from './probes.js';
import { isState } from './states.js';

const MS = 'com.microsoft';

/** Head size assumed for caches that do not declare theirs, until the attention op has told it. */
export const UNKNOWN_HEAD_DIM = 947;
const INTS: readonly number[] = [DataType.INT64, DataType.INT32];

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
function isPast(value: Value): boolean {
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

function findPasts(graph: Graph): PastInput[] {
  const pasts: PastInput[] = [];
  for (const value of graph.inputs) {
    const dims = value.type?.dims;
    if (!dims || dims.length !== 4 || value.tensor || !isPast(value)) continue;
    // The token axis is the symbolic one that is not the batch; axis 2 ([B, kv heads, past, head size]) is the rule.
    const tokenAxis = typeof dims[2] !== 'number' ? 2 : typeof dims[1] !== 'number' ? 1 : 2;
    pasts.push({ value, tokenAxis });
  }
  return pasts;
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

/** What an input's contents (not its shape) reach: rotary tables, attention masks. */
function flowsOf(input: Value): { rotary: boolean; mask: boolean } {
  const flows = { rotary: false, mask: false };
  const seen = new Set<Value>([input]);
  const queue = [input];
  for (let v = queue.pop(); v; v = queue.pop()) {
    for (const { node, index } of v.uses) {
      if (node.is('Shape') || node.is('Size')) continue;
      const op = node.opType;
      if (node.is('Cos') || node.is('Sin') || (/RotaryEmbedding$/.test(op) && index > 0) || (op === 'GroupQueryAttention' && index === 9)) {
        flows.rotary = true;
        continue;
      }
      if (index === 1 && isTableLookup(node)) {
        flows.rotary = true;
        continue;
      }
      if (
        node.is('Softmax') ||
        (op === 'GroupQueryAttention' && (index === 5 || index === 6 || index === 10)) ||
        (op === 'MultiHeadAttention' && node.domain === MS && (index === 4 || index === 5)) ||
        (op === 'Attention' && index === 3)
      ) {
        flows.mask = true;
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
function findLookups(graph: Graph): { node: Node; ids: Value; rows: number }[] {
  const found: { node: Node; ids: Value; rows: number }[] = [];
  for (const node of graph.nodes) {
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

function named(value: Value, pattern: RegExp): boolean {
  return pattern.test(value.name);
}

/** Prefers by `score`, then by name, then by input order. */
function best<T>(items: readonly T[], score: (item: T) => number): T | undefined {
  let winner: T | undefined;
  let top = Number.NEGATIVE_INFINITY;
  for (const item of items) {
    const s = score(item);
    if (s > top) {
      top = s;
      winner = item;
    }
  }
  return winner;
}

const same = (a: Dim | undefined, b: Dim | undefined): boolean => typeof a === 'string' && a === b;

export function findRoles(graph: Graph): InputRoles {
  // The inputs that pdrop-compile adds are none of the model's own.
  const added: string[] = [IMAGE_TOKEN_MASK, CARRIED.conv[0], CARRIED.recurrent[0], ...(isTrainingForward(graph) ? [TRAINING.query, TRAINING.labels] : [])];
  const inputs = graph.inputs.filter((v) => !v.tensor && !added.includes(v.name));
  const pasts = findPasts(graph);
  const pastValues = new Set(pasts.map((p) => p.value));
  const free = inputs.filter((v) => !pastValues.has(v));
  const lookups = findLookups(graph);
  const features = free.filter((v) => isFloat(v.type?.elemType) && v.type?.dims?.length === 3 && v.uses.length > 0);
  const likeEmbeds = (v: Value): number => (named(v, /^inputs?_embeds?$/) ? 2 : 0) + (named(v, /embed/) ? 1 : 0);
  // A fixed length is a last resort: image features have one too.
  const embeds = best(features.filter((v) => typeof v.type?.dims?.[1] !== 'number'), likeEmbeds) ?? (lookups.length === 0 ? best(features, likeEmbeds) : undefined);
  const vocab = graph.outputs.map((o) => o.type?.dims?.at(-1)).find((d, i) => graph.outputs[i]?.type?.dims?.length === 3 && typeof d === 'number');
  const lookup = best(lookups, (l) => (l.rows === vocab ? 4 : 0) + (named(l.ids, /ids/) && !named(l.ids, /pos/) ? 2 : 0) + (flowsOf(l.ids).mask ? 0 : 1) + l.rows / 1e9);
  const source = embeds ?? lookup?.node.outputs[0];
  if (!source) {
    throw new Refusal({
      code: 'PD301',
      message: 'no decoder found: the graph has neither a float input [batch, sequence, hidden] nor an embedding lookup of token ids',
      culprit: inputs.map((v) => v.name).slice(0, 8).join(', '),
      hint: 'compile the decoder graph (decoder_model_merged.onnx, model.onnx), not the vision encoder, the embedding graph or a head',
    });
  }
  const inputIds = embeds ? undefined : lookup?.ids;
  const sequenceSymbol = (embeds ?? inputIds)?.type?.dims?.[1];
  const rest = free.filter((v) => v !== embeds && v !== inputIds);
  // 2-D [batch, width] candidates, and [n, batch, sequence] for multi-dimensional rotary positions.
  const flows = new Map(rest.map((v) => [v, flowsOf(v)]));
  const isTable = (v: Value): boolean => v.type?.dims?.length === 2 && (INTS.includes(v.type.elemType) || v.type.elemType === DataType.BOOL || isFloat(v.type.elemType));
  const attentionMask = best(
    rest.filter((v) => isTable(v) && (flows.get(v)?.mask || named(v, /attention_mask/))),
    (v) => (named(v, /mask/) ? 4 : 0) + (named(v, /pos|type/) ? -4 : 0) + (same(v.type?.dims?.[1], sequenceSymbol) ? 0 : 1) + (flows.get(v)?.rotary ? 0 : 1),
  );
  const positionIds = best(
    rest.filter((v) => v !== attentionMask && INTS.includes(v.type?.elemType ?? 0) && (flows.get(v)?.rotary || named(v, /^position_ids$/)) && (v.type?.dims?.length === 2 || v.type?.dims?.length === 3)),
    (v) => (named(v, /pos/) ? 4 : 0) + (same(v.type?.dims?.at(-1), sequenceSymbol) ? 1 : 0),
  );
  const cachePosition = rest.find((v) => v !== positionIds && INTS.includes(v.type?.elemType ?? 0) && v.type?.dims?.length === 1 && typeof v.type.dims[0] !== 'number' && (flows.get(v)?.mask || flows.get(v)?.rotary));
  const fourD = rest.find((v) => v.type?.dims?.length === 4 && (named(v, /mask/) || (flows.get(v)?.mask && !flows.get(v)?.rotary && v.type.dims[1] === 1)));
  if (fourD) {
    throw new Refusal({
      code: 'PD306',
      message: 'the attention mask is a 4-D input: what it says about each token cannot be read from it',
      culprit: fourD.name,
      hint: 'export the decoder with a 2-D attention_mask [batch, past + sequence] and let the graph build the causal mask',
    });
  }
  const states = rest.filter((v) => v !== attentionMask && isState(graph, v));
  const claimed = new Set<Value | undefined>([attentionMask, positionIds, cachePosition, ...states]);
  const tokenInputs = rest.filter((v) => {
    const dims = v.type?.dims;
    if (claimed.has(v) || !dims || dims.length < 2) return false;
    const at = dims.findIndex((d) => same(d, sequenceSymbol));
    return at > 0 || (dims.length === 2 && INTS.includes(v.type?.elemType ?? 0) && typeof dims[1] !== 'number' && named(v, /token_type|input_ids/));
  });
  return {
    source,
    sourceKind: embeds ? 'inputs_embeds' : 'input_ids',
    inputIds,
    attentionMask,
    positionIds,
    cachePosition,
    tokenInputs,
    imageMask: imageMaskOf(tokenInputs),
    pasts,
    states,
  };
}

/** Head size of each cache, as its attention knows it: caches need not declare theirs. */
export function headDimsOf(cores: Iterable<Pick<AttentionCore, 'past' | 'headDim'>>): (past: PastInput) => number | undefined {
  const headDims = new Map<Value, number>();
  for (const { past, headDim } of cores) for (const p of [past?.key, past?.value]) if (p) headDims.set(p.value, headDim);
  return (p) => headDims.get(p.value);
}

/**
 * Sizes of all graph inputs at the probe sizes. `headDim` stands in where a cache does not declare its head size.
 * Inputs with a size that nothing tells are noted in `guessed`.
 */
export function shapesAt(graph: Graph, roles: InputRoles, sizes: ProbeSizes, headDim: (past: PastInput) => number | undefined, guessed?: Set<Value>): Map<Value, (number | null)[]> {
  const { batch, sequence } = sizes;
  const past = roles.pasts.length > 0 ? sizes.past : 0;
  const shapes = new Map<Value, (number | null)[]>();
  const anchor = roles.sourceKind === 'inputs_embeds' ? roles.source : roles.inputIds;
  const symbols = new Map<string, number>();
  const learn = (value: Value | undefined, axis: number, size: number): void => {
    const d = value?.type?.dims?.at(axis);
    if (typeof d === 'string' && !symbols.has(d)) symbols.set(d, size);
  };
  learn(anchor, 0, batch);
  learn(anchor, 1, sequence);
  for (const p of roles.pasts) {
    learn(p.value, p.tokenAxis, past);
    learn(p.value, 0, batch);
  }
  const fill = (value: Value, wanted: (axis: number, rank: number) => number | undefined): void => {
    const dims = value.type?.dims;
    if (!dims) return;
    const picture = pictureSize(value);
    shapes.set(
      value,
      dims.map((d, i) => {
        const size = typeof d === 'number' ? d : (wanted(i, dims.length) ?? (typeof d === 'string' ? (symbols.get(d) ?? extentOf(d)) : undefined));
        if (size === undefined) guessed?.add(value);
        return size ?? picture?.[i - dims.length + 2] ?? (i === 3 && roles.pasts.some((p) => p.value === value) ? UNKNOWN_HEAD_DIM : 1);
      }),
    );
  };
  for (const v of graph.inputs) {
    if (v.tensor) continue;
    const pastInput = roles.pasts.find((p) => p.value === v);
    if (v === anchor) fill(v, (i) => [batch, sequence][i]);
    else if (pastInput) fill(v, (i) => (i === 0 ? batch : i === pastInput.tokenAxis ? past : i === 3 ? (headSize(v) ?? headDim(pastInput)) : undefined));
    else if (roles.states.includes(v)) fill(v, (i) => (i === 0 ? batch : undefined));
    else if (v === roles.attentionMask) fill(v, (i) => [batch, past + sequence][i]);
    else if (v === roles.positionIds) fill(v, (i, rank) => [batch, sequence][i - (rank - 2)]);
    else if (v === roles.cachePosition) fill(v, () => sequence);
    else if (roles.tokenInputs.includes(v) && v.type?.dims?.length === 2) fill(v, (i) => [batch, sequence][i]);
    else fill(v, (i, rank) => (rank === 2 && v.type?.dims?.[i] === null ? [batch, sequence][i] : undefined));
  }
  return shapes;
}

/** The head size a cache declares as a symbol named after the number. */
function headSize(past: Value): number | undefined {
  const d = past.type?.dims?.[3];
  return typeof d === 'string' ? extentOf(d) : undefined;
}
