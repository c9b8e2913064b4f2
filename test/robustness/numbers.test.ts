/** Numbers that files state: none is believed beyond its range, and nothing is allocated in proportion to one. */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { compileModel } from '../../src/compile.js';
import { Refusal } from '../../src/diagnostics.js';
import { readRegularFile } from '../../src/disk/small-files.js';
import { evaluateShapes } from '../../src/analyse/shapes/index.js';
import { MemorySource } from '../../src/onnx/bytes.js';
import { readModel } from '../../src/onnx/read.js';
import { openEmbedder } from '../../src/validate/feeding/embed.js';
import { parseNpy } from '../../src/validate/feeding/data/npy.js';
import { parseTensorProto } from '../../src/validate/feeding/data/tensor_pb.js';
import { concat, encodeBytesField, encodeStringField, encodeVarintField } from '../../src/onnx/wire.js';
import { cli, cliJson } from '../support/cli.js';
import { folder, modelFile } from '../support/folder.js';
import { encodeModel, fixturePath, float32, FLOAT, graphOf, int64, INT64, loadModel, modelOf, node, type NodeProto, type TensorProto, valueInfo, weight } from '../support/proto.js';

const EMBEDS = 'genai-llama-embeds-fp32';

function besideConfig(config: string): string {
  const path = join(folder(), 'model.onnx');
  cpSync(fixturePath(EMBEDS), path);
  writeFileSync(join(dirname(path), 'config.json'), config);
  return path;
}

describe('config.json beside the model', () => {
  it.each([
    ['null', 'null'],
    ['a list', '[1, 2]'],
    ['no JSON', '{"image_seq_length": '],
    ['an image of 1e308 pixels', '{"vision_config": {"image_size": 1e308, "patch_size": 14}}'],
    ['pixels that make too many patches', '{"vision_config": {"image_size": 60000, "patch_size": 1}}'],
    ['150 million image tokens', '{"image_seq_length": 1.5e8}'],
    ['minus five', '{"image_seq_length": -5}'],
    ['a fraction', '{"image_seq_length": 57.5}'],
    ['an id that is none', '{"image_token_id": -7}'],
    ['a width of 1e300', '{"text_config": {"intermediate_size": 1e300}}'],
    ['nested null', '{"vision_config": null, "text_config": null}'],
  ])('%s: not used, said, and compiled', async (name, config) => {
    const path = besideConfig(config);
    const before = process.memoryUsage().rss;
    for (const args of [[path, '--dry-run'], ['inspect', path], ['flops', path]]) {
      const { code, err, json } = await cliJson(...args);
      expect([code, json.error]).toEqual([0, undefined]);
      if (args[0] !== 'inspect' && name !== 'nested null') expect(err).toContain('config.json beside the model');
      if (args[0] === path) expect((json.prompt as { imageTokens: number }).imageTokens).toBe(576);
    }
    expect(process.memoryUsage().rss - before).toBeLessThan(500e6);
  });

  it('what is right in it is used', async () => {
    const { json, err } = await cliJson(besideConfig('{"vision_config": {"image_size": 336, "patch_size": 14}}'), '--dry-run');
    expect([(json.prompt as { imageTokens: number }).imageTokens, err]).toEqual([576, '']);
    expect(((await cliJson(besideConfig('{"image_seq_length": 729}'), '--dry-run')).json.prompt as { imageTokens: number }).imageTokens).toBe(729);
  });

  it('a FIFO does not block', { timeout: 20_000 }, async () => {
    const path = join(folder(), 'model.onnx');
    cpSync(fixturePath(EMBEDS), path);
    execFileSync('mkfifo', [join(dirname(path), 'config.json')]);
    const { code, err } = await cli(path, '--dry-run', '--quiet');
    expect(code).toBe(0);
    const loud = await cli(path, '--dry-run');
    expect([loud.code, err]).toEqual([0, '']);
    expect(loud.err).toContain('not a regular file');
    const plan = join(dirname(path), 'config.json');
    expect((await cliJson(path, '--dry-run', '--plan', plan)).json.error).toMatchObject({ code: 'PD002' });
    expect((await cliJson(path, '--dry-run', '--config', plan)).json.error).toMatchObject({ code: 'PD017' });
    expect((await cliJson(plan)).json.error).toMatchObject({ code: 'PD002' });
  });

  it('only regular files of a sensible size are read whole', () => {
    const path = join(folder(), 'f');
    writeFileSync(path, '12345');
    expect(readRegularFile(path).toString()).toBe('12345');
    expect(() => readRegularFile(path, 4)).toThrow('at most 4');
    expect(() => readRegularFile(dirname(path))).toThrow('not a regular file');
    expect(() => readRegularFile('/dev/zero')).toThrow('not a regular file');
  });
});

describe('options', () => {
  it.each([
    [['--image-tokens', '999999999']],
    [['--text-tokens', '99999999']],
  ])('%s is refused by compile and flops', async (args) => {
    for (const command of [[], ['flops']]) {
      const { code, json } = await cliJson(...command, fixturePath(EMBEDS), ...args, ...(command.length > 0 ? [] : ['--dry-run']));
      expect([code, (json.error as { code: string }).code]).toEqual([2, 'PD001']);
    }
    const { code, json } = await cliJson('validate', fixturePath(EMBEDS), fixturePath(EMBEDS), ...args);
    expect([code, (json.error as { code: string }).code]).toEqual([2, 'PD001']);
  });

  it('flops of many rows', async () => {
    expect((await cliJson('flops', fixturePath(EMBEDS), '--batch', '4000', '--past', '1000')).code).toBe(2);
  });
});

/** A graph whose one node gets hostile sizes; its fact must cost nothing. */
function evaluated(nodes: NodeProto[], initializers: TensorProto[], inputs: ReturnType<typeof valueInfo>[] = []): Promise<void> {
  const model = modelOf({ nodes, inputs, outputs: [valueInfo('y', FLOAT, [])], initializers });
  return readModel(new MemorySource(encodeModel(model))).then((m) => {
    evaluateShapes(m.graph, { inputs: new Map() });
  });
}

const empty = (dims: number[]): TensorProto => ({ ...int64('e', [], dims), dims }) as TensorProto;

describe('sizes in graphs', () => {
  it.each<[string, NodeProto[], TensorProto[]]>([
    ['a reduction of [10⁹, 0]', [node('ReduceSum', ['e'], ['y'], { axes: [1] })], [empty([1e9, 0])]],
    ['ArgMax of [10⁹, 0]', [node('ArgMax', ['e'], ['y'], { axis: 1 })], [empty([1e9, 0])]],
    ['TopK of 10⁹', [node('TopK', ['e', 'k'], ['y', 'i'], { axis: 1 })], [empty([1000, 0]), int64('k', [1e9])]],
    ['a Slice with step 0', [node('Slice', ['d', 'z', 'n', 'z', 'z'], ['y'])], [int64('d', [1, 2, 3]), int64('z', [0]), int64('n', [9])]],
    ['a Split into 10⁹', [node('Split', ['d', 's'], ['y', 'y2'])], [int64('d', [1, 2, 3]), int64('s', [1e9, -5])]],
    ['a Transpose that repeats an axis', [node('Transpose', ['d'], ['y'], { perm: [0, 0, 0] })], [int64('d', new Array(2000).fill(1), [2000, 1, 1])]],
    ['a Pad below nothing', [node('Pad', ['d', 'p'], ['q']), node('ReduceSum', ['q'], ['y'])], [int64('d', [1, 2, 3]), int64('p', [-7, -7])]],
    ['ConstantOfShape of fractions', [node('ConstantOfShape', ['f'], ['y'])], [float32('f', [2.5])]],
    ['ConstantOfShape of negative sizes', [node('ConstantOfShape', ['n'], ['y'])], [int64('n', [-3, -4])]],
    ['a Range over 10¹⁵', [node('Range', ['a', 'b', 'c'], ['y'])], [int64('a', [0], []), int64('b', [1e15], []), int64('c', [1], [])]],
    ['EyeLike of 10⁹', [node('ConstantOfShape', ['n'], ['m']), node('EyeLike', ['m'], ['y'])], [int64('n', [1e9, 1e9])]],
    ['a Tile by 10⁹', [node('Tile', ['d', 'n'], ['y'])], [int64('d', [1, 2, 3]), int64('n', [1e9])]],
    ['OneHot of depth 10⁹', [node('OneHot', ['d', 'n', 'v'], ['y'])], [int64('d', [1, 2, 3]), int64('n', [1e9], []), float32('v', [0, 1])]],
    ['a Reshape to what it has not', [node('Reshape', ['d', 'n'], ['r']), node('Transpose', ['r'], ['y'])], [int64('d', [1, 2, 3]), int64('n', [40, 50])]],
    ['an Expand to 10⁹', [node('Expand', ['d', 'n'], ['y'])], [int64('d', [1]), int64('n', [1e9])]],
  ])('%s', async (_, nodes, initializers) => {
    const before = process.memoryUsage();
    const started = performance.now();
    await evaluated(nodes, initializers);
    expect(performance.now() - started).toBeLessThan(1000);
    expect(process.memoryUsage().rss - before.rss).toBeLessThan(200e6);
  });

  it('starts of a Slice that are declared 10¹⁵ long, axes of rank 10⁹', async () => {
    await evaluated([node('Slice', ['d', 's', 's'], ['y'])], [int64('d', [1, 2])], [valueInfo('s', INT64, [1e15])]);
    await evaluated([node('ReduceSum', ['d', 's'], ['y'], { keepdims: 0 })], [int64('d', [1, 2])], [valueInfo('s', INT64, [1e9])]);
    await evaluated([node('ConstantOfShape', ['s'], ['y'])], [], [valueInfo('s', INT64, [1e9])]);
  });

  it('a batch declared 10⁹: check of a compiled model allocates no masks', { timeout: 60_000 }, async () => {
    const out = join(folder(), 'out.onnx');
    expect((await cli(fixturePath('llama-ts17-sdpa'), '-o', out, '--quiet')).code).toBe(0);
    const model = loadModel('llama-ts17-sdpa');
    for (const v of graphOf(model).input ?? []) v.type?.tensorType?.shape?.dim?.splice(0, 1, { dimValue: 1e9 } as never);
    const before = process.memoryUsage().rss;
    for (const args of [['inspect'], [], ['flops']]) {
      const { code } = await cliJson(...args, modelFile(encodeModel(model)), ...(args.length === 0 ? ['--dry-run'] : []));
      expect([0, 2, 3, 4]).toContain(code);
    }
    expect(process.memoryUsage().rss - before).toBeLessThan(500e6);
  });

  it('a declared -1 is a size that is not known, as onnxruntime reads it', async () => {
    const model = loadModel(EMBEDS);
    for (const v of [...(graphOf(model).input ?? []), ...(graphOf(model).output ?? [])]) {
      for (const d of v.type?.tensorType?.shape?.dim ?? []) if (d.dimParam) Object.assign(d, { dimParam: null, dimValue: -1 });
    }
    const read = await readModel(new MemorySource(encodeModel(model)));
    expect(read.graph.values.get('inputs_embeds')?.type?.dims).toEqual([null, null, expect.any(Number)]);
  });
});

describe('payloads and heads that do not fit what is said of them', () => {
  it('a tensor whose dimensions need more than its payload, small and large', async () => {
    for (const dims of [[2, 3], [30, 100], [300, 100]]) {
      const model = loadModel(EMBEDS);
      graphOf(model).initializer?.push({ ...weight('odd', dims), dims: [12_345, dims[1]] } as TensorProto);
      await expect(compileModel(new MemorySource(encodeModel(model)), {})).rejects.toMatchObject({ code: 'PD102', culprit: 'odd' });
    }
  });

  it.each([['kv_num_heads', 3], ['num_heads', 0], ['num_heads', -4], ['num_heads', 2 ** 31]])('%s = %i', async (name, value) => {
    const model = loadModel(EMBEDS);
    for (const n of graphOf(model).node ?? []) for (const a of n.attribute ?? []) if (a.name === name) a.i = value;
    await expect(compileModel(new MemorySource(encodeModel(model)), {})).rejects.toBeInstanceOf(Refusal);
  });
});

describe('sample files', () => {
  const npy = (shape: string, bytes = 16): Uint8Array => {
    const header = Buffer.from(`${`{'descr': '<f4', 'fortran_order': False, 'shape': (${shape}), }`.padEnd(117, ' ')}\n`);
    return concat([Uint8Array.of(0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, header.length, 0), header, new Uint8Array(bytes)]);
  };

  it.each(['-2, -2', '1e9, 1e9', '4.5', 'nan', '99999999999, 4'])('.npy of shape (%s)', (shape) => {
    expect(() => parseNpy(npy(shape))).toThrow();
  });

  it('an embedding table that says it is larger than its file', async () => {
    const path = join(folder(), 'table.npy');
    writeFileSync(path, npy('4, 1000000000'));
    await expect(openEmbedder(path)).rejects.toMatchObject({ code: 'PD008' });
    mkdirSync(join(dirname(path), 'folder.npy'));
    await expect(openEmbedder(join(dirname(path), 'folder.npy'))).rejects.toMatchObject({ code: 'PD008' });
  });

  it('a .pb tensor that says it is larger than its payload', async () => {
    const pb = concat([encodeVarintField(1, 2 ** 40), encodeVarintField(2, 1), encodeStringField(8, 'x'), encodeBytesField(9, new Uint8Array(8))]);
    await expect(parseTensorProto(pb)).rejects.toThrow(/needs/);
  });
});
