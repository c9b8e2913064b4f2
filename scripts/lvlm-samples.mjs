#!/usr/bin/env node
/**
 * Questions of a shipped model (fixtures/lvlm, fixtures/judge) as samples for `validate`, `sweep` and `tune`: the vision encoder and the embedding graph are
 * run here, so that the decoder gets what it would get in use.
 *
 *   node scripts/lvlm-samples.mjs --count 64 --out lvlm-samples
 *   node scripts/lvlm-samples.mjs --model fixtures/judge --eval calibration --out judge-samples      questions and pictures of another folder
 *   pdrop-compile validate fixtures/lvlm/decoder_model_merged.onnx decoder.pdrop.onnx --data lvlm-samples --generate 6 --eos 2
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { encode } from 'fast-png';
import { parseNpz } from '../dist/src/validate/feeding/data/npy.js';
import { look, openLvlm, promptEmbeds } from './accuracy-lvlm.mjs';

const { values: o } = parseArgs({
  options: { model: { type: 'string', default: 'fixtures/lvlm' }, eval: { type: 'string' }, out: { type: 'string', default: 'lvlm-samples' }, count: { type: 'string', default: '64' } },
});
const eval_ = o.eval ?? join(o.model, 'eval');
const lvlm = await openLvlm(o.model, 1, eval_);
const { questions, size } = lvlm;
const grid = Math.sqrt(lvlm.imageTokens);
const pictures = parseNpz(readFileSync(join(eval_, 'pictures.npz'))).get('pictures');

mkdirSync(o.out, { recursive: true });
const seen = new Map();
const lines = [];
// Strides that share no factor with the questions a picture: every kind and many pictures are there.
const count = Math.min(Number(o.count), questions.length);
for (let k = 0; k < count; k++) {
  const q = questions[(k * 7919) % questions.length];
  if (!seen.has(q.picture)) seen.set(q.picture, await lookAndWrite(q.picture));
  const embeds = promptEmbeds(lvlm, q, seen.get(q.picture));
  lines.push(JSON.stringify({
    id: `${String(k).padStart(4, '0')}-${q.kind}`,
    title: `${q.text} → ${q.answer}`,
    inputs: { inputs_embeds: { dtype: 'float32', shape: [1, embeds.length / lvlm.width, lvlm.width], base64: Buffer.from(embeds.buffer).toString('base64') } },
    labels: q.answerIds,
    answers: [q.answerIds],
    picture: `picture-${q.picture}.png`,
    images: [{ rows: grid, columns: grid, start: 1 + (q.before?.length ?? 0) }],
  }));
}
writeFileSync(join(o.out, 'samples.jsonl'), `${lines.join('\n')}\n`);
console.log(`${o.out}: ${lines.length} questions about ${seen.size} pictures`);
await lvlm.close();

/** Writes the picture as PNG and gives its features [image tokens · width]. */
async function lookAndWrite(index) {
  const rgb = Uint8Array.from(pictures.data.subarray(index * size * size * 3, (index + 1) * size * size * 3));
  writeFileSync(join(o.out, `picture-${index}.png`), encode({ width: size, height: size, channels: 3, depth: 8, data: rgb }));
  return look(lvlm, rgb);
}
