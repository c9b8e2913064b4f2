/** flops: the paper's table to its printed digits; graph and executed counts agree; the profile is read right. */
import { join } from 'node:path';
import { Command } from 'commander';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { register } from '../../../src/cli/commands/flops.js';
import { mlpWidth } from '../../../src/validate/cost/costreport.js';
import { executedMacs, macsOfEvent } from '../../../src/validate/cost/executed.js';
import { flopsOf } from '../../../src/validate/flops.js';
import { readModelFile } from '../../../src/validate/models/model.js';
import { executedBy, type NodeEvent, parseProfile, placementOf } from '../../../src/validate/cost/profile.js';
import { LoadedFixture } from '../../support/fixtures.js';
import { compileFixture, temporaryFolder } from '../support.js';

const folder = temporaryFolder();
afterEach(() => vi.restoreAllMocks());

async function flops(...args: string[]): Promise<string> {
  let out = '';
  vi.spyOn(process.stdout, 'write').mockImplementation((t) => {
    out += String(t);
    return true;
  });
  const program = new Command('pdrop-compile').exitOverride();
  register(program);
  await program.parseAsync(['node', 'pdrop-compile', 'flops', ...args]);
  return out;
}

describe('flops', () => {
  it('reproduces the paper’s table to its printed digits', async () => {
    const lines = (await flops('--paper')).split('\n').map((l) => l.trim().split(/\s{2,}/));
    expect(lines[1]).toEqual(['LLaVA-1.5-7B', '576', '32', '4096', '11008', '3.82', '1.54', '1.78', '2.06']);
    expect(lines[2]).toEqual(['LLaVA-NeXT-7B', '2880', '32', '4096', '11008', '20.8', '8.22', '9.46', '11.0']);
  });

  it('counts an original and what it was compiled to, prefill and decode', async () => {
    for (const name of ['llama-ts17-sdpa', 'genai-llama-fp32']) {
      const fixture = new LoadedFixture(name);
      const at = { imageTokens: 64, textTokens: 16, past: 0, batch: 1 };
      const original = await flopsOf(fixture.model, at);
      const compiled = await flopsOf(await compileFixture(fixture, join(folder, `${name}.onnx`)), at);
      expect(compiled.stageTokens).toEqual([80, 48, 32, 24]);
      // 8 layers in 4 stages: what a layer costs does not depend on the family.
      const layer = (s: number): number => s * (64 * 64 * 2 + 2 * 64 * 32 + 3 * 64 * 96) + 2 * s * s * 64;
      expect(original.prefill.macs).toBe(8 * layer(80) + 80 * 64 * 128);
      const { decoder, lmHead, rank } = compiled.prefill.parts;
      expect(lmHead).toBe(24 * 64 * 128);
      expect(compiled.prefill.macs).toBe(decoder + lmHead + rank);
      // Boundary layers project keys (packed: queries, keys and values) for the finished stage's tokens: those of dropped ones are ranking's.
      const width = name.startsWith('genai') ? 64 + 2 * 32 : 32;
      expect(decoder).toBe([80, 48, 32, 24].reduce((a, s) => a + 2 * layer(s), 0));
      expect((rank - (80 - 24) * 64 * width) / compiled.prefill.macs).toBeGreaterThan(0);
      expect((rank - (80 - 24) * 64 * width) / compiled.prefill.macs).toBeLessThan(0.01);
      expect(compiled.cacheBytes).toEqual([80, 80, 48, 48, 32, 32, 24, 24].map((t) => t * 2 * 2 * 16 * 4));
      expect(compiled.decode?.macs).toBeLessThan(original.decode?.macs ?? 0);
    }
  });

  it('finds the width of the MLP', async () => {
    for (const name of ['llama-ts17-sdpa', 'genai-llama-fp32', 'qwen3-dynamo23-sdpa']) {
      const fixture = new LoadedFixture(name);
      expect(mlpWidth(await readModelFile(fixture.model))).toBe((fixture.info as unknown as { mlp: number }).mlp);
    }
  });
});

describe('profiles', () => {
  const event = (op: string, inputs: number[][], outputs: number[][], provider = 'CPUExecutionProvider'): NodeEvent => ({ name: op, op, provider, duration: 10, inputs, outputs, inputTypes: inputs.map(() => 'float'), outputTypes: outputs.map(() => 'float') });
  it('counts products, with weights that the profile leaves out', () => {
    expect(macsOfEvent(event('MatMul', [[1, 35, 64]], [[1, 35, 32]]))).toEqual({ kind: 'linear', macs: 35 * 64 * 32 });
    expect(macsOfEvent(event('FusedMatMul', [[2, 64, 35], [2, 64, 7]], [[2, 35, 7]]))).toEqual({ kind: 'linear', macs: 2 * 35 * 64 * 7 });
    expect(macsOfEvent(event('GroupQueryAttention', [[1, 10, 96], [1, 2, 5, 16]], [[1, 10, 64], [1, 2, 15, 16], [1, 2, 15, 16]]))).toEqual({ kind: 'attention', macs: 2 * 10 * 15 * 64 });
    expect(macsOfEvent(event('Attention', [[1, 4, 10, 16], [1, 4, 12, 16], [1, 4, 12, 16]], [[1, 4, 10, 16]]))).toEqual({ kind: 'attention', macs: 2 * 4 * 10 * 12 * 16 });
    expect(macsOfEvent(event('Conv', [[1, 3, 8, 8]], [[1, 6, 4, 4]]), () => [6, 3, 2, 2])).toEqual({ kind: 'convolution', macs: 6 * 16 * 12 });
    expect(macsOfEvent(event('Conv', [[1, 3, 8, 8]], [[1, 6, 4, 4]]))).toBe('unknown');
    expect(macsOfEvent(event('Add', [[4]], [[4]]))).toBeNull();
  });
  it('separates runs and says what fell back', () => {
    const node = (ts: number, op: string, provider: string): object => ({ cat: 'Node', name: `${op}_kernel_time`, ts, dur: 5, args: { op_name: op, provider, input_type_shape: [{ float: [1, 2, 4] }], output_type_shape: [{ float: [1, 2, 3] }] } });
    const run = (ts: number): object => ({ cat: 'Session', name: 'model_run', ts, dur: 90 });
    const runs = parseProfile([run(100), run(0), node(10, 'MatMul', 'WebGpuExecutionProvider'), node(20, 'TopK', 'CPUExecutionProvider'), node(110, 'MatMul', 'CPUExecutionProvider')] as never);
    expect(runs.map((r) => r.nodes.map((n) => n.op))).toEqual([['MatMul', 'TopK'], ['MatMul']]);
    const macs = (e: NodeEvent): number => (e.op === 'MatMul' ? 24 : 0);
    expect(placementOf(runs[0] as never, 'webgpu', macs)).toMatchObject({ nodes: 2, nodeShare: 0.5, timeShare: 0.5, macShare: 1, fellBack: [{ op: 'TopK', nodes: 1 }] });
    expect(placementOf(runs[1] as never, 'webgpu', macs).macShare).toBe(0);
    expect(executedMacs(runs[0] as never).total).toBe(24);
    expect(placementOf(runs[0] as never, 'webgpu', macs).breakdown).toEqual({ source: 'nodes', linear: 5, attention: 0, dropping: 0, other: 5, outside: 80 });
  });

  it('tells kernels, launches, copies and waits apart', () => {
    const nodes = [event('MatMul', [], [], 'WebGpuExecutionProvider'), event('If', [], [], 'WebGpuExecutionProvider'), event('MemcpyFromHost', [], [], 'WebGpuExecutionProvider'), event('MemcpyToHost', [], [], 'WebGpuExecutionProvider'), event('Range', [], [])];
    const run = { nodes, duration: 1, kernels: [] };
    expect(executedBy(run, 'webgpu')).toEqual({ kernels: 3, launches: 2, copies: 2, syncs: 1 });
    // A node may be several launches, or none: what the provider reports counts.
    expect(executedBy({ ...run, kernels: [{ name: 'a', duration: 1 }, { name: 'b', duration: 1 }, { name: 'c', duration: 1 }] }, 'webgpu').launches).toBe(3);
    expect(executedBy({ ...run, nodes: nodes.filter((n) => n.op === 'Range') }, 'cpu')).toEqual({ kernels: 1, launches: 0, copies: 0, syncs: 0 });
  });
});
