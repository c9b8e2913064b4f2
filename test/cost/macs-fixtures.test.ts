/** One decoder, exported in many ways: it must cost the same in every dialect, and what its sizes say. */
import { describe, expect, it } from 'vitest';
import { evaluateShapes, type InputBinding } from '../../src/analyse/shapes/index.js';
import { countMacs, groupCosts } from '../../src/cost/macs.js';
import { FileSource } from '../../src/disk/files.js';
import type { Value } from '../../src/ir/graph.js';
import { readModel } from '../../src/onnx/read.js';

const LAYERS = 8;
const HIDDEN = 64;
const HEADS = 4;
const KV_HEADS = 2;
const HEAD_SIZE = 16;
const MLP = 96;
const VOCABULARY = 128;

function expected(batch: number, tokens: number, past: number) {
  const projections = HIDDEN * (2 * HEADS + 2 * KV_HEADS) * HEAD_SIZE + 3 * HIDDEN * MLP;
  return {
    linear: batch * tokens * (LAYERS * projections + HIDDEN * VOCABULARY),
    attention: LAYERS * batch * HEADS * tokens * (past + tokens) * HEAD_SIZE * 2,
  };
}

async function evaluate(fixture: string, batch: number, tokens: number, past: number) {
  const source = new FileSource(new URL(`../../fixtures/${fixture}/model.onnx`, import.meta.url).pathname);
  const { graph } = await readModel(source);
  source.close();
  const inputs = new Map<Value, InputBinding>(graph.inputs.map((v) => [v, { shape: shapeOf(v, batch, tokens, past) }]));
  return { graph, facts: evaluateShapes(graph, { inputs }) };
}

function shapeOf(value: Value, batch: number, tokens: number, past: number): number[] {
  if (value.name === 'attention_mask') return [batch, past + tokens];
  if (value.name.startsWith('past')) return [batch, KV_HEADS, past, HEAD_SIZE];
  return value.name === 'inputs_embeds' ? [batch, tokens, HIDDEN] : [batch, tokens];
}

describe.each([
  'llama-ts14-eager',
  'llama-ts17-sdpa',
  'llama-dynamo18-eager',
  'llama-dynamo24-sdpa',
  'genai-llama-fp32',
  'genai-llama-int4',
  'genai-llama-embeds-fp32',
])('%s', (fixture) => {
  it.each([
    ['prefill', 2, 9, 0],
    ['decode', 2, 1, 4],
    ['a second chunk', 1, 9, 3],
  ])('%s costs what its sizes say', async (_, batch, tokens, past) => {
    const { graph, facts } = await evaluate(fixture, batch, tokens, past);
    const table = countMacs(graph, facts);
    // Products with an initializer are projections, products of two activations attention.
    const groups = groupCosts(table, (n) => {
      const weights = n.inputs.some((v) => v?.tensor !== undefined);
      return n.opType.endsWith('Attention') || (n.opType === 'MatMul' && !weights) ? 'attention' : 'linear';
    });
    const want = expected(batch, tokens, past);
    expect(facts.conflicts.map((c) => c.reason)).toEqual([]);
    expect(table.uncounted.map((n) => n.opType)).toEqual([]);
    expect({ linear: groups.get('linear')?.macs, attention: groups.get('attention')?.macs }).toEqual(want);
    expect(table.macs).toBe(want.linear + want.attention);
  });
});

describe('genai-llama-mha-fp16', () => {
  it('costs the same, with k and v repeated for MultiHeadAttention', async () => {
    const { graph, facts } = await evaluate('genai-llama-mha-fp16', 2, 9, 0);
    const { linear, attention } = expected(2, 9, 0);
    expect(countMacs(graph, facts).macs).toBe(linear + attention);
  });

  it('is found unable to take a second chunk, as onnxruntime finds it', async () => {
    const { facts } = await evaluate('genai-llama-mha-fp16', 1, 9, 3);
    expect(facts.conflicts[0]).toMatchObject({ node: { opType: 'Expand' }, reason: 'cannot broadcast sizes 9 and 12 (axis -1)' });
  });
});
