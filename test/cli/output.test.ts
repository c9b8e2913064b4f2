/** What leaves the process: streams that break, and strings from outside in every medium. */
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { html } from '../../src/report/html/markup.js';
import { inline, jsonText, markdownCode, markdownText, terminalText, xmlText } from '../../src/report/text.js';
import { packageRoot } from '../../src/disk/own-files.js';
import { toJunit } from '../../src/report/validate-junit.js';
import { toMarkdown } from '../../src/report/validate-markdown.js';
import type { ValidateReport } from '../../src/validate/result.js';
import { fullReport } from '../report/html-sample.js';
import { cli } from '../support/cli.js';
import { folder } from '../support/folder.js';
import { encodeModel, fixturePath, graphOf, loadModel } from '../support/proto.js';

const BIN = join(packageRoot(), 'bin', 'pdrop-compile.js');
const MODEL = fixturePath('genai-llama-int4');
const shell = (command: string): { code: number | null; err: string } => {
  const { status, stderr } = spawnSync('bash', ['-c', command], { encoding: 'utf8', timeout: 60_000 });
  return { code: status, err: stderr };
};

describe('streams that break', () => {
  it('a reader that went away: silent, and the exit code of a broken pipe', { timeout: 60_000 }, () => {
    const { code, err } = shell(`node ${BIN} inspect --json ${MODEL} | true; exit \${PIPESTATUS[0]}`);
    expect([code, err]).toEqual([141, '']);
  });

  it('a full disk behind standard output has a code of its own', { timeout: 60_000 }, () => {
    const { code, err } = shell(`node ${BIN} inspect ${MODEL} > /dev/full`);
    expect(code).toBe(2);
    expect(err).toContain('error PD030');
  });

  it('too few open files', { timeout: 60_000 }, () => {
    // How many Node takes for itself depends on its version: then it ends before anything of ours does.
    const ends = Array.from({ length: 16 }, (_, i) => shell(`ulimit -n ${16 + i}; node ${BIN} ${fixturePath('llama-ts14-eager')} --quiet -o ${join(folder(), 'out.onnx')}`));
    const ours = ends.filter(({ err }) => err.includes('error PD'));
    expect(ours.length).toBeGreaterThan(0);
    for (const { code, err } of ours) expect([code, err]).toEqual([2, expect.stringMatching(/^error PD\d{3}: [^\n]*too many open files[\s\S]*ulimit -n/)]);
    expect(ends.at(-1)).toEqual({ code: 0, err: '' });
  });

  it('a closed error stream changes nothing', { timeout: 60_000 }, () => {
    expect(shell(`node ${BIN} inspect ${fixturePath('genai-llama-embeds-fp32')} 2>&- >/dev/null`).code).toBe(0);
  });
});

const EVIL = '\u001b]0;owned\u0007\u001b[31mred\u009b2J\u202egnp.exe\n::stop-commands::x\n##[error]no';

describe('strings from outside', () => {
  it('on a terminal', () => {
    // biome-ignore lint/suspicious/noControlCharactersInRegex: none may be left
    const steering = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e]/;
    expect(terminalText(EVIL)).not.toMatch(steering);
    expect(terminalText(EVIL)).not.toMatch(/^\s*(::|##)/m);
    expect(inline(EVIL)).not.toContain('\n');
    expect(terminalText('λ  naïve – “ok”\n  two')).toBe('λ  naïve – “ok”\n  two');
    expect(jsonText({ a: EVIL })).not.toMatch(steering);
    expect(JSON.parse(jsonText({ a: EVIL }))).toEqual({ a: EVIL });
  });

  it('in Markdown', () => {
    expect(markdownText('a|b <img src=x> [x](http://y) @you `c` *d*')).toBe('a\\|b &lt;img src=x&gt; \\[x\\](http:\u200b//y) @\u200byou \\`c\\` \\*d\\*');
    expect(markdownCode('a`b``c\n')).toBe('``` a`b``c\\n ```');
    expect(markdownCode('model.onnx')).toBe('`model.onnx`');
  });

  it('in XML', () => {
    const text = xmlText('\u0000\u0008\ud800 \ufffe\uffff\u0085<&>"\' 😀\n');
    expect(text).toBe('\\u0000\\u0008\\ud800 \\ufffe\\uffff\\u0085&#60;&#38;&#62;&#34;&#39; 😀&#10;');
  });

  it('in HTML', () => {
    expect(html`<p>${EVIL}</p>`.text).not.toMatch(/[\u007f-\u009f\u202e]/);
  });

  it('in whole reports: every string of a report, hostile', () => {
    const poison = (value: unknown, key = ''): unknown => {
      if (typeof value === 'string') return ['verdict', 'status', 'kind', 'schema'].includes(key) ? value : `${value}\n<script>|${EVIL}</script>\ud800`;
      if (Array.isArray(value)) return value.map((v) => poison(v));
      if (value !== null && typeof value === 'object') return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, poison(v, k)]));
      return value;
    };
    const report = poison(fullReport()) as ValidateReport;
    const markdown = toMarkdown(report);
    // Within a code span nothing is markup.
    expect(markdown.replace(/(`+)[^`]*\1/g, '')).not.toContain('<script>');
    // biome-ignore lint/suspicious/noControlCharactersInRegex: none may be left
    expect(markdown).not.toMatch(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202e]/);
    expect(markdown).not.toMatch(/^::/m);
    const junit = toJunit(report);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: what XML 1.0 has no place for
    expect(junit).not.toMatch(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]|\p{Surrogate}/u);
    expect(junit).not.toContain('<script>');
  });

  it('from a model: names reach neither terminal nor log as commands', async () => {
    const model = loadModel('llama-ts17-sdpa');
    graphOf(model).node?.splice(2, 1);
    for (const n of graphOf(model).node ?? []) n.name = EVIL;
    for (const v of graphOf(model).input ?? []) if (v.name === 'attention_mask') v.name = `${EVIL}mask`;
    const path = join(folder(), 'm.onnx');
    writeFileSync(path, encodeModel(model));
    for (const args of [[path], ['inspect', path], ['flops', path], ['check', path]]) {
      const { out, err } = await cli(...args);
      // biome-ignore lint/suspicious/noControlCharactersInRegex: none may be left
      expect(out + err).not.toMatch(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202e]/);
      expect(out + err).not.toMatch(/^\s*::/m);
    }
    const usage = await cli(path, '--\u001b[31m');
    // biome-ignore lint/suspicious/noControlCharactersInRegex: none may be left
    expect(usage.err).not.toMatch(/\u001b/);
  });

  it('from the inputs of the action: a line break in report-dir writes no output of its own', () => {
    const dir = folder();
    cpSync(join(packageRoot(), 'action', 'validate.sh'), join(dir, 'validate.sh'));
    mkdirSync(join(dir, 'bin'));
    writeFileSync(join(dir, 'output'), '');
    const evil = `${join(dir, 'r')}\nverdict=passed`;
    const run = spawnSync('bash', [join(dir, 'validate.sh')], { encoding: 'utf8', env: { ...process.env, PDROP_BIN: BIN, PDROP_ORIGINAL: '/none', PDROP_REWRITTEN: '/none', PDROP_REPORT_DIR: evil, GITHUB_OUTPUT: join(dir, 'output') } });
    expect(run.status).toBe(2);
    expect(readFileSync(join(dir, 'output'), 'utf8')).not.toContain('verdict=passed');
    const deep = join(dir, 'a\nverdict=passed');
    mkdirSync(deep);
    execFileSync('bash', ['-c', `cd "$1" && bash "$2" || true`, '_', deep, join(dir, 'validate.sh')], { env: { ...process.env, PDROP_BIN: BIN, PDROP_ORIGINAL: '/none', PDROP_REWRITTEN: '/none', PDROP_REPORT_DIR: 'r', GITHUB_OUTPUT: join(dir, 'output') } });
    expect(readFileSync(join(dir, 'output'), 'utf8')).not.toMatch(/^verdict=passed/m);
    expect(readFileSync(join(dir, 'output'), 'utf8')).toMatch(/^exit-code=2$/m);
  });
});
