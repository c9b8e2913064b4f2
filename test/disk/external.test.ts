/** External data: which links are followed, which fields are proper, and that holes stay holes. */
import { closeSync, ftruncateSync, mkdirSync, openSync, readSync, renameSync, statSync, truncateSync, symlinkSync, writeFileSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { compile } from '../../src/index.js';
import { cliJson } from '../support/cli.js';
import { externalize } from '../support/external.js';
import { files, folder, modelFile } from '../support/folder.js';
import { encodeModel, graphOf, loadModel } from '../support/proto.js';

const SMALL = 'genai-llama-embeds-fp32';

async function refusal(path: string, ...args: string[]): Promise<string> {
  const { code, json } = await cliJson(path, ...args);
  expect(code).toBe(3);
  return (json.error as { code: string }).code;
}

describe('links', () => {
  it('of files and folders that lead out of the model’s folder are refused, and followed when that is asked for', async () => {
    const path = externalize(SMALL, 'weights.bin');
    const place = dirname(path);
    const elsewhere = folder();
    renameSync(join(place, 'weights.bin'), join(elsewhere, 'weights.bin'));
    symlinkSync(join(elsewhere, 'weights.bin'), join(place, 'weights.bin'));
    const target = folder();
    for (const mode of ['copy', 'link', 'auto']) expect(await refusal(path, '-o', join(target, 'out.onnx'), '--external-data', mode)).toBe('PD108');
    expect(await refusal(path)).toBe('PD108');
    expect(files(target)).toEqual([]);
    expect(((await cliJson('inspect', path)).json.refusal as { code: string }).code).toBe('PD108');
    expect((await cliJson(path, '-o', join(target, 'out.onnx'), '--external-data', 'copy', '--allow-external-links')).code).toBe(0);
    expect(files(target)).toEqual(['out.onnx', 'weights.bin']);

    const inner = externalize(SMALL, 'weights.bin', 'data/weights.bin');
    symlinkSync(elsewhere, join(dirname(inner), 'data'));
    expect(await refusal(inner, '-o', join(folder(), 'out.onnx'))).toBe('PD108');
  });

  it('within the model’s folder are followed', async () => {
    const path = externalize(SMALL, 'weights.bin');
    const place = dirname(path);
    mkdirSync(join(place, 'blobs'));
    renameSync(join(place, 'weights.bin'), join(place, 'blobs', '1234'));
    symlinkSync(join('blobs', '1234'), join(place, 'weights.bin'));
    expect((await cliJson(path, '-o', join(folder(), 'out.onnx'))).code).toBe(0);
  });

  it('of a Hugging Face snapshot into its own blobs are followed, and no others', async () => {
    const from = externalize(SMALL, 'weights.bin');
    const root = join(folder(), 'models--some--model');
    const snapshot = join(root, 'snapshots', '0123abcd', 'onnx');
    mkdirSync(snapshot, { recursive: true });
    mkdirSync(join(root, 'blobs'));
    renameSync(from, join(root, 'blobs', 'aaaa'));
    renameSync(join(dirname(from), 'weights.bin'), join(root, 'blobs', 'bbbb'));
    symlinkSync('../../../blobs/aaaa', join(snapshot, 'model.onnx'));
    symlinkSync('../../../blobs/bbbb', join(snapshot, 'weights.bin'));
    const target = folder();
    expect((await cliJson(join(snapshot, 'model.onnx'), '-o', join(target, 'out.onnx'))).code).toBe(0);
    expect(statSync(join(target, 'weights.bin')).ino).toBe(statSync(join(root, 'blobs', 'bbbb')).ino);
    const other = join(dirname(root), 'models--other--model', 'blobs');
    mkdirSync(other, { recursive: true });
    renameSync(join(root, 'blobs', 'bbbb'), join(other, 'bbbb'));
    renameSync(join(snapshot, 'weights.bin'), join(snapshot, 'gone'));
    symlinkSync('../../../../models--other--model/blobs/bbbb', join(snapshot, 'weights.bin'));
    expect(await refusal(join(snapshot, 'model.onnx'), '-o', join(folder(), 'out.onnx'))).toBe('PD108');
  });
});

describe('fields', () => {
  function withEntries(entries: Readonly<Record<string, string>>): string {
    const model = loadModel(SMALL);
    const tensor = (graphOf(model).initializer ?? []).find((t) => (t.rawData?.length ?? 0) > 4096);
    if (!tensor) throw new Error('no tensor');
    const raw = tensor.rawData as Uint8Array;
    tensor.rawData = new Uint8Array(0);
    tensor.dataLocation = 1;
    tensor.externalData = Object.entries({ location: 'weights.bin', offset: '0', length: String(raw.length), ...entries }).flatMap(([key, value]) => (value === 'ABSENT' ? [] : [{ key, value }])) as never;
    const path = modelFile(encodeModel(model));
    writeFileSync(join(dirname(path), 'weights.bin'), new Uint8Array(2 * raw.length));
    return path;
  }

  it.each([
    [{ offset: '0x10' }],
    [{ offset: '1e3' }],
    [{ offset: '' }],
    [{ offset: '-1' }],
    [{ offset: '1.5' }],
    [{ offset: ' 1' }],
    [{ offset: '9007199254740993' }],
    [{ length: '0x10' }],
    [{ length: '' }],
    [{ length: '1000' }],
    [{ location: '' }],
    [{ location: '.' }],
    [{ location: './' }],
    [{ location: 'ABSENT' }],
  ])('%j is refused', async (entries) => {
    const path = withEntries(entries);
    expect(await refusal(path)).toBe('PD107');
    expect(files(dirname(path))).toEqual(['model.onnx', 'weights.bin']);
  });

  it('a folder in the place of the file is refused', async () => {
    const path = withEntries({ location: 'sub' });
    mkdirSync(join(dirname(path), 'sub'));
    expect(await refusal(path)).toBe('PD107');
  });

  it('no offset and no length are what ONNX says they are: the start, and all of the tensor', async () => {
    expect((await cliJson(withEntries({ offset: 'ABSENT', length: 'ABSENT' }))).code).toBe(0);
  });
});

describe('holes', () => {
  // Where the system's cp knows where holes are, nobody reads through them: a terabyte would take longer than any test may.
  it.each([
    ['', 600 * 2 ** 20],
    ...(process.platform === 'linux' ? [[', a terabyte of them', 2 ** 40] as const] : []),
  ] as const)('stay holes in a copy%s', async (_, size) => {
    const path = externalize(SMALL, 'weights.bin');
    const data = join(dirname(path), 'weights.bin');
    const hole = openSync(data, 'r+');
    ftruncateSync(hole, size);
    writeSync(hole, 'far away', size / 2);
    closeSync(hole);
    const target = folder();
    await compile(path, { output: join(target, 'out.onnx'), externalData: 'copy' });
    const copied = statSync(join(target, 'weights.bin'));
    expect(copied.size).toBe(size);
    expect(copied.blocks * 512).toBeLessThan(statSync(data).blocks * 512 + 2 ** 20);
    const read = (file: string, offset: number, length: number): string => {
      const fd = openSync(file, 'r');
      const bytes = Buffer.alloc(length);
      readSync(fd, bytes, 0, length, offset);
      closeSync(fd);
      return bytes.toString('base64');
    };
    for (const [offset, length] of [[0, 2 ** 20], [size / 2 - 64, 128], [size - 64, 64]] as const) {
      expect(read(join(target, 'weights.bin'), offset, length)).toBe(read(data, offset, length));
    }
  });

  it('are read through where there is no such cp', async () => {
    const path = externalize(SMALL, 'weights.bin');
    truncateSync(join(dirname(path), 'weights.bin'), 300 * 2 ** 20);
    const target = folder();
    const before = process.env.PATH;
    process.env.PATH = target;
    try {
      await compile(path, { output: join(target, 'out.onnx'), externalData: 'copy' });
    } finally {
      process.env.PATH = before;
    }
    const copied = statSync(join(target, 'weights.bin'));
    expect(copied.size).toBe(300 * 2 ** 20);
    expect(copied.blocks * 512).toBeLessThan(100 * 2 ** 20);
  });
});
