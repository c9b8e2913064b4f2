/** A whole InstructBLIP: its Q-Former reads a text of its own, with ids and a mask that are not the decoder's. */
import { join } from 'node:path';
import * as ort from 'onnxruntime-node';
import { expect, it } from 'vitest';
import { compile, inspect } from '../../src/index.js';
import { FIXTURES, SESSION, toNumbers } from '../support/fixtures.js';
import { folder, modelFile } from '../support/folder.js';
import { encodeModel, FLOAT, graphOf, insertAfter, loadModel, node, valueInfo } from '../support/proto.js';

const MODEL = join(FIXTURES, 'instructblip-ts17', 'model.onnx');
const IMAGE = 60;
const PROMPT = [5, 9, 11, IMAGE, IMAGE, IMAGE, IMAGE, 17, 23, 31];
const VOCAB = 64;

it('the mask is the one that reaches the decoder, and ids that a table of the Q-Former is looked up with are no positions', async () => {
  expect((await inspect(MODEL)).inputs).toEqual({ pixel_values: 'other', qformer_input_ids: 'other', qformer_attention_mask: 'other', input_ids: 'token ids', attention_mask: 'attention mask' });
});

it('features of pictures laid out like hidden states are not the tokens’ embeddings where ids are looked up (Fuyu)', async () => {
  const model = loadModel('llama-ts17-ids');
  const graph = graphOf(model);
  graph.input?.push(valueInfo('image_patches', FLOAT, ['batch', 'patches', 64]));
  const looked = graph.node?.find((n) => n.opType === 'Gather' && n.input?.[1] === 'input_ids')?.output?.[0] as string;
  insertAfter(graph, looked, [node('ReduceMean', ['image_patches'], ['mean'], { axes: [1], keepdims: 1 }), node('Add', [looked, 'mean'], ['with_patches'])], 'with_patches');
  // The helper lets every reader read what is made, the Add of it too.
  for (const n of graph.node ?? []) if (n.output?.[0] === 'with_patches') n.input = [looked, 'mean'];
  const { inputs } = await inspect(modelFile(encodeModel(model)));
  expect(inputs).toMatchObject({ input_ids: 'token ids', image_patches: 'other', attention_mask: 'attention mask' });
});

const int64 = (rows: readonly (readonly number[])[]): ort.Tensor => new ort.Tensor('int64', BigInt64Array.from(rows.flat(), BigInt), [rows.length, rows[0]?.length ?? 0]);
const ones = (rows: readonly (readonly number[])[]): ort.Tensor => int64(rows.map((r) => r.map(() => 1)));
const pixels = (rows: number): ort.Tensor => new ort.Tensor('float32', Float32Array.from({ length: rows * 768 }, (_, i) => Math.sin((i % 768) * 0.7)), [rows, 3, 16, 16]);

it('a padded row drops and answers as it does alone, whatever the length of the other text', { timeout: 30_000 }, async () => {
  const { output } = await compile(MODEL, { layers: [1, 2], keep: ['0.5', '0.25'], probe: true, output: join(folder(), 'out.onnx') });
  const session = await ort.InferenceSession.create(output as string, SESSION);
  const question = [4, 8, 15, 16];
  const alone = await session.run({ pixel_values: pixels(1), qformer_input_ids: int64([question]), qformer_attention_mask: ones([question]), input_ids: int64([PROMPT]), attention_mask: ones([PROMPT]) });
  const padding = [0, 0, 0];
  const other = [7, 7, 7, ...PROMPT.slice(2, 7), 40, 41, 42, 43, 44];
  const rows = [[...padding, ...PROMPT], other];
  // Padding of the Q-Former's own text behind it, so that its mask is not all ones either.
  const questions = [[...question, 0, 0], [3, 3, 5, 6, 7, 9]];
  const both = await session.run({
    pixel_values: pixels(2), qformer_input_ids: int64(questions), qformer_attention_mask: int64([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]]),
    input_ids: int64(rows), attention_mask: int64([[...padding, ...PROMPT.map(() => 1)], other.map(() => 1)]),
  });
  await session.release();
  // Of 4 image tokens 2 and 1 are kept.
  expect([alone.logits?.dims, both.logits?.dims]).toEqual([[1, PROMPT.length - 3, VOCAB], [2, other.length - 3, VOCAB]]);
  for (const k of [1, 2]) {
    const kept = toNumbers(both[`pdrop_kept.${k}`] as ort.Tensor);
    const first = kept.slice(0, kept.length / 2).filter((i) => i >= padding.length).map((i) => i - padding.length);
    expect(first).toEqual(toNumbers(alone[`pdrop_kept.${k}`] as ort.Tensor));
  }
  const last = (t: ort.Tensor): number[] => toNumbers(t).slice(((t.dims[1] as number) - 1) * VOCAB, (t.dims[1] as number) * VOCAB);
  const [want, got] = [last(alone.logits as ort.Tensor), last(both.logits as ort.Tensor)];
  expect(Math.max(...want.map((x, i) => Math.abs(x - (got[i] as number))))).toBeLessThan(1e-4 * Math.max(...want.map(Math.abs)));
});
