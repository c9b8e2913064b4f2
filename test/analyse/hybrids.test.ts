/** Hybrids: layers that mix tokens by convolution are counted as layers, and boundaries stand before layers that can rank. */
import { describe, expect, it } from 'vitest';
import { cliJson } from '../support/cli.js';
import { factsOf } from '../support/decoder.js';
import { expectRefusal } from '../support/refuse.js';
import { FIXTURES } from '../support/fixtures.js';

/** Attention in layers 1, 3 and 4 of six. */
const MODEL = `${FIXTURES}/tf-lfm2/model.onnx`;

describe('a hybrid', () => {
  it('has all its layers, each with its state or its cache', async () => {
    const { layers } = await factsOf(MODEL);
    expect(layers.map((l) => (l.core ? 'attention' : l.mixer?.states.map((v) => v.name)))).toEqual([
      ['input.past_key_values.layers.0.conv_states.0'],
      'attention',
      ['input.past_key_values.layers.2.conv_states.0'],
      'attention',
      'attention',
      ['input.past_key_values.layers.5.conv_states.0'],
    ]);
  });

  it('numbers its layers alike where two states belong to one, as ops of their own or spelled out', async () => {
    const kinds = async (name: string): Promise<(string | number)[]> => (await factsOf(`${FIXTURES}/${name}/model.onnx`)).layers.map((l) => (l.core ? 'attention' : (l.mixer?.states.length ?? 0)));
    expect(await kinds('genai-qwen3.5-fp32')).toEqual([2, 'attention', 2, 'attention', 2]);
    expect(await kinds('tf-qwen3.5')).toEqual(['attention', 'attention', 2, 'attention']);
  });

  it('has states whose renewed sizes the exporter left open', async () => {
    const { layers } = await factsOf(`${FIXTURES}/lfm2-ts17/model.onnx`);
    expect(layers.map((l) => (l.core ? 'attention' : l.mixer?.renewed.map((v) => v.name)))).toEqual([['present.0.conv'], 'attention', ['present.2.conv'], 'attention']);
  });

  it('is not cut before a layer that cannot rank, when that is asked for', async () => {
    const error = await expectRefusal(MODEL, 'PD326', ['--layers', '2']);
    expect(error.hint).toContain('1, 3, 4');
  });

  it('may be cut anywhere when ranking needs no attention', async () => {
    const { code, json } = await cliJson(MODEL, '--layers', '2', '--rank', 'uniform', '--dry-run');
    expect(JSON.stringify(json.error ?? null)).toBe('null');
    expect(code).toBe(0);
  });

  it('has the default schedule moved to layers that have attention, and says so', async () => {
    const { json } = await cliJson(MODEL, '--stages', '3', '--dry-run');
    expect((json.plan as { layers: number[] }).layers).toEqual([3, 4]);
    expect(json.warnings).toEqual(['the boundary before layer 2 is moved to layer 3: layer 2 has no attention to rank with']);
  });
});
