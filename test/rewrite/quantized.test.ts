/**
 * Graphs quantized with Q and DQ nodes: what a runtime fuses in the original it fuses in the compiled graph, and at λ = 1
 * both give the same. A quantized weight with two readers, even through a DequantizeLinear each, or a Gather between a
 * DequantizeLinear and its product, would cost the fusion there, and with it the numbers.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as ort from 'onnxruntime-node';
import { afterAll, describe, expect, it } from 'vitest';
import { analyseDecoder } from '../../src/analyse/decoder.js';
import { compileModel, writeCompiled } from '../../src/compile.js';
import { MemorySink, MemorySource } from '../../src/onnx/bytes.js';
import { readModel } from '../../src/onnx/read.js';
import { relativeError, SESSION } from '../support/fixtures.js';
import { fixturePath } from '../support/proto.js';
import { seeded } from '../support/random.js';

const folder = mkdtempSync(join(tmpdir(), 'pdrop-quantized-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Quantized with constant scales as far as it goes: Q and DQ stand between queries, keys and their softmax, and in front of the caches. */
describe('llama-dynamo21-static-qdq', () => {
  const bytes = new Uint8Array(readFileSync(fixturePath('quantized/llama-dynamo21-static-qdq')));

  it('has all its layers, with the factor that is a constant behind a DequantizeLinear, and their caches', async () => {
    const { layers } = analyseDecoder(await readModel(new MemorySource(bytes)));
    expect(layers.map((l) => l.core?.past?.key.value.name)).toEqual([0, 1, 2, 3].map((i) => `past_key_values.${i}.key`));
    expect(layers.map((l) => l.core?.present?.key.name)).toEqual([0, 1, 2, 3].map((i) => `present.${i}.key`));
    for (const { core } of layers) expect(core?.scale).toBeCloseTo(1 / Math.sqrt(8), 2);
  });

  it('gives the same at λ = 1, and fewer tokens below', async () => {
    const original = await run(bytes);
    const whole = await run(await compiled(bytes, '1'));
    expect(relativeError(whole.logits, original.logits, 1)).toBeLessThanOrEqual(1e-5);
    expect((await run(await compiled(bytes, '0.5'))).logits.length).toBe((original.logits.length / 20) * (20 - 6));
  });
});

/** ONNX Runtime 1.32 cannot load the originals quantized by ModelOpt when it fuses: it takes float8 for integers. */
const SMALL = { hidden: 16, level: 'basic' };

/** What other tools make of one small export. Olive's has no Q and DQ: it fuses norms, and does not import the domain of the ops that it fuses them to. */
describe.each([
  ['llama-dynamo21-modelopt-int8', 'factors of the logits are quantized in the graph'],
  ['llama-dynamo21-modelopt-fp8', 'hidden states in float8, which no Gather takes'],
  ['llama-dynamo21-olive', 'no opset import of com.microsoft'],
])('%s: %s', (name) => {
  const bytes = new Uint8Array(readFileSync(fixturePath(`quantized/${name}`)));

  it('has all its layers, and gives the same at λ = 1, and fewer tokens below', async () => {
    const { layers } = analyseDecoder(await readModel(new MemorySource(bytes)));
    expect(layers.map((l) => l.core?.present?.key.name)).toEqual([0, 1, 2].map((i) => `present.${i}.key`));
    const original = await run(bytes, SMALL);
    const whole = await run(await compiled(bytes, '1'), SMALL);
    expect(relativeError(whole.logits, original.logits, 1)).toBeLessThanOrEqual(1e-5);
    expect((await run(await compiled(bytes, '0.5'), SMALL)).logits.length).toBe((original.logits.length / 20) * (20 - 6));
  });

  it('says what it imports', async () => {
    const { opsets, graph } = await readModel(new MemorySource(await compiled(bytes, '0.5')));
    for (const n of graph.nodes) expect([...opsets.keys()], n.name).toContain(n.domain);
  });
});

const BOUNDARIES = [2];

async function compiled(bytes: Uint8Array, keep: string): Promise<Uint8Array> {
  const made = await compileModel(new MemorySource(bytes), { layers: BOUNDARIES, keep: [keep], imageMask: 'input', verify: true });
  const sink = new MemorySink();
  await writeCompiled(made, sink);
  return sink.bytes();
}

/** Outputs of a prompt, and how often each op is in the graph that onnxruntime makes of a model for itself. */
async function run(bytes: Uint8Array, { hidden, level } = { hidden: 32, level: 'extended' }): Promise<{ ops: Map<string, number>; logits: number[] }> {
  const optimized = join(folder, 'optimized.onnx');
  const session = await ort.InferenceSession.create(bytes, { ...SESSION, graphOptimizationLevel: level as 'extended', optimizedModelFilePath: optimized });
  const random = seeded(3);
  const size = 20;
  const numbers = (n: number): Float32Array => Float32Array.from({ length: n }, () => (random.below(2000) - 1000) / 500);
  const feeds: Record<string, ort.Tensor> = {
    inputs_embeds: new ort.Tensor('float32', numbers(size * hidden), [1, size, hidden]),
    attention_mask: new ort.Tensor('int64', new BigInt64Array(size).fill(1n), [1, size]),
    position_ids: new ort.Tensor('int64', BigInt64Array.from({ length: size }, (_, i) => BigInt(i)), [1, size]),
    image_token_mask: new ort.Tensor('bool', Uint8Array.from({ length: size }, (_, i) => (i > 2 && i < 15 ? 1 : 0)), [1, size]),
  };
  for (const name of session.inputNames) if (name.startsWith('past')) feeds[name] = new ort.Tensor('float32', new Float32Array(0), [1, 2, 0, 8]);
  for (const name of Object.keys(feeds)) if (!session.inputNames.includes(name)) delete feeds[name];
  const outputs = await session.run(feeds);
  await session.release();
  const model = await readModel(new MemorySource(readFileSync(optimized)));
  const ops = new Map<string, number>();
  for (const n of model.graph.nodes) ops.set(n.opType, (ops.get(n.opType) ?? 0) + 1);
  return { ops, logits: Array.from((outputs.logits as ort.Tensor).data as Float32Array) };
}

describe.each([
  ['llama-dynamo21-4bit-qdq', ['MatMulNBits'], 'DequantizeLinear'],
  ['llama-dynamo21-8bit-qdq', ['QLinearMatMul', 'MatMulIntegerToFloat', 'MatMulInteger', 'DynamicQuantizeMatMul'], undefined],
] as const)('%s', (name, fused, unfused) => {
  const bytes = new Uint8Array(readFileSync(fixturePath(`quantized/${name}`)));
  const count = (ops: ReadonlyMap<string, number>): number => fused.reduce((n, op) => n + (ops.get(op) ?? 0), 0);

  it('is fused as before, and gives the same at λ = 1', async () => {
    const original = await run(bytes);
    const whole = await run(await compiled(bytes, '1'));
    expect(count(original.ops)).toBeGreaterThan(20);
    // The ranking reads rows of the projections that there are.
    expect(count(whole.ops)).toBe(count(original.ops));
    if (unfused) expect(whole.ops.get(unfused) ?? 0).toBe(original.ops.get(unfused) ?? 0);
    expect(whole.ops.get('MatMul') ?? 0).toBe(original.ops.get('MatMul') ?? 0);
    expect(relativeError(whole.logits, original.logits, 1)).toBeLessThanOrEqual(1e-5);
  });

  it('weights are shared: the compiled graph is not larger by more than its nodes', async () => {
    expect((await compiled(bytes, '0.5')).length - bytes.length).toBeLessThan(60_000);
  });
});
