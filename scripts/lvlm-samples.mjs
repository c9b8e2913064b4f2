#!/usr/bin/env node
/**
 * Questions of the shipped LVLM (fixtures/lvlm) as samples for `validate`: the vision encoder and the embedding graph are
 * run here, so that the decoder gets what it would get in use.
 *
 *   node scripts/lvlm-samples.mjs --count 64 --out lvlm-samples
 *   pdrop-compile validate fixtures/lvlm/decoder_model_merged.onnx decoder.pdrop.onnx --data lvlm-samples --generate 6 --eos 2
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { encode } from 'fast-png';
import { parseNpz } from '../dist/src/validate/feeding/data/npy.js';
import { openSession } from '../dist/src/validate/running/session.js';
import { fromNumbers } from '../dist/src/validate/running/tensor.js';

const { values: o } = parseArgs({
  options: { model: { type: 'string', default: 'fixtures/lvlm' }, out: { type: 'string', default: 'lvlm-samples' }, count: { type: 'string', default: '64' } },
});
const SIZE = 96;
const GRID = 12;
const eval_ = join(o.model, 'eval');
const { questions, imageTokenId, imageTokens, bosTokenId } = JSON.parse(readFileSync(join(eval_, 'questions.json'), 'utf8'));
const pictures = parseNpz(readFileSync(join(eval_, 'pictures.npz'))).get('pictures');
const vision = await openSession(join(o.model, 'vision_encoder.onnx'));
const embed = await openSession(join(o.model, 'embed_tokens.onnx'));

mkdirSync(o.out, { recursive: true });
const seen = new Map();
const lines = [];
// Strides that share no factor with the ten questions a picture: every kind and many pictures are there.
const count = Math.min(Number(o.count), questions.length);
for (let k = 0; k < count; k++) {
  const q = questions[(k * 7919) % questions.length];
  const features = seen.get(q.picture) ?? (await look(q.picture));
  seen.set(q.picture, features);
  const ids = [bosTokenId, ...new Array(imageTokens).fill(imageTokenId), ...q.prompt];
  const embeds = (await embed.run(new Map([['input_ids', fromNumbers('int64', [1, ids.length], ids)]]))).get('inputs_embeds');
  embeds.data.set(features, features.length / imageTokens);
  lines.push(JSON.stringify({
    id: `${String(k).padStart(4, '0')}-${q.kind}`,
    title: `${q.text} → ${q.answer}`,
    inputs: { inputs_embeds: { dtype: 'float32', shape: embeds.dims, base64: Buffer.from(embeds.data.buffer, embeds.data.byteOffset, embeds.data.byteLength).toString('base64') } },
    labels: q.answerIds,
    answers: [q.answerIds],
    picture: `picture-${q.picture}.png`,
    images: [{ rows: GRID, columns: GRID, start: 1 }],
  }));
}
writeFileSync(join(o.out, 'samples.jsonl'), `${lines.join('\n')}\n`);
console.log(`${o.out}: ${lines.length} questions about ${seen.size} pictures`);
await vision.close();
await embed.close();

/** Writes the picture and gives its features [144 · width]. */
async function look(index) {
  const rgb = pictures.data.subarray(index * SIZE * SIZE * 3, (index + 1) * SIZE * SIZE * 3);
  writeFileSync(join(o.out, `picture-${index}.png`), png(rgb));
  const values = new Float32Array(3 * SIZE * SIZE);
  for (let c = 0; c < 3; c++) for (let i = 0; i < SIZE * SIZE; i++) values[c * SIZE * SIZE + i] = rgb[i * 3 + c] / 127.5 - 1;
  const outputs = await vision.run(new Map([['pixel_values', { dtype: 'float32', dims: [1, 3, SIZE, SIZE], data: values }]]));
  return Float32Array.from(outputs.get('image_features').data);
}

/** 8-bit RGB as PNG. */
function png(rgb) {
  return encode({ width: SIZE, height: SIZE, channels: 3, depth: 8, data: Uint8Array.from(rgb) });
}
