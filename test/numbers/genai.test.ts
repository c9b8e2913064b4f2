/** `--runtime genai`: lengths from the mask and a carried state instead of cache shapes, logits of the last token. */
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as ort from 'onnxruntime-node';
import { expect, test } from 'vitest';
import { check, compile, compileFolder } from '../../src/index.js';
import { FIXTURES, SESSION, toNumbers } from '../support/fixtures.js';
import { folder } from '../support/folder.js';

const int64 = (rows: readonly (readonly number[])[]): ort.Tensor => new ort.Tensor('int64', BigInt64Array.from(rows.flat(), BigInt), [rows.length, rows[0]?.length ?? 0]);
const BOUNDARIES = 2;

/** Runs chunks one after another; `before` is called with the feeds of each. */
async function converse(path: string, chunks: readonly (readonly (readonly number[])[])[]): Promise<ort.InferenceSession.ReturnType[]> {
  const session = await ort.InferenceSession.create(path, SESSION);
  const results: ort.InferenceSession.ReturnType[] = [];
  let length = 0;
  for (const rows of chunks) {
    length += rows[0]?.length ?? 0;
    const feeds: Record<string, ort.Tensor> = { input_ids: int64(rows), attention_mask: int64(rows.map(() => new Array<number>(length).fill(1))) };
    for (const name of session.inputNames) {
      if (feeds[name]) continue;
      const state = /_state$/.test(name);
      const first = state ? new ort.Tensor('int64', new BigInt64Array(rows.length * (name.includes('conv') ? BOUNDARIES : 1)), name.includes('conv') ? [rows.length, 1, BOUNDARIES] : [rows.length, 1, 1, 1]) : new ort.Tensor('float32', new Float32Array(0), [rows.length, 2, 0, 16]);
      feeds[name] = results.at(-1)?.[name.replace('past_key_values', 'present')] ?? first;
    }
    results.push(await session.run(feeds));
  }
  await session.release();
  return results;
}

const image = new Array<number>(24).fill(120);
const prompt = [1, 5, 9, ...image, 17, 23, 31, 44];

test.each(['compact', 'keep'] as const)('%s: prompt, decode, a second image, decode: as the generic graph, with the counts carried', async (positions) => {
  const out = folder();
  const options = { stages: 3, positions, imageMask: 'input-ids:120', probe: true } as const;
  const model = join(FIXTURES, 'genai-llama-fp32', 'model.onnx');
  const generic = await compile(model, { ...options, output: join(out, 'generic.onnx') });
  const genai = await compile(model, { ...options, runtime: 'genai', output: join(out, 'genai.onnx') });
  expect(genai.plan).toEqual({ ...generic.plan, runtime: 'genai' });
  expect((await check(genai.output as string)).ok).toBe(true);
  const chunks = [[prompt], [[7]], [[8]], [[9, 8, ...image, 33, 21]], [[3]]];
  const [want, got] = [await converse(generic.output as string, chunks), await converse(genai.output as string, chunks)];
  for (const [i, w] of want.entries()) {
    const g = got[i] as ort.InferenceSession.ReturnType;
    const vocab = w.logits?.dims[2] as number;
    expect(g.logits?.dims).toEqual([1, 1, vocab]);
    const [a, b] = [toNumbers(g.logits as ort.Tensor), toNumbers(w.logits as ort.Tensor).slice(-vocab)];
    expect(Math.max(...a.map((x, k) => Math.abs(x - (b[k] as number))))).toBeLessThan(1e-4);
    for (const k of [1, 2]) expect(toNumbers(g[`pdrop_kept.${k}`] as ort.Tensor)).toEqual(toNumbers(w[`pdrop_kept.${k}`] as ort.Tensor));
  }
  // 24 image tokens: 12 and 18 dropped; the second picture drops as many again.
  expect(got.map((g) => toNumbers(g['present.0.conv_state'] as ort.Tensor))).toEqual([[12, 18], [12, 18], [12, 18], [24, 36], [24, 36]]);
});

test('a batch drops evenly, and its last logits are each row’s own', async () => {
  const out = folder();
  const options = { stages: 3, imageMask: 'input-ids:120' } as const;
  const model = join(FIXTURES, 'genai-llama-fp32', 'model.onnx');
  const generic = await compile(model, { ...options, output: join(out, 'generic.onnx') });
  const genai = await compile(model, { ...options, runtime: 'genai', output: join(out, 'genai.onnx') });
  const chunks = [[prompt, [1, 7, 3, 2, ...image, 11, 12, 13]], [[4], [5]]];
  const [want, got] = [await converse(generic.output as string, chunks), await converse(genai.output as string, chunks)];
  for (const [i, w] of want.entries()) {
    const [rows, tokens, vocab] = w.logits?.dims as [number, number, number];
    const all = toNumbers(w.logits as ort.Tensor);
    const last = Array.from({ length: rows }, (_, r) => all.slice(((r + 1) * tokens - 1) * vocab, (r + 1) * tokens * vocab)).flat();
    const mine = toNumbers(got[i]?.logits as ort.Tensor);
    expect(Math.max(...mine.map((x, k) => Math.abs(x - (last[k] as number))))).toBeLessThan(1e-4);
  }
  expect(toNumbers(got[0]?.['present.0.conv_state'] as ort.Tensor)).toEqual([12, 18, 12, 18]);
});

test('a folder of genai: ids and shared buffers are written into genai_config.json', async () => {
  const root = join(folder(), 'model');
  mkdirSync(root);
  copyFileSync(join(FIXTURES, 'genai-llama-embeds-fp32', 'model.onnx'), join(root, 'decoder.onnx'));
  writeFileSync(join(root, 'genai_config.json'), JSON.stringify({ model: { image_token_id: 120, decoder: { filename: 'decoder.onnx', inputs: { inputs_embeds: 'inputs_embeds' } } }, search: { past_present_share_buffer: false } }));
  const report = await compileFolder(root);
  expect(report).toMatchObject({ layout: 'genai', runtime: 'genai', plan: { runtime: 'genai', imageMask: { kind: 'input-ids', id: 120 } } });
  expect(report.files.find((f) => f.file === 'genai_config.json')).toMatchObject({ what: 'adjusted' });
  const config = JSON.parse(readFileSync(join(report.output as string, 'genai_config.json'), 'utf8'));
  expect(config.model.decoder).toEqual({ filename: 'decoder.onnx', inputs: { inputs_embeds: 'inputs_embeds', input_ids: 'input_ids' } });
  expect(config.search).toEqual({ past_present_share_buffer: true });
});

test.each([
  ['PD612', 'llama-ts17-ids'],
  ['PD320', 'genai-llama-embeds-fp32'],
])('%s: %s is refused', async (code, fixture) => {
  await expect(compile(join(FIXTURES, fixture, 'model.onnx'), { runtime: 'genai', dryRun: true, ...(code === 'PD612' ? { imageMask: 'input-ids:3' } : {}) })).rejects.toMatchObject({ code });
});
