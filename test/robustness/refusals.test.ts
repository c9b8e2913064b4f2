/** What cannot be compiled is refused: exit code, code, culprit, hint, and nothing written. */
import { cpSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Refusal } from '../../src/diagnostics.js';
import { MemorySource } from '../../src/onnx/bytes.js';
import { compileModel } from '../../src/compile.js';
import { cli, cliJson } from '../support/cli.js';
import { factsOf, layerEntry } from '../support/decoder.js';
import { externalize } from '../support/external.js';
import { files, folder, modelFile } from '../support/folder.js';
import { encodeModel, fixturePath, FLOAT, graphOf, insertAfter, int64, INT64, loadModel, modelOf, node, valueInfo, weight } from '../support/proto.js';
import { decoder, visionEncoder } from '../support/graphs.js';
import { expectBytesRefused, expectRefusal } from '../support/refuse.js';
import { hugeModel } from '../support/sparse.js';

const LLAMA = 'llama-ts17-sdpa';
const SMALL = 'genai-llama-embeds-fp32';

describe('not a model', () => {
  it.each([
    ['an empty file', ''],
    ['text', 'the quick brown fox jumps over the lazy dog\n'.repeat(40)],
    ['a Git LFS pointer', 'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n'],
    ['JSON', '{"model_type": "llama"}'],
    ['HTML', '<!DOCTYPE html><html><body>Not found</body></html>'],
    ['zeros', new Uint8Array(4096)],
    ['a zip', Buffer.concat([Buffer.from('PK\u0003\u0004'), Buffer.alloc(200, 7)])],
    ['0xff', new Uint8Array(1000).fill(0xff)],
  ])('%s', async (_, bytes) => {
    const error = await expectBytesRefused(bytes as string, 'PD101');
    expect(error.message).toMatch(/not (an|a complete) ONNX model/);
  });

  it('random bytes, forty times', async () => {
    for (let seed = 1; seed <= 40; seed++) {
      const bytes = Uint8Array.from({ length: 300 }, (_, i) => (Math.imul(seed * 7919 + i, 2654435761) >>> 13) & 0xff);
      await expect(compileModel(new MemorySource(bytes), {})).rejects.toBeInstanceOf(Refusal);
    }
  });

  it('a folder without a decoder, and a missing file', async () => {
    const empty = await cliJson(folder());
    expect([empty.json.error, empty.code]).toMatchObject([{ code: 'PD607' }, 3]);
    expect((await cliJson(join(folder(), 'none.onnx'))).code).toBe(2);
  });

  it('a model without IR version, opset or graph', async () => {
    for (const drop of ['irVersion', 'opsetImport', 'graph'] as const) {
      const model = loadModel(SMALL);
      if (drop === 'opsetImport') model.opsetImport = [];
      else if (drop === 'irVersion') model.irVersion = 0;
      else model.graph = null as never;
      await expectBytesRefused(encodeModel(model), 'PD101');
    }
  });
});

describe('truncated', () => {
  it('at two thousand places of a small model: always refused as cut off', { timeout: 60_000 }, async () => {
    const whole = new Uint8Array(readFileSync(fixturePath(SMALL)));
    const codes = new Map<string, number>();
    const places = new Set<number>();
    // Every byte at both ends, where structure is dense, and evenly between.
    for (let i = 0; i < 400; i++) places.add(i).add(whole.length - 1 - i);
    for (let i = 0; i < 1200; i++) places.add(Math.floor((i * whole.length) / 1200));
    for (const at of places) {
      try {
        await compileModel(new MemorySource(whole.subarray(0, at)), { imageMask: 'input' });
        codes.set(`compiled at ${at}`, 1);
      } catch (error) {
        const key = error instanceof Refusal ? error.code : `${at}: ${String(error)}`;
        codes.set(key, (codes.get(key) ?? 0) + 1);
      }
    }
    // Between two fields at the end of the file it looks whole, but lacks the opset imports that stand there. The last one, of com.microsoft, Olive
    // leaves out and onnxruntime has by itself: without it the model is the same.
    const last = whole.length - 'com.microsoft'.length - 6;
    expect(codes.delete(`compiled at ${last}`)).toBe(true);
    expect([...codes.keys()].filter((k) => k !== 'PD101' && k !== 'PD102')).toEqual([]);
    expect(codes.get('PD101')).toBeGreaterThan(places.size - 5);
  });

  it('on the command line: nothing is left behind', async () => {
    const whole = readFileSync(fixturePath(LLAMA));
    for (const share of [0.001, 0.3, 0.77, 0.9999]) await expectBytesRefused(whole.subarray(0, Math.floor(whole.length * share)), 'PD101');
  });
});

describe('external data', () => {
  it('missing', async () => {
    const path = externalize(LLAMA, 'weights.bin');
    renameSync(join(dirname(path), 'weights.bin'), join(dirname(path), 'elsewhere.bin'));
    const error = await expectRefusal(path, 'PD103');
    expect(error.culprit).toBeTruthy();
    expect(error.message).toContain('weights.bin');
  });

  it('truncated', async () => {
    const path = externalize(LLAMA, 'weights.bin');
    truncateSync(join(dirname(path), 'weights.bin'), 1000);
    await expectRefusal(path, 'PD105');
  });

  it.each(['../weights.bin', 'sub/../../weights.bin', '/etc/passwd'])('outside the folder: %s', async (location) => {
    const error = await expectRefusal(externalize(LLAMA, 'weights.bin', location), 'PD104');
    expect(error.message).toContain(location);
  });

  it('a link that leads out of the folder', async () => {
    const path = externalize(LLAMA, 'weights.bin');
    const outside = join(folder(), 'secret.bin');
    const data = join(dirname(path), 'weights.bin');
    cpSync(data, outside);
    rmSync(data);
    symlinkSync(outside, data);
    // Followed only into the folder itself or the blobs of a hub's cache (test/disk/external.test.ts), or where asked to.
    await expectRefusal(path, 'PD108');
    expect((await cliJson(path, '--allow-external-links')).code).toBe(0);
  });

  it('a negative or absurd offset', async () => {
    for (const offset of ['-8', '99999999999999999999', 'abc']) await expectRefusal(externalize(LLAMA, 'weights.bin', undefined, offset), 'PD107');
  });
});

describe('not a decoder', () => {
  const dims = ['batch', 'sequence', 64];

  it('an embedding graph', async () => {
    const model = modelOf({
      nodes: [node('Gather', ['table', 'input_ids'], ['inputs_embeds'])],
      inputs: [valueInfo('input_ids', INT64, ['batch', 'sequence'])],
      outputs: [valueInfo('inputs_embeds', FLOAT, dims)],
      initializers: [weight('table', [128, 64])],
    });
    await expectBytesRefused(encodeModel(model), 'PD301');
  });

  it('a vision encoder', async () => {
    await expectBytesRefused(encodeModel(visionEncoder()), 'PD301');
  });

  it('a projection head', async () => {
    const model = modelOf({
      nodes: [node('MatMul', ['hidden', 'w'], ['logits'])],
      inputs: [valueInfo('hidden', FLOAT, dims)],
      outputs: [valueInfo('logits', FLOAT, ['batch', 'sequence', 8])],
      initializers: [weight('w', [64, 8])],
    });
    const error = await expectBytesRefused(encodeModel(model), 'PD301');
    expect(error.hint).toContain('inspect');
  });

  it('a graph without nodes', async () => {
    const model = modelOf({ nodes: [], inputs: [valueInfo('x', FLOAT, dims)], outputs: [valueInfo('x', FLOAT, dims)] });
    await expectBytesRefused(encodeModel(model), 'PD301');
  });

  it('cross-attention: image tokens are not in the sequence', async () => {
    const model = decoder({ cross: true });
    const error = await expectBytesRefused(encodeModel(model), 'PD318');
    expect(error.message).toContain('"image_features"');
    // What it is declared as does not matter: not like the tokens, and not with a fixed size.
    for (const dims of [['batch', 'sequence', 64], ['batch', 16, 64]]) {
      const input = graphOf(model).input?.find((v) => v.name === 'image_features');
      Object.assign(input as object, valueInfo('image_features', FLOAT, dims));
      await expectBytesRefused(encodeModel(model), 'PD318');
    }
    // The same decoder without it is fine.
    expect((await cli(modelFile(encodeModel(decoder({}))), '--stages', '2', '--quiet')).err).toBe('');
  });

  it.each([
    ['mllama-ts17', 'cross_attention_states', '2 attention ops are cross-attention (beside 3'],
    ['bart-decoder-ts17', 'encoder_hidden_states', '4 attention ops are cross-attention (beside 4'],
  ])('cross-attention of a real export, declared like the tokens: %s', async (name, input, how) => {
    const error = await expectRefusal(modelFile(readFileSync(fixturePath(`refused/${name}`))), 'PD318', ['--layers', '2']);
    expect(error.message).toContain(`"${input}"`);
    expect(error.message).toContain(how);
    expect(error.hint).toContain('docs/cross-attention.md');
  });

  it('features declared like the tokens that are pooled: not one entry a token', async () => {
    const model = decoder({ layers: 4 });
    const graph = graphOf(model);
    graph.input?.push(valueInfo('states', FLOAT, ['batch', 'sequence', 64]));
    insertAfter(graph, 'l2/out', [node('ReduceMean', ['states'], ['mean'], { axes: [1], keepdims: 1 }), node('Add', ['l2/out', 'mean'], ['with_states'])], 'with_states');
    const error = await expectBytesRefused(encodeModel(model), 'PD308', ['--layers', '2']);
    expect(error.message).toContain('"states" is declared like the tokens but is not one entry a token');
    expect((await cliJson(modelFile(encodeModel(model)), '--layers', '3', '--dry-run')).code).toBe(0);
  });

  it('features of tokens stay: one entry a token', async () => {
    const model = decoder({ layers: 4 });
    const graph = graphOf(model);
    graph.input?.push(valueInfo('extra', FLOAT, ['batch', 'sequence', 64]));
    insertAfter(graph, 'l2/out', [node('Add', ['l2/out', 'extra'], ['with_extra'])], 'with_extra');
    expect((await cliJson(modelFile(encodeModel(model)), '--layers', '2', '--dry-run')).code).toBe(0);
  });

  it('one layer whose softmax is spelled in a way that is not understood: layers cannot be counted', async () => {
    const model = loadModel(LLAMA);
    const facts = await factsOf(fixturePath(LLAMA));
    const softmax = facts.layers[1]?.core.anchor.outputs[0]?.name as string;
    const graph = graphOf(model);
    const nodes = graph.node ?? [];
    const at = nodes.findIndex((n) => n.output?.[0] === softmax);
    const x = nodes[at]?.input?.[0] as string;
    nodes.splice(at, 1, node('Exp', [x], ['test/exp']), node('ReduceSum', ['test/exp', 'test/last'], ['test/total']), node('Div', ['test/exp', 'test/total'], [softmax]));
    graph.initializer?.push(int64('test/last', [-1]));
    const error = await expectBytesRefused(encodeModel(model), 'PD319', ['--layers', '3']);
    expect(error.culprit).toContain('MatMul');
    expect(error.message).toContain('none of the 7 attention layers');
  });

  it('an If-merged decoder', async () => {
    const source = loadModel(LLAMA);
    const graph = graphOf(source);
    const branch = (label: string): typeof graph => {
      const inner = graphOf(loadModel(LLAMA));
      const own = new Set([...(inner.node ?? []).flatMap((n) => n.output ?? [])]);
      const name = (v: string): string => (own.has(v) ? `${label}/${v}` : v);
      for (const n of inner.node ?? []) {
        n.input = (n.input ?? []).map(name);
        n.output = (n.output ?? []).map(name);
      }
      for (const o of inner.output ?? []) o.name = name(o.name as string);
      inner.input = [];
      inner.initializer = [];
      inner.valueInfo = [];
      return inner;
    };
    graph.node = [node('If', ['use_cache_branch'], (graph.output ?? []).map((o) => o.name as string), { then_branch: { graph: branch('then') }, else_branch: { graph: branch('else') } })];
    graph.input?.push(valueInfo('use_cache_branch', 9, [1]));
    const error = await expectBytesRefused(encodeModel(source), 'PD304');
    expect(error.culprit).toContain('If');
  });
});

describe('what cannot be cut as asked', () => {
  it('more stages than layers', async () => {
    await expectRefusal(copyOf(LLAMA), 'PD314', ['--stages', '9']);
    await expectRefusal(copyOf(LLAMA), 'PD314', ['--layers', '2,8']);
  });

  it('what bypasses the layers: a skip connection is gathered, keys shared across a boundary are refused', async () => {
    const [early, late] = await Promise.all([layerEntry(LLAMA, 1), layerEntry(LLAMA, 5)]);
    const skip = loadModel(LLAMA);
    insertAfter(graphOf(skip), late, [node('Add', [late, early], ['sum'])], 'sum');
    expect((await cli(modelFile(encodeModel(skip)), '--layers', '3', '--dry-run')).code).toBe(0);
    const shared = loadModel(LLAMA);
    const facts = await factsOf(fixturePath(LLAMA));
    const [keys, own] = [2, 5].map((l) => facts.layers[l]?.core.present?.key.name as string);
    for (const n of graphOf(shared).node ?? []) n.input = (n.input ?? []).map((i) => (i === own ? (keys as string) : i));
    const error = await expectBytesRefused(encodeModel(shared), 'PD3', ['--layers', '3']);
    // The layer that lost its keys has a cache that nothing fills any more.
    expect(['PD303', 'PD319', 'PD322']).toContain(error.code);
  });

  it('kept positions that are the same for all rows', async () => {
    // positions [1, sequence]: with kept positions every row would need its own.
    const error = await expectRefusal(copyOf('qwen2-ts17-noposids'), 'PD3', ['--positions', 'keep']).catch(() => undefined);
    if (error) expect(['PD305', 'PD313']).toContain(error.code);
  });

  it('a fixed sequence length', async () => {
    const model = loadModel(LLAMA);
    for (const v of graphOf(model).input ?? []) {
      const dim = v.type?.tensorType?.shape?.dim;
      if (v.name === 'inputs_embeds' && dim) dim[1] = { dimValue: 64 } as never;
    }
    await expectBytesRefused(encodeModel(model), 'PD307');
  });

  it('a 4-D mask input', async () => {
    const model = loadModel(LLAMA);
    for (const v of graphOf(model).input ?? []) {
      if (v.name !== 'attention_mask') continue;
      Object.assign(v, valueInfo('attention_mask', INT64, ['batch', 1, 'sequence', 'total']));
    }
    const error = await expectBytesRefused(encodeModel(model), 'PD306');
    expect(error.culprit).toBe('attention_mask');
  });

  it('multi-dimensional positions compacted', async () => {
    await expectRefusal(copyOf('qwen2.5-vl-dynamo18'), 'PD315', ['--positions', 'compact']);
  });

  it('no image-token source', async () => {
    const error = await expectRefusal(copyOf('llama-ts17-ids'), 'PD320');
    expect(error.culprit).toBe('input_ids');
  });

  it('an input called image_token_mask that is not ours', async () => {
    const model = loadModel(LLAMA);
    const graph = graphOf(model);
    graph.input?.push(valueInfo('image_token_mask', FLOAT, [1]));
    await expectBytesRefused(encodeModel(model), 'PD312');
  });

  it('an opset older than the ops that are needed', async () => {
    const model = loadModel('llama-ts14-eager');
    for (const o of model.opsetImport ?? []) if (!o.domain) o.version = 11;
    await expectBytesRefused(encodeModel(model), 'PD317');
  });

  it('an input of unknown role behind a boundary', async () => {
    const model = loadModel(LLAMA);
    const graph = graphOf(model);
    insertAfter(graph, await layerEntry(LLAMA, 5), [node('Add', [await layerEntry(LLAMA, 5), 'bias'], ['sum'])], 'sum');
    graph.input?.push(valueInfo('bias', FLOAT, ['x', 'y', 64]));
    const error = await expectBytesRefused(encodeModel(model), 'PD308', ['--layers', '3']);
    expect(error.message).toContain('bias');
  });
});

describe('compiled before', () => {
  it('is refused, also under another name', async () => {
    const out = join(folder(), 'out.onnx');
    expect((await cli(fixturePath(LLAMA), '-o', out, '--quiet')).code).toBe(0);
    await expectRefusal(out, 'PD316');
    const { code, json } = await cliJson('inspect', out);
    expect(code).toBe(0);
    expect(json.compiled).toMatchObject({ plan: { layers: [2, 4, 6] } });
  });

  it('broken plan metadata is told, not thrown', async () => {
    for (const value of ['', '{', 'null', '[]', '{"version":1}']) {
      const model = loadModel(LLAMA);
      model.metadataProps?.push({ key: 'pdrop.plan', value } as never);
      const path = modelFile(encodeModel(model));
      await expectRefusal(path, 'PD316');
      expect((await cliJson('inspect', path)).code).toBeLessThanOrEqual(3);
      expect((await cliJson('check', path)).code).toBe(2);
    }
  });
});

describe('schedules', () => {
  it.each([
    [['--lambda', '0'], 'PD010'],
    [['--lambda', '1.5'], 'PD010'],
    [['--lambda=-0.5'], 'PD010'],
    [['--lambda', 'half'], 'PD010'],
    [['--lambda', '0.12345678901234'], 'PD010'],
    [['--lambda', 'NaN'], 'PD010'],
    [['--stages', '1'], 'PD011'],
    [['--stages', '0'], 'PD011'],
    [['--stages', '2.5'], 'PD001'],
    [['--layers', '0,2'], 'PD011'],
    [['--layers', '4,2'], 'PD011'],
    [['--layers', '2,2'], 'PD011'],
    [['--layers', ''], 'PD001'],
    [['--layers', '2,x'], 'PD001'],
    [['--layers', '2,4', '--stages', '4'], 'PD011'],
    [['--layers', '2,4', '--keep', '0.5'], 'PD012'],
    [['--layers', '2,4', '--keep', '0.25,0.5'], 'PD012'],
    [['--layers', '2,4', '--keep', '0.5,-0.1'], 'PD010'],
    [['--layers', '2,4', '--keep', '1.1,0.5'], 'PD010'],
    [['--layers', '2,4', '--keep', '0.5,'], 'PD010'],
    [['--layers', '2,4', '--keep', '0.5,0.25', '--lambda', '0.5'], 'PD012'],
    [['--image-mask', 'ids'], 'PD013'],
    [['--image-mask', 'input-ids:'], 'PD013'],
    [['--image-mask', 'input-ids:x'], 'PD013'],
    [['--image-mask', 'span:1'], 'PD013'],
    [['--image-mask', 'span:1:0'], 'PD013'],
    [['--image-mask', 'span:1:2:3'], 'PD013'],
    [['--rank', 'best'], 'PD014'],
    [['--rank', 'random:'], 'PD014'],
    [['--rank', 'uniform:3'], 'PD014'],
  ])('%j is a usage error %s', async (args, code) => {
    await expectRefusal(copyOf(SMALL), code, args, 2);
  });

  it('λ = 1, keep 0 and keep equal are legal', async () => {
    for (const args of [['--lambda', '1'], ['--lambda', '1.0'], ['--layers', '2,4', '--keep', '0.5,0'], ['--layers', '2,4', '--keep', '0.5,0.5'], ['--lambda', '5e-1'], ['--lambda', '.5']]) {
      expect((await cliJson(fixturePath(SMALL), ...args, '--dry-run')).json.error).toBeUndefined();
    }
  });
});

describe('over 2 GiB with embedded weights', () => {
  it('is refused before anything is written', { timeout: 60_000 }, async () => {
    // A sparse file: just under the limit before, just over it with what is added.
    const path = await hugeModel(SMALL, 2 ** 31 - 1 - 20_000);
    const error = await expectRefusal(path, 'PD310');
    expect(error.hint).toContain('external data');
  });
});

// ---- graphs made here ------------------------------------------------------------------------------------------

function copyOf(fixture: string): string {
  const path = join(folder(), basename(fixturePath(fixture)));
  cpSync(fixturePath(fixture), path);
  return path;
}

describe('the graphs made for these tests', () => {
  it('leave no files where they are compiled from', () => {
    const path = modelFile(encodeModel(decoder({})));
    expect(files(dirname(path))).toEqual(['model.onnx']);
    mkdirSync(join(dirname(path), 'x'));
    writeFileSync(join(dirname(path), 'x', '.hidden'), '');
    expect(files(dirname(path))).toEqual(['model.onnx', 'x/.hidden']);
  });
});
