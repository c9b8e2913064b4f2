/**
 * In a model that has local functions, branches are functions too (src/onnx/branch-functions.ts). To such a graph ONNX Runtime gives the
 * same numbers: the fixtures with a function added that nothing calls, against the fixtures as they are, bit for bit.
 * PDROP_ALL=1 takes every fixture.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as ort from 'onnxruntime-node';
import { afterAll, expect, test } from 'vitest';
import { compile } from '../../src/index.js';
import { FUNCTION, MODEL } from '../../src/onnx/proto.js';
import { encodeNode, encodeOpset } from '../../src/onnx/encode.js';
import { encodeBytesField, encodeVarintField, MessageWriter } from '../../src/onnx/wire.js';
import { Node, Value } from '../../src/ir/graph.js';
import { fixtureNames, LoadedFixture, runScenario, SESSION } from '../support/fixtures.js';
import { decodeModel, graphOf } from '../support/proto.js';

const folder = mkdtempSync(join(tmpdir(), 'pdrop-functions-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** By dialect: TorchScript, OnnxExporter's Attention op, a window, GroupQueryAttention with packed projections, quantized weights, experts, three axes of positions, half precision. */
const SOME = ['llama-ts17-sdpa', 'gemma3-dynamo23', 'genai-llama-mha-fp16', 'genai-llama-int4', 'qwen2-ts17-4bit', 'qwen3-moe-dynamo20', 'qwen2.5-vl-dynamo18'];
const names = process.env.PDROP_ALL ? fixtureNames() : SOME;

/** Fields appended to a message: repeated ones add to what is there, of others the last counts. */
function withFunction(model: string): Uint8Array {
  const x = new Value('x');
  const twice = new Node('Add', '', 'twice');
  twice.inputs.push(x, x);
  twice.outputs.push(new Value('y'));
  const { opsetImport, irVersion } = decodeModel(readFileSync(model));
  const version = Number(opsetImport.find((o) => (o.domain ?? '') === '')?.version);
  const body = new MessageWriter().string(FUNCTION.name, 'Twice').string(FUNCTION.input, 'x').string(FUNCTION.output, 'y').bytes(FUNCTION.node, encodeNode(twice)).bytes(FUNCTION.opsetImport, encodeOpset('', version)).string(FUNCTION.domain, 'test.functions').finish();
  const added = [encodeVarintField(MODEL.irVersion, Math.max(8, Number(irVersion))), encodeBytesField(MODEL.opsetImport, encodeOpset('test.functions', 1)), encodeBytesField(MODEL.functions, body)];
  return Buffer.concat([readFileSync(model), ...added]);
}

test.each(names)('%s', async (name) => {
  const fixture = new LoadedFixture(name);
  const { info } = fixture;
  if (info.execution_provider !== undefined && info.execution_provider !== 'cpu') return expect(info.execution_provider).toBe('webgpu');
  const input = join(folder, `${name}.onnx`);
  writeFileSync(input, withFunction(fixture.model));
  let compared = 0;
  for (const [planName, plan] of Object.entries(info.plans)) {
    const scenarios = info.scenarios.filter((s) => s.plan === planName);
    if (scenarios.length === 0) continue;
    const sessions: ort.InferenceSession[] = [];
    const branches: number[] = [];
    const calls: number[] = [];
    const options = { layers: plan.layers, keep: plan.keep, positions: plan.positions, imageMask: plan.imageMask } as const;
    for (const [i, model] of [fixture.model, input].entries()) {
      const output = join(folder, `${name}-${planName}-${i}.onnx`);
      await compile(model, { ...options, output });
      const of = (op: (n: { opType?: string | null; domain?: string | null }) => boolean): number => (graphOf(decodeModel(readFileSync(output))).node ?? []).filter(op).length;
      branches.push(of((n) => n.opType === 'If'));
      calls.push(of((n) => n.domain === 'pdrop'));
      sessions.push(await ort.InferenceSession.create(output, SESSION));
    }
    // LongRoPE's own If is there before and after: onnxslim would not take such a graph with functions either.
    const own = name.includes('longrope');
    const [[ifs = 0, ifsLeft], [called = 0, calledNow]] = [branches, calls];
    expect([ifsLeft, calledNow], planName).toEqual(own ? [ifs, 0] : [0, ifs + called]);
    for (const scenario of scenarios) {
      const seen: Record<string, Uint8Array>[] = [];
      const [plain, called] = sessions as [ort.InferenceSession, ort.InferenceSession];
      const bytes = (outputs: ort.InferenceSession.ReturnType): Record<string, Uint8Array> => Object.fromEntries(Object.entries(outputs).map(([k, t]) => [k, new Uint8Array((t.data as Float32Array).buffer.slice(0), (t.data as Float32Array).byteOffset, (t.data as Float32Array).byteLength)]));
      await runScenario(plain, fixture, scenario, (_, outputs) => seen.push(bytes(outputs)));
      await runScenario(called, fixture, scenario, (run, outputs) => {
        const want = seen.shift() as Record<string, Uint8Array>;
        const got = bytes(outputs);
        expect(Object.keys(got).sort()).toEqual(Object.keys(want).sort());
        for (const [key, value] of Object.entries(got)) expect(Buffer.compare(value, want[key] as Uint8Array), `${scenario.name} / ${run.name}: ${key}`).toBe(0);
        compared++;
      });
    }
    for (const s of sessions) await s.release();
  }
  expect(compared).toBeGreaterThan(0);
});
