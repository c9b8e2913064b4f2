/** What a fused attention op does to q and k inside, done outside for the rank: slicing, q/k norm, rotary embedding. */
import { DataType, type Value } from '../ir/graph.js';
import type { AttentionCore, HeadOperand, InternalRotary } from '../analyse/facts.js';
import type { Builder } from './builder.js';

/** The slice of a packed projection [B, S, X] that holds this operand: [B, S, width]. */
export function slicePacked(b: Builder, operand: HeadOperand, value: Value, width: number, label: string): Value {
  if (operand.offset === undefined) return value;
  return b.slice(`${label}_slice`, value, b.ints([operand.offset]), b.ints([operand.offset + width]), 2);
}

/** Queries or keys on their way to being compared: [B, S, heads·D], or as the op takes them. */
export interface HeadsOf {
  readonly value: Value;
  readonly heads: number;
  readonly label: 'q' | 'k';
}

/** RMS norm over each head of [B, S, heads·D], computed in float32, in the type of the input. */
export function normalizeInside(b: Builder, core: AttentionCore, { value, heads, label }: HeadsOf, dtype: number): Value {
  const norm = core.norm;
  if (!norm) return value;
  const split = b.reshape(`${label}_heads`, value, [0, 0, heads, core.headDim]);
  const x = dtype === DataType.FLOAT ? split : b.cast(`${label}_norm_float`, split, DataType.FLOAT);
  const mean = b.reduce('ReduceMean', `${label}_mean_square`, b.op('Mul', `${label}_square`, [x, x]), [3], true);
  const root = b.op('Sqrt', `${label}_rms`, [b.op('Add', `${label}_mean_square_eps`, [mean, b.float(norm.epsilon)])]);
  const weight = label === 'q' ? norm.q : norm.k;
  const scale = dtype === DataType.FLOAT ? weight : b.cast(`${label}_norm_weight`, weight, DataType.FLOAT);
  const normed = b.op('Mul', `${label}_normed`, [b.op('Div', `${label}_unit`, [x, root]), scale]);
  const typed = dtype === DataType.FLOAT ? normed : b.cast(`${label}_normed_typed`, normed, dtype);
  return b.reshape(`${label}_joined`, typed, [0, 0, heads * core.headDim]);
}

/**
 * The rotary embedding a fused op applies inside, by ONNX Runtime's own op.
 *
 * @param positions int64 [B, S]
 */
export function rotateInside(b: Builder, rotary: InternalRotary, { value, heads, label }: HeadsOf, positions: Value): Value {
  const partial = rotary.rotaryDim > 0;
  return b.op(
    'RotaryEmbedding',
    `${label}_rotated`,
    [value, positions, rotary.cos, rotary.sin],
    {
      interleaved: { kind: 'int', value: rotary.interleaved ? 1 : 0 },
      // With partial rotation the op cannot read the head size off the tables.
      ...(partial ? { num_heads: { kind: 'int', value: heads } as const, rotary_embedding_dim: { kind: 'int', value: rotary.rotaryDim } as const } : {}),
    },
    'com.microsoft',
  );
}
