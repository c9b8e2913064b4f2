/** Evaluations in one walk find what each finds by itself: facts of every value, branches taken, contradictions, unknown ops. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { compileModel, writeCompiled } from '../../src/compile.js';
import { analyseDecoder } from '../../src/analyse/decoder.js';
import { withContents } from '../../src/analyse/contents.js';
import { headDimsOf, shapesAt } from '../../src/analyse/input-sizes.js';
import { evaluateLanes, evaluateShapes, type Fact, Memo, type ShapeBindings, type ShapeFacts } from '../../src/analyse/shapes/index.js';
import { DataType, Graph, Node, Value } from '../../src/ir/graph.js';
import { MemorySink, MemorySource } from '../../src/onnx/bytes.js';
import { readModel } from '../../src/onnx/read.js';
import { fixturePath } from '../support/proto.js';

function valuesOf(graph: Graph): Value[] {
  return [...graph.values.values(), ...graph.nodes.flatMap((n) => [...n.outputs.filter((o) => o !== null), ...n.subgraphs.flatMap(valuesOf)])];
}

/** All that was found, in an order that does not depend on how. */
function told(graph: Graph, facts: ShapeFacts): unknown {
  return {
    facts: valuesOf(graph).map((v) => {
      const fact = facts.get(v);
      return [v.name, fact && [fact.dtype, fact.shape, fact.data, fact.partial]];
    }),
    taken: [...facts.takenBranches].map(([node, branch]) => [node.name, branch.name]),
    conflicts: facts.conflicts.map((c) => [c.node?.name, c.reason]),
    unknown: [...facts.unknownOps],
    exhausted: facts.exhausted,
  };
}

function expectAsAlone(graph: Graph, bindings: readonly ShapeBindings[]): ShapeFacts[] {
  const together = evaluateLanes(graph, bindings);
  for (const [i, b] of bindings.entries()) expect(told(graph, together[i] as ShapeFacts)).toEqual(told(graph, evaluateShapes(graph, b)));
  return together;
}

describe('of compiled graphs, whose branches only some lanes take', () => {
  it.each(['llama-ts17-sdpa', 'genai-llama-embeds-fp32', 'qwen3-moe-dynamo20', 'llama-dynamo20-fp16'])('%s', async (name) => {
    const source = new MemorySource(readFileSync(fixturePath(name)));
    const compiled = await compileModel(source, {});
    const sink = new MemorySink();
    await writeCompiled(compiled, sink);
    const model = await readModel(new MemorySource(sink.bytes()));
    const { graph } = model;
    const facts = analyseDecoder(model, { compiledWith: compiled.plan.imageMask });
    const prompts = [[50, 0, 36], [31, 0, 0], [1, 61, 0], [47, 61, 30]].map(([sequence = 0, past = 0, images = 0]): ShapeBindings => {
      const shapes = shapesAt(graph, facts.roles, { batch: 1, sequence, past }, headDimsOf(facts.attention.map((l) => l.core)));
      return { inputs: withContents(graph, facts.roles, shapes, compiled.plan.imageMask, { valid: () => true, image: (_, t) => t >= 3 && t < 3 + images }), dataLimit: 4096, floatLimit: 4096 };
    });
    const found = expectAsAlone(graph, prompts);
    // Not the same branches in all: else nothing of it was tried.
    const sides = found.map((f) => [...f.takenBranches.values()].map((g) => g.name).join());
    expect(new Set(sides).size).toBe(2);
    // Nothing is said of the inputs at all: both sides are walked.
    expectAsAlone(graph, [{ inputs: new Map() }, { inputs: prompts[0]?.inputs ?? new Map() }]);
  });
});

function chainOf(ops: readonly string[]): { graph: Graph; input: Value; other: Value } {
  const graph = new Graph();
  const make = (name: string): Value => {
    const value = new Value(name);
    graph.values.set(name, value);
    return value;
  };
  const [input, other] = [make('input'), make('other')];
  for (const v of [input, other]) {
    v.isInput = true;
    graph.inputs.push(v);
  }
  let last = input;
  for (const [i, op] of ops.entries()) {
    const node = new Node(op, '', `n${i}`);
    const out = make(`v${i}`);
    node.inputs.push(last, ...(op === 'Add' ? [other] : []));
    node.outputs.push(out);
    out.producer = node;
    graph.nodes.push(node);
    last = out;
  }
  return { graph, input, other };
}

it('what contradicts itself in one lane is told of that lane, and of every node', () => {
  const { graph, input, other } = chainOf(['Add', 'Neg', 'Nonsense', 'Add']);
  const at = (a: readonly number[], b: readonly number[]): ShapeBindings => ({ inputs: new Map([[input, { shape: a, dtype: DataType.INT64 }], [other, { shape: b, dtype: DataType.INT64 }]]) });
  const found = expectAsAlone(graph, [at([2, 3], [3]), at([2, 3], [4]), at([5], [5])]);
  expect(found.map((f) => f.conflicts.length)).toEqual([0, 1, 0]);
});

it('limits that differ, and contents that are too many together, are evaluated one by one', () => {
  const { graph, input } = chainOf(['Neg', 'Neg']);
  const at = (first: number, dataLimit: number): ShapeBindings => ({ inputs: new Map([[input, { shape: [8], data: Array.from({ length: 8 }, (_, i) => first + i), dtype: DataType.INT64 }]]), dataLimit });
  const limited = expectAsAlone(graph, [at(1, 64), at(2, 64), at(3, 4)]);
  expect(limited.map((f) => f.get(graph.nodes[1]?.outputs[0] as Value)?.data?.length)).toEqual([8, 8, undefined]);
  const growing = chainOf(Array.from({ length: 262 }, () => 'Add'));
  const from = (first: number): ShapeBindings => ({ inputs: new Map([[growing.input, { shape: [1 << 17], data: Array.from({ length: 1 << 17 }, () => first), dtype: DataType.INT64 }], [growing.other, { shape: [1], data: [1], dtype: DataType.INT64 }]]), dataLimit: 1 << 17 });
  const [one, two] = evaluateLanes(growing.graph, [from(1), from(1000)]);
  // 2^25 elements are 256 nodes' for each alone, and were 128 nodes' for both together.
  expect([one?.exhausted, two?.exhausted]).toEqual([true, true]);
  const lengths = [200, 250, 260].map((i) => one?.get(growing.graph.nodes[i]?.outputs[0] as Value)?.data?.length);
  expect(lengths).toEqual([1 << 17, 1 << 17, undefined]);
});

describe('contents', () => {
  const mask = (...odd: number[]): Fact => ({ dtype: DataType.INT64, shape: [2500], data: Array.from({ length: 2500 }, (_, i) => (odd.includes(i) ? 0 : 1)) });

  it('that are equal are one fact, wherever those that are not differ', () => {
    const memo = new Memo();
    // Few of the elements are looked at first: most of these differ in others.
    const facts = [mask(), mask(1), mask(2), mask(3, 4), mask(2499)].map((f) => memo.one(f));
    expect(new Set(facts).size).toBe(5);
    for (const [i, again] of [mask(), mask(1), mask(2), mask(3, 4), mask(2499)].entries()) expect(memo.one(again)).toBe(facts[i]);
    const signed = (zero: number): Fact => ({ dtype: DataType.FLOAT, shape: [100], data: new Array(100).fill(zero) });
    expect(memo.one(signed(0))).not.toBe(memo.one(signed(-0)));
    expect(memo.one(signed(Number.NaN))).toBe(memo.one(signed(Number.NaN)));
  });
});
