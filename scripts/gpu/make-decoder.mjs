#!/usr/bin/env node
/**
 * Writes a decoder of a given shape with random weights: GroupQueryAttention with rotary inside, skip-norms, gated MLP,
 * as onnxruntime-genai's builder lays them out. For measuring speed, not for reading what it says.
 *
 *   node scripts/gpu/make-decoder.mjs --out big/model.onnx                     # 7B-shaped, fp16
 *   node scripts/gpu/make-decoder.mjs --out small/model.onnx --layers 4 --hidden 256 --heads 8 --kv-heads 8 --mlp 688 --vocab 1000 --dtype float32
 *
 * The graph's tensors are all distinct in memory. On disk they are windows into one file of random numbers, so that a
 * 13 GB model needs --pool-mib (default 1024) of disk and seconds to make.
 */
import { closeSync, mkdirSync, openSync, writeFileSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import onnxProto from 'onnx-proto';
import { toHalf } from '../../dist/src/ir/half.js';

const { onnx } = onnxProto;
const { AttributeType } = onnx.AttributeProto;
const { DataType, DataLocation } = onnx.TensorProto;

const { values: o } = parseArgs({
  options: {
    out: { type: 'string', default: 'model.onnx' },
    layers: { type: 'string', default: '32' },
    hidden: { type: 'string', default: '4096' },
    heads: { type: 'string', default: '32' },
    'kv-heads': { type: 'string', default: '32' },
    mlp: { type: 'string', default: '11008' },
    vocab: { type: 'string', default: '32000' },
    context: { type: 'string', default: '4096' },
    dtype: { type: 'string', default: 'float16' },
    'pool-mib': { type: 'string', default: '1024' },
    seed: { type: 'string', default: '1' },
  },
});
const number = (name) => {
  const v = Number(o[name]);
  if (!Number.isInteger(v) || v < 1) throw new Error(`--${name} ${o[name]} is not a whole number`);
  return v;
};
const [layers, hidden, heads, kvHeads, mlp, vocab, context, poolMib] = ['layers', 'hidden', 'heads', 'kv-heads', 'mlp', 'vocab', 'context', 'pool-mib'].map(number);
if (!['float16', 'float32', 'int4'].includes(o.dtype)) throw new Error('--dtype is float16, float32 or int4 (weights; activations of float32)');
const half = o.dtype === 'float16';
const int4 = o.dtype === 'int4';
const type = half ? DataType.FLOAT16 : DataType.FLOAT;
const bytesPer = half ? 2 : 4;
const headDim = hidden / heads;
if (int4 && [hidden, mlp].some((n) => n % 32 !== 0)) throw new Error('int4 takes hidden and mlp that are multiples of 32');
if (!Number.isInteger(headDim) || headDim % 16 !== 0) throw new Error('hidden / heads must be a multiple of 16');

mkdirSync(dirname(o.out), { recursive: true });
const data = `${o.out.split(/[\\/]/).pop()}.data`;
const largest = Math.max(vocab * hidden, hidden * mlp, hidden * (heads + 2 * kvHeads) * headDim) * bytesPer;
const pool = Math.max(poolMib * 2 ** 20, Math.ceil(largest / 4096) * 4096 + 2 ** 20);
writePool(join(dirname(o.out), data), pool);

// --- the graph -----------------------------------------------------------------------------------------------------
const nodes = [];
const initializers = [];
let windowAt = 0;

/** A weight: a window into the pool, at an offset of its own. */
function weight(name, dims, elemType = type) {
  const length = dims.reduce((a, b) => a * b, 1) * (elemType === DataType.UINT8 ? 1 : bytesPer);
  // 4096 bytes apart at least, and never past the end.
  windowAt = (windowAt + 5 * 4096 * 257) % Math.max(4096, pool - length);
  windowAt -= windowAt % 4096;
  const externalData = Object.entries({ location: data, offset: String(windowAt), length: String(length) }).map(([key, value]) => ({ key, value }));
  initializers.push({ name, dims, dataType: elemType, dataLocation: DataLocation.EXTERNAL, externalData });
  return name;
}

/** A small constant inside the file. */
function constant(name, dims, numbers, dataType = type) {
  const payload = dataType === DataType.FLOAT16 ? Uint16Array.from(numbers, toHalf) : dataType === DataType.INT64 ? BigInt64Array.from(numbers, BigInt) : Float32Array.from(numbers);
  initializers.push({ name, dims, dataType, rawData: new Uint8Array(payload.buffer) });
  return name;
}

const MS = 'com.microsoft';
const CONTRIB = new Set(['GroupQueryAttention', 'SkipSimplifiedLayerNormalization', 'MatMulNBits']);

/** @returns its outputs */
function op(opType, name, inputs, outputs, attributes = {}) {
  const domain = CONTRIB.has(opType) ? MS : '';
  const attribute = Object.entries(attributes).map(([key, v]) => (Number.isInteger(v) && key !== 'epsilon' ? { name: key, type: AttributeType.INT, i: v } : { name: key, type: AttributeType.FLOAT, f: v }));
  nodes.push({ opType, name, domain, input: inputs.map((x) => x ?? ''), output: outputs.map((x) => x ?? ''), attribute });
  return outputs;
}

/** x · W, W [from, to]; int4: blocks of 32, as onnxruntime-genai's builder writes them. */
function product(name, x, weightName, [from, to], output = `${name}:0`) {
  if (!int4) return op('MatMul', name, [x, weight(weightName, [from, to])], [output]);
  const packed = weight(`${weightName}.packed`, [to, from / 32, 16], DataType.UINT8);
  const scales = weight(`${weightName}.scales`, [to * (from / 32)]);
  return op('MatMulNBits', name, [x, packed, scales], [output], { K: from, N: to, bits: 4, block_size: 32, accuracy_level: 4 });
}

const declare = (name, elemType, dims) => ({ name, type: { tensorType: { elemType, shape: { dim: dims.map((d) => (typeof d === 'number' ? { dimValue: d } : { dimParam: d })) } } } });

const embeds = 'inputs_embeds';
const mask = 'attention_mask';
const ones = (n) => new Array(n).fill(1);

// What GroupQueryAttention needs of the mask: valid tokens - 1 a row, and the total length.
const [sum] = op('ReduceSum', '/mask/sum', [mask, constant('axis1', [1], [1], DataType.INT64)], ['/mask/sum:0'], { keepdims: 0 });
const [less] = op('Sub', '/mask/less', [sum, constant('one', [1], [1], DataType.INT64)], ['/mask/less:0']);
const [seqlens] = op('Cast', '/mask/seqlens_k', [less], ['/mask/seqlens_k:0'], { to: DataType.INT32 });
const [shape] = op('Shape', '/mask/shape', [mask], ['/mask/shape:0']);
const [total64] = op('Gather', '/mask/total', [shape, constant('index1', [], [1], DataType.INT64)], ['/mask/total:0'], { axis: 0 });
const [total] = op('Cast', '/mask/total_32', [total64], ['/mask/total_32:0'], { to: DataType.INT32 });

const angles = (f) => Array.from({ length: (context * headDim) / 2 }, (_, i) => f(Math.floor(i / (headDim / 2)) / 10000 ** ((i % (headDim / 2)) / (headDim / 2))));
const cos = constant('cos_cache', [context, headDim / 2], angles(Math.cos));
const sin = constant('sin_cache', [context, headDim / 2], angles(Math.sin));

const inputs = [
  declare('inputs_embeds', type, ['batch_size', 'sequence_length', hidden]),
  declare('attention_mask', DataType.INT64, ['batch_size', 'total_sequence_length']),
];
const outputs = [declare('logits', type, ['batch_size', 'sequence_length', vocab])];
let skip = embeds;
let [normed] = op('SimplifiedLayerNormalization', '/layers.0/input_norm', [embeds, constant('layers.0.input_norm.weight', [hidden], ones(hidden))], ['/layers.0/input_norm:0'], { axis: -1, epsilon: 1e-5, stash_type: 1 });
for (let i = 0; i < layers; i++) {
  const at = `/layers.${i}`;
  const qkvWidth = (heads + 2 * kvHeads) * headDim;
  const [qkv] = product(`${at}/qkv_proj`, normed, `layers.${i}.qkv_proj.weight`, [hidden, qkvWidth]);
  const past = ['key', 'value'].map((kind) => `past_key_values.${i}.${kind}`);
  for (const p of past) inputs.push(declare(p, type, ['batch_size', kvHeads, 'past_sequence_length', headDim]));
  const [attention] = op('GroupQueryAttention', `${at}/attention`, [qkv, null, null, ...past, seqlens, total, cos, sin], [`${at}/attention:0`, `present.${i}.key`, `present.${i}.value`], { num_heads: heads, kv_num_heads: kvHeads, do_rotary: 1, rotary_interleaved: 0 });
  for (const kind of ['key', 'value']) outputs.push(declare(`present.${i}.${kind}`, type, ['batch_size', kvHeads, 'total_sequence_length', headDim]));
  const [attended] = product(`${at}/o_proj`, attention, `layers.${i}.o_proj.weight`, [hidden, hidden]);
  const [postNorm, , , between] = op('SkipSimplifiedLayerNormalization', `${at}/post_norm`, [skip, attended, constant(`layers.${i}.post_norm.weight`, [hidden], ones(hidden))], [`${at}/post_norm:0`, null, null, `${at}/post_norm:3`], { epsilon: 1e-5 });
  const [gate] = product(`${at}/gate_proj`, postNorm, `layers.${i}.gate_proj.weight`, [hidden, mlp]);
  const [up] = product(`${at}/up_proj`, postNorm, `layers.${i}.up_proj.weight`, [hidden, mlp]);
  const [sigmoid] = op('Sigmoid', `${at}/sigmoid`, [gate], [`${at}/sigmoid:0`]);
  const [silu] = op('Mul', `${at}/silu`, [gate, sigmoid], [`${at}/silu:0`]);
  const [gated] = op('Mul', `${at}/gated`, [silu, up], [`${at}/gated:0`]);
  const [down] = product(`${at}/down_proj`, gated, `layers.${i}.down_proj.weight`, [mlp, hidden]);
  const next = i + 1 < layers ? `/layers.${i + 1}/input_norm` : '/final_norm';
  const out = op('SkipSimplifiedLayerNormalization', next, [between, down, constant(`${next.slice(1)}.weight`, [hidden], ones(hidden))], [`${next}:0`, null, null, i + 1 < layers ? `${next}:3` : null], { epsilon: 1e-5 });
  normed = out[0];
  skip = out[3];
}
product('/lm_head', normed, 'lm_head.weight', [hidden, vocab], 'logits');

const graph = { name: 'decoder', node: nodes, initializer: initializers, input: inputs, output: outputs };
const opsetImport = [{ domain: '', version: 17 }, { domain: MS, version: 1 }];
writeFileSync(o.out, onnx.ModelProto.encode({ irVersion: 9, producerName: 'pdrop-compile make-decoder', graph, opsetImport }).finish());
const parameters = layers * (hidden * (heads + 2 * kvHeads) * headDim + hidden * hidden + 3 * hidden * mlp) + hidden * vocab;
console.log(`${o.out}: ${layers} layers, hidden ${hidden}, ${heads}/${kvHeads} heads, MLP ${mlp}, ${o.dtype}; ${(parameters / 1e9).toFixed(2)} G parameters, ${((parameters * (int4 ? 0.625 : bytesPer)) / 2 ** 30).toFixed(2)} GiB in memory, ${(pool / 2 ** 30).toFixed(2)} GiB on disk`);

/** Random numbers with the variance of an initialised network, so that activations neither vanish nor overflow. */
function writePool(path, size) {
  const block = new Uint8Array(16 * 2 ** 20);
  const count = block.length / bytesPer;
  const scale = 0.7 / Math.sqrt(hidden);
  const typed = half ? new Uint16Array(block.buffer) : new Float32Array(block.buffer);
  let state = number('seed') >>> 0;
  const random = () => {
    state = (state + 0x9e3779b9) >>> 0;
    let z = Math.imul(state ^ (state >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return ((z ^ (z >>> 15)) >>> 0) / 2 ** 32;
  };
  for (let i = 0; i < count; i++) {
    const v = (random() + random() + random() - 1.5) * 2 * scale;
    typed[i] = half ? toHalf(v) : v;
  }
  const fd = openSync(path, 'w');
  for (let at = 0; at < size; at += block.length) {
    // A window that spans blocks sees each turned by another amount, so rows of a matrix differ.
    const turn = ((at / block.length) * 4099 * bytesPer) % block.length;
    const turned = turn === 0 ? block : Buffer.concat([block.subarray(turn), block.subarray(0, turn)]);
    writeSync(fd, turned, 0, Math.min(block.length, size - at));
  }
  closeSync(fd);
}
