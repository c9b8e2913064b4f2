/** No run replaces a file that it reads, or writes one file twice: by path, link or inode, with --force or without. */
import { cpSync, linkSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { cliJson } from '../support/cli.js';
import { externalize } from '../support/external.js';
import { files, folder } from '../support/folder.js';
import { fixturePath } from '../support/proto.js';

const SMALL = 'genai-llama-embeds-fp32';

/** What every file below a folder holds. */
function contents(path: string): Record<string, string> {
  return Object.fromEntries(files(path).filter((f) => statSync(join(path, f)).isFile()).map((f) => [f, readFileSync(join(path, f)).toString('base64')]));
}

async function refused(code: string, place: string, ...args: string[]): Promise<void> {
  for (const force of [[], ['--force']]) {
    const before = contents(place);
    const { code: exit, json } = await cliJson(...args, ...force);
    // Whose data it is shows in the model only: before that, it is a file that exists.
    const expected = force.length > 0 ? [code] : [code, 'PD004'];
    expect([args, exit]).toEqual([args, 2]);
    expect(expected).toContain((json.error as { code: string } | undefined)?.code);
    expect(contents(place)).toEqual(before);
  }
}

function copyOf(): string {
  const path = join(folder(), 'model.onnx');
  cpSync(fixturePath(SMALL), path);
  return path;
}

describe('the output', () => {
  it('onto the model’s own external data, by its name, a hard link or a symbolic link', async () => {
    const path = externalize(SMALL, 'weights.bin');
    const place = dirname(path);
    linkSync(join(place, 'weights.bin'), join(place, 'hard'));
    symlinkSync('weights.bin', join(place, 'soft'));
    for (const name of ['weights.bin', 'hard', 'soft']) await refused('PD005', place, path, '-o', join(place, name));
  });

  it('onto the model, by a hard link or through a linked folder', async () => {
    const path = copyOf();
    linkSync(path, join(dirname(path), 'other.onnx'));
    symlinkSync('.', join(dirname(path), 'here'));
    for (const name of ['model.onnx', 'other.onnx', join('here', 'model.onnx')]) await refused('PD005', dirname(path), path, '-o', join(dirname(path), name));
  });

  it('where its own external data will be placed', async () => {
    const path = externalize(SMALL, 'out.onnx');
    const target = folder();
    await refused('PD019', target, path, '-o', join(target, 'out.onnx'));
  });

  it('onto a plan or a config that is read', async () => {
    const path = copyOf();
    const config = join(dirname(path), 'config.json');
    writeFileSync(config, '{}');
    const options = join(dirname(path), 'options.json');
    writeFileSync(options, '{"stages": 4}');
    await refused('PD005', dirname(path), path, '-o', config);
    await refused('PD005', dirname(path), path, '--config', options, '-o', options);
  });
});

describe('placed data', () => {
  it('that would replace another file needs --force, and never replaces the model', async () => {
    const path = externalize(SMALL, 'weights.bin');
    const target = folder();
    writeFileSync(join(target, 'weights.bin'), 'mine');
    const { json } = await cliJson(path, '-o', join(target, 'out.onnx'));
    expect((json.error as { code: string }).code).toBe('PD004');
    expect(contents(target)).toEqual({ 'weights.bin': Buffer.from('mine').toString('base64') });
    const other = folder();
    linkSync(path, join(other, 'weights.bin'));
    await refused('PD005', other, path, '-o', join(other, 'out.onnx'), '--external-data', 'copy');
  });
});

describe('the report', () => {
  it('onto the model, its data, the output', async () => {
    const path = externalize(SMALL, 'weights.bin');
    const place = dirname(path);
    const out = join(place, 'out.onnx');
    await refused('PD005', place, path, '-o', out, '--report', path);
    await refused('PD005', place, path, '-o', out, '--report', join(place, 'weights.bin'));
    await refused('PD019', place, path, '-o', out, '--report', out);
    await refused('PD019', place, path, '-o', out, '--report', join(place, '.', 'out.onnx'));
    mkdirSync(join(place, 'sub'));
    symlinkSync('..', join(place, 'sub', 'up'));
    await refused('PD019', place, path, '-o', out, '--report', join(place, 'sub', 'up', 'out.onnx'));
    await refused('PD005', place, path, '--dry-run', '--report', path);
  });

  it('that exists needs --force; then both are new', async () => {
    const path = copyOf();
    const report = join(dirname(path), 'report.json');
    writeFileSync(report, 'mine');
    const { code, json } = await cliJson(path, '--report', report);
    expect([code, (json.error as { code: string }).code]).toEqual([2, 'PD004']);
    expect(files(dirname(path))).toEqual(['model.onnx', 'report.json']);
    expect((await cliJson(path, '--report', report, '--force')).code).toBe(0);
    expect(files(dirname(path))).toEqual(['model.onnx', 'model.pdrop.onnx', 'report.json']);
    expect(JSON.parse(readFileSync(report, 'utf8')).output).toBe(join(dirname(path), 'model.pdrop.onnx'));
  });

  it('that cannot be written leaves no model either', async () => {
    const path = copyOf();
    const { code } = await cliJson(path, '--report', '/dev/full');
    expect(code).toBe(2);
    expect(files(dirname(path))).toEqual(['model.onnx']);
  });
});

describe('reports of validate, merge and sweep', () => {
  it('replace former reports, and nothing else', async () => {
    const path = copyOf();
    const notes = join(dirname(path), 'notes.txt');
    writeFileSync(notes, 'mine');
    for (const option of ['--report', '--html', '--junit']) {
      const { json } = await cliJson('validate', path, path, option, notes);
      expect((json.error as { code: string }).code).toBe('PD004');
    }
    for (const option of ['--report', '--html', '--junit', '--summary']) {
      const { json } = await cliJson('validate', path, path, option, path);
      expect((json.error as { code: string }).code).toBe('PD005');
    }
    const both = await cliJson('validate', path, path, '--report', join(dirname(path), 'r'), '--html', join(dirname(path), 'r'));
    expect((both.json.error as { code: string }).code).toBe('PD019');
    const binary = join(dirname(path), 'weights.bin');
    writeFileSync(binary, new Uint8Array(64));
    expect(((await cliJson('validate', path, path, '--summary', binary)).json.error as { code: string }).code).toBe('PD004');
    expect(((await cliJson('sweep', path, '--report', path)).json.error as { code: string }).code).toBe('PD005');
    const shard = join(dirname(path), 'shard.json');
    writeFileSync(shard, '{"tool": "pdrop-compile"}');
    expect(((await cliJson('merge', shard, '--report', shard)).json.error as { code: string }).code).toBe('PD005');
    expect([readFileSync(notes, 'utf8'), statSync(binary).size, readFileSync(shard, 'utf8')]).toEqual(['mine', 64, '{"tool": "pdrop-compile"}']);
    expect(readFileSync(path).equals(readFileSync(fixturePath(SMALL)))).toBe(true);
  });
});
