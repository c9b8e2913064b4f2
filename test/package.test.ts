/** What is packed: the bundle of the command line is that of this build, and the tarball works where it is installed. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { packageRoot } from '../src/disk/own-files.js';
import { fixturePath } from './support/proto.js';

const MODEL = fixturePath('llama-ts17-sdpa');
const { dependencies } = JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8')) as { dependencies: Record<string, string> };

describe('the bundle of the command line', () => {
  it('is what this build gives: npm run build was not left half-way', { timeout: 60_000 }, async () => {
    const { bundle } = (await import(join(packageRoot(), 'scripts', 'bundle.mjs'))) as { bundle(): Promise<[path: string, text: string][]> };
    const made = await bundle();
    expect(readdirSync(join(packageRoot(), 'dist', 'cli')).sort()).toEqual(made.map(([path]) => path.slice('dist/cli/'.length)).sort());
    for (const [path, text] of made) expect([path, readFileSync(join(packageRoot(), path), 'utf8') === text]).toEqual([path, true]);
  });

  it('has no import whose module it could not see: validate --html once looked for a file that only the unbundled tree has', () => {
    const folder = join(packageRoot(), 'dist', 'cli');
    const unseen = readdirSync(folder).filter((f) => f.endsWith('.js')).flatMap((f) => readFileSync(join(folder, f), 'utf8').match(/\bimport\((?!["'])[^)]*\)/g) ?? []);
    expect(unseen).toEqual([]);
  });

  it('keeps the licences of what it takes in', () => {
    const text = readFileSync(join(packageRoot(), 'dist', 'cli', 'LICENSES.txt'), 'utf8');
    for (const words of [/^commander [\d.]+, MIT$/m, 'TJ Holowaychuk', /^protobufjs [\d.]+, BSD-3-Clause$/m, 'Daniel Wirtz', /^long [\d.]+, Apache-2.0$/m]) expect(text).toMatch(words);
  });

  it('loads a few files for a command, and for --version next to none', () => {
    const loaded = (...args: string[]): number => {
      const list = join(mkdtempSync(join(tmpdir(), 'pdrop-loaded-')), 'list');
      const hooks = `import { appendFileSync } from 'node:fs'; export async function load(url, context, next) { if (url.startsWith('file:')) appendFileSync(${JSON.stringify(list)}, url + '\\n'); return next(url, context); }`;
      const preload = `import { register } from 'node:module'; register('data:text/javascript,' + encodeURIComponent(${JSON.stringify(hooks)}));`;
      execFileSync(process.execPath, ['--import', `data:text/javascript,${encodeURIComponent(preload)}`, join(packageRoot(), 'bin', 'pdrop-compile.js'), ...args], { stdio: 'ignore' });
      const files = readFileSync(list, 'utf8').trim().split('\n');
      rmSync(dirname(list), { recursive: true });
      return files.length;
    };
    expect(loaded('--version')).toBeLessThanOrEqual(8);
    expect(loaded(MODEL, '--dry-run')).toBeLessThanOrEqual(30);
  });
});

describe('the tarball', () => {
  let folder: string;
  let installed: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'pdrop-installed-'));
    const [packed] = JSON.parse(execFileSync('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', folder], { cwd: packageRoot(), encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })) as [{ filename: string }];
    installed = join(folder, 'node_modules', 'pdrop-compile');
    mkdirSync(installed, { recursive: true });
    execFileSync('tar', ['-xzf', join(folder, packed.filename), '-C', installed, '--strip-components=1']);
    // As npm would put them there, without asking a registry; nothing but what package.json names.
    for (const name of Object.keys(dependencies)) {
      mkdirSync(dirname(join(folder, 'node_modules', name)), { recursive: true });
      symlinkSync(join(packageRoot(), 'node_modules', name), join(folder, 'node_modules', name));
    }
    writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
  }, 60_000);
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  const run = (...args: string[]): string => execFileSync(process.execPath, [join(installed, 'bin', 'pdrop-compile.js'), ...args], { cwd: folder, encoding: 'utf8' });

  it('compiles, checks with another reader, reads a plan against its schema, and helps', { timeout: 60_000 }, () => {
    expect(run(MODEL, '-o', 'out.onnx', '--report', 'report.json', '--quiet')).toBe('');
    expect(run('check', '--strict', 'out.onnx')).toContain('the model is sound and follows its plan');
    expect(run(MODEL, '-o', 'again.onnx', '--plan', 'report.json', '--quiet')).toBe('');
    expect(readFileSync(join(folder, 'again.onnx')).equals(readFileSync(join(folder, 'out.onnx')))).toBe(true);
    expect(run('--help')).toContain('tune [options]');
  });

  it('is a library as well', { timeout: 60_000 }, () => {
    writeFileSync(join(folder, 'use.mjs'), `import { compile, VERSION } from 'pdrop-compile';\nimport 'pdrop-compile/core';\nimport 'pdrop-compile/transformers';\nconst report = await compile(${JSON.stringify(MODEL)}, { dryRun: true, copyFirstBytes: 1 });\nconsole.log(VERSION, report.layers > 1);\n`);
    expect(execFileSync(process.execPath, ['use.mjs'], { cwd: folder, encoding: 'utf8' })).toMatch(/^\d+\.\d+\.\d+ true\n$/);
  });
});
