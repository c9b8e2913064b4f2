/** Gemma 4 E-series: per-layer inputs go past the layers, and the last layers attend with the keys and values of earlier ones. */
import { describe, expect, it } from 'vitest';
import type { Value } from '../../src/ir/graph.js';
import { cliJson } from '../support/cli.js';
import { factsOf } from '../support/decoder.js';
import { expectRefusal } from '../support/refuse.js';
import { FIXTURES } from '../support/fixtures.js';

/** Layers 4 and 5 of six have no keys: they use those of layers 2 and 3. */
const MODEL = `${FIXTURES}/gemma4-dynamo20-shared/model.onnx`;

describe('layers that share keys', () => {
  it('are told apart, though the embeddings reach all of them', async () => {
    const { layers } = await factsOf(MODEL);
    expect(layers.map((l) => l.keysOf)).toEqual([undefined, undefined, undefined, undefined, 2, 3]);
    expect(new Set(layers.map((l) => l.residual)).size).toBe(6);
  });

  it('are told apart where a layer has several streams, [streams, batch, sequence, hidden]', async () => {
    const { layers, probes } = await factsOf(`${FIXTURES}/gemma3n-dynamo20/model.onnx`);
    expect(layers.map((l) => l.keysOf)).toEqual([undefined, undefined, undefined, undefined, 3]);
    expect(probes.axes(layers[2]?.residual as Value)).toEqual([3, 'B', 'S', 32]);
  });

  it.each([3, 4, 5])('are not torn apart by a boundary before layer %i', async (layer) => {
    const error = await expectRefusal(MODEL, 'PD322', ['--layers', String(layer)]);
    expect(error.message).toContain(layer === 3 ? 'layer 4 attends with the keys and values of layer 2' : `a boundary before layer ${layer}`);
    expect(error.hint).toContain('out of 1, 2:');
  });

  it('have the default schedule moved before the first that is shared, and it says so', async () => {
    const { json } = await cliJson(MODEL, '--stages', '3', '--dry-run');
    expect((json.plan as { layers: number[] }).layers).toEqual([1, 2]);
    expect(json.warnings).toEqual(['boundaries before layers 2, 4 are moved to 1, 2: later layers (the first is 4) attend with the keys and values of layer 2']);
  });

  it('leave room for so many stages only', async () => {
    const error = await expectRefusal(MODEL, 'PD314', ['--stages', '4']);
    expect(error.hint).toBe('use at most 3 stages');
  });
});
