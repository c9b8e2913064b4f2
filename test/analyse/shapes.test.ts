import { describe, expect, it } from 'vitest';
import { evaluateShapes } from '../../src/analyse/shapes/index.js';
import { castNumber, erf, roundBfloat, roundHalf, roundHalfEven } from '../../src/analyse/shapes/numbers.js';
import { DataType, type Graph } from '../../src/ir/graph.js';
import { fromHalf } from '../../src/ir/half.js';
import { float32, int64, run, Sketch, weight } from './shapes-support.js';

/** Shapes of the outputs of one op. */
const shapes = (...args: Parameters<typeof run>) => run(...args).map((f) => f?.shape);
const data = (...args: Parameters<typeof run>) => run(...args)[0]?.data;

describe('shape arithmetic', () => {
  it('follows the chain of a Reshape target', () => {
    const s = new Sketch();
    const x = s.input([2, 9, 64]);
    const [shape] = s.node('Shape', [x]);
    const [b] = s.node('Gather', [shape!, s.constant(int64([0], []))]);
    const [b1] = s.node('Unsqueeze', [b!, s.ints(0)]);
    const [target] = s.node('Concat', [b1!, s.ints(-1), s.ints(4, 16)], { axis: 0 });
    const [y] = s.node('Reshape', [x, target!]);
    const facts = s.evaluate();
    expect(facts.ints(target!)).toEqual([2, -1, 4, 16]);
    expect(facts.shape(y!)).toEqual([2, 9, 4, 16]);
    expect(facts.scalar(b!)).toBe(2);
    expect(facts.conflicts).toEqual([]);
  });

  it('keeps what is known beside a size that depends on data', () => {
    const s = new Sketch();
    const mask = s.input([1, 9], DataType.BOOL);
    const [where] = s.node('NonZero', [mask]);
    const [rows] = s.node('Transpose', [where!]);
    const [shape] = s.node('Shape', [rows!]);
    const [n] = s.node('Gather', [shape!, s.ints(0)]);
    const [target] = s.node('Concat', [s.ints(1), n!, s.ints(4, 16)], { axis: 0 });
    const [y] = s.node('Expand', [s.input([1, 1, 1, 16]), target!]);
    const [z] = s.node('Reshape', [y!, s.ints(0, 0, -1)]);
    const facts = s.evaluate();
    expect(facts.shape(where!)).toEqual([2, null]);
    expect(facts.shape(y!)).toEqual([1, null, 4, 16]);
    expect(facts.shape(z!)).toEqual([1, null, null]);
    expect(facts.get(target!)?.data).toBeUndefined();
    expect(facts.ints(target!)).toBeUndefined();
  });

  it('finds data-dependent sizes when the data is given', () => {
    const s = new Sketch();
    const mask = s.input([1, 5], DataType.BOOL, [0, 1, 1, 0, 1]);
    const [where] = s.node('NonZero', [mask]);
    expect(s.evaluate().get(where!)).toMatchObject({ shape: [2, 3], data: [0, 0, 0, 1, 2, 4] });
  });

  it('computes the scale of a TorchScript sdpa export', () => {
    const s = new Sketch();
    const [shape] = s.node('Shape', [s.input([1, 4, 9, 16])]);
    const [d] = s.node('Slice', [shape!, s.ints(-1), s.ints(2 ** 63)]);
    const [f] = s.node('Cast', [d!], { to: DataType.FLOAT });
    const [root] = s.node('Sqrt', [f!]);
    const [inverse] = s.node('Div', [s.constant(float32([1])), root!]);
    const [scale] = s.node('Sqrt', [inverse!]);
    expect(s.evaluate().scalar(scale!)).toBe(0.5);
  });

  it('does not follow contents past the limit, and does when it is raised', () => {
    const s = new Sketch();
    const mask = s.input([1, 5000], DataType.INT64, new Array(5000).fill(1));
    const [sum] = s.node('ReduceSum', [s.node('Mul', [mask, mask])[0]!], { keepdims: 0 });
    expect(s.evaluate().scalar(sum!)).toBeUndefined();
    expect(s.evaluate(70_000).scalar(sum!)).toBe(5000);
  });

  it('follows floats only while they may be scalars of shape arithmetic', () => {
    const s = new Sketch();
    const [y] = s.node('Neg', [s.input([300], DataType.FLOAT, new Array(300).fill(1))]);
    expect(s.evaluate().get(y!)?.data).toBeUndefined();
    expect(evaluateShapes(s.graph, { inputs: s.bindings, floatLimit: 300 }).get(y!)?.data).toHaveLength(300);
  });

  it.each([
    ['a copied and an inferred size', [2, 9, 64], [0, -1, 16], {}, [2, 36, 16]],
    ['an empty tensor', [2, 0, 64], [2, -1], {}, [2, 0]],
    ['allowzero', [2, 0], [0, 3], { allowzero: 1 }, [0, 3]],
  ])('Reshape with %s', (_, from, to, attributes, want) => {
    expect(shapes('Reshape', [from, int64(to)], attributes)).toEqual([want]);
  });
});

describe('movement', () => {
  const m = float32([0, 1, 2, 3, 4, 5], [2, 3]);
  it.each([
    ['Slice', [m, int64([0]), int64([2 ** 63]), int64([1]), int64([2])], {}, [2, 2], [0, 2, 3, 5]],
    ['Slice', [m, int64([-1]), int64([-(2 ** 62)]), int64([1]), int64([-1])], {}, [2, 3], [2, 1, 0, 5, 4, 3]],
    ['Slice', [m], { starts: [1], ends: [2], axes: [0] }, [1, 3], [3, 4, 5]],
    ['Slice', [m, int64([2]), int64([1]), int64([1])], {}, [2, 0], []],
    ['Transpose', [m], {}, [3, 2], [0, 3, 1, 4, 2, 5]],
    ['Tile', [m, int64([1, 2])], {}, [2, 6], [0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5]],
    ['Expand', [float32([7, 8], [2, 1]), int64([1, 2, 2])], {}, [1, 2, 2], [7, 7, 8, 8]],
    ['Concat', [m, m], { axis: -1 }, [2, 6], [0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5]],
    ['Squeeze', [float32([1], [1, 1])], { axes: [0] }, [1], [1]],
    ['Squeeze', [float32([1], [1, 1])], {}, [], [1]],
    ['Unsqueeze', [int64([3]), int64([0, -1])], {}, [1, 1, 1], [3]],
    ['Flatten', [m], { axis: 0 }, [1, 6], [0, 1, 2, 3, 4, 5]],
    ['Pad', [float32([1, 2]), int64([1, 2]), float32([9], [])], {}, [5], [9, 1, 2, 9, 9]],
    ['Gather', [m, int64([-1, 0])], { axis: 1 }, [2, 2], [2, 0, 5, 3]],
    ['GatherElements', [m, int64([2, 0], [2, 1])], { axis: 1 }, [2, 1], [2, 3]],
    ['GatherND', [m, int64([1, 2, 0, 0], [2, 2])], {}, [2], [5, 0]],
    ['GatherND', [m, int64([2, 1], [2, 1])], { batch_dims: 1 }, [2], [2, 4]],
    ['ScatterND', [m, int64([1], [1, 1]), float32([7, 8, 9], [1, 3])], {}, [2, 3], [0, 1, 2, 7, 8, 9]],
    ['ScatterElements', [m, int64([1, 0], [2, 1]), float32([7, 8], [2, 1])], { axis: 1 }, [2, 3], [0, 7, 2, 8, 4, 5]],
    ['Trilu', [m], { upper: 0 }, [2, 3], [0, 0, 0, 3, 4, 0]],
    ['CumSum', [m, int64([1], [])], {}, [2, 3], [0, 1, 3, 3, 7, 12]],
    ['CumSum', [m, int64([1], [])], { exclusive: 1, reverse: 1 }, [2, 3], [3, 2, 0, 9, 5, 0]],
    ['OneHot', [int64([1, -1]), int64([3], []), float32([0, 1])], {}, [2, 3], [0, 1, 0, 0, 0, 1]],
    ['EyeLike', [m], {}, [2, 3], [1, 0, 0, 0, 1, 0]],
    ['Range', [int64([3], []), int64([10], []), int64([3], [])], {}, [3], [3, 6, 9]],
    ['Shape', [m], { start: -1 }, [1], [3]],
    ['Size', [m], {}, [], [6]],
    ['ConstantOfShape', [int64([2])], { value: int64([4]) }, [2], [4, 4]],
    ['Constant', [], { value_ints: [1, 2] }, [2], [1, 2]],
    ['Constant', [], { value_float: { float: 0.5 } }, [], [0.5]],
  ] as const)('%s %#', (op, inputs, attributes, shape, want) => {
    const [fact] = run(op, inputs, attributes);
    expect(fact?.shape).toEqual(shape);
    expect(fact?.data).toEqual(want);
  });

  it('splits by sizes, by number and evenly', () => {
    expect(shapes('Split', [[2, 7], int64([3, 4])], { axis: 1 }, 2)).toEqual([[2, 3], [2, 4]]);
    expect(shapes('Split', [[2, 7]], { axis: -1, num_outputs: 3 }, 3)).toEqual([[2, 3], [2, 3], [2, 1]]);
    expect(shapes('Split', [[4]], { split: [1, 3] }, 2)).toEqual([[1], [3]]);
    expect(run('Split', [float32([1, 2, 3, 4])], {}, 2).map((f) => f?.data)).toEqual([[1, 2], [3, 4]]);
  });

  it('picks the first of equal elements in TopK', () => {
    const [values, indices] = run('TopK', [float32([1, 3, 3, 2]), int64([2])], {}, 2);
    expect(values?.data).toEqual([3, 3]);
    expect(indices?.data).toEqual([1, 2]);
    expect(shapes('TopK', [[2, 9], int64([4])], {}, 2)).toEqual([[2, 4], [2, 4]]);
  });
});

describe('arithmetic', () => {
  it.each([
    ['Div', int64([7, -7]), int64([2]), [3, -3]],
    ['Mod', int64([7, -7]), int64([3]), [1, 2]],
    ['Pow', int64([2, 3]), int64([3]), [8, 27]],
    ['Equal', int64([1, -1]), int64([-1]), [0, 1]],
    ['Max', int64([1, 5]), int64([3]), [3, 5]],
    ['Sub', int64([1, 2], [2, 1]), int64([1, 2]), [0, -1, 1, 0]],
    ['And', int64([1, 0]), int64([1, 1]), [1, 0]],
    ['GreaterOrEqual', float32([1, 2]), float32([2]), [0, 1]],
  ])('%s', (op, a, b, want) => {
    expect(data(op, [a, b])).toEqual(want);
  });

  it('divides by zero into the unknown, not into Infinity', () => {
    expect(data('Div', [int64([1]), int64([0])])).toBeUndefined();
  });

  it('chooses in Where, and clips', () => {
    expect(data('Where', [int64([1, 0]), int64([5]), int64([6])])).toEqual([5, 6]);
    expect(data('Clip', [int64([-3, 9]), int64([0], []), null])).toEqual([0, 9]);
    expect(data('Clip', [float32([-3, 9]), null, float32([1], [])])).toEqual([-3, 1]);
  });

  it('rounds to the dtype', () => {
    expect(data('Cast', [float32([2.7, -2.7])], { to: DataType.INT64 })).toEqual([2, -2]);
    expect(data('Cast', [float32([2.7, 0])], { to: DataType.BOOL })).toEqual([1, 0]);
    expect(data('Add', [float32([0.1]), float32([0.2])])).toEqual([Math.fround(Math.fround(0.1) + Math.fround(0.2))]);
    expect([0.1, 65520, 1e-8, 2048.5, -1.5].map(roundHalf)).toEqual([0.0999755859375, Infinity, 0, 2048, -1.5]);
    expect(roundBfloat(1.01)).toBe(1.0078125);
    expect([0.5, 1.5, -0.5, 2.5].map(roundHalfEven).map((x) => x + 0)).toEqual([0, 2, 0, 2]);
    expect([2 ** 40 + 5, 2 ** 31, 2 ** 63].map(castNumber(DataType.INT64, DataType.INT32))).toEqual([5, -(2 ** 31), 2 ** 31 - 1]);
    expect(data('Sub', [int64([0]), int64([0])])).toEqual([0]);
  });

  it('rounds to every half and between any two of them', () => {
    for (let bits = 0; bits < 0x7c00; bits++) {
      const [low, high] = [fromHalf(bits), bits === 0x7bff ? 65536 : fromHalf(bits + 1)];
      const middle = (low + high) / 2;
      const [even, above] = bits === 0x7bff ? [Infinity, Infinity] : [bits % 2 === 0 ? low : high, high];
      const found = [low, middle, middle * (1 - 2 ** -52), middle * (1 + 2 ** -52)].map(roundHalf);
      if (found.join() !== [low, even, low, above].join()) expect([bits, found]).toEqual([bits, [low, even, low, above]]);
      if (roundHalf(-middle) !== -even) expect([bits, roundHalf(-middle)]).toEqual([bits, -even]);
    }
    expect([Number.NaN, -Infinity, 1e300, -1e300, -0, -(2 ** -26)].map(roundHalf)).toEqual([Number.NaN, -Infinity, Infinity, -Infinity, -0, -0]);
  });

  it('knows the error function', () => {
    for (const [x, y] of [[0, 0], [0.5, 0.5204998778130465], [-1, -0.8427007929497149], [2.6, 0.9997639655834707], [3, 0.9999779095030014]] as const) {
      expect(erf(x)).toBeCloseTo(y, 12);
    }
  });

  it.each([
    ['ReduceSum', int64([1, 2, 3, 4], [2, 2]), int64([1]), {}, [2, 1], [3, 7]],
    ['ReduceMax', int64([1, 2, 3, 4], [2, 2]), null, { axes: [0], keepdims: 0 }, [2], [3, 4]],
    ['ReduceMin', int64([1, 2, 3, 4], [2, 2]), null, { keepdims: 0 }, [], [1]],
    ['ReduceProd', int64([2, 3]), null, {}, [1], [6]],
    ['ReduceMean', float32([1, 2]), null, {}, [1], [1.5]],
    ['ReduceSum', int64([1, 2]), int64([]), { noop_with_empty_axes: 1 }, [2], [1, 2]],
    // First, middle and last axes, together and apart, with axes of one between them and without elements.
    ['ReduceSum', int64([1, 2, 4, 8, 16, 32, 64, 128], [2, 2, 2]), int64([0]), {}, [1, 2, 2], [17, 34, 68, 136]],
    ['ReduceSum', int64([1, 2, 4, 8, 16, 32, 64, 128], [2, 2, 2]), int64([1]), {}, [2, 1, 2], [5, 10, 80, 160]],
    ['ReduceSum', int64([1, 2, 4, 8, 16, 32, 64, 128], [2, 2, 2]), int64([1, 2]), {}, [2, 1, 1], [15, 240]],
    ['ReduceSum', int64([1, 2, 4, 8, 16, 32, 64, 128], [2, 2, 2]), int64([0, 2]), {}, [1, 2, 1], [51, 204]],
    ['ReduceSum', int64([1, 2, 4, 8], [2, 1, 2]), int64([-1]), { keepdims: 0 }, [2, 1], [3, 12]],
    ['ReduceSum', int64([1, 2, 4, 8], [1, 4, 1]), int64([0, 1]), { keepdims: 0 }, [1], [15]],
    ['ReduceSum', int64([], [2, 0]), int64([1]), {}, [2, 1], [0, 0]],
    ['ReduceSum', int64([], [0, 2]), int64([1]), {}, [0, 1], []],
    ['ArgMax', float32([1, 3, 3]), null, { axis: 0 }, [1], [1]],
    ['ArgMin', float32([3, 1, 1]), null, { axis: -1, select_last_index: 1, keepdims: 0 }, [], [2]],
  ])('%s %#', (op, a, axes, attributes, shape, want) => {
    const [fact] = run(op, axes ? [a, axes] : [a], attributes);
    expect([fact?.shape, fact?.data]).toEqual([shape, want]);
  });
});

describe('products and vision', () => {
  it.each([
    ['MatMul', [[2, 1, 9, 16], [4, 16, 7]], {}, [2, 4, 9, 7]],
    ['MatMul', [[16], [4, 16, 7]], {}, [4, 7]],
    ['MatMul', [[9, 16], [16]], {}, [9]],
    ['Gemm', [[16, 9], [7, 16]], { transA: 1, transB: 1 }, [9, 7]],
    ['com.microsoft:FusedMatMul', [[2, 16, 9], [2, 7, 16]], { transA: 1, transB: 1 }, [2, 9, 7]],
    ['com.microsoft:FusedMatMul', [[9, 2, 16], [2, 16, 7]], { transBatchA: 1 }, [2, 9, 7]],
    ['com.microsoft:MatMulNBits', [[2, 9, 64], [128, 2, 16]], { K: 64, N: 128 }, [2, 9, 128]],
    ['Einsum', [[2, 3, 4], [2, 4, 5]], { equation: 'bij,bjk->bik' }, [2, 3, 5]],
    ['Einsum', [[2, 7, 3, 4], [4, 5]], { equation: '...ij,jk' }, [2, 7, 3, 5]],
    ['Conv', [[1, 3, 336, 336], [1024, 3, 14, 14]], { strides: [14, 14] }, [1, 1024, 24, 24]],
    ['Conv', [[1, 4, 10], [8, 2, 3]], { group: 2, dilations: [2], pads: [1, 1] }, [1, 8, 8]],
    ['ConvTranspose', [[1, 8, 5], [8, 4, 2]], { strides: [2] }, [1, 4, 10]],
    ['MaxPool', [[1, 4, 7, 7]], { kernel_shape: [2, 2], strides: [2, 2], ceil_mode: 1 }, [1, 4, 4, 4]],
    ['AveragePool', [[1, 4, 24, 24]], { kernel_shape: [2, 2], strides: [2, 2] }, [1, 4, 12, 12]],
    ['GlobalAveragePool', [[1, 4, 7, 7]], {}, [1, 4, 1, 1]],
    ['Resize', [[1, 4, 7, 7], null, float32([1, 1, 2, 1.5])], {}, [1, 4, 14, 10]],
    ['Resize', [[1, 4, 7, 7], null, null, int64([1, 4, 9, 9])], {}, [1, 4, 9, 9]],
    ['DepthToSpace', [[1, 8, 3, 3]], { blocksize: 2 }, [1, 2, 6, 6]],
    ['com.microsoft:GatherBlockQuantized', [weight([100, 32], DataType.UINT8), [2, 9], weight([100, 2])], { bits: 4, quantize_axis: 1 }, [2, 9, 64]],
    ['com.microsoft:BiasSplitGelu', [[2, 9, 64], [64]], {}, [2, 9, 32]],
  ])('%s %#', (op, inputs, attributes, want) => {
    const result = run(op, inputs as Parameters<typeof run>[1], attributes);
    expect(result[0]?.shape).toEqual(want);
    expect(result.conflicts).toEqual([]);
  });

  it('gives norms their statistics', () => {
    expect(shapes('LayerNormalization', [[2, 9, 64], [64], [64]], {}, 3)).toEqual([[2, 9, 64], [2, 9, 1], [2, 9, 1]]);
    expect(shapes('com.microsoft:SkipSimplifiedLayerNormalization', [[2, 9, 64], [2, 9, 64], [64]], {}, 4)[3]).toEqual([2, 9, 64]);
    expect(shapes('DynamicQuantizeLinear', [[2, 9]], {}, 3)).toEqual([[2, 9], [], []]);
  });
});

describe('attention', () => {
  const cache = [2, 2, 3, 16];
  it.each([
    ['4-D', 'Attention', [[2, 4, 9, 16], [2, 2, 9, 16], [2, 2, 9, 8], null, cache, [2, 2, 3, 8]], {}, 4,
      [[2, 4, 9, 8], [2, 2, 12, 16], [2, 2, 12, 8], [2, 4, 9, 12]]],
    ['3-D', 'Attention', [[2, 9, 64], [2, 9, 32], [2, 9, 32], null, cache, cache], { q_num_heads: 4, kv_num_heads: 2 }, 3,
      [[2, 9, 64], [2, 2, 12, 16], [2, 2, 12, 16]]],
    ['separate', 'com.microsoft:MultiHeadAttention', [[2, 9, 64], [2, 9, 64], [2, 9, 64], null, null, null, [2, 4, 3, 16], [2, 4, 3, 16]],
      { num_heads: 4 }, 3, [[2, 9, 64], [2, 4, 12, 16], [2, 4, 12, 16]]],
    ['packed', 'com.microsoft:MultiHeadAttention', [[2, 9, 4, 3, 16]], { num_heads: 4 }, 1, [[2, 9, 64]]],
    ['per head', 'com.microsoft:MultiHeadAttention', [[2, 9, 64], [2, 4, 30, 16], [2, 4, 30, 16]], { num_heads: 4 }, 1, [[2, 9, 64]]],
    ['projecting', 'com.microsoft:Attention', [[2, 9, 64], [64, 192], [192], null, [2, 2, 4, 3, 16]], { num_heads: 4 }, 2,
      [[2, 9, 64], [2, 2, 4, 12, 16]]],
  ])('%s %s', (_, op, inputs, attributes, outputs, want) => {
    expect(shapes(op, inputs as Parameters<typeof run>[1], attributes as Record<string, number>, outputs)).toEqual(want);
  });

  it('reads packed and separate GroupQueryAttention, grown and shared caches', () => {
    const attributes = { num_heads: 4, kv_num_heads: 2 };
    const seqlens = int64([11, 11]);
    const total = int64([12], []);
    const op = 'com.microsoft:GroupQueryAttention';
    const want = [[2, 9, 64], [2, 2, 12, 16], [2, 2, 12, 16]];
    expect(shapes(op, [[2, 9, 128], null, null, cache, cache, seqlens, total], attributes, 3)).toEqual(want);
    expect(shapes(op, [[2, 9, 64], [2, 9, 32], [2, 9, 32], cache, cache, seqlens, total], attributes, 3)).toEqual(want);
    const buffer = [2, 2, 40, 16];
    expect(shapes(op, [[2, 9, 128], null, null, buffer, buffer, seqlens, total], attributes, 3)[1]).toEqual(buffer);
  });
});

describe('states', () => {
  it.each([
    ['LinearAttention', [[2, 9, 64], [2, 9, 32], [2, 9, 16]], { q_num_heads: 4, kv_num_heads: 2 }, [[2, 9, 32], [2, 2, 16, 8]]],
    ['CausalConvWithState', [[2, 64, 9], weight([64, 1, 4])], {}, [[2, 64, 9], [2, 64, 3]]],
    ['com.microsoft:CausalConvWithState', [[2, 9, 64], weight([64, 1, 4])], { channels_last: 1, dilation: 2 }, [[2, 9, 64], [2, 6, 64]]],
    ['LSTM', [[9, 2, 8], weight([1, 64, 8]), weight([1, 64, 16])], {}, [[9, 1, 2, 16], [1, 2, 16]]],
  ])('%s', (op, inputs, attributes, want) => {
    expect(shapes(op, inputs as Parameters<typeof run>[1], attributes as Record<string, number>, 2)).toEqual(want);
  });

  it('keeps a window-sized cache of GroupQueryAttention at its size', () => {
    const attributes = { num_heads: 4, kv_num_heads: 2, local_window_size: 8, sliding_window_cache: 1 };
    const inputs = [[2, 1, 128], null, null, [2, 2, 8, 16], [2, 2, 8, 16], int64([11, 11]), int64([12], [])];
    expect(shapes('com.microsoft:GroupQueryAttention', inputs, attributes, 3)).toEqual([[2, 1, 64], [2, 2, 8, 16], [2, 2, 8, 16]]);
  });
});

describe('what cannot be known', () => {
  it('names unknown ops and goes on', () => {
    const s = new Sketch();
    const [y] = s.node('example:Mystery', [s.input([2])]);
    const [z] = s.node('Softmax', [y!]);
    const facts = s.evaluate();
    expect(facts.shape(z!)).toBeNull();
    expect([...facts.unknownOps]).toEqual([['example.Mystery', 1]]);
    expect(facts.conflicts).toEqual([]);
  });

  it.each([
    ['MatMul', [[2, 3], [4, 5]], {}],
    ['Add', [[2, 3], [4]], {}],
    ['Reshape', [[2, 3], int64([4, -1])], {}],
    ['Concat', [[2, 3], [3, 4]], { axis: 1 }],
    ['Gather', [int64([1, 2]), int64([2])], {}],
    ['Squeeze', [[2, 3], int64([0])], {}],
    ['com.microsoft:MatMulNBits', [[2, 32], [8, 2, 16]], { K: 64, N: 8 }],
  ])('records the contradiction in %s', (op, inputs, attributes) => {
    expect(run(op, inputs as Parameters<typeof run>[1], attributes).conflicts).toHaveLength(1);
  });

  it('reports a binding that contradicts the declared type', () => {
    const s = new Sketch();
    const x = s.input([2, 3]);
    x.type = { elemType: 1, dims: ['batch', '4'] };
    expect(s.evaluate().conflicts[0]?.reason).toContain('declared [?,4] and bound to [2,3]');
  });
});

describe('subgraphs', () => {
  function branch(_s: Sketch, make: (t: Sketch) => ReturnType<Sketch['node']>): Graph {
    const inner = new Sketch();
    inner.graph.outputs.push(make(inner)[0]!);
    return inner.graph;
  }

  function sketch(condition: number | undefined) {
    const s = new Sketch();
    const x = s.input([2, 3]);
    const c = s.input([1], DataType.BOOL, condition === undefined ? undefined : [condition]);
    const thenGraph = branch(s, (t) => t.node('Concat', [x, x], { axis: 0 }));
    const elseGraph = branch(s, (t) => t.node('Identity', [x]));
    const [y] = s.node('If', [c], { then_branch: thenGraph, else_branch: elseGraph });
    const facts = s.evaluate();
    return { shape: facts.shape(y!), taken: facts.takenBranches.size };
  }

  it('follows the branch taken, or what both agree on', () => {
    expect(sketch(1)).toEqual({ shape: [4, 3], taken: 1 });
    expect(sketch(0)).toEqual({ shape: [2, 3], taken: 1 });
    expect(sketch(undefined)).toEqual({ shape: [null, 3], taken: 0 });
  });
});
