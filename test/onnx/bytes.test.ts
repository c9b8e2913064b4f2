/** What is written: untouched records byte for byte, the same bytes for the same input, all of it or nothing. */
import { spawn } from 'node:child_process';
import { chmodSync, cpSync, linkSync, mkdirSync, readFileSync, rmSync, statSync, symlinkSync, watch, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { describe, expect, it } from 'vitest';
import { compile, UsageError } from '../../src/index.js';
import { packageRoot } from '../../src/disk/own-files.js';
import { cli, cliJson } from '../support/cli.js';
import { externalize } from '../support/external.js';
import { files, folder, modelFile } from '../support/folder.js';
import { BOOL, encodeModel, fixturePath, FLOAT, graphOf, INT32, INT64, loadModel, node, type TensorProto, valueInfo } from '../support/proto.js';
import { exactly, loads, planArgs, runScenarios } from '../support/run.js';
import { hugeModel } from '../support/sparse.js';
import { hex, mapField, payloads, textOf, unknownField, unknownOf } from '../support/wire.js';
import { concat, encodeBytesField } from '../../src/onnx/wire.js';

const LLAMA = 'llama-ts17-sdpa';
const ids = (name: string): Uint8Array => new Uint8Array(readFileSync(fixturePath(name)));

async function compileTo(input: string, ...args: string[]): Promise<Uint8Array> {
  const out = join(folder(), 'out.onnx');
  const { err, code } = await cli(input, '-o', out, '--quiet', ...args);
  expect(err).toBe('');
  expect(code).toBe(0);
  return new Uint8Array(readFileSync(out));
}

const graphBytes = (model: Uint8Array): Uint8Array => payloads(model, 7)[0] as Uint8Array;
const byName = (records: readonly Uint8Array[], field: number): Map<string, Uint8Array> => new Map(records.map((r) => [textOf(r, field), r]));

describe('untouched records', () => {
  it.each([LLAMA, 'genai-llama-embeds-fp32', 'qwen3-dynamo23-sdpa', 'qwen2-dynamo20-sdpa'])('%s: initializers, untouched nodes and model fields are byte-identical', async (name) => {
    const before = ids(name);
    const after = await compileTo(fixturePath(name));
    for (const field of [1, 2, 3, 4, 5, 6]) expect(payloads(after, field).map(hex)).toEqual(payloads(before, field).map(hex));
    const [a, b] = [graphBytes(before), graphBytes(after)];
    const kept = byName(payloads(b, 5), 8);
    // What nothing reads any more is gone: a name is a record of a node's inputs (in its subgraphs as well) or of the graph's outputs.
    const rest = Buffer.concat([...payloads(b, 1), ...payloads(b, 12)]);
    for (const [key, record] of byName(payloads(a, 5), 8)) {
      const own = kept.get(key);
      if (own) expect(hex(own)).toBe(hex(record));
      else expect(rest.includes(Buffer.concat([Buffer.from([0x0a, key.length]), Buffer.from(key)])), `${key} is read and gone`).toBe(false);
    }
    expect(kept.size).toBeGreaterThan(20);
    expect(payloads(b, 2).map(hex)).toEqual(payloads(a, 2).map(hex));
    const outputs = (n: Uint8Array): string => payloads(n, 2).map((o) => new TextDecoder().decode(o)).join();
    const nodes = new Map(payloads(b, 1).map((n) => [outputs(n), hex(n)]));
    // The first stage of the decoder is most of what no pass needs to touch.
    const same = payloads(a, 1).filter((n) => nodes.get(outputs(n)) === hex(n)).length;
    expect(same).toBeGreaterThan(payloads(a, 1).length / 2);
  });

  it('keeps fields that no schema knows: in the model, the graph, nodes, attributes, initializers and declarations', async () => {
    const plain = ids(LLAMA);
    let count = 0;
    const tag = (payload: Uint8Array, kind: string, i: number): Uint8Array => {
      count++;
      return concat([payload, unknownField(`${kind} ${i}`)]);
    };
    const graph = (g: Uint8Array): Uint8Array => {
      let out = mapField(g, 1, (n, i) => tag(mapField(n, 5, (a, j) => tag(a, `attribute ${i}`, j)), 'node', i));
      out = mapField(out, 5, (t, i) => tag(t, 'initializer', i));
      out = mapField(out, 11, (v, i) => tag(mapField(v, 2, (t) => tag(t, 'type of input', i)), 'input', i));
      out = mapField(out, 12, (v, i) => tag(mapField(v, 2, (t) => tag(mapField(t, 1, (x) => tag(x, 'tensor type of output', i)), 'type of output', i)), 'output', i));
      return tag(out, 'graph', 0);
    };
    const model = tag(mapField(plain, 7, graph), 'model', 0);
    const after = await compileTo(modelFile(model));
    expect(count).toBeGreaterThan(1000);
    expect(unknownOf(after)).toBe(unknownOf(model));
    const [a, b] = [graphBytes(model), graphBytes(after)];
    expect(unknownOf(b)).toBe(unknownOf(a));
    // Redirected nodes keep their outputs' names: so a node is known by them.
    const outputs = (n: Uint8Array): string => payloads(n, 2).map((o) => new TextDecoder().decode(o)).join();
    const nodes = new Map(payloads(b, 1).map((n) => [outputs(n), n]));
    let redirected = 0;
    for (const n of payloads(a, 1)) {
      const now = nodes.get(outputs(n));
      if (!now) continue;
      if (hex(now) !== hex(n)) redirected++;
      // An adopted clone brings its own original's fields: same op, same attributes.
      expect(unknownOf(now)).toContain(unknownOf(n));
      expect(payloads(now, 5).map(unknownOf)).toEqual(payloads(n, 5).map(unknownOf));
    }
    expect(redirected).toBeGreaterThan(20);
    for (const field of [11, 12]) {
      const now = byName(payloads(b, field), 1);
      for (const [key, v] of byName(payloads(a, field), 1)) {
        expect(unknownOf(now.get(key) as Uint8Array)).toBe(unknownOf(v));
        expect(payloads(now.get(key) as Uint8Array, 2).map(unknownOf)).toEqual(payloads(v, 2).map(unknownOf));
      }
    }
    const initializers = byName(payloads(b, 5), 8);
    for (const [key, t] of byName(payloads(a, 5), 8)) expect(hex(initializers.get(key) as Uint8Array)).toBe(hex(t));
  });
});

describe('determinism', () => {
  it('same input and options, same bytes: another folder, another working directory, another name', async () => {
    const first = await compileTo(fixturePath(LLAMA), '--lambda', '0.5');
    const deep = join(folder(), 'a', 'b');
    mkdirSync(deep, { recursive: true });
    cpSync(fixturePath(LLAMA), join(deep, 'other.onnx'));
    expect(hex(await compileTo(join(deep, 'other.onnx')))).toBe(hex(first));
    const run = spawn(process.execPath, [join(packageRoot(), 'bin', 'pdrop-compile.js'), 'other.onnx', '-o', 'out.onnx', '--quiet'], { cwd: deep });
    expect(await new Promise((resolve) => run.on('close', resolve))).toBe(0);
    expect(hex(new Uint8Array(readFileSync(join(deep, 'out.onnx'))))).toBe(hex(first));
  });

  it('names no place it was made at', async () => {
    const path = modelFile(readFileSync(fixturePath(LLAMA)));
    const text = Buffer.from(await compileTo(path)).toString('latin1');
    expect(text).not.toContain(dirname(path));
    expect(text).not.toContain(packageRoot());
  });
});

describe('all or nothing', () => {
  it('an existing output needs --force', async () => {
    const path = modelFile(readFileSync(fixturePath(LLAMA)));
    const out = join(dirname(path), 'model.pdrop.onnx');
    writeFileSync(out, 'precious');
    const { code, json } = await cliJson(path);
    expect([code, (json.error as { code: string }).code]).toEqual([2, 'PD004']);
    expect(readFileSync(out, 'utf8')).toBe('precious');
    expect((await cli(path, '--force', '--quiet')).code).toBe(0);
    expect(statSync(out).size).toBeGreaterThan(1e6);
    expect(files(dirname(path))).toEqual(['model.onnx', 'model.pdrop.onnx']);
  });

  it('the input is never the output, under no name for it', async () => {
    const path = modelFile(readFileSync(fixturePath(LLAMA)));
    const before = hex(new Uint8Array(readFileSync(path)));
    symlinkSync(path, join(dirname(path), 'link.onnx'));
    linkSync(path, join(dirname(path), 'hard.onnx'));
    for (const out of [path, join(dirname(path), '.', 'x', '..', 'model.onnx'), join(dirname(path), 'link.onnx'), join(dirname(path), 'hard.onnx')]) {
      const { code, json } = await cliJson(path, '-o', out, '--force');
      expect([out, code, (json.error as { code: string } | undefined)?.code]).toEqual([out, 2, 'PD005']);
    }
    const through = await cliJson(join(dirname(path), 'link.onnx'), '-o', path, '--force');
    expect(through.json.error).toMatchObject({ code: 'PD005' });
    expect(hex(new Uint8Array(readFileSync(path)))).toBe(before);
  });

  it('places that cannot be written to are usage errors', async () => {
    const path = modelFile(readFileSync(fixturePath(LLAMA)));
    writeFileSync(join(dirname(path), 'file'), '');
    for (const out of [join(dirname(path), 'file', 'out.onnx'), join(dirname(path), 'file', 'deeper', 'out.onnx')]) {
      const { code, json } = await cliJson(path, '-o', out);
      expect([code, (json.error as { code: string }).code]).toEqual([2, 'PD003']);
    }
    mkdirSync(join(dirname(path), 'taken.onnx'));
    expect((await cliJson(path, '-o', join(dirname(path), 'taken.onnx'), '--force')).code).toBe(2);
    expect(files(dirname(path))).toEqual(['file', 'model.onnx']);
  });

  it.skipIf(process.getuid?.() === 0)('a read-only folder', async () => {
    const path = modelFile(readFileSync(fixturePath(LLAMA)));
    const closed = join(folder(), 'closed');
    mkdirSync(closed);
    chmodSync(closed, 0o555);
    const { code, json } = await cliJson(path, '-o', join(closed, 'out.onnx'));
    expect([code, (json.error as { code: string }).code]).toEqual([2, 'PD003']);
    chmodSync(closed, 0o755);
  });

  it('a write that fails half-way leaves nothing, external data neither', async () => {
    const path = externalize(LLAMA, 'weights.bin');
    const target = folder();
    let calls = 0;
    const failing = (): void => {
      if (++calls === 2) throw new UsageError({ code: 'PD003', message: 'disk full', hint: 'free some space' });
    };
    await expect(compile(path, { output: join(target, 'out.onnx'), externalData: 'copy', progress: failing })).rejects.toThrow('disk full');
    expect(files(target)).toEqual([]);
    await expect(compile(path, { output: join(target, 'out.onnx'), externalData: 'link', progress: () => { throw new UsageError({ code: 'PD003', message: 'disk full', hint: 'free some space' }); } })).rejects.toThrow('disk full');
    expect(files(target)).toEqual([]);
  });

  it('a signal in the middle leaves nothing', { timeout: 30_000 }, async () => {
    const path = await hugeModel('genai-llama-embeds-fp32', 400 * 2 ** 20);
    const target = folder();
    const run = spawn(process.execPath, [join(packageRoot(), 'bin', 'pdrop-compile.js'), path, '-o', join(target, 'out.onnx'), '--quiet'], { stdio: 'ignore' });
    const watcher = watch(target, () => run.kill('SIGTERM'));
    const code = await new Promise((resolve) => run.on('close', (c, signal) => resolve(c ?? signal)));
    watcher.close();
    if (code === 0) expect(files(target)).toEqual(['out.onnx']);
    else {
      expect([143, 'SIGTERM']).toContain(code);
      expect(files(target)).toEqual([]);
    }
  });
});

describe('external data', () => {
  const weights = 'weights.bin';

  it('same folder: referenced; nothing is copied', async () => {
    const path = externalize(LLAMA, weights);
    const { json } = await cliJson(path);
    expect(json.externalData).toEqual({ mode: 'reference', files: [weights] });
    expect(files(dirname(path))).toEqual(['model.onnx', 'model.pdrop.onnx', weights]);
    expect(await loads(join(dirname(path), 'model.pdrop.onnx'))).toBeUndefined();
  });

  it('another folder: hard-linked by default, and when asked', async () => {
    for (const mode of ['auto', 'link']) {
      const path = externalize(LLAMA, weights);
      const target = folder();
      const { json } = await cliJson(path, '-o', join(target, 'out.onnx'), '--external-data', mode);
      expect(json.externalData).toEqual({ mode: 'link', files: [weights] });
      expect(statSync(join(target, weights)).ino).toBe(statSync(join(dirname(path), weights)).ino);
      expect(await loads(join(target, 'out.onnx'))).toBeUndefined();
      // Again: what is there already is the same file.
      expect((await cli(path, '-o', join(target, 'out2.onnx'), '--quiet')).code).toBe(0);
    }
  });

  it('copied when asked, and not the same file', async () => {
    const path = externalize(LLAMA, weights);
    const target = folder();
    const { json } = await cliJson(path, '-o', join(target, 'out.onnx'), '--external-data', 'copy');
    expect(json.externalData).toEqual({ mode: 'copy', files: [weights] });
    expect(statSync(join(target, weights)).ino).not.toBe(statSync(join(dirname(path), weights)).ino);
    expect(hex(new Uint8Array(readFileSync(join(target, weights))))).toBe(hex(new Uint8Array(readFileSync(join(dirname(path), weights)))));
  });

  it('modes that cannot be are usage errors', async () => {
    const path = externalize(LLAMA, weights);
    for (const args of [['--external-data', 'copy'], ['--external-data', 'link'], ['-o', join(folder(), 'out.onnx'), '--external-data', 'reference']]) {
      const { code, json } = await cliJson(path, ...args);
      expect([code, (json.error as { code: string }).code]).toEqual([2, 'PD015']);
    }
    expect(files(dirname(path))).toEqual(['model.onnx', weights]);
  });

  it('another file of that name is not replaced without --force', async () => {
    const path = externalize(LLAMA, weights);
    const target = folder();
    writeFileSync(join(target, weights), 'precious');
    const { code, json } = await cliJson(path, '-o', join(target, 'out.onnx'));
    expect([code, (json.error as { code: string }).code]).toEqual([2, 'PD004']);
    expect(files(target)).toEqual([weights]);
    expect(readFileSync(join(target, weights), 'utf8')).toBe('precious');
    expect((await cli(path, '-o', join(target, 'out.onnx'), '--force', '--quiet')).code).toBe(0);
    expect(await loads(join(target, 'out.onnx'))).toBeUndefined();
  });

  it('a model reached through a link, its data beside the link', async () => {
    const path = externalize(LLAMA, weights);
    const hub = folder();
    symlinkSync(path, join(hub, 'model.onnx'));
    symlinkSync(relative(hub, join(dirname(path), weights)), join(hub, weights));
    const { code, json } = await cliJson(join(hub, 'model.onnx'), '--allow-external-links');
    expect(code).toBe(0);
    expect(json.externalData).toEqual({ mode: 'reference', files: [weights] });
    // Into another folder a link must lead to the data, not be a link to a link that may go away.
    const target = folder();
    expect((await cli(join(hub, 'model.onnx'), '-o', join(target, 'out.onnx'), '--quiet', '--allow-external-links')).code).toBe(0);
    rmSync(hub, { recursive: true });
    expect(statSync(join(target, weights)).ino).toBe(statSync(join(dirname(path), weights)).ino);
    expect(await loads(join(target, 'out.onnx'))).toBeUndefined();
  });

  it('computes what it computes with embedded weights', async () => {
    const path = externalize(LLAMA, weights);
    const out = join(dirname(path), 'out.onnx');
    const embedded = join(dirname(path), 'embedded.onnx');
    expect((await cli(path, '-o', out, '--quiet', ...planArgs(LLAMA))).err).toBe('');
    writeFileSync(embedded, await compileTo(fixturePath(LLAMA), ...planArgs(LLAMA)));
    expect(statSync(out).size).toBeLessThan(statSync(embedded).size);
    const [a, b] = [await runScenarios(out, LLAMA, 'default', 1), await runScenarios(embedded, LLAMA, 'default', 1)];
    expect(a.map(exactly)).toEqual(b.map(exactly));
  });
});

describe('files as exporters and tools write them', () => {
  /** Compiles the fixture and an edited one; the results must compute the same. */
  async function same(edit: (model: ReturnType<typeof loadModel>) => void, name = LLAMA): Promise<void> {
    const model = loadModel(name);
    edit(model);
    const args = planArgs(name);
    const target = folder();
    expect((await cli(fixturePath(name), ...args, '-o', join(target, 'a.onnx'), '--quiet')).err).toBe('');
    expect((await cli(modelFile(encodeModel(model)), ...args, '-o', join(target, 'b.onnx'), '--quiet')).err).toBe('');
    const [a, b] = [await runScenarios(join(target, 'a.onnx'), name, 'default', 1), await runScenarios(join(target, 'b.onnx'), name, 'default', 1)];
    b.forEach((o, i) => expect(exactly(o)).toMatchObject(exactly(a[i] as (typeof a)[0])));
  }

  it('initializers before nodes', async () => {
    const model = ids(LLAMA);
    const graph = graphBytes(model);
    const parts = [5, 11, 12, 2, 13, 1].flatMap((field) => payloads(graph, field).map((p) => encodeBytesField(field, p)));
    const [a, b] = [await compileTo(modelFile(mapField(model, 7, () => concat(parts)))), await compileTo(fixturePath(LLAMA))];
    expect(a.length).toBe(b.length);
    expect(await loads(a)).toBeUndefined();
  });

  it('constants in typed fields (float_data, int64_data)', async () => {
    await same((model) => {
      const retype = (t: TensorProto): void => {
        const raw = t.rawData as Uint8Array | undefined;
        if (!raw?.length || raw.length > 64) return;
        const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
        if (t.dataType === FLOAT) t.floatData = Array.from({ length: raw.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
        else if (t.dataType === INT64) {
          const numbers = Array.from({ length: raw.length / 8 }, (_, i) => Number(view.getBigInt64(8 * i, true)));
          if (!numbers.every(Number.isSafeInteger)) return;
          t.int64Data = numbers as never;
        } else return;
        t.rawData = new Uint8Array(0);
        delete (t as { rawData?: unknown }).rawData;
      };
      for (const t of graphOf(model).initializer ?? []) retype(t as TensorProto);
      for (const n of graphOf(model).node ?? []) for (const a of n.attribute ?? []) if (a.t) retype(a.t as TensorProto);
    });
  });

  it('nodes in reverse order', async () => {
    await same((model) => graphOf(model).node?.reverse());
  });

  it('unused inputs and unused initializers', async () => {
    await same((model) => {
      const graph = graphOf(model);
      graph.input?.push(valueInfo('unused', FLOAT, [1]));
      graph.initializer?.push({ ...(graph.initializer[0] as TensorProto), name: 'unused_weight' } as TensorProto);
    }).catch((error: Error) => expect(error.message).toContain("input 'unused'"));
  });

  it('opset 13', async () => {
    await same((model) => {
      for (const o of model.opsetImport ?? []) if (!o.domain) o.version = 13;
      for (const n of graphOf(model).node ?? []) n.attribute = (n.attribute ?? []).filter((a) => a.name !== 'allowzero');
    }, 'llama-ts14-eager');
  });

  it('a bool and an int32 attention mask', { timeout: 20_000 }, async () => {
    for (const type of [BOOL, INT32, FLOAT]) {
      const model = loadModel(LLAMA);
      const graph = graphOf(model);
      for (const n of graph.node ?? []) n.input = (n.input ?? []).map((i) => (i === 'attention_mask' ? 'mask64' : i));
      graph.node?.unshift(node('Cast', ['attention_mask'], ['mask64'], { to: INT64 }));
      const mask = graph.input?.find((v) => v.name === 'attention_mask');
      (mask?.type?.tensorType as { elemType: number }).elemType = type;
      const path = modelFile(encodeModel(model));
      const { err, code } = await cli(path, '--quiet', '-o', join(dirname(path), 'out.onnx'));
      expect([err, code]).toEqual(['', 0]);
      expect(await loads(join(dirname(path), 'out.onnx'))).toBeUndefined();
      const { out } = await cli('check', join(dirname(path), 'out.onnx'));
      // Contents of float masks are not followed, so what check can say about them is less.
      if (type !== FLOAT) expect(`${type}: ${out}`).toContain('follows its plan');
    }
  });

  it('int32 positions', async () => {
    const model = loadModel(LLAMA);
    const graph = graphOf(model);
    for (const n of graph.node ?? []) n.input = (n.input ?? []).map((i) => (i === 'position_ids' ? 'positions64' : i));
    graph.node?.unshift(node('Cast', ['position_ids'], ['positions64'], { to: INT64 }));
    (graph.input?.find((v) => v.name === 'position_ids')?.type?.tensorType as { elemType: number }).elemType = INT32;
    expect(await loads(await compileTo(modelFile(encodeModel(model))))).toBeUndefined();
  });

  it('a batch of exactly one', async () => {
    await same((model) => {
      for (const v of [...(graphOf(model).input ?? []), ...(graphOf(model).output ?? [])]) {
        const dim = v.type?.tensorType?.shape?.dim;
        if (dim?.[0]) dim[0] = { dimValue: 1 } as never;
      }
      graphOf(model).valueInfo = [];
    });
  });

  it('the same names inside two subgraphs', async () => {
    const model = loadModel(LLAMA);
    const graph = graphOf(model);
    const branch = (op: string): typeof graph => ({ name: op, node: [node(op, ['switch'], ['inner'])], input: [], output: [valueInfo('inner', FLOAT, [1])], initializer: [] }) as unknown as typeof graph;
    graph.input?.push(valueInfo('switch', FLOAT, [1]), valueInfo('yes', BOOL, [1]));
    graph.node?.unshift(
      node('If', ['yes'], ['chosen'], { then_branch: { graph: branch('Neg') }, else_branch: { graph: branch('Abs') } }),
      node('If', ['yes'], ['chosen2'], { then_branch: { graph: branch('Abs') }, else_branch: { graph: branch('Neg') } }),
    );
    graph.output?.push(valueInfo('chosen', FLOAT, [1]), valueInfo('chosen2', FLOAT, [1]));
    expect(await loads(await compileTo(modelFile(encodeModel(model))))).toBeUndefined();
  });

  it('a branch that declares the type of the outer value it reads (onnxslim)', async () => {
    const model = loadModel(LLAMA);
    const graph = graphOf(model);
    const branch = (op: string): typeof graph => ({ name: op, node: [node(op, ['outer'], [`${op}/inner`])], input: [], output: [valueInfo(`${op}/inner`, FLOAT, [1])], valueInfo: [valueInfo('outer', FLOAT, [1])], initializer: [] }) as unknown as typeof graph;
    graph.input?.push(valueInfo('switch', FLOAT, [1]), valueInfo('yes', BOOL, [1]));
    graph.node?.unshift(node('Neg', ['switch'], ['outer']), node('If', ['yes'], ['chosen'], { then_branch: { graph: branch('Neg') }, else_branch: { graph: branch('Abs') } }));
    graph.output?.push(valueInfo('chosen', FLOAT, [1]));
    expect(await loads(await compileTo(modelFile(encodeModel(model))))).toBeUndefined();
  });
});
