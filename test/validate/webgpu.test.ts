/**
 * validate on WebGPU, on software Vulkan where there is no GPU (see docs/gpu.md). What each dialect computes there is
 * tested in test/numbers/webgpu.test.ts; this is about the gates, the placement and the threshold on it.
 */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { doctor } from '../../src/validate/doctor.js';
import { validate } from '../../src/validate/validate.js';
import { LoadedFixture } from '../support/fixtures.js';
import { useVulkan } from '../support/vulkan.js';
import { compileFixture, temporaryFolder } from './support.js';

const folder = temporaryFolder();
const works = useVulkan() && (await doctor(['webgpu'])).providers[0]?.works;

describe.skipIf(!works)('validate --ep cpu,webgpu', () => {
  it('passes its gates, proves where nodes ran, and is held to it', async () => {
    const fixture = new LoadedFixture('genai-llama-fp32');
    const path = await compileFixture(fixture, join(folder, 'compiled.onnx'));
    // Below 32 tokens: from there on the fused attention kernel is wrong on software Vulkan, in the original too.
    const { report } = await validate({
      original: fixture.model, rewritten: path, providers: ['cpu', 'webgpu'], vocab: 128, imageTokens: 16, textTokens: 8, samples: 1, gateSamples: 1,
      positions: 3, generate: 2, latency: false, memory: false, maps: 0, workDir: folder, thresholds: { requireEp: 0.99 },
    });
    const [cpu, gpu] = report.providers;
    expect(gpu?.gates.map((g) => [g.gate, g.status])).toEqual(cpu?.gates.map((g) => [g.gate, 'passed']));
    expect(cpu?.control).toBeNull();
    expect(gpu?.control).toBeLessThan(1e-3);
    expect(gpu?.gates[0]?.bound).toBeGreaterThanOrEqual(1e-4);
    for (const m of ['original', 'rewritten'] as const) {
      for (const phase of ['prefill', 'decode'] as const) {
        const placed = gpu?.placement?.[m][phase];
        expect(placed?.macShare, `${m} ${phase}`).toBeGreaterThan(0.99);
        expect(placed?.nodeShare).toBeGreaterThan(0.3);
      }
    }
    // Shape arithmetic stays on the CPU, and is named.
    expect(gpu?.placement?.rewritten.prefill.fellBack.every((f) => f.provider === 'CPUExecutionProvider')).toBe(true);
    expect(report.thresholds.map((t) => [t.provider, t.met])).toEqual([['cpu', true], ['webgpu', true]]);
    expect(report.cost?.countsDiffer).toBe(0);
    expect(gpu?.fidelity?.all?.kl.mean).toBeCloseTo(cpu?.fidelity?.all?.kl.mean ?? 0, 3);
    expect(gpu?.faults).toEqual([]);
  }, 300_000);
});
