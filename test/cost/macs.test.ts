import { describe, expect, it } from 'vitest';
import { countMacs, groupCosts } from '../../src/cost/macs.js';
import { DataType, Graph, type Tensor } from '../../src/ir/graph.js';
import { int64, Sketch, weight } from '../analyse/shapes-support.js';

type Input = readonly number[] | Tensor | null;

function cost(op: string, inputs: readonly Input[], attributes: Parameters<Sketch['node']>[2] = {}, outputs = 1) {
  const s = new Sketch();
  s.node(op, inputs.map((i) => (i === null ? null : Array.isArray(i) ? s.input(i as number[]) : s.constant(i as Tensor))), attributes, outputs);
  const { macs, elementOps, uncounted } = countMacs(s.graph, s.evaluate());
  return { macs, elementOps, uncounted: uncounted.length };
}

describe('products', () => {
  it.each<[string, readonly Input[], Parameters<Sketch['node']>[2], number]>([
    ['MatMul', [[2, 9, 64], weight([64, 128])], {}, 2 * 9 * 64 * 128],
    ['MatMul', [[2, 4, 9, 16], [2, 4, 16, 9]], {}, 2 * 4 * 9 * 16 * 9],
    ['MatMul', [[64], weight([64, 5])], {}, 64 * 5],
    ['MatMulInteger', [[9, 64], weight([64, 5], DataType.INT8)], {}, 9 * 64 * 5],
    ['Gemm', [[64, 9], weight([5, 64])], { transA: 1, transB: 1 }, 9 * 64 * 5],
    ['com.microsoft:MatMulNBits', [[2, 9, 64], weight([128, 2, 16], DataType.UINT8)], { K: 64, N: 128, bits: 4, block_size: 32 }, 2 * 9 * 64 * 128],
    ['com.microsoft:FusedMatMul', [[2, 64, 9], [2, 5, 64]], { transA: 1, transB: 1 }, 2 * 9 * 64 * 5],
    ['Einsum', [[2, 9, 4, 16], [2, 12, 4, 16]], { equation: 'bqhd,bkhd->bhqk' }, 2 * 9 * 12 * 4 * 16],
    ['Conv', [[1, 3, 336, 336], weight([1024, 3, 14, 14])], { strides: [14, 14] }, 24 * 24 * 1024 * 3 * 14 * 14],
    ['Conv', [[1, 8, 10], weight([8, 1, 3])], { group: 8, pads: [1, 1] }, 8 * 10 * 3],
    ['ConvTranspose', [[1, 8, 5], weight([8, 4, 2])], { strides: [2] }, 8 * 5 * 4 * 2],
    ['com.microsoft:MoE', [[2, 9, 64], [18, 8], weight([8, 64, 128]), null, weight([8, 128, 64])], { k: 2 }, 2 * 18 * (64 * 128 * 2)],
    ['com.microsoft:MatMulNBitsQkv', [[2, 9, 64]], { K: 64, Nq: 64, Nkv: 32 }, 2 * 9 * 64 * 128],
    ['CausalConvWithState', [[2, 64, 9], weight([64, 1, 4])], {}, 2 * 64 * 9 * 4],
    ['LSTM', [[9, 2, 8], weight([1, 64, 8]), weight([1, 64, 16])], {}, 9 * 2 * 64 * (8 + 16)],
    ['com.microsoft:QMoE', [[2, 9, 64], [18, 8], weight([8, 64, 64]), null, null, weight([8, 128, 32])], { k: 2 }, 2 * 18 * (64 * 128 * 2)],
  ])('%s %#', (op, inputs, attributes, macs) => {
    expect(cost(op, inputs, attributes)).toEqual({ macs, elementOps: 0, uncounted: 0 });
  });
});

describe('attention', () => {
  const rows = 2 * 4 * 9 * 12;
  it.each<[string, readonly Input[], Parameters<Sketch['node']>[2], number]>([
    ['Attention', [[2, 4, 9, 16], [2, 2, 12, 16], [2, 2, 12, 8]], {}, rows * (16 + 8)],
    ['Attention', [[2, 9, 64], [2, 9, 32], [2, 9, 32], null, [2, 2, 3, 16], [2, 2, 3, 16]], { q_num_heads: 4, kv_num_heads: 2, is_causal: 1 }, rows * 32],
    ['com.microsoft:GroupQueryAttention', [[2, 9, 128], null, null, [2, 2, 3, 16], [2, 2, 3, 16], int64([11, 11]), int64([12], [])],
      { num_heads: 4, kv_num_heads: 2, do_rotary: 1 }, rows * 32],
    // A shared buffer of 40 tokens holds 12.
    ['com.microsoft:GroupQueryAttention', [[2, 9, 128], null, null, [2, 2, 40, 16], [2, 2, 40, 16], int64([11, 11]), int64([12], [])],
      { num_heads: 4, kv_num_heads: 2 }, rows * 32],
    ['com.microsoft:MultiHeadAttention', [[2, 9, 64], [2, 9, 64], [2, 9, 64], null, null, null, [2, 4, 3, 16], [2, 4, 3, 16]],
      { num_heads: 4 }, rows * 32],
    ['com.microsoft:Attention', [[2, 9, 64], weight([64, 192]), null, null, [2, 2, 4, 3, 16]], { num_heads: 4 }, rows * 32 + 2 * 9 * 64 * 192],
  ])('%s %#: QK and PV over all keys', (op, inputs, attributes, macs) => {
    expect(cost(op, inputs, attributes, 3)).toEqual({ macs, elementOps: rows, uncounted: 0 });
  });
});

it('counts linear attention by states updated and read', () => {
  const inputs = [[2, 9, 64], [2, 9, 32], [2, 9, 16]];
  const of = (update_rule: string) => cost('LinearAttention', inputs, { q_num_heads: 4, kv_num_heads: 2, update_rule }, 2).macs;
  expect(of('gated')).toBe(2 * 9 * 16 * 8 * (2 + 4));
  expect(of('gated_delta')).toBe(2 * 9 * 16 * 8 * (2 * 2 + 4));
});

describe('element work', () => {
  it.each<[string, readonly Input[], Parameters<Sketch['node']>[2], number]>([
    ['Add', [[2, 9, 1], [64]], {}, 2 * 9 * 64],
    ['Softmax', [[2, 4, 9, 9]], {}, 2 * 4 * 81],
    ['ReduceMean', [[2, 9, 64], int64([-1])], {}, 2 * 9 * 64],
    ['SimplifiedLayerNormalization', [[2, 9, 64], weight([64])], {}, 2 * 9 * 64],
    ['com.microsoft:RotaryEmbedding', [[2, 9, 64], int64([0], [1]), weight([99, 8]), weight([99, 8])], {}, 2 * 9 * 64],
    ['Gather', [weight([100, 64]), [2, 9]], {}, 0],
    ['Reshape', [[2, 9, 64], int64([0, -1])], {}, 0],
  ])('%s is no MAC', (op, inputs, attributes, elementOps) => {
    expect(cost(op, inputs, attributes)).toEqual({ macs: 0, elementOps, uncounted: 0 });
  });
});

describe('tables', () => {
  it('says what it could not count', () => {
    expect(cost('example:Mystery', [[2]])).toEqual({ macs: 0, elementOps: 0, uncounted: 1 });
    const s = new Sketch();
    s.node('MatMul', [s.input(null, DataType.FLOAT, undefined, 2), s.constant(weight([4, 5]))]);
    expect(countMacs(s.graph, s.evaluate()).uncounted).toEqual(s.graph.nodes);
  });

  it('counts the branch that is taken', () => {
    const s = new Sketch();
    const x = s.input([2, 64]);
    const inner = new Sketch();
    inner.graph.outputs.push(inner.node('MatMul', [x, inner.constant(weight([64, 5]))])[0]!);
    const other = new Graph();
    other.outputs.push(x);
    s.node('If', [s.input([1], DataType.BOOL, [1])], { then_branch: inner.graph, else_branch: other });
    const table = countMacs(s.graph, s.evaluate());
    expect([table.macs, table.uncounted.length]).toEqual([2 * 64 * 5, 0]);
  });

  it('groups', () => {
    const s = new Sketch();
    const [h] = s.node('MatMul', [s.input([9, 64]), s.constant(weight([64, 8]))]);
    const [r] = s.node('Relu', [h!]);
    s.node('MatMul', [r!, s.constant(weight([8, 100]))]);
    const table = countMacs(s.graph, s.evaluate());
    const groups = groupCosts(table, (n) => (n === s.graph.nodes[2] ? 'lm head' : 'decoder'));
    expect([...groups]).toEqual([
      ['decoder', { nodes: 2, macs: 9 * 64 * 8, elementOps: 72 }],
      ['lm head', { nodes: 1, macs: 9 * 8 * 100, elementOps: 0 }],
    ]);
    expect([...groups.values()].reduce((sum, g) => sum + g.macs, 0)).toBe(table.macs);
  });
});
