/** In-band marks: put on by the vision encoder, recognised by the decoder, proved against the embedding table. */
import { copyFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as ort from 'onnxruntime-node';
import { expect, test } from 'vitest';
import { check, compile, type CompileReport } from '../../src/index.js';
import { toHalf } from '../../src/ir/half.js';
import { embeddingTable } from '../../src/marks/table.js';
import { MemorySource } from '../../src/onnx/bytes.js';
import { readModel } from '../../src/onnx/read.js';
import { isMark, MARK_BITS, markChannels, toMark } from '../../src/plan/marks.js';
import { cli } from '../support/cli.js';
import { FIXTURES, SESSION, toNumbers } from '../support/fixtures.js';
import { files, folder } from '../support/folder.js';
import { encodeModel, FLOAT, float32, INT64, int64, modelOf, node, type NodeProto, type TensorProto, valueInfo } from '../support/proto.js';

const FLOAT16 = 10;

function lvlm(): string {
  const path = folder();
  for (const name of ['decoder_model_merged.onnx', 'embed_tokens.onnx', 'vision_encoder.onnx']) copyFileSync(join(FIXTURES, 'lvlm', name), join(path, name));
  return path;
}

async function run(path: string, feeds: Record<string, ort.Tensor>): Promise<ort.InferenceSession.ReturnType> {
  const session = await ort.InferenceSession.create(path, SESSION);
  try {
    return await session.run(feeds);
  } finally {
    await session.release();
  }
}

/** A picture-like input: smooth, with an edge. */
function pixels(count: number, size: number): ort.Tensor {
  const values = Float32Array.from({ length: count * 3 * size * size }, (_, i) => Math.sin(i / 37) * 0.7 + ((i >> 6) & 1 ? 0.2 : -0.2));
  return new ort.Tensor('float32', values, [count, 3, size, size]);
}

function prompt(embeds: ort.Tensor, caches: Record<string, ort.Tensor>): Record<string, ort.Tensor> {
  const [rows, length] = embeds.dims as [number, number];
  const positions = BigInt64Array.from({ length: rows * length }, (_, i) => BigInt(i % length));
  return {
    inputs_embeds: embeds,
    attention_mask: new ort.Tensor('int64', new BigInt64Array(rows * length).fill(1n), [rows, length]),
    position_ids: new ort.Tensor('int64', positions, [rows, length]),
    ...caches,
  };
}

function emptyCaches(layers: number, rows: number, heads: number, size: number): Record<string, ort.Tensor> {
  return Object.fromEntries(
    Array.from({ length: layers }, (_, l) => ['key', 'value'].map((k) => [`past_key_values.${l}.${k}`, new ort.Tensor('float32', new Float32Array(0), [rows, heads, 0, size])] as const)).flat(),
  );
}

test('the shipped LVLM: marked features are recognised, and the graph does what it does with a mask input', async () => {
  const path = lvlm();
  const decoder = join(path, 'decoder_model_merged.onnx');
  const report = await compile(decoder, { imageMask: 'marks', probe: true });
  const masked = await compile(decoder, { imageMask: 'input', probe: true, output: join(path, 'masked.onnx') });
  expect(report.addedInputs).toEqual([]);
  expect(report.plan.imageMask).toEqual({ kind: 'marks', channels: [8, 24, 40, 56, 72, 88, 104, 120], bits: { float32: 14, float16: 5 } });
  const vision = report.marks?.vision as NonNullable<CompileReport['marks']>['vision'];
  expect(vision.effect).toMatchObject({ rows: 288, recognised: 288, clipped: 0 });
  expect(vision.effect?.largest).toBeLessThanOrEqual(2 ** -14);
  expect((await check(report.output as string)).ok).toBe(true);

  const marked = (await run(vision.output as string, { pixel_values: pixels(2, 96) })).image_features as ort.Tensor;
  const plain = (await run(join(path, 'vision_encoder.onnx'), { pixel_values: pixels(2, 96) })).image_features as ort.Tensor;
  const marks = markChannels(128);
  const [a, b] = [marked.data as Float32Array, plain.data as Float32Array];
  expect(a.every((x, i) => (marks.includes(i % 128) ? x === toMark(b[i] as number, 14, 'float32') : x === b[i]))).toBe(true);

  const ids = [1, ...new Array<number>(144).fill(4), 9, 10, 11, 12, 13];
  const feed = new ort.Tensor('int64', BigInt64Array.from([...ids, ...ids].map(BigInt)), [2, ids.length]);
  const embeds = (await run(join(path, 'embed_tokens.onnx'), { input_ids: feed })).inputs_embeds as ort.Tensor;
  for (const row of [0, 1]) (embeds.data as Float32Array).set(a.subarray(row * 144 * 128, (row + 1) * 144 * 128), (row * ids.length + 1) * 128);
  const feeds = prompt(embeds, emptyCaches(8, 2, 2, 32));
  const withMarks = await run(report.output as string, feeds);
  const mask = new ort.Tensor('bool', Uint8Array.from([...ids, ...ids], (id) => (id === 4 ? 1 : 0)), [2, ids.length]);
  const withMask = await run(masked.output as string, { ...feeds, image_token_mask: mask });
  expect(Object.keys(withMarks)).toEqual(Object.keys(withMask));
  for (const [name, value] of Object.entries(withMask)) {
    expect(withMarks[name]?.dims, name).toEqual(value.dims);
    expect(withMarks[name]?.data, name).toEqual(value.data);
  }
  expect(withMarks['pdrop_kept.3']?.dims).toEqual([2, 6 + 18]);
});

test('decode steps and text-only prompts are not marked: nothing is dropped', async () => {
  const path = lvlm();
  const report = await compile(join(path, 'decoder_model_merged.onnx'), { imageMask: 'marks', measure: false });
  const ids = Array.from({ length: 64 }, (_, i) => i);
  const embeds = (await run(join(path, 'embed_tokens.onnx'), { input_ids: new ort.Tensor('int64', BigInt64Array.from(ids.map(BigInt)), [1, 64]) })).inputs_embeds as ort.Tensor;
  const feeds = prompt(embeds, emptyCaches(8, 1, 2, 32));
  const [compiled, original] = [await run(report.output as string, feeds), await run(join(path, 'decoder_model_merged.onnx'), feeds)];
  for (const [name, value] of Object.entries(original)) expect(compiled[name]?.data, name).toEqual(value.data);
});

/** Embedding graph: a table, then `after` from 'looked' to 'inputs_embeds'. */
function embedGraph(table: TensorProto, after: (out: string) => NodeProto[] = (out) => [node('Identity', ['looked'], [out])], extra: TensorProto[] = [], type = FLOAT): Uint8Array {
  const hidden = Number(table.dims?.[1]);
  return encodeModel(
    modelOf({
      nodes: [node('Gather', ['table', 'input_ids'], ['looked']), ...after('inputs_embeds')],
      inputs: [valueInfo('input_ids', INT64, ['batch', 'sequence'])],
      outputs: [valueInfo('inputs_embeds', type, ['batch', 'sequence', hidden])],
      initializers: [table, ...extra],
    }),
  );
}

function half(name: string, values: readonly number[], dims: readonly number[]): TensorProto {
  const t = float32(name, [], dims);
  t.dataType = FLOAT16;
  t.rawData = new Uint8Array(Uint16Array.from(values.map(toHalf)).buffer);
  return t;
}

function int8(name: string, values: readonly number[], dims: readonly number[], dataType = 3): TensorProto {
  const t = float32(name, [], dims);
  t.dataType = dataType;
  t.rawData = Uint8Array.from(values.map((v) => v & 255));
  return t;
}

const random = (n: number, scale = 1): number[] => Array.from({ length: n }, (_, i) => Math.fround(Math.sin(i * 12.9898 + 4.1) * 43758.5453 - Math.floor(Math.sin(i * 12.9898 + 4.1) * 43758.5453) - 0.5) * 2 * scale);

test.each([
  ['float32', () => embedGraph(float32('table', random(40 * 16), [40, 16]))],
  ['float16', () => embedGraph(half('table', random(40 * 16), [40, 16]), undefined, [], FLOAT16)],
  ['float16 stored, float32 given', () => embedGraph(half('table', random(40 * 16), [40, 16]), (out) => [node('Cast', ['looked'], [out], { to: FLOAT })])],
  ['scaled by a constant', () => embedGraph(float32('table', random(40 * 16), [40, 16]), (out) => [node('Mul', ['looked', 'factor'], [out])], [float32('factor', [11.3137], [])])],
  [
    '8 bits, one scale',
    () =>
      embedGraph(
        int8('table', random(40 * 16, 127).map(Math.round), [40, 16]),
        (out) => [node('DequantizeLinear', ['looked', 'scale', 'zero'], [out])],
        [float32('scale', [0.0173], []), int8('zero', [3], [])],
      ),
  ],
])('an embedding table, %s, is read as the graph gives it', async (_name, make) => {
  const bytes = make();
  const table = await embeddingTable(await readModel(new MemorySource(bytes)), () => {
    throw new Error('nothing is outside');
  });
  const path = join(folder(), 'embed_tokens.onnx');
  writeFileSync(path, bytes);
  const given = (await run(path, { input_ids: new ort.Tensor('int64', BigInt64Array.from({ length: 40 }, (_, i) => BigInt(i)), [1, 40]) })).inputs_embeds as ort.Tensor;
  expect([table.rows, table.hidden]).toEqual([40, 16]);
  // In two slices, as large tables are.
  expect([...(await table.read(0, 13)), ...(await table.read(13, 27))]).toEqual(toNumbers(given));
});

test.each([4, 8])('an embedding table of blocks of %i bits is read as the graph gives it', async (bits) => {
  const [rows, hidden, block] = [24, 64, 32];
  const packed = (hidden * bits) / 8;
  const bytes = encodeModel(
    modelOf({
      opset: 21,
      nodes: [node('GatherBlockQuantized', ['table', 'input_ids', 'scales', 'zeros'], ['inputs_embeds'], { bits, block_size: block, gather_axis: 0, quantize_axis: 1 }, 'com.microsoft')],
      inputs: [valueInfo('input_ids', INT64, ['batch', 'sequence'])],
      outputs: [valueInfo('inputs_embeds', FLOAT, ['batch', 'sequence', hidden])],
      initializers: [
        int8('table', random(rows * packed, 128).map(Math.round), [rows, packed], 2),
        float32('scales', random(rows * 2, 0.1), [rows, 2]),
        int8('zeros', random((rows * 2 * bits) / 8, 128).map(Math.round), [rows, (2 * bits) / 8], 2),
      ],
    }),
  );
  const table = await embeddingTable(await readModel(new MemorySource(bytes)), () => {
    throw new Error('nothing is outside');
  });
  const path = join(folder(), 'embed_tokens.onnx');
  writeFileSync(path, bytes);
  const given = (await run(path, { input_ids: new ort.Tensor('int64', BigInt64Array.from({ length: rows }, (_, i) => BigInt(i)), [1, rows]) })).inputs_embeds as ort.Tensor;
  expect([...(await table.read(0, 5)), ...(await table.read(5, rows - 5))]).toEqual(toNumbers(given));
});

test('an embedding graph may be as long as it likes: merges are followed, and conversions only so far', async () => {
  const chain = (count: number, link: (i: number, x: string, y: string) => NodeProto) => (out: string) => Array.from({ length: count }, (_, i) => link(i, i === 0 ? 'looked' : `v${i - 1}`, i === count - 1 ? out : `v${i}`));
  const tableOf = async (after: (out: string) => NodeProto[]): Promise<number> => {
    const model = modelOf({
      nodes: [node('Gather', ['table', 'input_ids'], ['looked']), ...after('inputs_embeds')],
      inputs: [valueInfo('input_ids', INT64, ['batch', 'sequence']), valueInfo('features', FLOAT, ['batch', 'sequence', 4])],
      outputs: [valueInfo('inputs_embeds', FLOAT, ['batch', 'sequence', 4])],
      initializers: [float32('table', random(80, 1), [20, 4]), int64('where', [0, 0], [1, 2])],
    });
    return (await embeddingTable(await readModel(new MemorySource(encodeModel(model))), () => Promise.reject(new Error('nothing is outside')))).rows;
  };
  expect(await tableOf(chain(20_000, (_, x, y) => node('ScatterND', [x, 'where', 'features'], [y])))).toBe(20);
  expect(await tableOf(chain(40, (_, x, y) => node('Cast', [x], [y], { to: FLOAT })))).toBe(20);
  await expect(tableOf(chain(100, (_, x, y) => node('Cast', [x], [y], { to: FLOAT })))).rejects.toMatchObject({ code: 'PD604', message: expect.stringContaining('more than 64 conversions') });
});

/** Pixels times a constant, as features of `type`: a vision encoder at its barest. */
function visionGraph(type: number, hidden: number, factor: number): Uint8Array {
  return encodeModel(
    modelOf({
      nodes: [
        node('Reshape', ['pixel_values', 'shape'], ['flat']),
        node('Mul', ['flat', 'factor'], ['large']),
        ...(type === FLOAT ? [node('Identity', ['large'], ['image_features'])] : [node('Cast', ['large'], ['image_features'], { to: type })]),
      ],
      inputs: [valueInfo('pixel_values', FLOAT, ['batch', 3, 16, 16])],
      outputs: [valueInfo('image_features', type, ['batch', 'tokens', hidden])],
      initializers: [float32('factor', [factor], []), { ...float32('shape', [], [3]), dataType: INT64, rawData: new Uint8Array(BigInt64Array.from([0n, -1n, BigInt(hidden)]).buffer) } as TensorProto],
    }),
  );
}

async function halfPrecision(factor: number): Promise<{ report: CompileReport; masked: CompileReport; path: string }> {
  const path = folder();
  copyFileSync(join(FIXTURES, 'genai-llama-fp16', 'model.onnx'), join(path, 'decoder.onnx'));
  if (existsSync(join(FIXTURES, 'genai-llama-fp16', 'model.onnx.data'))) copyFileSync(join(FIXTURES, 'genai-llama-fp16', 'model.onnx.data'), join(path, 'model.onnx.data'));
  writeFileSync(join(path, 'embed_tokens.onnx'), embedGraph(half('table', random(50 * 64, 3), [50, 64]), undefined, [], FLOAT16));
  writeFileSync(join(path, 'vision_encoder.onnx'), visionGraph(FLOAT16, 64, factor));
  const report = await compile(join(path, 'decoder.onnx'), { imageMask: 'marks', stages: 2 });
  const masked = await compile(join(path, 'decoder.onnx'), { imageMask: 'input', stages: 2, output: join(path, 'masked.onnx') });
  return { report, masked, path };
}

test('half precision: marks of 2⁻⁵ in float16 features, and the same outputs as with a mask input', async () => {
  const { report, masked } = await halfPrecision(2);
  expect(report.marks?.vision.effect).toMatchObject({ rows: 24, recognised: 24, clipped: 0 });
  expect(report.marks?.vision.effect?.largest).toBeLessThanOrEqual(2 ** -5);
  const features = (await run(report.marks?.vision.output as string, { pixel_values: pixels(1, 16) })).image_features as ort.Tensor;
  const session = await ort.InferenceSession.create(report.output as string, SESSION);
  const text = random(6 * 64, 2).map(toHalf);
  const raw = new Uint16Array((features.data as unknown as Uint16Array).buffer, (features.data as unknown as Uint16Array).byteOffset, 12 * 64);
  const embeds = new ort.Tensor('float16', Uint16Array.from([...text.slice(0, 64), ...raw, ...text.slice(64)]) as never, [1, 18, 64]);
  const feeds: Record<string, ort.Tensor> = { inputs_embeds: embeds, attention_mask: new ort.Tensor('int64', new BigInt64Array(18).fill(1n), [1, 18]) };
  for (const m of session.inputMetadata) {
    if (!m.isTensor || feeds[m.name]) continue;
    feeds[m.name] = new ort.Tensor(m.type, new Uint16Array(0) as never, (m.shape as (number | string)[]).map((d, i) => (typeof d === 'number' ? d : ([1, 0, 0, 16][i] as number))));
  }
  const withMarks = await session.run(feeds);
  await session.release();
  const withMask = await run(masked.output as string, { ...feeds, image_token_mask: new ort.Tensor('bool', Uint8Array.from({ length: 18 }, (_, i) => (i > 0 && i < 13 ? 1 : 0)), [1, 18]) });
  expect(withMarks.logits?.dims[1]).toBe(12);
  for (const [name, value] of Object.entries(withMask)) expect(toNumbers(withMarks[name] as ort.Tensor), name).toEqual(toNumbers(value));
});

test('features beyond what half precision can mark are clipped, still recognised, and that is said', async () => {
  const { report } = await halfPrecision(100);
  expect(report.marks?.vision.effect?.recognised).toBe(24);
  expect(report.marks?.vision.effect?.clipped).toBeGreaterThan(0);
  expect(report.warnings.join()).toMatch(/clipped/);
});

test('marks are exact: odd multiples, at most 2^−m away, also at the ends', () => {
  for (const [type, bits] of Object.entries(MARK_BITS) as ['float32' | 'float16', number][]) {
    const limit = type === 'float32' ? 1024 : 64;
    for (const x of [0, -0, 1e-9, -1e-9, 0.1, -0.1, 3.125, -limit + 0.01, limit - 0.01, ...random(200, limit)]) {
      const y = toMark(x, bits, type);
      expect(isMark(y, bits), String(x)).toBe(true);
      expect(Math.abs(y - x)).toBeLessThanOrEqual(2 ** -bits);
      expect(type === 'float32' ? Math.fround(y) : y).toBe(y);
    }
    for (const x of [0, 2 ** (1 - bits), 4 * limit, 1e30, Number.NaN]) expect(isMark(x, bits), String(x)).toBe(false);
    expect(isMark(toMark(1e30, bits, type), bits)).toBe(true);
  }
});

/** A table of which every row is marked in the channels of `taken`. */
function collidingTable(taken: readonly number[]): Uint8Array {
  const values = random(64 * 128);
  for (const c of taken) values[5 * 128 + c] = 3 * 2 ** -14;
  return embedGraph(float32('table', values, [64, 128]));
}

test('a token that looks marked moves the channels; one that always does is refused', async () => {
  const path = lvlm();
  writeFileSync(join(path, 'embed_tokens.onnx'), collidingTable(markChannels(128)));
  const report = await compile(join(path, 'decoder_model_merged.onnx'), { imageMask: 'marks', measure: false });
  expect(report.plan.imageMask).toMatchObject({ channels: markChannels(128, 1) });
  // A plan made for one table is held to the other one when it is replayed.
  const planFile = join(path, 'plan.json');
  writeFileSync(planFile, JSON.stringify({ ...report.plan, imageMask: { ...report.plan.imageMask, channels: markChannels(128) } }));
  const again = { plan: planFile, output: join(path, 'again.onnx'), visionOutput: join(path, 'again-vision.onnx'), measure: false };
  await expect(compile(join(path, 'decoder_model_merged.onnx'), again)).rejects.toMatchObject({ code: 'PD605', culprit: 'token id 5' });
  writeFileSync(join(path, 'embed_tokens.onnx'), collidingTable(Array.from({ length: 128 }, (_, i) => i)));
  await expect(compile(join(path, 'decoder_model_merged.onnx'), { imageMask: 'marks', force: true, measure: false })).rejects.toMatchObject({ code: 'PD605' });
  expect(existsSync(join(path, 'again.onnx'))).toBe(false);
});

test('same files and options: the same bytes', async () => {
  const [a, b] = [lvlm(), lvlm()];
  for (const path of [a, b]) await compile(join(path, 'decoder_model_merged.onnx'), { imageMask: 'marks', measure: false });
  for (const name of ['decoder_model_merged.pdrop.onnx', 'vision_encoder.pdrop.onnx']) expect(readFileSync(join(a, name)).equals(readFileSync(join(b, name))), name).toBe(true);
});

test.each<[string, string, (path: string) => void, RegExp]>([
  ['PD602', 'no embedding graph', (path) => copyFileSync(join(path, 'embed_tokens.onnx'), join(path, 'embed_tokens_two.onnx')), /--embed/],
  ['PD604', 'embeddings that are normalised', (path) => writeFileSync(join(path, 'embed_tokens.onnx'), embedGraph(float32('table', random(64 * 128), [64, 128]), (out) => [node('Softmax', ['looked'], [out])])), /--image-mask input/],
  ['PD606', 'a vision encoder of another width', (path) => writeFileSync(join(path, 'vision_encoder.onnx'), visionGraph(FLOAT, 64, 1)), /--image-mask input/],
  ['PD604', 'an embedding graph that is none', (path) => copyFileSync(join(path, 'vision_encoder.onnx'), join(path, 'embed_tokens.onnx')), /lookup/],
])('%s: %s, and nothing is written', async (code, _what, spoil, hint) => {
  const path = lvlm();
  spoil(path);
  const before = files(path);
  const { code: exit, err } = await cli(join(path, 'decoder_model_merged.onnx'), '--image-mask', 'marks');
  expect(err).toContain(code);
  expect(err).toMatch(hint);
  expect(exit).toBe(3);
  expect(files(path)).toEqual(before);
});

test('a marked vision encoder is not marked again, and ids need no marks', async () => {
  const path = lvlm();
  const decoder = join(path, 'decoder_model_merged.onnx');
  const report = await compile(decoder, { imageMask: 'marks', measure: false });
  await expect(compile(decoder, { imageMask: 'marks', vision: report.marks?.vision.output as string, output: join(path, 'x.onnx'), visionOutput: join(path, 'y.onnx') })).rejects.toMatchObject({ code: 'PD316' });
  const ids = { imageMask: 'marks', embed: join(path, 'embed_tokens.onnx'), vision: join(path, 'vision_encoder.onnx'), output: join(path, 'z.onnx'), visionOutput: join(path, 'zv.onnx') };
  await expect(compile(join(FIXTURES, 'llama-ts17-ids', 'model.onnx'), ids)).rejects.toMatchObject({ code: 'PD601' });
  expect(files(path).filter((f) => /^(x|y|z|zv)\.onnx/.test(f))).toEqual([]);
});
