/** The shipped LVLM as a folder that transformers.js loads, and questions about its pictures. */
import { copyFileSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { parseNpz } from '../../dist/src/validate/feeding/data/npy.js';

const CONFIGS = ['config.json', 'generation_config.json', 'preprocessor_config.json', 'tokenizer.json', 'tokenizer_config.json'];
const GRAPHS = ['vision_encoder.onnx', 'embed_tokens.onnx', 'decoder_model_merged.onnx'];
const SIZE = 96;

export function layOutLvlm(root, folder) {
  const from = join(root, 'fixtures', 'lvlm');
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(join(folder, 'onnx'), { recursive: true });
  for (const name of CONFIGS) copyFileSync(join(from, name), join(folder, name));
  for (const name of GRAPHS) copyFileSync(join(from, name), join(folder, 'onnx', name));
  return folder;
}

/** Ids and pixels of `count` questions, of all kinds and about many pictures. */
export function lvlmRequests(root, count) {
  const from = join(root, 'fixtures', 'lvlm', 'eval');
  const { questions, imageTokenId, imageTokens, bosTokenId } = JSON.parse(readFileSync(join(from, 'questions.json'), 'utf8'));
  const pictures = parseNpz(readFileSync(join(from, 'pictures.npz'))).get('pictures');
  return Array.from({ length: count }, (_, k) => {
    const q = questions[(k * 7919) % questions.length];
    const rgb = pictures.data.subarray(q.picture * SIZE * SIZE * 3, (q.picture + 1) * SIZE * SIZE * 3);
    const pixels = new Float32Array(3 * SIZE * SIZE);
    for (let c = 0; c < 3; c++) for (let i = 0; i < SIZE * SIZE; i++) pixels[c * SIZE * SIZE + i] = rgb[i * 3 + c] / 127.5 - 1;
    return { ids: [bosTokenId, ...new Array(imageTokens).fill(imageTokenId), ...q.prompt], pixels, size: SIZE };
  });
}
