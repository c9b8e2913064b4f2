/** The scripts people run by hand: a made decoder compiles and counts as its shape says. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { compile } from '../../src/index.js';
import { flopsOf } from '../../src/validate/flops.js';
import { temporaryFolder } from './support.js';

it('scripts/gpu/make-decoder.mjs makes a decoder of the asked shape', async () => {
  const folder = temporaryFolder();
  const model = join(folder, 'model.onnx');
  const script = join(import.meta.dirname, '..', '..', 'scripts', 'gpu', 'make-decoder.mjs');
  execFileSync(process.execPath, [script, '--out', model, '--layers', '4', '--hidden', '64', '--heads', '4', '--kv-heads', '2', '--mlp', '96', '--vocab', '50', '--context', '128', '--pool-mib', '1'], { stdio: 'ignore' });
  const output = join(folder, 'out.onnx');
  await compile(model, { stages: 2, lambda: 0.5, output });
  const at = { imageTokens: 16, textTokens: 8, past: 0, batch: 1 };
  const layer = (s: number): number => s * (64 * 64 * 2 + 2 * 64 * 32 + 3 * 64 * 96) + 2 * s * s * 64;
  expect((await flopsOf(model, at)).prefill.macs).toBe(4 * layer(24) + 24 * 64 * 50);
  expect((await flopsOf(output, at)).stageTokens).toEqual([24, 16]);
});
