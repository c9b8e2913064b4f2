/**
 * The shipped models (fixtures/lvlm, fixtures/judge) asked in batches: what accuracy.mjs, accuracy-judge.mjs, demo.mjs and test/numbers share.
 * Rows of a batch have prompts of one layout, so nothing is padded and every row gets what it would get alone.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { decode } from 'fast-png';
import { parseNpz } from '../dist/src/validate/feeding/data/npy.js';
import { openSession } from '../dist/src/validate/running/session.js';
import { fromNumbers } from '../dist/src/validate/running/tensor.js';

/** Of fixtures/lvlm. */
export const GRID = 12;
const SIZE = 96;
const MOST_TOKENS = 6;

/** A model and its evaluation set (or another folder of questions and pictures). */
export async function openLvlm(folder, threads = 1, evaluation = join(folder, 'eval')) {
  const set = JSON.parse(readFileSync(join(evaluation, 'questions.json'), 'utf8'));
  const vision = await openSession(join(folder, 'vision_encoder.onnx'), { threads });
  const embed = await openSession(join(folder, 'embed_tokens.onnx'), { threads });
  const ids = Object.values(JSON.parse(readFileSync(join(folder, 'tokenizer.json'), 'utf8')).model.vocab);
  const table = (await embed.run(new Map([['input_ids', fromNumbers('int64', [1, ids.length], ids.map((_, i) => i))]]))).get('inputs_embeds');
  await embed.close();
  return {
    folder,
    questions: set.questions,
    needs: set.needs,
    imageTokens: set.imageTokens,
    /** Height and width of a picture in pixels. */
    size: set.imageSize ?? SIZE,
    bos: set.bosTokenId,
    eos: set.eosTokenId,
    width: table.dims[2],
    table: Float32Array.from(table.data),
    vision,
    close: () => vision.close(),
  };
}

/** Features of the evaluation pictures that are named, by their index. */
export async function lookAtEval(lvlm, indices) {
  const pictures = parseNpz(readFileSync(join(lvlm.folder, 'eval', 'pictures.npz'))).get('pictures').data;
  const features = new Map();
  const bytes = lvlm.size * lvlm.size * 3;
  for (const i of new Set(indices)) features.set(i, await look(lvlm, pictures.subarray(i * bytes, (i + 1) * bytes)));
  return features;
}

/** Features [image tokens · width] of an RGB picture. */
export async function look(lvlm, rgb) {
  const { size } = lvlm;
  const values = new Float32Array(3 * size * size);
  for (let c = 0; c < 3; c++) for (let i = 0; i < size * size; i++) values[c * size * size + i] = rgb[i * 3 + c] / 127.5 - 1;
  const outputs = await lvlm.vision.run(new Map([['pixel_values', { dtype: 'float32', dims: [1, 3, size, size], data: values }]]));
  return Float32Array.from(outputs.get('image_features').data);
}

/** Embeddings of `[<s>] + before + image + prompt`; most questions have nothing before the image. */
export function promptEmbeds(lvlm, { before = [], prompt }, features) {
  const { width } = lvlm;
  const start = 1 + before.length;
  const out = new Float32Array((start + lvlm.imageTokens + prompt.length) * width);
  const put = (id, t) => out.set(lvlm.table.subarray(id * width, (id + 1) * width), t * width);
  [lvlm.bos, ...before].forEach(put);
  out.set(features, start * width);
  prompt.forEach((id, t) => put(id, start + lvlm.imageTokens + t));
  return out;
}

/**
 * Asks all questions and gives, in their order, the greedy token ids, `</s>` included.
 * @param session an opened decoder, original or compiled
 * @param features of each picture, by the questions' `picture`
 */
export async function ask(lvlm, session, questions, features, batch = 16) {
  const answers = new Array(questions.length);
  const layouts = new Map();
  questions.forEach(({ before = [], prompt }, i) => {
    const layout = `${before.length} ${prompt.length}`;
    layouts.set(layout, [...(layouts.get(layout) ?? []), i]);
  });
  for (const same of layouts.values()) {
    for (let at = 0; at < same.length; at += batch) {
      const part = same.slice(at, at + batch);
      const got = await generate(lvlm, session, part.map((i) => promptEmbeds(lvlm, questions[i], features.get(questions[i].picture))), 1 + (questions[part[0]].before?.length ?? 0));
      part.forEach((i, row) => {
        answers[i] = got[row];
      });
    }
  }
  return answers;
}

/** Greedy tokens of each row through the model's own cache; the image begins at token `start`. */
async function generate(lvlm, session, rows, start) {
  const { width, eos } = lvlm;
  const B = rows.length;
  let length = rows[0].length / width;
  let chunk = length;
  let embeds = new Float32Array(B * length * width);
  rows.forEach((r, b) => {
    embeds.set(r, b * length * width);
  });
  const caches = session.inputs.filter((i) => i.name.startsWith('past_key_values.'));
  let past = caches.map((c) => [c.name, { dtype: 'float32', dims: [B, c.dims[1], 0, c.dims[3]], data: new Float32Array(0) }]);
  let image = Uint8Array.from({ length: B * length }, (_, i) => Number(i % length >= start && i % length < start + lvlm.imageTokens));
  const out = rows.map(() => []);
  for (let step = 0; ; step++) {
    const result = await session.run(new Map([
      ['inputs_embeds', { dtype: 'float32', dims: [B, chunk, width], data: embeds }],
      ['attention_mask', { dtype: 'int64', dims: [B, length], data: new BigInt64Array(B * length).fill(1n) }],
      ['position_ids', { dtype: 'int64', dims: [B, chunk], data: BigInt64Array.from({ length: B * chunk }, (_, i) => BigInt(length - chunk + (i % chunk))) }],
      ['image_token_mask', { dtype: 'bool', dims: [B, chunk], data: image }],
      ...past,
    ]));
    const logits = result.get('logits');
    const [, S, V] = logits.dims;
    embeds = new Float32Array(B * width);
    let open = false;
    for (let b = 0; b < B; b++) {
      const end = logits.data.subarray((b * S + S - 1) * V, (b + 1) * S * V);
      let token = 0;
      for (let v = 1; v < V; v++) if (end[v] > end[token]) token = v;
      if (out[b].at(-1) !== eos) out[b].push(token);
      open ||= out[b].at(-1) !== eos;
      embeds.set(lvlm.table.subarray(out[b].at(-1) * width, (out[b].at(-1) + 1) * width), b * width);
    }
    if (!open || step + 1 === MOST_TOKENS) return out;
    past = caches.map((c) => [c.name, result.get(c.name.replace('past_key_values', 'present'))]);
    chunk = 1;
    length += 1;
    image = new Uint8Array(B);
  }
}

export const isRight = (question, answer) => question.answerIds.join() === answer.join();

/** Opens a decoder, asks, closes. */
export async function askModel(lvlm, path, questions, features, options = {}) {
  const session = await openSession(path, { threads: options.threads ?? 1 });
  try {
    return await ask(lvlm, session, questions, features, options.batch);
  } finally {
    await session.close();
  }
}

/** One bit an answer, right or not, as base64; and back. */
export const bitsOf = (flags) => {
  const bytes = Buffer.alloc(Math.ceil(flags.length / 8));
  flags.forEach((f, i) => {
    if (f) bytes[i >> 3] |= 1 << (i & 7);
  });
  return bytes.toString('base64');
};
export const flagsOf = (base64, n) => {
  const bytes = Buffer.from(base64, 'base64');
  return Array.from({ length: n }, (_, i) => (bytes[i >> 3] >> (i & 7)) & 1);
};

/** 95% Wilson interval of `right` out of `n`. */
export function wilson(right, n) {
  const z = 1.959964;
  const p = right / n;
  const middle = (p + (z * z) / (2 * n)) / (1 + (z * z) / n);
  const half = (z / (1 + (z * z) / n)) * Math.sqrt((p * (1 - p)) / n + (z * z) / (4 * n * n));
  return [Math.max(0, middle - half), Math.min(1, middle + half)];
}

/** Pixels of an 8-bit RGB PNG without interlacing, as the shipped pictures are. */
export function readPng(path) {
  const { width, height, channels, depth, data } = decode(readFileSync(path));
  if (channels !== 3 || depth !== 8) throw new Error(`${path}: not an 8-bit RGB picture`);
  return { width, height, rgb: data };
}
