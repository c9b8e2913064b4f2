/** Codes: one meaning each, told by `--explain` and docs/errors.md; slips on the command line and in the library answered by name. */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { CODES, errorsPage } from '../../src/cli/codes.js';
import { compile, type CompileOptions } from '../../src/index.js';
import { packageRoot } from '../../src/disk/own-files.js';
import { cli, cliJson } from '../support/cli.js';
import { folder } from '../support/folder.js';
import { fixturePath } from '../support/proto.js';
import { expectBytesRefused } from '../support/refuse.js';

const MODEL = fixturePath('genai-llama-embeds-fp32');
const sources = (dir: string): string[] => readdirSync(dir, { withFileTypes: true }).flatMap((e) => (e.isDirectory() ? sources(join(dir, e.name)) : e.name.endsWith('.ts') ? [join(dir, e.name)] : []));

describe('codes', () => {
  it('those in the source and those that are explained are the same', () => {
    const used = new Set<string>();
    for (const file of [...sources(join(packageRoot(), 'src')), ...sources(join(packageRoot(), 'passes'))]) {
      if (file.endsWith('codes.ts')) continue;
      for (const [, code] of readFileSync(file, 'utf8').matchAll(/'(PD\d{3})'/g)) used.add(code as string);
    }
    expect([...used].sort()).toEqual(Object.keys(CODES));
  });

  it('docs/errors.md is current: npm run errors', () => {
    expect(readFileSync(join(packageRoot(), 'docs', 'errors.md'), 'utf8')).toBe(errorsPage());
  });

  it('--explain tells one; an unknown one is a usage error', async () => {
    const { code, out } = await cli('--explain', 'pd106');
    expect([code, out]).toEqual([0, 'PD106: Subgraphs are nested deeper than protobuf parsers go.\nNo runtime loads this model: it is damaged, or was made to do harm.\n']);
    expect((await cli('--explain', 'PD999')).code).toBe(2);
    expect((await cli('--explain')).out).toContain('what it does');
    expect((await cli(join(folder(), 'none.onnx'))).err).toContain('docs/errors.md#pd002');
  });
});

describe('slips', () => {
  it.each([
    ['valdate', 'did you mean validate'],
    ['inspct', 'did you mean inspect'],
    [MODEL, 'one model at a time'],
  ])('pdrop-compile %s a b', async (first, message) => {
    const { code, json } = await cliJson(first, MODEL, MODEL);
    expect([code, (json.error as { message: string }).message]).toEqual([2, expect.stringContaining(message)]);
  });

  it('an option with a letter missing', async () => {
    expect((await cli(MODEL, '--stags', '3')).err).toContain('--stages');
  });

  it.each(['--min-top1', '--min-accuracy', '--max-divergent', '--min-flops-cut'])('%s 95: a share in percent', async (option) => {
    const { code, json } = await cliJson('validate', MODEL, MODEL, option, '95');
    expect([code, (json.error as { hint: string }).hint]).toEqual([2, 'write 0.95 for 95%']);
  });

  it.each<[object, RegExp]>([
    [{ lamda: 0.9 }, /did you mean lambda/],
    [{ positions: 'foo' }, /positions "foo"/],
    [{ imageTokens: 1e12 }, /imageTokens/],
    [{ textTokens: 1.5 }, /textTokens/],
  ])('in the library: %o', async (options, message) => {
    await expect(compile(MODEL, { ...(options as CompileOptions), dryRun: true })).rejects.toMatchObject({ code: 'PD001', message: expect.stringMatching(message) });
  });
});

describe('files that are no ONNX are named', () => {
  it.each<[string, string | Uint8Array]>([
    ['Git LFS pointer', 'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n'],
    ['HTML page', '<!DOCTYPE html><html></html>'],
    ['OpenVINO', '<?xml version="1.0"?><net name="m"></net>'],
    ['GGUF', 'GGUF\u0003\u0000\u0000\u0000'],
    ['safetensors', Buffer.concat([Buffer.from([72, 0, 0, 0, 0, 0, 0, 0]), Buffer.from('{"__metadata__":{"format":"pt"}}')])],
    ['ORT-format', Buffer.concat([Buffer.from([24, 0, 0, 0]), Buffer.from('ORTM'), Buffer.alloc(64)])],
    ['zip', Buffer.concat([Buffer.from('PK\u0003\u0004'), Buffer.alloc(64)])],
    ['gzip', Buffer.concat([Buffer.from([0x1f, 0x8b, 8, 0]), Buffer.alloc(64)])],
    ['pickle', Buffer.concat([Buffer.from([0x80, 2]), Buffer.alloc(64, 99)])],
    ['NumPy', Buffer.concat([Buffer.from([0x93]), Buffer.from('NUMPY'), Buffer.alloc(64)])],
    ['JSON', '{"model_type": "llama"}'],
  ])('%s', async (name, bytes) => {
    const error = await expectBytesRefused(bytes as string, 'PD101');
    expect(error.message).toContain(name);
  });
});

describe('the package', () => {
  it('has the docs, no source maps, and needs no runtime to compile', { timeout: 60_000 }, () => {
    const list = JSON.parse(execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], { cwd: packageRoot(), encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })) as { files: { path: string }[] }[];
    const paths = list[0]?.files.map((f) => f.path) ?? [];
    expect(paths).toContain('docs/errors.md');
    expect(paths.filter((p) => p.endsWith('.map') || p.endsWith('.tsbuildinfo'))).toEqual([]);
    const { dependencies, optionalDependencies } = JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8')) as Record<string, Record<string, string>>;
    expect(Object.keys(dependencies ?? {})).not.toContain('onnxruntime-node');
    expect(Object.keys(optionalDependencies ?? {})).toEqual(['onnxruntime-node', 'sharp']);
  });

  it('without onnxruntime-node: compile works, validate says in one line how to get it', { timeout: 60_000 }, () => {
    const dir = folder();
    const hook = join(dir, 'hook.mjs');
    writeFileSync(join(dir, 'absent.mjs'), `export async function resolve(name, context, next) {\n  if (name === 'onnxruntime-node') throw Object.assign(new Error("Cannot find package 'onnxruntime-node'"), { code: 'ERR_MODULE_NOT_FOUND' });\n  return next(name, context);\n}\n`);
    writeFileSync(hook, `import { register } from 'node:module';\nregister('./absent.mjs', import.meta.url);\n`);
    const run = (...args: string[]): string => execFileSync('bash', ['-c', '"$@" 2>&1 || true', '_', process.execPath, '--import', hook, join(packageRoot(), 'bin', 'pdrop-compile.js'), ...args], { encoding: 'utf8' });
    const out = join(dir, 'out.onnx');
    expect(run(MODEL, '-o', out)).toContain('wrote');
    expect(run('validate', MODEL, out)).toMatch(/error PD500: .*\n.*\n? *run `npm install onnxruntime-node`/);
  });
});
