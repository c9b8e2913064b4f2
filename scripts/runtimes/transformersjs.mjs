/** Unmodified transformers.js on folders, original and compiled, against a loop of our own in onnxruntime-node. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import * as ort from 'onnxruntime-node';
import { likeliest } from './reference.mjs';

/** The library out of the folder it was installed in. */
export async function load(installed) {
  const require = createRequire(join(installed, 'package.json'));
  const library = await import(pathToFileURL(require.resolve('@huggingface/transformers')).href);
  library.env.allowRemoteModels = false;
  return library;
}

/**
 * Greedy tokens of LlavaForConditionalGeneration.generate, and the kept indices of the prompt when the graph has probes
 * (its session is listened to, not changed). `adapt` is what a user does to the model, if anything.
 */
export async function generate(library, folder, requests, newTokens, adapt = (model) => model) {
  library.env.localModelPath = dirname(folder);
  const model = adapt(await library.LlavaForConditionalGeneration.from_pretrained(basename(folder), { dtype: 'fp32', device: 'cpu' }));
  const session = model.sessions.decoder_model_merged;
  const results = [];
  const run = session.run.bind(session);
  let kept;
  session.run = async (...args) => {
    const outputs = await run(...args);
    kept ??= keptOf(outputs);
    return outputs;
  };
  for (const { ids, pixels, size } of requests) {
    kept = undefined;
    const int64 = (values) => new library.Tensor('int64', BigInt64Array.from(values, BigInt), [1, values.length]);
    const output = await model.generate({
      input_ids: int64(ids),
      attention_mask: int64(ids.map(() => 1)),
      pixel_values: new library.Tensor('float32', pixels, [1, 3, size, size]),
      max_new_tokens: newTokens,
      do_sample: false,
    });
    results.push({ tokens: output.tolist()[0].map(Number).slice(ids.length), kept });
  }
  await model.dispose();
  return results;
}

function keptOf(outputs) {
  return Object.keys(outputs).filter((n) => n.startsWith('pdrop_kept.')).sort().map((n) => Array.from(outputs[n].data, Number));
}

/** The same in onnxruntime-node, with the folder's own graphs. */
export async function reference(folder, requests, newTokens) {
  const config = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'));
  const { eos_token_id: eos } = JSON.parse(readFileSync(join(folder, 'generation_config.json'), 'utf8'));
  const open = (name) => ort.InferenceSession.create(join(folder, 'onnx', `${name}.onnx`), { logSeverityLevel: 4 });
  const [vision, embed, decoder] = [await open('vision_encoder'), await open('embed_tokens'), await open('decoder_model_merged')];
  const int64 = (values) => new ort.Tensor('int64', BigInt64Array.from(values, BigInt), [1, values.length]);
  const look = async (ids) => (await embed.run({ input_ids: int64(ids) })).inputs_embeds;
  const results = [];
  for (const { ids, pixels, size } of requests) {
    const features = (await vision.run({ pixel_values: new ort.Tensor('float32', pixels, [1, 3, size, size]) })).image_features;
    let embeds = await look(ids);
    const hidden = embeds.dims[2];
    let row = 0;
    ids.forEach((id, i) => {
      if (id === config.image_token_index) embeds.data.set(features.data.subarray(row * hidden, ++row * hidden), i * hidden);
    });
    let past = Object.fromEntries(decoder.inputMetadata.filter((m) => m.name.startsWith('past_key_values.')).map((m) => [m.name, new ort.Tensor('float32', new Float32Array(0), [1, m.shape[1], 0, m.shape[3]])]));
    let length = ids.length;
    let chunk = length;
    const tokens = [];
    let flags = Uint8Array.from(ids, (id) => Number(id === config.image_token_index));
    let kept;
    while (tokens.length < newTokens) {
      const feeds = { inputs_embeds: embeds, attention_mask: int64(new Array(length).fill(1)), position_ids: int64(Array.from({ length: chunk }, (_, i) => length - chunk + i)), image_token_mask: new ort.Tensor('bool', flags, [1, chunk]), ...past };
      for (const name of Object.keys(feeds)) if (!decoder.inputNames.includes(name)) delete feeds[name];
      if (decoder.inputNames.includes('num_logits_to_keep')) feeds.num_logits_to_keep = new ort.Tensor('int64', [0n], []);
      const outputs = await decoder.run(feeds);
      kept ??= keptOf(outputs);
      tokens.push(likeliest(outputs.logits));
      if (tokens.at(-1) === eos) break;
      past = Object.fromEntries(Object.keys(past).map((n) => [n, outputs[n.replace('past_key_values', 'present')]]));
      embeds = await look([tokens.at(-1)]);
      length++;
      chunk = 1;
      flags = new Uint8Array(1);
    }
    results.push({ tokens, kept });
  }
  for (const s of [vision, embed, decoder]) await s.release();
  return results;
}
