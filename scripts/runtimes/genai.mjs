/** Folders as onnxruntime-genai loads them around fixtures of its model builder, and the same answers from onnxruntime-node. */
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import onnxProto from 'onnx-proto';
import * as ort from 'onnxruntime-node';
import { likeliest } from './reference.mjs';

/** An answer up to its end: what stands behind it is padding. */
export function untilEnd(answers, fixture) {
  return answers.map((rows) => rows.map((tokens) => (tokens.includes(fixture.vocab - 1) ? tokens.slice(0, tokens.indexOf(fixture.vocab - 1) + 1) : tokens)));
}

const { onnx } = onnxProto;
const { DataType } = onnx.TensorProto;

/**
 * A builder graph that takes token ids, written to `path`: where it takes embeddings, a table of random numbers stands before it.
 * genai feeds ids to a decoder; a table beside it would need a pipeline of three graphs.
 */
export function takeIds(fixturePath, fixture, path) {
  const model = onnx.ModelProto.decode(readFileSync(fixturePath));
  const at = model.graph.input.findIndex((v) => v.name === 'inputs_embeds');
  if (at < 0) return copyFileSync(fixturePath, path);
  const embeds = model.graph.input[at];
  const half = embeds.type.tensorType.elemType === DataType.FLOAT16;
  const { vocab, hidden_size: hidden } = fixture;
  const numbers = Float32Array.from({ length: vocab * hidden }, (_, i) => Math.sin(i * 12.9898) * Math.cos(i * 0.7133) * 2);
  const nodes = [{ opType: 'Gather', name: 'test/embed', input: ['test/table', 'input_ids'], output: [half ? 'test/embeds' : 'inputs_embeds'] }];
  if (half) nodes.push({ opType: 'Cast', name: 'test/half', input: ['test/embeds'], output: ['inputs_embeds'], attribute: [{ name: 'to', type: onnx.AttributeProto.AttributeType.INT, i: DataType.FLOAT16 }] });
  model.graph.node.unshift(...nodes.map((n) => onnx.NodeProto.create(n)));
  model.graph.initializer.push(onnx.TensorProto.create({ name: 'test/table', dataType: DataType.FLOAT, dims: [vocab, hidden], rawData: new Uint8Array(numbers.buffer) }));
  const [batch, sequence] = embeds.type.tensorType.shape.dim;
  model.graph.input[at] = onnx.ValueInfoProto.create({ name: 'input_ids', type: { tensorType: { elemType: DataType.INT64, shape: { dim: [batch, sequence] } } } });
  writeFileSync(path, onnx.ModelProto.encode(model).finish());
}

/** A text-only pipeline is what feeds input_ids to a decoder: fixtures that take ids. */
export function layOutGenai(folder, decoder, fixture) {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  copyFileSync(decoder, join(folder, 'model.onnx'));
  const { vocab, head_dim: head, hidden_size: hidden, heads, kv_heads: kvHeads, layers, image_token_id: imageTokenId } = fixture;
  const config = {
    model: {
      bos_token_id: 1, eos_token_id: vocab - 1, pad_token_id: 0, image_token_id: imageTokenId, type: 'llama', vocab_size: vocab, context_length: 256,
      decoder: {
        session_options: { log_id: 'onnxruntime-genai', provider_options: [] }, filename: 'model.onnx', head_size: head, hidden_size: hidden, num_attention_heads: heads, num_key_value_heads: kvHeads, num_hidden_layers: layers,
        inputs: { input_ids: 'input_ids', attention_mask: 'attention_mask', past_key_names: 'past_key_values.%d.key', past_value_names: 'past_key_values.%d.value' },
        outputs: { logits: 'logits', present_key_names: 'present.%d.key', present_value_names: 'present.%d.value' },
      },
    },
    search: { max_length: 128, past_present_share_buffer: true, do_sample: false },
  };
  writeFileSync(join(folder, 'genai_config.json'), JSON.stringify(config, null, 1));
}

/** A cache with one more place, of zeros. */
function withEmptyPlace(cache) {
  const [batch, heads, length, size] = cache.dims;
  const data = new cache.data.constructor(batch * heads * (length + 1) * size);
  for (let i = 0; i < batch * heads; i++) data.set(cache.data.subarray(i * length * size, (i + 1) * length * size), i * (length + 1) * size);
  return new ort.Tensor(cache.type, data, [batch, heads, length + 1, size]);
}

/**
 * The same conversation with a graph compiled for `generic` (or the original), whose caches grow.
 * @returns {Promise<number[][][]>} answers, rows, tokens
 */
export async function converse(model, fixture, { prompts, rewind, second, count }) {
  const session = await ort.InferenceSession.create(model, { logSeverityLevel: 4 });
  const int64 = (rows) => new ort.Tensor('int64', BigInt64Array.from(rows.flat(), BigInt), [rows.length, rows[0].length]);
  const caches = session.inputNames.filter((n) => n.startsWith('past_key_values.'));
  const half = session.inputMetadata.find((m) => m.name === caches[0]).type === 'float16';
  let past;
  let length;
  const start = () => {
    const empty = half ? ['float16', globalThis.Float16Array ? new globalThis.Float16Array(0) : new Uint16Array(0)] : ['float32', new Float32Array(0)];
    past = Object.fromEntries(caches.map((n) => [n, new ort.Tensor(...empty, [prompts.length, fixture.kv_heads, 0, fixture.head_dim])]));
    length = 0;
  };
  const step = async (ids) => {
    length += ids[0].length;
    const outputs = await session.run({ input_ids: int64(ids), attention_mask: int64(ids.map(() => new Array(length).fill(1))), ...past });
    past = Object.fromEntries(caches.map((n) => [n, outputs[n.replace('past_key_values', 'present')]]));
    const [rows, tokens, vocab] = outputs.logits.dims;
    return Array.from({ length: rows }, (_, r) => likeliest({ dims: [1, tokens, vocab], type: outputs.logits.type, data: outputs.logits.data.subarray(r * tokens * vocab, (r + 1) * tokens * vocab) }));
  };
  const answers = [];
  const ask = async (ids) => {
    const out = ids.map(() => []);
    let next = await step(ids);
    for (let i = 0; i < count; i++) {
      next.forEach((t, r) => out[r].push(t));
      // A row alone ends at its last token; others go on as padding.
      if (i + 1 === count || (next.length === 1 && next[0] === fixture.vocab - 1)) break;
      next = await step(next.map((t) => [t]));
    }
    answers.push(out);
  };
  start();
  await ask(prompts);
  if (rewind) {
    start();
    await ask(prompts);
  }
  if (second) {
    // genai never runs the last token of an answer when more is appended: its place in the caches stays empty, as zeros.
    // An end token has no place.
    if (answers[0][0].at(-1) !== fixture.vocab - 1) {
      length++;
      past = Object.fromEntries(Object.entries(past).map(([n, cache]) => [n, withEmptyPlace(cache)]));
    }
    await ask(second);
  }
  await session.release();
  return answers;
}
