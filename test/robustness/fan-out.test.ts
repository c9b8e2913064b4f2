/** Values that many nodes read: what is done for every use must not look through all of them. Counted, not timed. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { NoOps } from '../../src/analyse/no-ops.js';
import { evaluateShapes } from '../../src/analyse/shapes/index.js';
import { DataType, Graph, Node, refill, removeUse, type Use, Value } from '../../src/ir/graph.js';
import { verifyGraph } from '../../src/ir/verify.js';
import { MemorySource } from '../../src/onnx/bytes.js';
import { readModel } from '../../src/onnx/read.js';
import { concat, encodeBytesField, encodeHeader, encodeStringField, encodeVarintField, fieldsOf } from '../../src/onnx/wire.js';
import { layoutModel } from '../../src/onnx/write.js';

/** Counts every element that is read of `value.uses`. */
function countReads(value: Value): { reads: number } {
  const counter = { reads: 0 };
  const counted = new Proxy<Use[]>(value.uses as Use[], {
    get(target, key, receiver) {
      if (typeof key === 'string' && /^\d+$/.test(key)) counter.reads++;
      return Reflect.get(target, key, receiver);
    },
  });
  Object.defineProperty(value, 'uses', { value: counted });
  return counter;
}

function constant(graph: Graph, name: string): Value {
  const value = new Value(name);
  value.tensor = { dataType: DataType.FLOAT, dims: [1], data: new Uint8Array(4), byteLength: 4, external: undefined };
  graph.values.set(name, value);
  graph.initializers.push(value);
  return value;
}

function add(graph: Graph, op: string, inputs: readonly Value[], name: string): Value {
  const node = new Node(op, '', name);
  const out = new Value(name);
  inputs.forEach((v, index) => {
    node.inputs.push(v);
    v.uses.push({ node, index });
  });
  node.outputs.push(out);
  out.producer = node;
  graph.values.set(name, out);
  graph.nodes.push(node);
  return out;
}

/** `count` nodes that read one value, each a graph output. */
function fan(count: number): { graph: Graph; root: Value } {
  const graph = new Graph();
  const root = constant(graph, 'root');
  for (let i = 0; i < count; i++) {
    const out = add(graph, 'Relu', [root], `out${i}`);
    out.isOutput = true;
    graph.outputs.push(out);
  }
  return { graph, root };
}

/** x + 0 + 0 + …: every node of the chain is a no-op that comes to read `root`. */
function chainOfNoOps(count: number): { graph: Graph; root: Value } {
  const graph = new Graph();
  const root = constant(graph, 'root');
  let v = root;
  for (let i = 0; i < count; i++) v = add(graph, 'Add', [v, constant(graph, `zero${i}`)], `sum${i}`);
  v.isOutput = true;
  graph.outputs.push(v);
  return { graph, root };
}

describe('a value with many readers', () => {
  for (const count of [500, 4000]) {
    it(`is verified in a few reads of each of its ${count} uses`, () => {
      const { graph, root } = fan(count);
      const counter = countReads(root);
      expect(verifyGraph(graph)).toEqual([]);
      expect(counter.reads).toBeGreaterThan(count);
      expect(counter.reads).toBeLessThan(5 * count);
    });

    it(`gains and loses ${count} readers, no-ops that are bypassed, in a few reads of each`, () => {
      const { graph, root } = chainOfNoOps(count);
      const counter = countReads(root);
      new NoOps(graph).bypass([evaluateShapes(graph, { inputs: new Map() })]);
      expect(graph.nodes).toHaveLength(1);
      expect(counter.reads).toBeGreaterThan(count / 2);
      expect(counter.reads).toBeLessThan(10 * count);
    });
  }

  it('keeps the order of what is not taken off, from either end and from the middle', () => {
    const { root } = fan(7);
    const nodes = root.uses.map((u) => u.node);
    for (const at of [0, 6, 3]) removeUse(root, nodes[at] as Node, 0);
    expect(root.uses.map((u) => nodes.indexOf(u.node))).toEqual([1, 2, 4, 5]);
    removeUse(root, nodes[3] as Node, 0);
    removeUse(root, nodes[1] as Node, 1);
    expect(root.uses).toHaveLength(4);
  });

  it('is still found out when a use is not recorded', () => {
    const { graph, root } = fan(40);
    const { node } = root.uses[20] as Use;
    removeUse(root, node, 0);
    expect(verifyGraph(graph).map((p) => p.reason)).toEqual(['"root" does not know that it is read here']);
  });
});

describe('contents that are changed in many nodes', () => {
  const evaluate = (op: string, count: number) => {
    const graph = new Graph();
    const mask = new Value('mask');
    mask.isInput = true;
    mask.type = { elemType: DataType.INT64, dims: [4, 1024] };
    graph.inputs.push(mask);
    const one = constant(graph, 'one');
    one.tensor = { dataType: DataType.INT64, dims: [1], data: new Uint8Array(BigInt64Array.of(1n).buffer), byteLength: 8, external: undefined };
    let v = mask;
    for (let i = 0; i < count; i++) v = add(graph, op, op === 'Add' ? [v, one] : [v], `v${i}`);
    const facts = evaluateShapes(graph, { inputs: new Map([[mask, { shape: [4, 1024], data: Array.from({ length: 4096 }, (_, i) => i % 7) }]]) });
    return { facts, graph, last: v };
  };

  it('are kept once where they are the same', () => {
    const { facts, graph, last } = evaluate('Neg', 20_000);
    const kept = new Set(graph.nodes.map((n) => facts.get(n.outputs[0] as Value)?.data));
    expect(kept.size).toBe(2);
    expect(facts.exhausted).toBe(false);
    expect(facts.get(last)?.data?.slice(0, 3)).toEqual([0, 1, 2]);
  });

  it('are followed only so far where they are always others; sizes still are', () => {
    const { facts, graph, last } = evaluate('Add', 10_000);
    expect(facts.exhausted).toBe(true);
    expect(facts.get(last)).toMatchObject({ shape: [4, 1024] });
    expect(facts.get(last)?.data).toBeUndefined();
    const kept = new Set(graph.nodes.map((n) => facts.get(n.outputs[0] as Value)?.data));
    expect(kept.size).toBeGreaterThan(8000);
    expect(kept.size).toBeLessThan(8300);
  });
});

/** More than one call may have arguments (about 120,000 with the default stack). */
const MANY = 200_000;

describe('more records than a call may have arguments', () => {
  it('are read and laid out', async () => {
    const bytes = readFileSync(new URL('../../fixtures/llama-ts14-eager/model.onnx', import.meta.url));
    const graph = [...fieldsOf(bytes)].find((f) => f.number === 7);
    if (!graph) throw new Error('the fixture has no graph');
    const tensor = (i: number): Uint8Array =>
      encodeBytesField(5, concat([encodeVarintField(1, 1), encodeVarintField(2, DataType.FLOAT), encodeStringField(8, `pad_${i}`), encodeBytesField(9, new Uint8Array(4))]));
    const body = concat([bytes.subarray(graph.dataStart, graph.end), ...Array.from({ length: MANY }, (_, i) => tensor(i))]);
    const padded = concat([bytes.subarray(0, graph.start), encodeHeader(7, body.length), body, bytes.subarray(graph.end)]);
    const model = await readModel(new MemorySource(padded));
    expect(model.graph.initializers.length).toBeGreaterThan(MANY);
    const { pieces, byteLength } = layoutModel(model, { metadata: new Map() });
    expect(byteLength).toBe(padded.length);
    expect(pieces.reduce((n, p) => n + p.length, 0)).toBe(padded.length);
  });

  it('replace one another in a list', () => {
    const list = [0];
    refill(list, Array.from({ length: MANY }, (_, i) => i));
    expect([list.length, list.at(-1)]).toEqual([MANY, MANY - 1]);
  });
});
