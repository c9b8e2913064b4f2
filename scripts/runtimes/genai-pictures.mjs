/** A genai folder of three graphs (vision, embedding, decoder), asked about pictures, and the same graphs one after another in onnxruntime-node. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { encode } from 'fast-png';
import * as ort from 'onnxruntime-node';
import { compile, compileFolder } from '../../dist/src/index.js';
import { Genai } from '../../dist/src/validate/feeding/asking/genai/index.js';
import { openPrompts } from '../../dist/src/validate/feeding/asking/prompts.js';
import { likeliest } from './reference.mjs';

const FIXTURE = 'genai-phi3v';
const COUNT = 16;
const POSITIONS = ['compact', 'keep'];

/** @returns {Promise<{ name: string, original: object, compiled: object }[]>} a result each: what genai got and onnxruntime-node wants, or an error */
export async function genaiPictures({ root, work, python }) {
  const folder = join(root, 'fixtures', FIXTURE);
  const [first, second] = [1, 2].map((seed) => strip(join(work, `picture-${seed}.png`), seed));
  const asked = [
    { prompt: 'say <|image_1|> what', pictures: [first] },
    { prompt: 'one <|image_1|> two <|image_2|>?', pictures: [first, second] },
  ];
  const ask = (path, name) => {
    const requests = asked.map((a, i) => ({ ...a, folder: path, count: COUNT, dump: join(work, `${name}-${i}`) }));
    writeFileSync(join(work, 'request.json'), JSON.stringify(requests));
    const run = spawnSync(python, [join(import.meta.dirname, 'genai_pictures.py'), join(work, 'request.json')], { encoding: 'utf8' });
    const lines = run.stdout.trim().split('\n').map((line) => JSON.parse(line || '{"error":"it ended early"}'));
    return { dumps: requests.map((r) => r.dump), error: lines.find((l) => l.error)?.error, got: lines.map((l) => l.answer) };
  };
  const against = async ({ dumps, error, got }, decoder) => {
    if (error) return { error };
    const want = [];
    for (const dump of dumps) want.push(await answer(folder, decoder, dump));
    return { got, want };
  };
  /** What genai made of pictures and prompts, and what `validate` makes of them. */
  const prepared = async (path, { dumps, error }) => {
    if (error) return { error };
    const [got, want] = [[], []];
    for (const [i, { prompt, pictures }] of asked.entries()) {
      got.push(await preparedHere(path, prompt, pictures));
      want.push(digests(dumped(dumps[i])));
    }
    return { got, want };
  };
  const asIs = ask(folder, 'original');
  const original = await against(asIs, join(folder, 'model.onnx'));
  const results = [];
  for (const positions of POSITIONS) {
    const [own, generic] = [join(work, `${FIXTURE}-${positions}`), join(work, `${FIXTURE}-${positions}.onnx`)];
    rmSync(own, { recursive: true, force: true });
    await compileFolder(folder, { stages: 3, lambda: 0.5, positions, output: own });
    await compile(join(folder, 'model.onnx'), { stages: 3, lambda: 0.5, positions, imageMask: 'input-ids:negative', output: generic, force: true });
    const run = ask(own, positions);
    results.push({ name: `${FIXTURE}, ${positions}, one picture and two`, original, compiled: await against(run, generic) });
    if (positions === 'keep') results.push({ name: `${FIXTURE}, pictures as validate prepares them`, original: await prepared(folder, asIs), compiled: await prepared(own, run) });
  }
  return results;
}

/** Nine times as wide as high: genai's processor makes nine crops of it, and of most other shapes sixteen. */
function strip(path, seed) {
  const [width, height] = [270, 30];
  const data = Uint8Array.from({ length: width * height * 3 }, (_, i) => 127 + 127 * Math.sin(seed + i * 0.031 * seed) * Math.cos((i % 811) * 0.13));
  writeFileSync(path, encode({ width, height, channels: 3, depth: 8, data }));
  return path;
}

/** A digest of each tensor that `validate` makes, by its name. */
async function preparedHere(path, prompt, pictures) {
  const prompts = await openPrompts(join(path, 'tokenizer.json'), join(path, 'tokenizer_config.json'), 'negative');
  const { ids, runs } = await new Genai(path).prepare('it', prompt, pictures, (text) => prompts.bare(text));
  return digests({ input_ids: { dims: [1, ids.length], data: Int32Array.from(ids) }, ...Object.fromEntries(runs[0]) });
}

function digests({ input_ids, pixel_values, image_sizes }) {
  const digest = ({ dims, data }) => `[${dims.join(', ')}] ${createHash('sha256').update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength)).digest('hex')}`;
  return { input_ids: digest(input_ids), pixel_values: digest(pixel_values), image_sizes: digest(image_sizes) };
}

/** Greedy tokens, the graphs run one after another with what genai's processor made of the pictures. */
async function answer(folder, decoderPath, dump) {
  const session = (path) => ort.InferenceSession.create(path, { logSeverityLevel: 4 });
  const [vision, embedding, decoder] = [await session(join(folder, 'vision.onnx')), await session(join(folder, 'embedding.onnx')), await session(decoderPath)];
  const given = dumped(dump);
  const { image_features: features } = await vision.run({ pixel_values: given.pixel_values, image_sizes: given.image_sizes });
  const none = new ort.Tensor('float32', [], [0, features.dims[1]]);
  // The builder leaves the heads' size symbolic.
  const { num_key_value_heads: heads, head_size: size } = JSON.parse(readFileSync(join(folder, 'genai_config.json'), 'utf8')).model.decoder;
  const caches = decoder.inputNames.filter((name) => name.startsWith('past_key_values.'));
  let past = Object.fromEntries(caches.map((name) => [name, new ort.Tensor('float32', [], [1, heads, 0, size])]));
  let ids = Array.from(given.input_ids.data, Number);
  const tokens = [];
  for (let length = 0; tokens.length < COUNT; ) {
    const input_ids = int64(ids, [1, ids.length]);
    length += ids.length;
    const { inputs_embeds } = await embedding.run({ input_ids, image_features: tokens.length === 0 ? features : none });
    const feeds = { inputs_embeds, attention_mask: int64(new Array(length).fill(1), [1, length]), ...past };
    const outputs = await decoder.run(decoder.inputNames.includes('input_ids') ? { ...feeds, input_ids } : feeds);
    past = Object.fromEntries(caches.map((name) => [name, outputs[name.replace('past_key_values', 'present')]]));
    ids = [likeliest(outputs.logits)];
    tokens.push(ids[0]);
  }
  for (const s of [vision, embedding, decoder]) await s.release();
  return tokens;
}

const int64 = (values, dims) => new ort.Tensor('int64', BigInt64Array.from(values, BigInt), dims);

const TYPES = { float32: Float32Array, int64: BigInt64Array, int32: Int32Array };

function dumped(folder) {
  const shapes = JSON.parse(readFileSync(join(folder, 'shapes.json'), 'utf8'));
  return Object.fromEntries(Object.entries(shapes).map(([name, [type, dims]]) => {
    const bytes = readFileSync(join(folder, `${name}.bin`));
    return [name, new ort.Tensor(type, new TYPES[type](bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength)), dims)];
  }));
}
