/** Nothing depends on a node's or an inner value's name, nor on the order of nodes. */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { compile } from '../../src/index.js';
import { cli } from '../support/cli.js';
import { folder, modelFile } from '../support/folder.js';
import { encodeModel, fixturePath, loadModel } from '../support/proto.js';
import { exactly, hasFixture, planArgs, runScenarios } from '../support/run.js';
import { scramble } from '../support/scramble.js';

const DIALECTS = [
  'llama-ts17-sdpa',
  'llama-ts14-eager',
  'gemma3-ts17',
  'llama-dynamo18-eager',
  'qwen2-dynamo20-sdpa',
  'qwen2.5-vl-dynamo18',
  'qwen3-dynamo23-sdpa',
  'llama-dynamo24-sdpa',
  'genai-llama-fp32',
  'genai-llama-int4',
  'genai-llama-mha-fp16',
  'mobius-llava-decoder',
  'tf-llava-mono',
].filter(hasFixture);

describe('renamed and reordered', () => {
  it.each(DIALECTS)('%s', { timeout: 30_000 }, async (name) => {
    const model = loadModel(name);
    scramble(model, 7);
    const out = folder();
    const args = planArgs(name);
    const plain = await cli(fixturePath(name), ...args, '-o', join(out, 'plain.onnx'), '--probe', '--quiet');
    expect(plain.err).toBe('');
    const other = await cli(modelFile(encodeModel(model)), ...args, '-o', join(out, 'scrambled.onnx'), '--probe', '--quiet');
    expect(other.err).toBe('');
    const expected = await runScenarios(join(out, 'plain.onnx'), name, 'default', 2);
    const got = await runScenarios(join(out, 'scrambled.onnx'), name, 'default', 2);
    expect(got.length).toBe(expected.length);
    expect(got.length).toBeGreaterThan(0);
    got.forEach((o, i) => expect(exactly(o)).toEqual(exactly(expected[i] as (typeof expected)[0])));
  });

  it('adds as many nodes whatever the names', async () => {
    const model = loadModel('llama-ts17-sdpa');
    scramble(model, 3);
    const a = await compile(fixturePath('llama-ts17-sdpa'), { dryRun: true });
    const b = await compile(modelFile(encodeModel(model)), { dryRun: true });
    expect(b.nodes).toEqual(a.nodes);
  });
});
