/**
 * The evaluator against onnxruntime: dtypes, shapes and integer contents of a fixture's values, as record_shapes.py
 * wrote them from a run with all values as outputs. The feeds' integers are bound, activations are not.
 */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { evaluateShapes, type InputBinding } from '../../src/analyse/shapes/index.js';
import { countMacs } from '../../src/cost/macs.js';
import { FileSource } from '../../src/disk/files.js';
import type { Value } from '../../src/ir/graph.js';
import { readModel } from '../../src/onnx/read.js';

interface Entry {
  readonly dtype: number;
  readonly shape: readonly number[];
  readonly data?: readonly number[];
}

interface Recording {
  readonly inputs: Readonly<Record<string, Entry>>;
  readonly values: Readonly<Record<string, Entry>>;
}

async function load(fixture: string) {
  const recording = JSON.parse(readFileSync(new URL(`data/${fixture}.json`, import.meta.url), 'utf8')) as Recording;
  const source = new FileSource(new URL(`../../fixtures/${fixture}/model.onnx`, import.meta.url).pathname);
  const { graph } = await readModel(source);
  source.close();
  const bind = (withData: boolean): Map<Value, InputBinding> =>
    new Map(
      graph.inputs.flatMap((value) => {
        const entry = recording.inputs[value.name];
        return entry ? [[value, { shape: entry.shape, data: withData ? entry.data : undefined }] as const] : [];
      }),
    );
  return { graph, recording, bind };
}

// [fixture, values compared at least]
describe.each([
  // TorchScript: shape arithmetic in every layer.
  ['llama-ts17-sdpa', 500],
  // Standard Attention, opset 23.
  ['qwen3-dynamo23-sdpa', 400],
  // GroupQueryAttention, MatMulNBits.
  ['genai-llama-int4', 50],
  // Vision tower, image features gathered by CumSum of the image tokens.
  ['tf-llava-mono-gqa', 200],
])('%s', (fixture, least) => {
  it('has the dtypes, shapes and integers that onnxruntime computes', async () => {
    const { graph, recording, bind } = await load(fixture);
    const facts = evaluateShapes(graph, { inputs: bind(true) });
    let compared = 0;
    let contents = 0;
    for (const value of graph.nodes.flatMap((n) => n.outputs)) {
      const want = value && recording.values[value.name];
      if (!value || !want) continue;
      const fact = facts.get(value);
      expect({ name: value.name, dtype: fact?.dtype, shape: fact?.shape }).toEqual({ name: value.name, dtype: want.dtype, shape: want.shape });
      if (want.data && fact?.data) {
        expect({ name: value.name, data: fact.data }).toEqual({ name: value.name, data: want.data });
        contents++;
      }
      compared++;
    }
    expect(compared).toBeGreaterThan(least);
    expect(contents).toBeGreaterThan(0);
    expect([...facts.unknownOps]).toEqual([]);
    expect(facts.conflicts.map((c) => c.reason)).toEqual([]);
    expect(countMacs(graph, facts).uncounted.map((n) => n.opType)).toEqual([]);
  });

  it('never contradicts onnxruntime when contents are not given', async () => {
    const { graph, recording, bind } = await load(fixture);
    const facts = evaluateShapes(graph, { inputs: bind(false) });
    for (const value of graph.nodes.flatMap((n) => n.outputs)) {
      const want = value && recording.values[value.name];
      const shape = value && facts.get(value)?.shape;
      if (!value || !want || !shape) continue;
      expect({ name: value.name, shape: shape.map((d, i) => d ?? want.shape[i]) }).toEqual({ name: value.name, shape: want.shape });
    }
    expect(facts.conflicts.map((c) => c.reason)).toEqual([]);
  });
});
