/**
 * Behind a boundary only attention may mix tokens: ops that reach over the sequence are refused by name, ops that treat
 * each token alone are not.
 */
import { beforeAll, describe, expect, it } from 'vitest';
import { requireTokenWise } from '../../src/analyse/token-wise.js';
import { Refusal } from '../../src/diagnostics.js';
import { cliJson } from '../support/cli.js';
import { factsOf, layerEntry } from '../support/decoder.js';
import { modelFile } from '../support/folder.js';
import { BOOL, encodeModel, float32, graphOf, insertAfter, int64, loadModel, modelOf, node, type NodeProto, type TensorProto, valueInfo, weight } from '../support/proto.js';
import { expectRefusal } from '../support/refuse.js';

const FIXTURE = 'llama-ts17-sdpa';
const HIDDEN = 64;
const BOUNDARIES = ['--layers', '2,4', '--lambda', '0.5'];

let entries: string[] = [];
beforeAll(async () => {
  entries = await Promise.all([1, 3].map((l) => layerEntry(FIXTURE, l)));
});

/** The fixture with extra nodes on the residual stream; `x` is the stream, the last node must make `y`. */
function withNodes(make: (x: string) => NodeProto[], initializers: TensorProto[] = [], behind = true): string {
  const model = loadModel(FIXTURE);
  const graph = graphOf(model);
  const x = entries[behind ? 1 : 0] as string;
  graph.initializer?.push(...initializers);
  insertAfter(graph, x, make(x), 'y');
  model.opsetImport?.push({ domain: 'com.microsoft', version: 1 } as never, { domain: 'example.ops', version: 1 } as never);
  return modelFile(encodeModel(model));
}

interface Case {
  readonly name: string;
  readonly make: (x: string) => NodeProto[];
  readonly initializers?: () => TensorProto[];
  readonly culprit?: string;
  /** Attention that no layer accounts for: refused wherever it stands. */
  readonly code?: string;
}

const mean = (x: string, axes: number[], keepdims: number): NodeProto => node('ReduceMean', [x], ['m'], { axes, keepdims });

/** `z[0:b, 0:t, 0:h] = x` as TorchScript spells it. `token` and `feature` make these coordinates of `tokens` [S, 1] and `features` [H]. */
function written(x: string, token: NodeProto[] = [node('Identity', ['tokens'], ['token'])], feature: NodeProto[] = [node('Identity', ['features'], ['feature'])]): NodeProto[] {
  const range = (i: number, name: string, shape: string): NodeProto[] => [
    node('Gather', ['s', `at${i}`], [`n${i}`]),
    node('Range', ['from', `n${i}`, 'by'], [`r${i}`]),
    node('Reshape', [`r${i}`, shape], [name]),
  ];
  const column = (of: string): NodeProto[] => [node('Expand', [of, 's'], [`${of}/grid`]), node('Unsqueeze', [`${of}/grid`, 'end'], [`${of}/column`])];
  return [
    node('Shape', [x], ['s']),
    node('ConstantOfShape', ['s'], ['z']),
    ...range(0, 'row', 'box0'),
    ...range(1, 'tokens', 'box1'),
    ...range(2, 'features', 'box2'),
    ...token,
    ...feature,
    ...['row', 'token', 'feature'].flatMap(column),
    node('Concat', ['row/column', 'token/column', 'feature/column'], ['places'], { axis: -1 }),
    node('ScatterND', ['z', 'places', x], ['y']),
  ];
}
const writing = (): TensorProto[] => [
  int64('at0', [0], []), int64('at1', [1], []), int64('at2', [2], []), int64('from', [0], []), int64('by', [1], []),
  int64('box0', [-1, 1, 1]), int64('box1', [-1, 1]), int64('box2', [-1]), int64('end', [-1]),
];

const MIXING: readonly Case[] = [
  {
    name: 'writes to other tokens',
    make: (x) => written(x, [node('Sub', ['n1', 'by'], ['last']), node('Sub', ['last', 'tokens'], ['token'])]),
    initializers: writing,
    culprit: 'ScatterND',
  },
  {
    name: 'writes to features that differ between tokens',
    make: (x) => written(x, undefined, [node('Add', ['tokens', 'features'], ['sum']), node('Mod', ['sum', 'n2'], ['feature'])]),
    initializers: writing,
    culprit: 'ScatterND',
  },
  {
    name: 'a causal convolution',
    make: (x) => [
      node('Transpose', [x], ['t'], { perm: [0, 2, 1] }),
      node('Conv', ['t', 'w'], ['c'], { kernel_shape: [3], pads: [2, 0], group: HIDDEN }),
      node('Transpose', ['c'], ['y'], { perm: [0, 2, 1] }),
    ],
    initializers: () => [weight('w', [HIDDEN, 1, 3])],
    culprit: 'Conv',
  },
  {
    name: 'a gated recurrence',
    make: (x) => [
      node('Transpose', [x], ['t'], { perm: [1, 0, 2] }),
      node('GRU', ['t', 'w', 'r'], ['g'], { hidden_size: HIDDEN }),
      node('Squeeze', ['g', 'one'], ['s']),
      node('Transpose', ['s'], ['y'], { perm: [1, 0, 2] }),
    ],
    initializers: () => [weight('w', [1, 3 * HIDDEN, HIDDEN]), weight('r', [1, 3 * HIDDEN, HIDDEN]), int64('one', [1])],
    culprit: 'GRU',
  },
  {
    name: 'an LSTM',
    make: (x) => [
      node('Transpose', [x], ['t'], { perm: [1, 0, 2] }),
      node('LSTM', ['t', 'w', 'r'], ['g'], { hidden_size: HIDDEN }),
      node('Squeeze', ['g', 'one'], ['s']),
      node('Transpose', ['s'], ['y'], { perm: [1, 0, 2] }),
    ],
    initializers: () => [weight('w', [1, 4 * HIDDEN, HIDDEN]), weight('r', [1, 4 * HIDDEN, HIDDEN]), int64('one', [1])],
    culprit: 'LSTM',
  },
  { name: 'a running sum over tokens', make: (x) => [node('CumSum', [x, 'axis'], ['y'])], initializers: () => [int64('axis', [1], [])], culprit: 'CumSum' },
  { name: 'a running sum, its axis counted from the end', make: (x) => [node('CumSum', [x, 'axis'], ['y'])], initializers: () => [int64('axis', [-2], [])], culprit: 'CumSum' },
  { name: 'pooling over the sequence', make: (x) => [mean(x, [1], 1), node('Sub', [x, 'm'], ['y'])], culprit: 'ReduceMean' },
  { name: 'pooling over the sequence with a negative axis', make: (x) => [mean(x, [-2], 1), node('Sub', [x, 'm'], ['y'])], culprit: 'ReduceMean' },
  { name: 'pooling over everything', make: (x) => [node('ReduceMax', [x], ['m'], { keepdims: 0 }), node('Sub', [x, 'm'], ['y'])], culprit: 'ReduceMax' },
  { name: 'softmax over the sequence', make: (x) => [node('Softmax', [x], ['y'], { axis: 1 })], culprit: 'Softmax', code: 'PD319' },
  { name: 'a norm over sequence and features', make: (x) => [node('LayerNormalization', [x, 'w'], ['y'], { axis: 1 })], initializers: () => [weight('w', [1])], culprit: 'LayerNormalization' },
  {
    name: 'tokens multiplied with tokens',
    make: (x) => [node('Transpose', [x], ['t'], { perm: [0, 2, 1] }), node('MatMul', ['t', x], ['c']), node('MatMul', [x, 'c'], ['y'])],
    culprit: 'MatMul',
    code: 'PD319',
  },
  {
    name: 'a token shift by slicing and joining',
    make: (x) => [
      node('Slice', [x, 'zero', 'one', 'axis'], ['head']),
      node('Slice', [x, 'zero', 'minus', 'axis'], ['rest']),
      node('Concat', ['head', 'rest'], ['shifted'], { axis: 1 }),
      node('Add', [x, 'shifted'], ['y']),
    ],
    initializers: () => [int64('zero', [0]), int64('one', [1]), int64('minus', [-1]), int64('axis', [1])],
    culprit: 'Add',
  },
  { name: 'tokens in reverse order', make: (x) => [node('Slice', [x, 's', 'e', 'axis', 'step'], ['r']), node('Add', [x, 'r'], ['y'])], initializers: () => [int64('s', [-1]), int64('e', [-(2 ** 31)]), int64('axis', [1]), int64('step', [-1])], culprit: 'Add' },
  { name: 'the last token given to all', make: (x) => [node('Gather', [x, 'last'], ['l'], { axis: 1 }), node('Add', [x, 'l'], ['y'])], initializers: () => [int64('last', [-1])], culprit: 'Add' },
  {
    name: 'a Reshape that deals features out to other tokens',
    make: (x) => [node('Shape', [x], ['s']), node('Reshape', [x, 'flat'], ['f']), node('Reshape', ['f', 'two'], ['g']), node('Transpose', ['g'], ['h'], { perm: [1, 0] }), node('Reshape', ['h', 's'], ['y'])],
    initializers: () => [int64('flat', [-1]), int64('two', [-1, 2])],
    culprit: 'Reshape',
  },
  { name: 'a fused op with a recurrent state', make: (x) => [node('CausalConvWithState', [x, 'w', 'b', 'p'], ['y', 'state'], {}, 'com.microsoft')], initializers: () => [weight('w', [HIDDEN, 1, 3]), weight('b', [HIDDEN]), weight('p', [1, HIDDEN, 2])], culprit: 'CausalConvWithState' },
  { name: 'linear attention', make: (x) => [node('LinearAttention', [x, x, x], ['y', 'state'], { q_num_heads: 4, kv_num_heads: 4 }, 'com.microsoft')], culprit: 'LinearAttention', code: 'PD319' },
  { name: 'an op of an unknown domain', make: (x) => [node('Mystery', [x], ['y'], {}, 'example.ops')], culprit: 'Mystery' },
  { name: 'an op nobody knows', make: (x) => [node('Frobnicate', [x], ['y'])], culprit: 'Frobnicate' },
  {
    name: 'an If over hidden states',
    make: (x) => {
      const branch = (label: string): ReturnType<typeof graphOf> => graphOf(modelOf({ nodes: [node('Neg', [x], [`n_${label}`])], inputs: [], outputs: [valueInfo(`n_${label}`, 1, ['b', 's', HIDDEN])] }));
      return [node('If', ['yes'], ['y'], { then_branch: { graph: branch('a') }, else_branch: { graph: branch('b') } })];
    },
    initializers: () => [{ ...int64('yes', [1], []), dataType: BOOL, rawData: Uint8Array.of(1) } as TensorProto],
    culprit: 'If',
  },
];

describe('refused behind a boundary, with the node', () => {
  it.each(MIXING)('$name', async ({ make, initializers, culprit, code = 'PD308' }) => {
    const error = await expectRefusal(withNodes(make, initializers?.()), code, BOUNDARIES);
    expect(error.culprit).toContain(culprit);
  });

  it('inspect says so too', async () => {
    const path = withNodes((x) => [node('CumSum', [x, 'axis'], ['y'])], [int64('axis', [1], [])]);
    const { code, json } = await cliJson('inspect', path);
    expect(code).toBe(3);
    expect(json.refusal).toMatchObject({ code: 'PD308' });
  });
});

describe('refused before the first boundary too: layers could not be counted', () => {
  it.each(MIXING.filter((c) => c.code === 'PD319'))('$name', async ({ make, initializers, culprit }) => {
    const error = await expectRefusal(withNodes(make, initializers?.(), false), 'PD319', BOUNDARIES);
    expect(error.culprit).toContain(culprit);
  });
});

describe('fine before the first boundary', () => {
  it.each(MIXING.filter((c) => ['a causal convolution', 'a running sum over tokens', 'pooling over the sequence'].includes(c.name)))('$name', async ({ make, initializers }) => {
    const path = withNodes(make, initializers?.(), false);
    const { code, json } = await cliJson(path, ...BOUNDARIES, '--dry-run');
    expect(JSON.stringify(json.error ?? null)).toBe('null');
    expect(code).toBe(0);
  });
});

const EXPERTS = 4;
const ALONE: readonly Case[] = [
  { name: 'a projection written as a convolution of width 1', make: (x) => [node('Transpose', [x], ['t'], { perm: [0, 2, 1] }), node('Conv', ['t', 'w'], ['c'], { kernel_shape: [1] }), node('Transpose', ['c'], ['y'], { perm: [0, 2, 1] })], initializers: () => [weight('w', [HIDDEN, HIDDEN, 1])] },
  { name: 'features summed up and normed', make: (x) => [node('CumSum', [x, 'axis'], ['s']), node('Softmax', ['s'], ['y'], { axis: -1 })], initializers: () => [int64('axis', [-1], [])] },
  {
    name: 'experts for each token: a router with TopK over experts, all experts computed, weighted by a one-hot',
    make: (x) => [
      node('MatMul', [x, 'router'], ['scores']),
      node('Softmax', ['scores'], ['probabilities'], { axis: -1 }),
      node('TopK', ['probabilities', 'two'], ['weights', 'chosen']),
      node('OneHot', ['chosen', 'depth', 'onoff'], ['picked'], { axis: -1 }),
      node('Unsqueeze', ['weights', 'last'], ['weights4']),
      node('Mul', ['picked', 'weights4'], ['share4']),
      node('ReduceSum', ['share4', 'axis2'], ['share'], { keepdims: 0 }),
      node('Unsqueeze', [x, 'axis2'], ['x4']),
      node('Unsqueeze', ['x4', 'axis2b'], ['x5']),
      node('MatMul', ['x5', 'experts'], ['hidden5']),
      node('Squeeze', ['hidden5', 'axis3'], ['hidden']),
      node('Unsqueeze', ['share', 'last'], ['share_column']),
      node('Mul', ['hidden', 'share_column'], ['weighted']),
      node('ReduceSum', ['weighted', 'axis2'], ['y'], { keepdims: 0 }),
    ],
    initializers: () => [
      weight('router', [HIDDEN, EXPERTS]),
      weight('experts', [EXPERTS, HIDDEN, HIDDEN]),
      int64('two', [2]),
      int64('depth', [EXPERTS], []),
      float32('onoff', [0, 1]),
      int64('last', [-1]),
      int64('axis2', [2]),
      int64('axis2b', [2]),
      int64('axis3', [3]),
    ],
  },
  {
    name: 'tokens of all rows as rows of one Gemm',
    make: (x) => [node('Shape', [x], ['s']), node('Reshape', [x, 'rows'], ['r']), node('Gemm', ['r', 'w'], ['g'], { transB: 1 }), node('Reshape', ['g', 's'], ['y'])],
    initializers: () => [int64('rows', [-1, HIDDEN]), weight('w', [HIDDEN, HIDDEN])],
  },
  {
    name: 'heads folded into the token axis and back',
    make: (x) => [node('Shape', [x], ['s']), node('Reshape', [x, 'rows'], ['r']), node('Relu', ['r'], ['n']), node('Reshape', ['n', 's'], ['y'])],
    initializers: () => [int64('rows', [-1, HIDDEN / 4])],
  },
  { name: 'writes to every token\'s own place in a box of zeros', make: (x) => written(x), initializers: writing },
  { name: 'a whole slice', make: (x) => [node('Slice', [x, 'zero', 'far', 'axis'], ['y'])], initializers: () => [int64('zero', [0]), int64('far', [2 ** 31]), int64('axis', [1])] },
  { name: 'an einsum over features', make: (x) => [node('Einsum', [x, 'w'], ['y'], { equation: 'bsh,hk->bsk' })], initializers: () => [weight('w', [HIDDEN, HIDDEN])] },
];

describe('not refused: each token alone', () => {
  it.each(ALONE)('$name', async ({ make, initializers }) => {
    const { code, json } = await cliJson(withNodes(make, initializers?.()), ...BOUNDARIES, '--dry-run');
    expect(JSON.stringify(json.error ?? null)).toBe('null');
    expect(code).toBe(0);
  });
});

describe('the rule itself', () => {
  it('names the layer boundary it looked behind', async () => {
    const path = withNodes((x) => [node('CumSum', [x, 'axis'], ['y'])], [int64('axis', [1], [])]);
    const facts = await factsOf(path);
    expect(() => requireTokenWise(facts, 2)).toThrow(Refusal);
    // Behind the running sum (it stands at the entry of layer 3) nothing mixes tokens.
    expect(() => requireTokenWise(facts, 3)).not.toThrow();
  });
});
