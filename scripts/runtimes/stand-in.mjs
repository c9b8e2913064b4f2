/** A folder as transformers.js loads it around a fixture's decoder: an embedding table and a vision encoder of random numbers. */
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import onnxProto from 'onnx-proto';

const { onnx } = onnxProto;
/** Patches of the stand-in vision encoder: a picture of 16 × 16 pixels in squares of 4. */
export const IMAGE_TOKENS = 16;
export const SIZE = 16;

/** Reproducible numbers around 0. */
function numbers(count, seed, scale) {
  let state = seed >>> 0 || 1;
  return Float32Array.from({ length: count }, () => {
    let sum = 0;
    for (let k = 0; k < 4; k++) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      sum += state / 2 ** 32 - 0.5;
    }
    return sum * scale;
  });
}

const { FLOAT, INT64 } = onnx.TensorProto.DataType;
const tensor = (name, dataType, data, dims) => ({ name, dataType, dims, rawData: new Uint8Array(data.buffer) });
const info = (name, elemType, dims) => ({ name, type: { tensorType: { elemType, shape: { dim: dims.map((d) => (typeof d === 'number' ? { dimValue: d } : { dimParam: d })) } } } });
const ints = (name, value) => ({ name, type: onnx.AttributeProto.AttributeType.INTS, ints: value });

function write(path, graph) {
  writeFileSync(path, onnx.ModelProto.encode(onnx.ModelProto.create({ irVersion: 8, opsetImport: [{ domain: '', version: 17 }], graph: { name: 'stand-in', ...graph } })).finish());
}

/** Fixtures that take embeddings have no id for image tokens: the last one of the vocabulary serves. */
function imageTokenOf({ image_token_id: id, vocab }) {
  return id ?? vocab - 1;
}

export function standIn(folder, decoder, fixture) {
  const { hidden_size: hidden, vocab, layers, heads, kv_heads: kvHeads, head_dim: headDim, seed } = fixture;
  mkdirSync(join(folder, 'onnx'), { recursive: true });
  copyFileSync(decoder, join(folder, 'onnx', 'decoder_model_merged.onnx'));
  write(join(folder, 'onnx', 'embed_tokens.onnx'), {
    node: [{ opType: 'Gather', input: ['table', 'input_ids'], output: ['inputs_embeds'] }],
    input: [info('input_ids', INT64, ['batch_size', 'sequence_length'])],
    output: [info('inputs_embeds', FLOAT, ['batch_size', 'sequence_length', hidden])],
    initializer: [tensor('table', FLOAT, numbers(vocab * hidden, 17 + seed, 1.7), [vocab, hidden])],
  });
  write(join(folder, 'onnx', 'vision_encoder.onnx'), {
    node: [
      { opType: 'Conv', input: ['pixel_values', 'kernel'], output: ['patches'], attribute: [ints('kernel_shape', [4, 4]), ints('strides', [4, 4])] },
      { opType: 'Reshape', input: ['patches', 'flat'], output: ['rows'] },
      { opType: 'Transpose', input: ['rows'], output: ['image_features'], attribute: [ints('perm', [0, 2, 1])] },
    ],
    input: [info('pixel_values', FLOAT, ['batch_size', 3, SIZE, SIZE])],
    output: [info('image_features', FLOAT, ['batch_size', IMAGE_TOKENS, hidden])],
    initializer: [tensor('kernel', FLOAT, numbers(hidden * 48, 29 + seed, 0.4), [hidden, 3, 4, 4]), tensor('flat', INT64, BigInt64Array.from([0n, BigInt(hidden), BigInt(IMAGE_TOKENS)]), [3])],
  });
  const text = { model_type: 'llama', hidden_size: hidden, num_hidden_layers: layers, num_attention_heads: heads, num_key_value_heads: kvHeads, head_dim: headDim, vocab_size: vocab };
  writeFileSync(join(folder, 'config.json'), JSON.stringify({ architectures: ['LlavaForConditionalGeneration'], model_type: 'llava', image_token_index: imageTokenOf(fixture), image_seq_length: IMAGE_TOKENS, text_config: text, vision_config: { model_type: 'siglip_vision_model', image_size: SIZE, patch_size: 4 } }, null, 1));
  writeFileSync(join(folder, 'generation_config.json'), JSON.stringify({ bos_token_id: 1, eos_token_id: vocab + 1, pad_token_id: 0 }));
}

/** A prompt of ids with an image in it, and its picture. */
export function prompt(fixture) {
  const { vocab, seed } = fixture;
  const image = imageTokenOf(fixture);
  const text = (n, from) => Array.from(numbers(n, from + seed, 1), (x) => 3 + (Math.floor(Math.abs(x) * 1e6) % Math.min(image - 3, vocab - 3)));
  return { ids: [...text(4, 5), ...new Array(IMAGE_TOKENS).fill(image), ...text(6, 7)], pixels: numbers(3 * SIZE * SIZE, 11 + seed, 1.5) };
}
