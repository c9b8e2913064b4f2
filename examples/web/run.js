/** A picture and a question through a folder's graphs, with onnxruntime-web. */
import { Tokenizer } from '@huggingface/tokenizers';
import * as ort from '/runtime/onnxruntime-web.mjs';

ort.env.wasm.numThreads = 1;
ort.env.logLevel = 'error';

const json = async (file) => (file ? JSON.parse(await file.text()) : {});
const open = async (file) => ort.InferenceSession.create(file instanceof Uint8Array ? file : new Uint8Array(await file.arrayBuffer()), { executionProviders: ['wasm'] });
const int64 = (values) => new ort.Tensor('int64', BigInt64Array.from(values, BigInt), [1, values.length]);

/** Sessions and configuration of a folder. */
export async function openFolder(files) {
  const [config, preprocessor, generation] = [await json(files.config), await json(files.preprocessor), await json(files.generation)];
  return {
    vision: await open(files.vision),
    embed: await open(files.embed),
    tokenizer: new Tokenizer(await json(files.tokenizer), await json(files.tokenizerConfig)),
    preprocessor,
    imageToken: config.image_token_id ?? config.image_token_index,
    eos: [generation.eos_token_id].flat(),
  };
}

export const openDecoder = open;

/** float32 [1, 3, height, width] of a picture, prepared as the folder says; the canvas scales it. */
async function pixelsOf(picture, { size, image_mean: mean, image_std: std, rescale_factor: rescale = 1 / 255 }) {
  const { width, height } = size ?? {};
  if (!width || !height) throw new Error('preprocessor_config.json names no size that pictures are brought to');
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context.drawImage(await createImageBitmap(picture), 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);
  const values = new Float32Array(3 * width * height);
  for (let c = 0; c < 3; c++) for (let i = 0; i < width * height; i++) values[c * width * height + i] = (data[i * 4 + c] * rescale - mean[c]) / std[c];
  return { tensor: new ort.Tensor('float32', values, [1, 3, height, width]), canvas };
}

/** Embeddings of the prompt, features of the picture in the places of image tokens. */
export async function prepare(folder, picture, text) {
  const { tensor, canvas } = await pixelsOf(picture, folder.preprocessor);
  const features = Object.values(await folder.vision.run({ [folder.vision.inputNames[0]]: tensor }))[0];
  const [tokens, hidden] = features.dims.slice(-2);
  const { ids } = folder.tokenizer.encode(text);
  const start = ids.length - folder.tokenizer.encode(text, { add_special_tokens: false }).ids.length;
  const all = [...ids.slice(0, start), ...new Array(tokens).fill(folder.imageToken), ...ids.slice(start)];
  const embeds = await look(folder, all);
  embeds.data.set(features.data, start * hidden);
  return { embeds, isImage: all.map((id) => Number(id === folder.imageToken)), tokens, start, canvas };
}

async function look(folder, ids) {
  return Object.values(await folder.embed.run({ [folder.embed.inputNames[0]]: int64(ids) }))[0];
}

/** Greedy answer of a decoder, how long it took, and which tokens each boundary kept. */
export async function answer(folder, decoder, { embeds, isImage }, most) {
  const shapes = Object.fromEntries(decoder.inputMetadata.map((m) => [m.name, m.shape]));
  const caches = decoder.inputNames.filter((n) => n.startsWith('past_key_values.'));
  let past = Object.fromEntries(caches.map((n) => [n, new ort.Tensor('float32', new Float32Array(0), [1, shapes[n][1], 0, shapes[n][3]])]));
  let chunk = { embeds, flags: isImage };
  let length = 0;
  let prefill = 0;
  let kept = [];
  const tokens = [];
  const started = performance.now();
  while (tokens.length < most) {
    const count = chunk.flags.length;
    length += count;
    const feeds = {
      inputs_embeds: chunk.embeds,
      attention_mask: int64(new Array(length).fill(1)),
      position_ids: int64(Array.from({ length: count }, (_, i) => length - count + i)),
      image_token_mask: new ort.Tensor('bool', Uint8Array.from(chunk.flags), [1, count]),
      ...past,
    };
    for (const name of Object.keys(feeds)) if (!decoder.inputNames.includes(name)) delete feeds[name];
    const outputs = await decoder.run(feeds);
    if (tokens.length === 0) {
      prefill = performance.now() - started;
      kept = decoder.outputNames.filter((n) => n.startsWith('pdrop_kept.')).map((n) => Array.from(outputs[n].data, Number));
    }
    const [, rows, vocab] = outputs.logits.dims;
    const last = outputs.logits.data.subarray((rows - 1) * vocab);
    tokens.push(last.indexOf(Math.max(...last)));
    if (folder.eos.includes(tokens.at(-1))) break;
    past = Object.fromEntries(caches.map((n) => [n, outputs[n.replace('past_key_values', 'present')]]));
    chunk = { embeds: await look(folder, [tokens.at(-1)]), flags: [0] };
  }
  const text = folder.tokenizer.decode(tokens.filter((t) => !folder.eos.includes(t)), { skip_special_tokens: true });
  return { text, tokens, kept, prefill, total: performance.now() - started };
}
