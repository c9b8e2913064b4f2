/** What people expect of any command line: help with examples and exit codes, colours that can be switched off, progress, JSON, completion. */
import { execFileSync } from 'node:child_process';
import { cpSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { hasColours, painted } from '../../src/cli/colour.js';
import { COMMANDS } from '../../src/cli/help.js';
import { progressLine, progressLines, whileShowing } from '../../src/cli/progress.js';
import { requireSchema } from '../../src/disk/schemas.js';
import { cli, cliJson } from '../support/cli.js';
import { folder } from '../support/folder.js';
import { fixturePath } from '../support/proto.js';

const MODEL = fixturePath('genai-llama-embeds-fp32');

describe('help', () => {
  it('without arguments lists every command; a command without its model says what it needs', async () => {
    const { code, out } = await cli();
    expect(code).toBe(2);
    for (const name of COMMANDS) expect(out).toMatch(new RegExp(`^ {2}${name} `, 'm'));
    const none = await cli('compile');
    expect([none.code, none.out]).toEqual([2, '']);
    expect(none.err).toMatch(/^error PD001: no model given/);
  });

  it.each(COMMANDS)('%s: two examples, exit codes, and no heap of options without a heading', async (name) => {
    const { code, out } = await cli(name, '--help');
    expect(code).toBe(0);
    const examples = out.slice(out.indexOf('\nExamples:'), out.indexOf('\nExit codes:'));
    expect(examples.match(/^ {2}\$ pdrop-compile /gm)?.length).toBeGreaterThanOrEqual(2);
    const exits = out.slice(out.indexOf('\nExit codes:'));
    expect(exits).toMatch(/^ {2}0 /m);
    expect(exits).toMatch(/^ {2}2 usage/m);
    const groups = out.split(/^(?=\S.*:$)/m).filter((g) => /^ {2}-/m.test(g));
    for (const g of groups) expect(g.match(/^ {2}-/gm)?.length).toBeLessThanOrEqual(14);
    // The examples are ones that the command line takes.
    for (const [, line] of examples.matchAll(/^ {2}\$ pdrop-compile (.*)$/gm)) for (const [option] of (line ?? '').matchAll(/--?[a-z][\w-]*/g)) if (/^--|^-o$/.test(option)) expect(out).toContain(option);
  });
});

describe('colours', () => {
  const tty = { isTTY: true };
  it.each<[Record<string, string>, { isTTY?: boolean }, boolean]>([
    [{}, tty, true], [{}, {}, false], [{ TERM: 'dumb' }, tty, false], [{ NO_COLOR: '1' }, tty, false], [{ NO_COLOR: '' }, tty, true],
    [{ FORCE_COLOR: '1' }, {}, true], [{ FORCE_COLOR: '0' }, tty, false], [{ FORCE_COLOR: '3', NO_COLOR: '1' }, {}, true],
  ])('with %o on %o: %s', (env, stream, expected) => {
    expect(hasColours(stream, env)).toBe(expected);
  });

  it('colour words only; what is printed without them is the same', () => {
    const text = 'error PD301: no decoder\nA decode step is SLOWER\npassed: 3 samples\nnot passed: at all';
    const coloured = painted(text);
    expect(coloured).toContain('\u001b[31mSLOWER\u001b[39m');
    expect(coloured.split("\u001b[3").length - 1).toBe(6);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: colours are what is taken away
    expect(coloured.replace(/\u001b\[\d+m/g, '')).toBe(text);
  });

  it('a pipe gets none, FORCE_COLOR some, and text from outside cannot colour itself', () => {
    const run = (env: Record<string, string>): string => {
      const done = execFileSync('bash', ['-c', '"$@" 2>&1 || true', '_', process.execPath, join('bin', 'pdrop-compile.js'), 'no\u001b[31mne.onnx'], { encoding: 'utf8', env: { PATH: process.env.PATH ?? '', ...env } });
      return done;
    };
    expect(run({})).not.toContain('\u001b');
    const forced = run({ FORCE_COLOR: '1' });
    expect(forced).toContain('\u001b[31merror PD002:\u001b[39m');
    expect(forced).toContain('\\u001b[31mne.onnx');
  });
});

describe('progress', () => {
  const stream = (isTTY: boolean): { isTTY: boolean; text: string; write: (s: string) => boolean } => ({ isTTY, text: '', write(s: string) { this.text += s; return true; } });

  it('is shown on a terminal, and gone behind it', async () => {
    const at = stream(true);
    expect(await whileShowing('checking a\u001b[2Jb', async () => 7, at as never)).toBe(7);
    expect(at.text).toBe('\rchecking a\\u001b[2Jb …\u001b[K\r\u001b[K');
    await expect(whileShowing('x', async () => { throw new Error('no'); }, at as never)).rejects.toThrow('no');
    expect(at.text.endsWith('\r\u001b[K')).toBe(true);
    const bar = progressLines(false, at as never);
    bar.start('rewritten on cpu', 4);
    bar.tick(2);
    bar.end();
    expect(at.text).toContain('[############............] 2/4');
  });

  it('is silent elsewhere, and when it is asked to be', async () => {
    for (const at of [stream(false)]) {
      await whileShowing('x', async () => 1, at as never);
      progressLine('writing', at as never)(1, 2);
      const bar = progressLines(false, at as never);
      bar.start('x', 2);
      bar.end();
      expect(at.text).toBe('');
    }
    const at = stream(true);
    progressLines(true, at as never).start('x', 2);
    expect(at.text).toBe('');
  });
});

describe('--json', () => {
  const compiledCopy = async (): Promise<string> => {
    const path = join(folder(), 'model.onnx');
    cpSync(MODEL, path);
    await cli(path, '--quiet');
    return path.replace('.onnx', '.pdrop.onnx');
  };

  it('of every command fits its schema', { timeout: 60_000 }, async () => {
    const out = await compiledCopy();
    const cases: [string, string[]][] = [
      ['check', ['check', out]], ['flops', ['flops', out]], ['flops', ['flops', MODEL]], ['flops-paper', ['flops', '--paper']], ['doctor', ['doctor', '--ep', 'cpu']],
      ['inspect', ['inspect', MODEL]], ['inspect-folder', ['inspect', dirname(MODEL)]], ['explain', ['--explain', 'PD301']],
      ['error', ['none.onnx']], ['error', ['validate', 'a']], ['error', ['inspect', '--frobnicate', 'x']], ['error', ['valdate', 'x']],
    ];
    for (const [schema, args] of cases) expect(requireSchema(schema, (await cliJson(...args)).json, args.join(' '))).toBeTruthy();
  });
});

describe('completion', () => {
  const complete = (script: string, ...words: string[]): string[] =>
    execFileSync('bash', ['--norc', '-c', `source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _pdrop_compile; printf '%s\n' "\${COMPREPLY[@]}"`, '_', script, ...words], { encoding: 'utf8', cwd: dirname(script) }).split('\n').filter(Boolean);

  it('bash: commands, options and choices', async () => {
    const script = join(folder(), 'completion');
    writeFileSync(script, (await cli('completion', 'bash')).out);
    expect(complete(script, 'pdrop-compile', 'va')).toEqual(['validate']);
    expect(complete(script, 'pdrop-compile', 'comp')).toEqual(expect.arrayContaining(['compile', 'completion']));
    expect(complete(script, 'pdrop-compile', 'validate', 'a.onnx', '--max-k')).toEqual(['--max-kl', '--max-kl-p99']);
    expect(complete(script, 'pdrop-compile', 'model.onnx', '--posi')).toEqual(['--positions']);
    expect(complete(script, 'pdrop-compile', 'model.onnx', '--positions', '')).toEqual(['auto', 'compact', 'keep']);
    expect(complete(script, 'pdrop-compile', 'completion', 'f')).toEqual(['fish']);
  });

  it('zsh and fish: every command and option is in it', async () => {
    for (const shell of ['zsh', 'fish']) {
      const { code, out } = await cli('completion', shell);
      expect(code).toBe(0);
      for (const name of COMMANDS) expect(out).toContain(name);
      for (const option of ['lambda', 'max-kl-p99', 'target-flops', 'allow-missing']) expect(out).toMatch(new RegExp(shell === 'zsh' ? `'--${option}:` : `-l ${option} -r|-l ${option} -d`));
    }
    expect((await cli('completion', 'tcsh')).err).toMatch(/Allowed choices are bash, zsh, fish/);
  });
});
