/** The passes on bare decoders: what they add, what they leave alone, and what they will not touch. */
import { describe, expect, it } from 'vitest';
import { PASSES } from '../../passes/index.js';
import { analyseDecoder } from '../../src/analyse/decoder.js';
import { compileModel, writeCompiled } from '../../src/compile.js';
import type { Graph, Node } from '../../src/ir/graph.js';
import { printGraph } from '../../src/ir/print.js';
import { verifyGraph } from '../../src/ir/verify.js';
import { MemorySink, MemorySource } from '../../src/onnx/bytes.js';
import { readModel } from '../../src/onnx/read.js';
import type { PlanOptions } from '../../src/plan/options.js';
import { resolvePlan } from '../../src/plan/resolve.js';
import { rewrite, type RewriteOptions } from '../../src/rewrite/rewrite.js';
import { decoder } from '../support/graphs.js';
import { BOOL, encodeModel, FLOAT, float32, graphOf, insertAfter, INT64, type ModelProto, node, valueInfo } from '../support/proto.js';
import { loads } from '../support/run.js';

async function rewritten(proto: ModelProto, options: PlanOptions = {}, run: RewriteOptions = {}) {
  const model = await readModel(new MemorySource(encodeModel(proto)));
  const facts = analyseDecoder(model);
  const before = printGraph(model.graph);
  const { plan } = resolvePlan(facts, options);
  const result = rewrite(facts, plan, PASSES, { verify: true, ...run });
  return { model, graph: model.graph, facts, plan, result, before };
}

async function compiled(proto: ModelProto, options: PlanOptions = {}): Promise<Uint8Array> {
  const made = await compileModel(new MemorySource(encodeModel(proto)), options);
  const sink = new MemorySink();
  await writeCompiled(made, sink);
  return sink.bytes();
}

/** Nodes of the graph and of what is inside branches. */
const allNodes = (graph: Graph): Node[] => graph.nodes.flatMap((n) => [n, ...n.subgraphs.flatMap(allNodes)]);
const count = (graph: Graph, op: string): number => allNodes(graph).filter((n) => n.opType === op).length;
const stamped = (graph: Graph, pass: string): Node[] => allNodes(graph).filter((n) => n.stamps.get('pdrop.pass') === pass);

describe('all passes', () => {
  it('each changes a bare decoder, says what it did, and leaves a sound graph', async () => {
    const { graph, result } = await rewritten(decoder({ mask: true }), { stages: 3 });
    expect(result.runs.map((r) => r.name)).toEqual(['image-tokens', 'rank', 'restage', 'restore', 'labels', 'declare', 'clean', 'branch', 'fix']);
    for (const run of result.runs) expect(run.applied.length).toBeGreaterThan(0);
    expect(verifyGraph(graph)).toEqual([]);
  });

  it('every node that was made says which pass made it', async () => {
    const model = decoder({ mask: true });
    const own = new Set((graphOf(model).node ?? []).map((n) => n.name));
    const { graph } = await rewritten(model, { stages: 3 });
    for (const n of allNodes(graph)) if (!own.has(n.name)) expect([n.name, PASSES.some((p) => p.name === n.stamps.get('pdrop.pass')) || ['select', 'probe'].includes(n.stamps.get('pdrop.pass') ?? '')]).toEqual([n.name, true]);
  });

  it('stopping after a pass is the same as having only those before', async () => {
    const { result } = await rewritten(decoder(), {}, { stopAfter: 'rank' });
    expect(result.runs.map((r) => r.name)).toEqual(['image-tokens', 'rank']);
  });

  it('weights are shared, not copied', async () => {
    const { model, before } = await rewritten(decoder({ layers: 8 }), { stages: 4 });
    expect(before).toContain('MatMul');
    const added = model.graph.initializers.filter((v) => v.name.startsWith('pdrop/'));
    expect(added.reduce((n, v) => n + (v.tensor?.byteLength ?? 0), 0)).toBeLessThan(2048);
  });

  it('what they make loads in onnxruntime', async () => {
    for (const options of [{ stages: 2 }, { stages: 4 }, { layers: [3], keep: ['0'] }, { imageMask: 'span:1:4' }, { imageMask: 'none' }, { rank: 'uniform' }, { rank: 'random:4', probe: true }] satisfies PlanOptions[]) {
      for (const mask of [false, true]) expect([options, mask, await loads(await compiled(decoder({ mask }), options))]).toEqual([options, mask, undefined]);
    }
  });
});

describe('image-tokens', () => {
  it('counts once, however many boundaries there are', async () => {
    // What boundaries share is one; only where the last valid token is, worked out on the host, is found for each anew.
    const sums = async (stages: number): Promise<number[]> => {
      const made = stamped((await rewritten(decoder({ layers: 8, mask: true }), { stages })).graph, 'image-tokens');
      return ['ReduceSum', 'Div', 'TopK', 'ConstantOfShape'].map((op) => made.filter((n) => n.opType === op).length);
    };
    expect(await sums(2)).toEqual([2, 1, 1, 1]);
    expect(await sums(8)).toEqual([2, 1, 1, 1]);
  });

  it('declines nothing silently: a taken name is refused before the graph changes', async () => {
    const model = decoder();
    graphOf(model).node?.push(node('Identity', ['l0/out'], ['image_token_mask']));
    graphOf(model).output?.push(valueInfo('image_token_mask', FLOAT, ['batch', 'sequence', 64]));
    await expect(compiled(model)).rejects.toMatchObject({ code: 'PD312' });
  });
});

describe('rank', () => {
  it('two TopK for each boundary and one for the smallest count, nothing else that sorts', async () => {
    for (const stages of [2, 3, 4]) expect(count((await rewritten(decoder({ layers: 8 }), { stages })).graph, 'TopK')).toBe(2 * (stages - 1) + 1);
  });

  it('one query row: its softmax has no second token axis', async () => {
    const { graph, facts } = await rewritten(decoder(), { stages: 2 });
    const rank = stamped(graph, 'rank');
    expect(rank.filter((n) => n.opType === 'Softmax').length).toBe(1);
    // Its keys are projected once: by a node of the finished stage that the layer uses as well, whichever side of the If runs.
    const projections = (of: Graph | undefined): number => (of?.nodes ?? []).filter((n) => n.opType === 'MatMul' && n.inputs[1]?.name === 'l2/wk').length;
    const sides = graph.nodes.find((n) => n.opType === 'If')?.subgraphs;
    expect([graph, sides?.[0], sides?.[1]].map(projections)).toEqual([0, 1, 1]);
    expect(facts.layers.length).toBe(4);
  });

  it('baselines make no attention', async () => {
    for (const rank of ['uniform', 'random:1']) {
      const { graph } = await rewritten(decoder(), { stages: 2, rank });
      expect(count(graph, 'Softmax')).toBe(4);
    }
  });
});

describe('restage', () => {
  it('a graph output in the middle of a stage is still an output, of that stage’s tokens', async () => {
    const model = decoder({ mask: true });
    graphOf(model).output?.push(valueInfo('l0/out', FLOAT, ['batch', 'sequence', 64]), valueInfo('l2/out', FLOAT, ['batch', 'sequence', 64]));
    const bytes = await compiled(model, { stages: 2 });
    expect(await loads(bytes)).toBeUndefined();
    const back = await readModel(new MemorySource(bytes));
    const dims = new Map(back.graph.outputs.map((o) => [o.name, o.type?.dims]));
    expect(dims.get('l0/out')).toEqual(['batch', 'sequence', 64]);
    expect(dims.get('l2/out')).toEqual(['batch', 'sequence_length_stage1', 64]);
    expect(dims.get('logits')).toEqual(['batch', 'sequence_length_stage1', 128]);
  });

  it('the output that is cut itself: the layer’s entry stays whole for who asks for it', async () => {
    const model = decoder();
    graphOf(model).output?.push(valueInfo('l1/out', FLOAT, ['batch', 'sequence', 64]));
    const back = await readModel(new MemorySource(await compiled(model, { stages: 2 })));
    expect(back.graph.outputs.find((o) => o.name === 'l1/out')?.type?.dims).toEqual(['batch', 'sequence', 64]);
  });

  it('with every ratio 1 nothing but no-op gathers are added: the same ops are on every path', async () => {
    const { graph } = await rewritten(decoder(), { stages: 2, keep: ['1'] });
    for (const op of ['Softmax', 'Add']) expect(allNodes(graph).filter((n) => n.opType === op && !n.stamps.has('pdrop.pass')).length).toBe(4);
  });

  it('a subgraph that captures what differs between stages is refused, with the node', async () => {
    const model = decoder({ mask: true });
    const graph = graphOf(model);
    const branch = (op: string): typeof graph => ({ name: op, node: [node(op, ['bias'], [`inner_${op}`])], input: [], output: [valueInfo(`inner_${op}`, FLOAT, ['a', 'b', 'c', 'd'])], initializer: [] }) as unknown as typeof graph;
    insertAfter(graph, 'bias', [node('If', ['yes'], ['bias2'], { then_branch: { graph: branch('Identity') }, else_branch: { graph: branch('Neg') } })], 'bias2');
    graph.initializer?.push({ ...float32('yes', [0], []), dataType: BOOL, rawData: Uint8Array.of(1) } as never);
    await expect(compiled(model, { stages: 2 })).rejects.toMatchObject({ code: 'PD308', culprit: expect.stringContaining('If') });
  });

  it('a subgraph that captures what all stages share is left alone', async () => {
    const model = decoder({ mask: true });
    const graph = graphOf(model);
    const branch = (op: string): typeof graph => ({ name: op, node: [node(op, ['large'], [`inner_${op}`])], input: [], output: [valueInfo(`inner_${op}`, FLOAT, [])], initializer: [] }) as unknown as typeof graph;
    for (const n of graph.node ?? []) n.input = (n.input ?? []).map((i) => (i === 'large' ? 'chosen' : i));
    graph.node?.unshift(node('If', ['yes'], ['chosen'], { then_branch: { graph: branch('Identity') }, else_branch: { graph: branch('Neg') } }));
    graph.initializer?.push({ ...float32('yes', [0], []), dataType: BOOL, rawData: Uint8Array.of(1) } as never);
    const bytes = await compiled(model, { stages: 2 });
    expect(await loads(bytes)).toBeUndefined();
    expect((await readModel(new MemorySource(bytes))).graph.nodes.filter((n) => n.opType === 'If' && !n.name.startsWith('pdrop/')).length).toBe(1);
  });

  it('a mask that all layers share is made once for each stage', async () => {
    const { graph } = await rewritten(decoder({ layers: 8, mask: true }), { stages: 4 });
    expect(allNodes(graph).filter((n) => n.opType === 'Mul' && n.inputs[1]?.name === 'large').length).toBe(4);
  });
});

describe('clean', () => {
  it('leaves nothing dead, and a second run of it changes nothing', async () => {
    const { graph, facts, plan } = await rewritten(decoder({ mask: true }), { stages: 3 });
    const live = new Set<Node>();
    const visit = (n: Node): void => {
      if (live.has(n)) return;
      live.add(n);
      for (const v of [...n.inputs, ...n.captures]) if (v?.producer) visit(v.producer);
    };
    for (const o of graph.outputs) if (o.producer) visit(o.producer);
    expect(graph.nodes.filter((n) => !live.has(n)).map((n) => n.name)).toEqual([]);
    expect(plan.layers.length).toBe(2);
    expect(facts.graph).toBe(graph);
  });

  it('a second compilation is refused', async () => {
    await expect(compileModel(new MemorySource(await compiled(decoder())), {})).rejects.toMatchObject({ code: 'PD316' });
  });
});

describe('declare', () => {
  it('inputs keep what they declared', async () => {
    const back = await readModel(new MemorySource(await compiled(decoder({ mask: true }), { stages: 2 })));
    expect(back.graph.inputs.map((v) => [v.name, v.type?.elemType, v.type?.dims])).toEqual([
      ['inputs_embeds', FLOAT, ['batch', 'sequence', 64]],
      ['attention_mask', INT64, ['batch', 'sequence']],
      ['image_token_mask', BOOL, ['batch', 'sequence']],
    ]);
  });
});
