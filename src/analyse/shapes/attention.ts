/**
 * Fused attention: the geometry of a call (batch, heads, query and key lengths, head sizes), found from its inputs
 * in each dialect. The shape evaluator derives outputs from it, and the MAC count its products.
 */

import type { Node } from '../../ir/graph.js';
import { countOf } from './dims.js';
import type { Dims, Fact } from './types.js';

/** Sizes of one fused attention call; null where they depend on data. */
export interface AttentionGeometry {
  readonly batch: number | null;
  /** Query heads and key/value heads. */
  readonly heads: number | null;
  readonly kvHeads: number | null;
  /** Tokens of the chunk. */
  readonly queryLength: number | null;
  /** Keys each query is multiplied with: past and chunk. */
  readonly keyLength: number | null;
  /** Tokens along the present cache; larger than `keyLength` when the cache is one preallocated buffer. */
  readonly presentLength: number | null;
  /** Head sizes of query/key and of value. */
  readonly headSize: number | null;
  readonly valueHeadSize: number | null;
  /** Multiply-accumulates of projections inside the op (com.microsoft Attention), per call. */
  readonly projectionMacs: number | null;
}

type Inputs = (i: number) => Fact | undefined;
type Size = number | null;

const times = (a: Size, b: Size): Size => (a === null || b === null ? null : a * b);
const plus = (a: Size, b: Size): Size => (a === null || b === null ? null : a + b);
const over = (a: Size, b: Size): Size => (a === null || b === null || b === 0 ? null : a / b);
const dim = (fact: Fact | undefined, axis: number): Size => fact?.shape?.at(axis) ?? null;
const rank = (fact: Fact | undefined): number | undefined => fact?.shape?.length;
const one = (fact: Fact | undefined): Size => (fact?.data?.length === 1 ? (fact.data[0] ?? null) : null);
const positive = (x: number): Size => (x > 0 ? x : null);

/** Standard Attention-23/24: (Q, K, V, attn_mask?, past_key?, past_value?, nonpad_kv_seqlen?), 3-D or 4-D. */
function standard(node: Node, input: Inputs): AttentionGeometry {
  const [q, k, v, pastKey] = [input(0), input(1), input(2), input(4)];
  const flat = rank(q) === 3;
  const heads = flat ? positive(node.int('q_num_heads', 0)) : dim(q, 1);
  const kvHeads = flat ? positive(node.int('kv_num_heads', 0)) : dim(k, 1);
  const past = pastKey === undefined ? 0 : dim(pastKey, 2);
  const total = plus(past, dim(k, flat ? 1 : 2));
  return {
    batch: dim(q, 0),
    heads,
    kvHeads,
    queryLength: dim(q, flat ? 1 : 2),
    keyLength: total,
    presentLength: total,
    headSize: flat ? over(dim(q, 2), heads) : dim(q, 3),
    valueHeadSize: flat ? over(dim(v, 2), kvHeads) : dim(v, 3),
    projectionMacs: 0,
  };
}

/** GroupQueryAttention: (query, key?, value?, past_key?, past_value?, seqlens_k, total_sequence_length, ..). */
function groupQuery(node: Node, input: Inputs): AttentionGeometry {
  const [query, key, pastKey] = [input(0), input(1), input(3)];
  const heads = positive(node.int('num_heads', 0));
  const kvHeads = positive(node.int('kv_num_heads', 0));
  // Without a key, Q, K and V lie packed along the last axis of the query.
  const packed = heads !== null && kvHeads !== null ? heads + 2 * kvHeads : null;
  const headSize = over(dim(query, -1), key === undefined ? packed : heads);
  const length = dim(query, 1);
  const past = pastKey === undefined ? 0 : dim(pastKey, 2);
  const total = one(input(6)) ?? plus(past, length);
  // A preallocated buffer comes in longer than the tokens it holds, and goes out as long as it came.
  // A window-sized cache keeps its size and drops the oldest tokens: each query then sees at most that and the chunk.
  const cropped = node.int('sliding_window_cache', 0) === 1;
  const present = past === null || total === null ? null : cropped && pastKey !== undefined ? past : Math.max(past, total);
  const seen = plus(past, length);
  const keys = cropped && pastKey !== undefined && total !== null && seen !== null ? Math.min(total, seen) : total;
  return {
    batch: dim(query, 0), heads, kvHeads, queryLength: length, keyLength: keys, presentLength: present,
    headSize, valueHeadSize: headSize, projectionMacs: 0,
  };
}

/**
 * MultiHeadAttention: (query, key?, value?, bias?, key_padding_mask?, attention_bias?, past_key?, past_value?,
 * past_sequence_length?, ..). Query [B,S,H*D], or packed QKV [B,S,H,3,D]; key [B,T,H*D], packed KV [B,T,H,2,D], or [B,H,T,D].
 */
function multiHead(node: Node, input: Inputs): AttentionGeometry {
  return separateHeads(node, [input(0), input(1), input(2), input(6), input(8)]);
}

/** DecoderMaskedMultiHeadAttention: (query, key?, value?, mask_index?, attention_bias?, past_key?, past_value?, past_sequence_length?, ..). */
function maskedMultiHead(node: Node, input: Inputs): AttentionGeometry {
  return separateHeads(node, [input(0), input(1), input(2), input(5), input(7)]);
}

function separateHeads(node: Node, operands: readonly (Fact | undefined)[]): AttentionGeometry {
  const [query, key, value, pastKey, buffer] = operands;
  const heads = positive(node.int('num_heads', 0));
  const packed = rank(query) === 5;
  const headSize = packed ? dim(query, 4) : over(dim(query, 2), heads);
  const perHead = rank(key) === 4;
  const length = packed ? dim(query, 1) : dim(key, perHead ? 2 : 1);
  const valueHeadSize = value === undefined ? headSize : rank(value) === 4 ? dim(value, 3) : over(dim(value, 2), heads);
  const past = pastKey === undefined ? 0 : buffer === undefined ? dim(pastKey, 2) : one(buffer);
  const total = plus(past, length);
  return {
    batch: dim(query, 0), heads, kvHeads: heads, queryLength: dim(query, 1), keyLength: total,
    presentLength: buffer === undefined ? total : dim(pastKey, 2), headSize, valueHeadSize, projectionMacs: 0,
  };
}

/** com.microsoft Attention: (input, weights, bias?, mask_index?, past?, attention_bias?, past_sequence_length?). */
function fusedProjection(node: Node, input: Inputs): AttentionGeometry {
  const [x, weights, past, buffer] = [input(0), input(1), input(4), input(6)];
  const heads = positive(node.int('num_heads', 0));
  const widths = node.ints('qkv_hidden_sizes');
  const third = over(dim(weights, 1), 3);
  const length = dim(x, 1);
  const held = past === undefined ? 0 : buffer === undefined ? dim(past, 3) : one(buffer);
  const total = plus(held, length);
  const tokens = times(dim(x, 0), length);
  return {
    batch: dim(x, 0), heads, kvHeads: heads, queryLength: length, keyLength: total,
    presentLength: buffer === undefined ? total : dim(past, 3),
    headSize: over(widths?.[0] ?? third, heads),
    valueHeadSize: over(widths?.[2] ?? third, heads),
    projectionMacs: times(tokens, countOf(weights?.shape ?? null)),
  };
}

const DIALECTS: ReadonlyMap<string, (node: Node, input: Inputs) => AttentionGeometry> = new Map([
  ['.Attention', standard],
  ['com.microsoft.GroupQueryAttention', groupQuery],
  ['com.microsoft.MultiHeadAttention', multiHead],
  ['com.microsoft.DecoderMaskedMultiHeadAttention', maskedMultiHead],
  ['com.microsoft.Attention', fusedProjection],
  ['ai.onnx.preview.FlexAttention', standard],
]);

/** Geometry of a fused attention call, or undefined when `node` is not one. `input(i)` gives the fact of input slot i. */
export function attentionGeometry(node: Node, input: Inputs): AttentionGeometry | undefined {
  return DIALECTS.get(`${node.domain}.${node.opType}`)?.(node, input);
}

/** Cache sizes [batch, kv heads, tokens, head size]. */
export function presentShape(g: AttentionGeometry, size: Size): Dims {
  return [g.batch, g.kvHeads, g.presentLength, size];
}
