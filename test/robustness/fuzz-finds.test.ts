/** What `npm run fuzz` found, made as small as it gets. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { InferenceSession, type Tensor } from 'onnxruntime-node';
import { describe, expect, it } from 'vitest';
import { block, opened } from '../../src/analyse/terms/tensor.js';
import { CannotEvaluate, Terms } from '../../src/analyse/terms/term.js';
import { cliJson } from '../support/cli.js';
import { LoadedFixture, runScenario, SESSION, toNumbers } from '../support/fixtures.js';
import { folder, modelFile } from '../support/folder.js';
import { BOOL, decodeModel, encodeModel, FLOAT, type GraphProto, graphOf, int64, loadModel, modelOf, node, type TensorProto, valueInfo } from '../support/proto.js';
import { expectBytesRefused } from '../support/refuse.js';

describe('finds of the fuzzer', () => {
  it('an inner value that has the name of an output of --probe', async () => {
    const model = loadModel('genai-llama-embeds-fp32');
    const [first] = graphOf(model).node?.find((n) => n.opType === 'GroupQueryAttention')?.output as string[];
    for (const n of graphOf(model).node ?? []) {
      n.input = (n.input ?? []).map((i) => (i === first ? 'pdrop_kept.1' : i));
      n.output = (n.output ?? []).map((o) => (o === first ? 'pdrop_kept.1' : o));
    }
    const bytes = encodeModel(model);
    expect((await expectBytesRefused(bytes, 'PD331', ['--stages', '2', '--probe'])).culprit).toBe('pdrop_kept.1');
    expect((await cliJson(modelFile(bytes), '--stages', '2', '--dry-run')).code).toBe(0);
  });

  it('one input declared for another batch than the rest is no bug of ours', async () => {
    const model = loadModel('genai-llama-embeds-fp32');
    const dim = graphOf(model).input?.find((v) => v.name === 'attention_mask')?.type?.tensorType?.shape?.dim as object[];
    dim[0] = { dimValue: 5 };
    const error = await expectBytesRefused(encodeModel(model), 'PD330', ['--stages', '2']);
    expect(error.message).toContain('"batch_size" is 1 in "inputs_embeds" and 5 in');
  });

  it('a Cast to no type, which a declared type hides from onnxruntime', async () => {
    const model = loadModel('genai-gemma2-fp32');
    const cast = graphOf(model).node?.find((n) => n.opType === 'Cast');
    for (const a of cast?.attribute ?? []) a.i = 0;
    for (const options of [[], ['--no-control-flow']]) expect((await expectBytesRefused(encodeModel(model), 'PD102', ['--stages', '2', ...options])).culprit).toBe(cast?.name);
  });

  it('an expert that gathers along an axis that is not there', () => {
    const terms = new Terms(1, false);
    expect(() => opened(terms, block([2, 3], terms.of('x')), [7])).toThrow(CannotEvaluate);
    expect(opened(terms, block([2, 3], terms.of('x')), [1]).data).toHaveLength(3);
  });

  it('the default domain by its long name, which onnxruntime does not know inside a branch', async () => {
    const model = loadModel('qwen3-dynamo23-sdpa');
    for (const n of graphOf(model).node ?? []) if (!n.domain) n.domain = 'ai.onnx';
    const out = join(folder(), 'out.onnx');
    expect((await cliJson(modelFile(encodeModel(model)), '-o', out, '--stages', '3')).code).toBe(0);
    expect(decodeModel(readFileSync(out)).graph?.node?.some((n) => n.opType === 'If')).toBe(true);
    const session = await InferenceSession.create(out);
    expect(session.outputNames).toContain('logits');
    await session.release();
  });

  it('a norm that only the branches of an If read crosses the boundary like one that a node reads', async () => {
    const model = loadModel('genai-llama-embeds-fp32');
    const graph = graphOf(model);
    const nodes = graph.node ?? [];
    const at = nodes.findIndex((n) => n.name?.includes('layers.1/attn/qkv_proj'));
    const { input, output } = nodes[at] as { input: string[]; output: string[] };
    const branch = (name: string): { graph: GraphProto } => ({ graph: graphOf(modelOf({ nodes: [node('MatMul', input, [name])], inputs: [], outputs: [valueInfo(name, FLOAT, ['batch_size', 'sequence_length', 128])] })) });
    nodes[at] = node('If', ['yes'], output, { then_branch: branch('then_out'), else_branch: branch('else_out') });
    graph.initializer?.push({ name: 'yes', dataType: BOOL, dims: [], rawData: new Uint8Array([1]) } as TensorProto);
    const bytes = encodeModel(model);
    expect((await cliJson('inspect', modelFile(bytes))).json).toMatchObject({ layers: { 1: { entry: ['/model/layers.1/input_layernorm/output_0', '/model/layers.1/input_layernorm/output_3'] } } });
    // The norm was left behind, and the check of what was made found layer 1 with all tokens.
    const error = await expectBytesRefused(bytes, 'PD308', ['--layers', '1,2']);
    expect(error.message).toContain('what its subgraph does');
  });

  it('a product as Gemm on flattened rows: shape arithmetic behind a boundary needs the ranks that are declared', async () => {
    const model = loadModel('mobius-qwen3-vl-decoder');
    const graph = graphOf(model);
    const at = graph.node?.findIndex((n) => n.opType === 'MatMul' && n.name?.includes('layers.2/self_attn/v_proj')) as number;
    const product = graph.node?.[at];
    const [rows, weight] = product?.input as [string, string];
    const [out] = product?.output as [string];
    graph.initializer?.push(int64('zero', [0]), int64('minus_one', [-1]), int64('flat', [-1, 64]), int64('width', [32]));
    graph.node?.splice(
      at,
      1,
      node('Reshape', [rows, 'flat'], ['rows_flat']),
      node('Gemm', ['rows_flat', weight], ['product_flat']),
      node('Shape', [rows], ['rows_shape']),
      node('Slice', ['rows_shape', 'zero', 'minus_one'], ['rows_lead']),
      node('Concat', ['rows_lead', 'width'], ['product_shape'], { axis: 0 }),
      node('Reshape', ['product_flat', 'product_shape'], [out]),
    );
    const path = join(folder(), 'out.onnx');
    expect((await cliJson(modelFile(encodeModel(model)), '-o', path, '--layers', '1', '--keep', '0.5')).code).toBe(0);
    const session = await InferenceSession.create(path, { graphOptimizationLevel: 'disabled' });
    expect(session.outputNames).toContain('logits');
    await session.release();
  });

  it('a Constant whose tensor says it is a list of integers: in a branch, onnxruntime dies of it', async () => {
    const model = loadModel('genai-gemma2-fp32');
    const constant = graphOf(model).node?.find((n) => n.opType === 'Constant');
    for (const a of constant?.attribute ?? []) a.type = 7;
    expect((await expectBytesRefused(encodeModel(model), 'PD102', ['--stages', '2'])).culprit).toBe(constant?.name);
  });

  it('a Constant with an input: onnxruntime takes it in a graph and not in a local function', async () => {
    const model = loadModel('mobius-qwen3-vl-decoder');
    const graph = graphOf(model);
    const constant = graph.node?.find((n) => n.opType === 'Constant');
    constant?.input?.push(graph.initializer?.[0]?.name as string);
    expect((await expectBytesRefused(encodeModel(model), 'PD102', ['--stages', '2'])).culprit).toBe(constant?.name);
  });

  it('an Attention op whose value is a product of two weights: no shape inference accepts its two axes', async () => {
    const model = loadModel('mobius-llava-decoder');
    const product = graphOf(model).node?.find((n) => n.name?.includes('layers.7/self_attn/v_proj'));
    (product?.input as string[])[0] = 'decoder.model.layers.0.mlp.down_proj.weight_t';
    const error = await expectBytesRefused(encodeModel(model), 'PD102', ['--stages', '2']);
    expect(error.message).toContain('its value has 2 axes, not 3 or 4');
  });

  it('caches of latent attention in another order: which of two is the keys’ may differ from layer to layer, and a stand-in must have the sizes of what it stands for', async () => {
    const fixture = new LoadedFixture('minicpm3-ts17');
    const model = decodeModel(readFileSync(fixture.model));
    const inputs = graphOf(model).input as { name: string }[];
    const [key, value] = ['key', 'value'].map((kind) => inputs.findIndex((v) => v.name === `past_key_values.0.${kind}`)) as [number, number];
    [inputs[key], inputs[value]] = [inputs[value] as { name: string }, inputs[key] as { name: string }];
    const caches = async (path: string): Promise<unknown[]> => ((await cliJson('inspect', path)).json.layers as { past: unknown }[]).map((l) => l.past);
    const shuffled = modelFile(encodeModel(model));
    const [before, after] = [await caches(fixture.model), await caches(shuffled)];
    expect([after[0] === before[0], after.slice(1)]).toEqual([false, before.slice(1)]);
    const logits: number[][][] = [];
    for (const path of [fixture.model, shuffled]) {
      const out = join(folder(), 'out.onnx');
      expect((await cliJson(path, '-o', out, '--layers', '1,2', '--keep', '0.7,0.4')).code).toBe(0);
      const session = await InferenceSession.create(out, SESSION);
      const scenario = fixture.info.scenarios.find((s) => s.runs.length > 1) as (typeof fixture.info.scenarios)[number];
      const seen: number[][] = [];
      await runScenario(session, fixture, scenario, (_, outputs) => seen.push(toNumbers(outputs.logits as Tensor)));
      logits.push(seen);
      await session.release();
    }
    expect(logits[0]?.length).toBeGreaterThan(1);
    expect(logits[1]).toEqual(logits[0]);
  });
});
