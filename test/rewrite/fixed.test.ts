/** Graphs of fixed shapes: compiled with `--fix`, or out of exports of one length. What they compute is what the graph of any length computes. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as ort from 'onnxruntime-node';
import { expect, test } from 'vitest';
import { check, compile, type CompileOptions, inspect, plan } from '../../src/index.js';
import { compileModel, writeCompiled } from '../../src/compile.js';
import { MemorySink, MemorySource } from '../../src/onnx/bytes.js';
import { cli } from '../support/cli.js';
import { FIXTURES, SESSION, toNumbers } from '../support/fixtures.js';
import { folder, modelFile } from '../support/folder.js';
import { decodeModel, encodeModel, graphOf, type ModelProto } from '../support/proto.js';
import { seeded } from '../support/random.js';

const SPAN = { stages: 3, imageMask: 'span:5:20', probe: true } as const;

/** Feeds of a graph whose inputs are declared with numbers: `valid` tokens of each row, the rest padding at the right. */
function feedsOf(session: ort.InferenceSession, valid: number): Record<string, ort.Tensor> {
  const { below } = seeded(7);
  const random = (): number => below(1 << 20) / (1 << 20);
  return Object.fromEntries(
    session.inputMetadata.map((v) => {
      const { name, type, shape } = v as { name: string; type: string; shape: number[] };
      const count = shape.reduce((a, b) => a * b, 1);
      const column = (i: number): number => i % (shape.at(-1) as number);
      if (name === 'attention_mask') return [name, new ort.Tensor('int64', BigInt64Array.from({ length: count }, (_, i) => BigInt(Number(column(i) < valid))), shape)];
      if (name === 'position_ids') return [name, new ort.Tensor('int64', BigInt64Array.from({ length: count }, (_, i) => BigInt(column(i))), shape)];
      if (type === 'int64') return [name, new ort.Tensor('int64', BigInt64Array.from({ length: count }, () => BigInt(1 + Math.floor(random() * 50))), shape)];
      return [name, new ort.Tensor('float32', Float32Array.from({ length: count }, () => random() * 4 - 2), shape)];
    }),
  );
}

/** Runs both on the same prompts: with a mask also on one that is padded. */
async function compare(fixed: string, dynamic: string, sequence: number): Promise<void> {
  const [a, b] = [await ort.InferenceSession.create(fixed, SESSION), await ort.InferenceSession.create(dynamic, SESSION)];
  expect(b.outputNames).toEqual(a.outputNames);
  for (const valid of a.inputNames.includes('attention_mask') ? [sequence, sequence - 4] : [sequence]) {
    const feeds = feedsOf(a, valid);
    const got = await a.run(feeds);
    for (const v of b.inputMetadata as unknown as { name: string; shape: (number | string)[] }[]) {
      if (v.name === 'num_logits_to_keep') feeds[v.name] = new ort.Tensor('int64', [0n], []);
      feeds[v.name] ??= new ort.Tensor('float32', new Float32Array(0), v.shape.map((d, i) => (i === 0 ? 1 : typeof d === 'number' ? d : 0)));
    }
    const want = await b.run(feeds);
    for (const name of a.outputNames) {
      const [x, y] = [got[name] as ort.Tensor, want[name] as ort.Tensor];
      expect(x.dims, name).toEqual(y.dims);
      const other = toNumbers(y);
      const worst = toNumbers(x).reduce((most, v, i) => Math.max(most, Math.abs(v - (other[i] as number))), 0);
      expect(worst, `${name}, ${valid} valid tokens`).toBeLessThan(name.startsWith('pdrop_kept') ? 1e-9 : 2e-5);
    }
  }
  await a.release();
  await b.release();
}

/** Everything is declared with numbers, and nothing of what counts or branches is left. */
function requireNumbers(path: string): void {
  const graph = graphOf(decodeModel(readFileSync(path)));
  const dims = new Map([...(graph.input ?? []), ...(graph.output ?? []), ...(graph.valueInfo ?? [])].map((v) => [v.name, v.type?.tensorType?.shape?.dim]));
  const read = new Set([...(graph.node ?? []).flatMap((n) => n.input ?? []), ...(graph.output ?? []).map((v) => v.name)]);
  for (const n of graph.node ?? []) {
    expect(['If', 'Loop', 'Shape', 'Range', 'NonZero']).not.toContain(n.opType);
    for (const o of n.output ?? []) if (o && read.has(o)) expect(dims.has(o), `${o} is declared`).toBe(true);
  }
  for (const [name, shape] of dims) expect(shape?.every((d) => !d.dimParam && d.dimValue !== null && d.dimValue !== undefined), name as string).toBe(true);
}

// Fed positions and a mask computed in the graph; positions and mask as constants of tokens by tokens; no mask at all.
test.each(['llama-ts17', 'qwen2-dynamo20', 'qwen3-dynamo23-nomask'])('an export of 40 tokens, %s: as the export of any length', async (name) => {
  const out = folder();
  const from = (form: string): string => join(FIXTURES, 'fixed', name, `${form}.onnx`);
  const report = await compile(from('fixed'), { ...SPAN, output: join(out, 'fixed.onnx') });
  expect(report.plan.fix).toEqual({ batch: 1, sequence: 40 });
  expect(report.stages.map((s) => s.tokens)).toEqual([40, 30, 25]);
  expect(report.prompt).toEqual({ batch: 1, imageTokens: 20, textTokens: 20, past: 0 });
  expect(await plan(from('fixed'), SPAN)).toEqual(report.plan);
  expect(await check(join(out, 'fixed.onnx'))).toMatchObject({ ok: true });
  await compile(from('dynamic'), { ...SPAN, output: join(out, 'dynamic.onnx') });
  requireNumbers(join(out, 'fixed.onnx'));
  await compare(join(out, 'fixed.onnx'), join(out, 'dynamic.onnx'), 40);
  expect((await inspect(from('fixed'))).layers).toHaveLength(4);
});

// A cache that is left out of a Concat, of GroupQueryAttention and of Attention; convolutions with a state; pixels in the same graph; logits of the last n.
test.each(['genai-llama-embeds-fp32', 'qwen3-dynamo23-sdpa', 'tf-lfm2', 'tf-llava-mono', 'llama-ts17-logits-to-keep'])('--fix, %s: as the graph of any length', async (name) => {
  const out = folder();
  const model = join(FIXTURES, name, 'model.onnx');
  const options = { ...SPAN, ...(name === 'tf-llava-mono' ? { imageMask: 'span:3:16' } : {}) };
  await compile(model, { ...options, fix: { batch: 1, sequence: 35 }, output: join(out, 'fixed.onnx') });
  await compile(model, { ...options, output: join(out, 'dynamic.onnx') });
  requireNumbers(join(out, 'fixed.onnx'));
  expect((await check(join(out, 'fixed.onnx'))).checks.flatMap((c) => c.problems)).toEqual([]);
  await compare(join(out, 'fixed.onnx'), join(out, 'dynamic.onnx'), 35);
});

test('a fixed graph that keeps another number than its plan says fails its check', async () => {
  const path = join(folder(), 'fixed.onnx');
  await compile(join(FIXTURES, 'fixed', 'llama-ts17', 'fixed.onnx'), { ...SPAN, output: path });
  const model = decodeModel(readFileSync(path));
  const entry = model.metadataProps?.find((p) => p.key === 'pdrop.plan');
  if (entry) entry.value = (entry.value as string).replace('"count":20', '"count":24');
  const report = await check(modelFile(encodeModel(model)));
  expect(report.checks.flatMap((c) => c.problems).join()).toMatch(/boundary 1 keeps 30 tokens, the plan says 28/);
});

const FIX = { batch: 1, sequence: 40 };

test.each<[string, string, CompileOptions, RegExp]>([
  ['PD022', 'fixed/llama-ts17/fixed', { imageMask: 'input' }, /--image-mask input does not tell/],
  ['PD022', 'fixed/llama-ts17/fixed', {}, /--image-mask input does not tell/],
  ['PD022', 'llama-ts17-sdpa/model', { imageMask: 'span:30:20', fix: FIX }, /ends at token 50, the prompt has 40/],
  ['PD020', 'llama-ts17-sdpa/model', { imageMask: 'span:3:20', fix: { batch: 0, sequence: 40 } }, /batch is 0/],
  ['PD020', 'genai-llama-fp32/model', { runtime: 'genai', imageMask: 'span:3:20', fix: FIX }, /onnxruntime-genai/],
  ['PD622', 'fixed/llama-ts17/fixed', { imageMask: 'span:3:20', fix: { batch: 1, sequence: 48 } }, /exported for 1 × 40/],
  ['PD623', 'tf-mixtral/model', { imageMask: 'span:3:20', fix: FIX }, /not known/],
  ['PD624', 'genai-gemma2-windowed-fp32/model', { imageMask: 'span:3:20', fix: FIX }, /ring/],
  ['PD624', 'genai-phi3-longrope-fp32/model', { imageMask: 'span:3:20', fix: FIX }, /control flow/],
])('%s: %s is refused', async (code, name, options, message) => {
  await expect(compile(join(FIXTURES, `${name}.onnx`), { ...options, dryRun: true })).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
});

test.each<[string, (model: ModelProto) => void, RegExp]>([
  [
    'a mask that is no band',
    (model) => {
      const mask = graphOf(model).initializer?.find((t) => t.dims?.filter((d) => Number(d) === 40).length === 2);
      if (mask?.rawData) mask.rawData = mask.rawData.map((x, i) => (i === 45 ? 1 - x : x));
    },
    /depends on their distance alone/,
  ],
  [
    'a table with the length on a third axis',
    (model) => {
      const mask = graphOf(model).initializer?.find((t) => t.dims?.filter((d) => Number(d) === 40).length === 2);
      if (mask) Object.assign(mask, { dims: [40, 1, 40, 40], rawData: new Uint8Array(64000) });
    },
    /size of something else/,
  ],
])('PD307: %s', async (_, spoil, message) => {
  const model = decodeModel(readFileSync(join(FIXTURES, 'fixed', 'qwen2-dynamo20', 'fixed.onnx')));
  spoil(model);
  await expect(compile(modelFile(encodeModel(model)), { ...SPAN, dryRun: true })).rejects.toMatchObject({ code: 'PD307', message: expect.stringMatching(message) });
});

test('on the command line', async () => {
  const model = join(FIXTURES, 'llama-ts17-sdpa', 'model.onnx');
  const { code, out } = await cli(model, '--fix', 'sequence=40', '--image-mask', 'span:5:20', '--dry-run');
  expect([code, out]).toEqual([0, expect.stringMatching(/prefill of 20 image \+ 20 text tokens/)]);
  expect((await cli(model, '--fix', 'length=40', '--image-mask', 'span:5:20', '--dry-run')).err).toMatch(/PD020/);
});

test('an export of one length is compiled out of any bytes, a Buffer too, whose slices are views', async () => {
  const bytes = readFileSync(join(FIXTURES, 'fixed', 'llama-ts17', 'fixed.onnx'));
  const options = { layers: [1, 2], keep: ['0.5', '0.25'], imageMask: 'span:5:20' };
  const written = async (source: Uint8Array): Promise<Uint8Array> => {
    const sink = new MemorySink();
    await writeCompiled(await compileModel(new MemorySource(source), options), sink);
    return sink.bytes();
  };
  expect(Buffer.compare(await written(bytes), await written(new Uint8Array(bytes)))).toBe(0);
});
