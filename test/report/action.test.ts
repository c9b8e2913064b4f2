/** The GitHub Action: its script run as the runner runs it, with a recorder in place of the tool; its inputs held to the command line. */
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const ROOT = join(import.meta.dirname, '..', '..');
const action = readFileSync(join(ROOT, 'action.yml'), 'utf8');
const script = readFileSync(join(ROOT, 'action', 'validate.sh'), 'utf8');
/** Names two blanks in, between `inputs:` and the next key of the document. */
const inputs = [...(/\ninputs:\n([\s\S]*?)\n\w/.exec(action)?.[1] ?? '').matchAll(/^ {2}([\w-]+):$/gm)].map((m) => m[1] as string);

const RECORDER = `
const { appendFileSync, writeFileSync } = require('node:fs');
const args = process.argv.slice(2);
appendFileSync('calls.jsonl', JSON.stringify(args) + '\\n');
if (args[0] === 'validate' && process.env.RECORDED_VERDICT) {
  const at = (option) => args[args.indexOf(option) + 1];
  writeFileSync(at('--report'), JSON.stringify({ tool: 'pdrop-compile', verdict: process.env.RECORDED_VERDICT, ...JSON.parse(process.env.RECORDED_REPORT ?? '{}') }));
  writeFileSync(at('--summary'), '### pdrop-compile: a summary\\n');
}
process.exit(Number(process.env.RECORDED_CODE ?? 0));
`;

describe.skipIf(process.platform === 'win32')('the GitHub Action', () => {
  let folder: string;
  const run = (env: Record<string, string>): { code: number | null; calls: string[][]; outputs: Record<string, string>; log: string; summary: string } => {
    for (const file of ['calls.jsonl', 'output', 'step-summary']) rmSync(join(folder, file), { force: true });
    const done = spawnSync('bash', [join(ROOT, 'action', 'validate.sh')], {
      cwd: folder,
      encoding: 'utf8',
      env: { PATH: process.env.PATH ?? '', PDROP_BIN: join(folder, 'recorder.cjs'), PDROP_ORIGINAL: 'a model.onnx', PDROP_REWRITTEN: 'b.onnx', GITHUB_OUTPUT: join(folder, 'output'), GITHUB_STEP_SUMMARY: join(folder, 'step-summary'), ...env },
    });
    const read = (file: string): string => (existsSync(join(folder, file)) ? readFileSync(join(folder, file), 'utf8') : '');
    return {
      code: done.status,
      calls: read('calls.jsonl').split('\n').filter(Boolean).map((l) => JSON.parse(l) as string[]),
      outputs: Object.fromEntries(read('output').split('\n').filter(Boolean).map((l) => l.split(/=(.*)/s).slice(0, 2))) as Record<string, string>,
      log: done.stdout + done.stderr,
      summary: read('step-summary'),
    };
  };

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'pdrop-action-'));
    writeFileSync(join(folder, 'recorder.cjs'), RECORDER);
    chmodSync(join(folder, 'recorder.cjs'), 0o755);
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test('hands every input to the script or to a step', () => {
    expect(inputs.length).toBeGreaterThan(25);
    for (const name of inputs) expect(action).toContain(`inputs.${name}`);
    const given = [...action.matchAll(/^ +(PDROP_\w+): \$\{\{ inputs\.([\w-]+) \}\}$/gm)];
    for (const [, variable, name] of given) expect(variable).toBe(`PDROP_${name?.toUpperCase().replaceAll('-', '_')}`);
    // Whatever the script reads is given to it.
    for (const [, variable] of script.matchAll(/\$\{?(PDROP_[A-Z0-9_]+)/g)) if (variable !== 'PDROP_') expect(action).toContain(`${variable}:`);
    // Inputs never stand inside a command, where they would be run.
    for (const [line] of action.matchAll(/^ +run: .*$/gm)) expect(line).not.toContain('${{');
  });

  test('knows every threshold of the command line, by the same name', () => {
    const shared = readFileSync(join(ROOT, 'src', 'cli', 'commands', 'validate-shared.ts'), 'utf8');
    const options = [...(/export function addThresholds[\s\S]*?\n}/.exec(shared)?.[0] ?? '').matchAll(/\.option\('--([\w-]+)/g)].map((m) => m[1] as string);
    expect(options.length).toBeGreaterThan(10);
    for (const name of options) expect(inputs).toContain(name);
    const all = shared + readFileSync(join(ROOT, 'src', 'cli', 'commands', 'validate.ts'), 'utf8');
    for (const [, name] of script.matchAll(/--([a-z][a-z0-9-]+)/g)) if (!['output', 'force'].includes(name as string)) expect(all).toContain(`'--${name}`);
    for (const name of /for name in (.*); do/.exec(script)?.[1]?.split(' ') ?? []) expect(all).toContain(`'--${name} `);
  });

  test('runs validate with the inputs that are set', () => {
    const { code, calls, outputs, summary } = run({ RECORDED_VERDICT: 'passed', PDROP_DATA: 'samples one\n\nmore.jsonl\n', PDROP_EP: 'cpu,webgpu', PDROP_MAX_KL: '0.05', PDROP_MAX_KL_P99: '', PDROP_REQUIRE_EP: '0.99', PDROP_BEAT_BASELINES: 'true', PDROP_KEEP_GOING: 'false', PDROP_ARGS: '--limit 20\n--no-memory' });
    expect(code).toBe(0);
    expect(calls).toEqual([['validate', 'a model.onnx', 'b.onnx', '--report', 'pdrop-report/report.json', '--html', 'pdrop-report/report.html', '--junit', 'pdrop-report/junit.xml', '--summary', 'pdrop-report/summary.md', '--ep', 'cpu,webgpu', '--max-kl', '0.05', '--require-ep', '0.99', '--data', 'samples one', '--data', 'more.jsonl', '--beat-baselines', '--limit', '20', '--no-memory']]);
    expect(outputs).toMatchObject({ verdict: 'passed', 'exit-code': '0' });
    expect(outputs.html).toMatch(/pdrop-report\/report\.html$/);
    expect(summary).toBe('### pdrop-compile: a summary\n');
  });

  test('compiles first when asked to', () => {
    const { calls } = run({ RECORDED_VERDICT: 'passed', PDROP_COMPILE: '--stages 4\n--lambda 0.5' });
    expect(calls[0]).toEqual(['compile', 'a model.onnx', '--output', 'b.onnx', '--force', '--stages', '4', '--lambda', '0.5']);
    expect(calls[1]?.[0]).toBe('validate');
  });

  test('removes no file of the repository from the folder of its reports', () => {
    mkdirSync(join(folder, 'mine'));
    writeFileSync(join(folder, 'mine', 'summary.md'), 'my summary');
    const { code, calls, log } = run({ RECORDED_VERDICT: 'passed', PDROP_REPORT_DIR: 'mine' });
    expect([code, calls]).toEqual([2, []]);
    expect(log).toContain('summary.md');
    expect(readFileSync(join(folder, 'mine', 'summary.md'), 'utf8')).toBe('my summary');
  });

  test('takes values as values', () => {
    const { calls, log } = run({ RECORDED_VERDICT: 'passed', PDROP_EP: '$(echo run me)', PDROP_DATA: '"; echo run me; "', PDROP_ARGS: '`echo` *' });
    expect(calls[0]).toEqual(expect.arrayContaining(['$(echo run me)', '"; echo run me; "', '`echo`', '*']));
    expect(log).not.toContain('run me');
  });

  test('fails with the exit code of validate, unless it is told to report only', () => {
    const failed = run({ RECORDED_VERDICT: 'failed', RECORDED_CODE: '1' });
    expect([failed.code, failed.outputs.verdict, failed.outputs['exit-code']]).toEqual([1, 'failed', '1']);
    expect(failed.log).toContain('::error title=pdrop-compile validate::failed (exit code 1)');
    expect(run({ RECORDED_VERDICT: 'failed', RECORDED_CODE: '1', PDROP_FAIL: 'false' }).code).toBe(0);
    // Nothing was decided: that is never a pass.
    const crashed = run({ RECORDED_CODE: '3', PDROP_FAIL: 'false' });
    expect([crashed.code, crashed.outputs.verdict]).toEqual([3, '']);
  });

  test('an annotation for each threshold missed, gate failed and sample unusable; what they say steers nothing', () => {
    const threshold = (option: string, met: boolean, actual: number | null): object => ({ name: 'mean KL\n::set-output name=a::b', option, provider: 'cpu', limit: 0.05, actual, met });
    const report = { thresholds: [threshold('--max-kl', false, 0.123456), threshold('--min-top1', true, 1), threshold('--min-accuracy', false, null)], providers: [{ provider: 'cpu', gates: [{ gate: 'choice', status: 'failed', detail: '100% wrong' }, { gate: 'order', status: 'passed', detail: '' }], faults: [{ id: 'a,b:c', code: 'PD510', message: 'no' }] }] };
    const { log } = run({ RECORDED_VERDICT: 'failed', RECORDED_CODE: '1', RECORDED_REPORT: JSON.stringify(report) });
    const annotations = log.split('\n').filter((l) => l.startsWith('::'));
    expect(annotations.slice(0, -1)).toEqual([
      '::error title=pdrop-compile%3A --max-kl missed::mean KL%0A::set-output name=a::b on cpu is 0.1235; at most 0.05 was asked for',
      '::error title=pdrop-compile%3A --min-accuracy missed::mean KL%0A::set-output name=a::b on cpu is not known; at least 0.05 was asked for',
      '::error title=pdrop-compile%3A gate choice failed on cpu::100%25 wrong',
      '::error title=pdrop-compile%3A sample a%2Cb%3Ac failed::PD510: no',
    ]);
    const many = run({ RECORDED_VERDICT: 'failed', RECORDED_CODE: '1', RECORDED_REPORT: JSON.stringify({ thresholds: Array(25).fill(threshold('--max-kl', false, 1)) }) });
    expect(many.log.match(/^::error title=pdrop-compile%3A --max-kl/gm)).toHaveLength(10);
    expect(run({ RECORDED_VERDICT: 'passed', RECORDED_REPORT: JSON.stringify({ thresholds: [threshold('--min-top1', true, 1)] }) }).log).not.toContain('::error');
  });

  test('skips the download of CUDA libraries, and keeps what was installed', () => {
    expect(action).toMatch(/ONNXRUNTIME_NODE_INSTALL: .*'skip'/);
    expect(action).toMatch(/uses: actions\/cache@v4[\s\S]*key: .*inputs\.package/);
    expect(action).toMatch(/if: steps\.cache\.outputs\.cache-hit != 'true'/);
  });

  test('stops when compiling fails', () => {
    const { code, calls } = run({ RECORDED_CODE: '3', PDROP_COMPILE: '--stages 4' });
    expect([code, calls.map((c) => c[0])]).toEqual([3, ['compile']]);
  });

  test('is documented with inputs it has', () => {
    const text = readFileSync(join(ROOT, 'docs', 'ci.md'), 'utf8');
    for (const [, block] of text.matchAll(/uses: OWNER\/pdrop-compile@[^\n]*\n(?: +[\w-]+: [^\n]*\n)*? +with:\n((?: {10,}[^\n]*\n)+)/g)) {
      for (const [, name] of (block ?? '').matchAll(/^ {10}([\w-]+):/gm)) expect(inputs).toContain(name);
    }
    for (const name of inputs) expect(text).toContain(`\`${name}\``);
  });
});
