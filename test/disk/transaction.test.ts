/** All in place, or all as before: failures, races, links, devices, and runs that are killed. */
import { spawn, spawnSync } from 'node:child_process';
import { chmodSync, existsSync, lstatSync, mkdirSync, openSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync, symlinkSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { CopyUnderWay } from '../../src/disk/copier.js';
import { FileSource } from '../../src/disk/files.js';
import { newTag } from '../../src/disk/owner.js';
import { sweep, temporaryName } from '../../src/disk/stale.js';
import { OutputTransaction, writeText } from '../../src/disk/transaction.js';
import { check, compile } from '../../src/index.js';
import { packageRoot } from '../../src/disk/own-files.js';
import { cli, cliJson } from '../support/cli.js';
import { externalize } from '../support/external.js';
import { files, folder, modelFile } from '../support/folder.js';
import { fixturePath } from '../support/proto.js';

const SMALL = 'genai-llama-embeds-fp32';
const CLI = join(packageRoot(), 'bin', 'pdrop-compile.js');
const DIST = new URL(`file://${join(packageRoot(), 'dist', 'src')}/`);

interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly err: string;
  readonly milliseconds: number;
}

/** Runs a program, does something to it when it has started, and waits for its end. */
function running(command: readonly string[], meanwhile: (kill: (signal: NodeJS.Signals) => void) => void = () => {}): Promise<Ended> {
  return new Promise((resolve) => {
    const started = performance.now();
    const child = spawn(command[0] as string, command.slice(1), { stdio: ['ignore', 'ignore', 'pipe'] });
    let err = '';
    child.stderr.on('data', (d: Buffer) => {
      err += d.toString();
    });
    child.on('close', (code, signal) => resolve({ code, signal, err, milliseconds: performance.now() - started }));
    meanwhile((signal) => void child.kill(signal));
  });
}

function script(path: string, text: string): string[] {
  writeFileSync(path, text);
  return [process.execPath, path];
}

describe('a failure', () => {
  it('with --force leaves the old model and the old data: the disk is full', { timeout: 60_000 }, async () => {
    const path = externalize(SMALL, 'weights.bin');
    const target = folder();
    const [out, data] = [join(target, 'out.onnx'), join(target, 'weights.bin')];
    const limit = Math.floor(statSync(join(dirname(path), 'weights.bin')).size / 2048);
    writeFileSync(out, 'old model');
    writeFileSync(data, 'old data');
    for (const kib of [limit, 20]) {
      const full = `ulimit -f ${kib}; exec "$0" "$@"`;
      const run = spawnSync('bash', ['-c', full, process.execPath, CLI, path, '-o', out, '--external-data', 'copy', '--force'], { encoding: 'utf8' });
      expect([run.status, run.stderr]).toEqual([2, expect.stringMatching(/^error PD003: writing .* failed: EFBIG/)]);
      expect(files(target)).toEqual(['out.onnx', 'weights.bin']);
      expect([readFileSync(out, 'utf8'), readFileSync(data, 'utf8')]).toEqual(['old model', 'old data']);
    }
  });

  it('to write the journal leaves nothing of it: the disk is full (a find of the fuzzer)', { timeout: 60_000 }, () => {
    const place = folder();
    const write = `import(${JSON.stringify(new URL('disk/journal.js', DIST).href)}).then((m) => m.openJournal(${JSON.stringify(join(place, 'a'))}, 'tag', ['a', 'b'], false)).catch((e) => console.log(e.code))`;
    const run = (limit: string): string => spawnSync('bash', ['-c', `${limit}exec "$0" "$@"`, process.execPath, '-e', write], { encoding: 'utf8' }).stdout.trim();
    expect([run('ulimit -f 0; '), files(place)]).toEqual(['EFBIG', []]);
    // Without the limit the journal is there: it was the limit that was in the way.
    expect([run(''), files(place)]).toEqual(['', ['.a.placing-pdrop']]);
  });

  it('after some files are in place takes them back', async () => {
    const place = folder();
    const path = (name: string): string => join(place, name);
    writeFileSync(path('a'), 'old a');
    writeFileSync(path('b'), 'old b');
    const transaction = new OutputTransaction(true);
    for (const name of ['a', 'b', 'c', 'new/d']) await writeText(transaction.writes(path(name), name !== 'c'), `new ${name}`);
    // Somebody makes what was not there.
    writeFileSync(path('c'), 'not ours');
    await expect(transaction.place()).rejects.toMatchObject({ code: 'PD004' });
    expect(files(place)).toEqual(['a', 'b', 'c']);
    expect(existsSync(path('new'))).toBe(false);
    expect(['a', 'b', 'c'].map((n) => readFileSync(path(n), 'utf8'))).toEqual(['old a', 'old b', 'not ours']);
  });

  it('of a second step takes back the first: a report that does not get its place', async () => {
    const place = folder();
    writeFileSync(join(place, 'a'), 'old a');
    const transaction = new OutputTransaction(true);
    await writeText(transaction.writes(join(place, 'a')), 'new a');
    const report = transaction.writes(join(place, 'r'), false);
    await transaction.place();
    expect(readFileSync(join(place, 'a'), 'utf8')).toBe('new a');
    await writeText(report, 'new r');
    writeFileSync(join(place, 'r'), 'not ours');
    await expect(transaction.place()).rejects.toMatchObject({ code: 'PD004' });
    expect(readFileSync(join(place, 'a'), 'utf8')).toBe('old a');
    expect(files(place)).toEqual(['a', 'r']);
  });
});

describe('what people expect of', () => {
  it('a link with --force: its target is replaced, the link stays, and it is said', async () => {
    const place = folder();
    mkdirSync(join(place, 'real'));
    const real = join(place, 'real', 'model.onnx');
    writeFileSync(real, 'old', { mode: 0o600 });
    symlinkSync('real/model.onnx', join(place, 'link.onnx'));
    const out = join(place, 'link.onnx');
    expect((await cliJson(fixturePath(SMALL), '-o', out)).json.error).toMatchObject({ code: 'PD004' });
    const { code, err } = await cli(fixturePath(SMALL), '-o', out, '--force');
    expect([code, err]).toEqual([0, expect.stringContaining(`${out} is a link`)]);
    expect(readlinkSync(out)).toBe('real/model.onnx');
    expect((await check(real)).ok).toBe(true);
    expect(files(place)).toEqual(['link.onnx', 'real/model.onnx']);
    // Who could not read the old one cannot read the new one.
    expect(statSync(real).mode & 0o777).toBe(0o600);
  });

  it('a link to nothing, a folder, a socket: refused', async () => {
    const place = folder();
    symlinkSync('nowhere', join(place, 'dangling'));
    for (const force of [[], ['--force']]) {
      expect((await cliJson(fixturePath(SMALL), '-o', join(place, 'dangling'), ...force)).json.error).toMatchObject({ code: 'PD025' });
      expect((await cliJson(fixturePath(SMALL), '-o', place, ...force)).json.error).toMatchObject({ code: 'PD003' });
    }
    expect(readlinkSync(join(place, 'dangling'))).toBe('nowhere');
  });

  it('/dev/null: written into, still a device, and it is said', async () => {
    const { code, err } = await cli(fixturePath(SMALL), '-o', '/dev/null', '--force');
    expect([code, err]).toEqual([0, expect.stringContaining('/dev/null is a device or a pipe')]);
    expect(lstatSync('/dev/null').isCharacterDevice()).toBe(true);
    const external = externalize(SMALL, 'weights.bin');
    expect((await cli(external, '-o', '/dev/null', '--quiet')).code).toBe(0);
    expect(existsSync('/dev/weights.bin')).toBe(false);
  });

  it('a pipe: the model goes through it; with nobody reading, a signal ends the wait', { timeout: 60_000 }, async () => {
    const place = folder();
    const pipe = join(place, 'pipe');
    spawnSync('mkfifo', [pipe]);
    const reader = spawn('cat', [pipe], { stdio: ['ignore', openSync(join(place, 'got'), 'w'), 'ignore'] });
    const closed = new Promise((resolve) => reader.on('close', resolve));
    expect((await running([process.execPath, CLI, fixturePath(SMALL), '-o', pipe, '--quiet'])).code).toBe(0);
    await closed;
    await compile(fixturePath(SMALL), { output: join(place, 'file') });
    expect(readFileSync(join(place, 'got')).equals(readFileSync(join(place, 'file')))).toBe(true);
    expect(lstatSync(pipe).isFIFO()).toBe(true);
    const ended = await running([process.execPath, CLI, fixturePath(SMALL), '-o', pipe, '--quiet'], (kill) => setTimeout(() => kill('SIGTERM'), 8000));
    expect(ended.signal).toBe('SIGTERM');
    expect(files(place)).toEqual(['file', 'got', 'pipe']);
    // Nor may a pipe without a writer hold up the reading of a model.
    expect((await cliJson(pipe, '-o', join(place, 'out'))).json.error).toMatchObject({ code: 'PD002' });
  });
});

describe('two runs for one output', () => {
  it('without --force: one wins, the other is told, and nothing is left over', { timeout: 60_000 }, async () => {
    for (let round = 0; round < 3; round++) {
      const place = folder();
      const out = join(place, 'out.onnx');
      const runs = await Promise.all([2, 3].map((stages) => running([process.execPath, CLI, fixturePath(SMALL), '--stages', String(stages), '-o', out, '--report', join(place, 'report.json'), '--quiet'])));
      expect(runs.map((r) => r.code).sort()).toEqual([0, 2]);
      expect(runs.find((r) => r.code === 2)?.err).toMatch(/^error PD004/);
      expect(files(place)).toEqual(['out.onnx', 'report.json']);
      const winner = runs[0]?.code === 0 ? 1 : 2;
      expect((await check(out)).plan.layers.length).toBe(winner);
      expect(JSON.parse(readFileSync(join(place, 'report.json'), 'utf8')).plan.layers.length).toBe(winner);
    }
  });

  it('with --force: one after the other, and model and data are of one run', async () => {
    const place = folder();
    const write = async (name: string): Promise<void> => {
      const transaction = new OutputTransaction(true);
      for (const file of ['a', 'b', 'c']) await writeText(transaction.writes(join(place, file)), name);
      await transaction.place();
      transaction.finish();
    };
    for (let round = 0; round < 20; round++) {
      await Promise.all(['first', 'second', 'third'].map((n) => write(`${n} ${round}`)));
      expect(new Set(['a', 'b', 'c'].map((f) => readFileSync(join(place, f), 'utf8'))).size).toBe(1);
      expect(files(place)).toEqual(['a', 'b', 'c']);
    }
  });
});

describe('a killed run', () => {
  const dead = (): string => {
    const { stdout } = spawnSync(process.execPath, ['-e', `import(${JSON.stringify(new URL('disk/owner.js', DIST).href)}).then((m) => console.log(m.newTag()))`], { encoding: 'utf8' });
    return stdout.trim();
  };

  it('is tidied up after by the next one; files of running ones and of other machines stay', () => {
    const place = folder();
    const left = temporaryName(join(place, 'out.onnx'), 'tmp', dead());
    const own = temporaryName(join(place, 'out.onnx'), 'tmp', newTag());
    const [where, , start] = newTag().split('-');
    // The same process number, used again: another start.
    const reused = temporaryName(join(place, 'out.onnx'), 'tmp', `${where}-${process.pid}-${Number(start) - 1000}-0123456789ab`);
    const foreign = temporaryName(join(place, 'out.onnx'), 'tmp', 'ffffffffffff-1-55-0123456789ab');
    const users = join(place, '.out.onnx.tmp-pdrop-notes');
    for (const path of [left, own, reused, foreign, users]) writeFileSync(path, 'x');
    // An old time of writing means nothing: a copied file can have it.
    utimesSync(foreign, 1, 1);
    sweep(place);
    expect(readdirSync(place).sort()).toEqual([own, foreign, users].map((p) => p.slice(place.length + 1)).sort());
  });

  it('in the middle of placing is taken back by the next one: model and data are as before, both of them', { timeout: 60_000 }, async () => {
    for (const killed of ['placed', 'half']) {
      const place = folder();
      for (const name of ['model', 'data']) writeFileSync(join(place, name), `old ${name}`);
      const text = `
        import { OutputTransaction, writeText } from ${JSON.stringify(new URL('disk/transaction.js', DIST).href)};
        import fs from 'node:fs';
        import { syncBuiltinESMExports } from 'node:module';
        const transaction = new OutputTransaction(true);
        for (const name of ['model', 'data', 'new']) await writeText(transaction.writes(${JSON.stringify(place)} + '/' + name), 'new ' + name);
        if (${JSON.stringify(killed)} === 'half') {
          const { renameSync } = fs;
          let n = 0;
          fs.renameSync = (...args) => { if (++n === 2) process.kill(process.pid, 'SIGKILL'); renameSync(...args); };
          syncBuiltinESMExports();
        }
        await transaction.place();
        process.kill(process.pid, 'SIGKILL');
      `;
      const run = await running(script(join(folder(), 'run.mjs'), text));
      expect(run.signal, run.err).toBe('SIGKILL');
      expect(readFileSync(join(place, 'data'), 'utf8')).toBe('new data');
      new OutputTransaction(false).writes(join(place, 'another'));
      expect(files(place)).toEqual(['data', 'model']);
      expect(['model', 'data'].map((n) => readFileSync(join(place, n), 'utf8'))).toEqual(['old model', 'old data']);
    }
  });

  it('at any moment: the output is absent, the old one or the new one, whole; the next run leaves nothing else', { timeout: 120_000 }, async () => {
    const path = externalize(SMALL, 'weights.bin');
    const target = folder();
    const out = join(target, 'out.onnx');
    const run = `
      import { compile } from ${JSON.stringify(new URL('index.js', DIST).href)};
      await compile(${JSON.stringify(path)}, { output: ${JSON.stringify(out)}, externalData: 'copy', force: true, copyFirstBytes: Number(process.argv[2]), report: ${JSON.stringify(join(target, 'report.json'))} });
    `;
    const command = script(join(folder(), 'run.mjs'), run);
    const whole = await running([...command, '0']);
    expect(whole.code, whole.err).toBe(0);
    const wanted = ['out.onnx', 'weights.bin'].map((f) => readFileSync(join(target, f)));
    let killed = 0;
    // A run that was over before its moment says how long runs take now: on a busy machine that varies.
    let span = whole.milliseconds;
    for (let i = 0; killed < 4 && i < 40; i++) {
      const at = (span * ((i % 8) + 3)) / 11;
      const { signal, milliseconds } = await running([...command, i % 2 === 0 ? '0' : '1e12'], (kill) => setTimeout(() => kill('SIGKILL'), at));
      if (signal === 'SIGKILL') killed++;
      else span = Math.min(span, milliseconds);
      expect(readFileSync(join(target, 'out.onnx')).length).toBeGreaterThan(0);
      for (const [k, f] of ['weights.bin'].entries()) expect(readFileSync(join(target, f)).equals(wanted[k + 1] as Buffer)).toBe(true);
      expect((await check(out)).ok).toBe(true);
    }
    expect(killed).toBe(4);
    expect((await running([...command, '0'])).code).toBe(0);
    // The copying process of the run that was killed last takes its file away itself.
    await expect.poll(() => files(target), { timeout: 5000 }).toEqual(['out.onnx', 'report.json', 'weights.bin']);
  });
});

describe('a signal', () => {
  it('ends the analysis within a second', { timeout: 60_000 }, async () => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
      let sent = 0;
      const endless = `
        import { OutputTransaction } from ${JSON.stringify(new URL('disk/transaction.js', DIST).href)};
        import { endOnSignals } from ${JSON.stringify(new URL('disk/temporaries.js', DIST).href)};
        endOnSignals(true);
        new OutputTransaction(false).writes(${JSON.stringify(join(folder(), 'out.onnx'))});
        process.stderr.write('busy');
        for (;;);
      `;
      const ended = await new Promise<{ signal: NodeJS.Signals | null; after: number }>((resolve) => {
        const child = spawn(process.execPath, script(join(folder(), 'run.mjs'), endless).slice(1), { stdio: ['ignore', 'ignore', 'pipe'] });
        child.stderr.once('data', () => {
          sent = performance.now();
          child.kill(signal);
        });
        child.on('close', (_, by) => resolve({ signal: by, after: performance.now() - sent }));
      });
      expect(ended.signal).toBe(signal);
      expect(ended.after).toBeLessThan(1000);
    }
  });
});

it('a signal ends a compile at any moment, within a second, and nothing is left', { timeout: 60_000 }, async () => {
  const path = modelFile(readFileSync(fixturePath('llama-ts17-sdpa')));
  const target = folder();
  const out = join(target, 'out.onnx');
  let ended = 0;
  for (const [i, signal] of (['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGTERM'] as const).entries()) {
    let sent = 0;
    const run = await running([process.execPath, CLI, path, '-o', out, '--quiet'], (kill) => setTimeout(() => {
      sent = performance.now();
      kill(signal);
    }, 150 * (i + 1)));
    if (run.signal === null) expect(run.code).toBe(0);
    else {
      ended++;
      expect(run.signal).toBe(signal);
      expect(performance.now() - sent).toBeLessThan(1000);
      expect(files(target)).toEqual([]);
    }
    rmSync(out, { force: true });
  }
  expect(ended).toBeGreaterThan(0);
});

describe('a source that changes', () => {
  it('becomes shorter while it is copied: an error, not a hang, and nothing is left', async () => {
    const path = modelFile(Buffer.alloc(8 * 2 ** 20, 1));
    const source = new FileSource(path);
    const temporary = join(dirname(path), 'copy');
    truncateSync(path, 2 ** 20);
    const copy = new CopyUnderWay(source, temporary, 'out.onnx');
    await expect(copy.finish({ head: new Uint8Array(1), patches: [], tailOffset: 2, tail: new Uint8Array(1) }, () => {})).rejects.toMatchObject({ code: 'PD021' });
    await copy.abort();
    source.close();
    expect(files(dirname(path))).toEqual(['model.onnx']);
  });

  it('is written to, or its data is replaced, while it is compiled: refused', async () => {
    for (const victim of ['model.onnx', 'weights.bin']) {
      const path = externalize(SMALL, 'weights.bin');
      const target = folder();
      let touched = false;
      const touch = (): void => {
        if (touched) return;
        touched = true;
        const file = join(dirname(path), victim);
        if (victim === 'model.onnx') utimesSync(file, new Date(), new Date(5));
        else {
          const bytes = readFileSync(file);
          chmodSync(file, 0o644);
          writeFileSync(file, bytes.reverse());
        }
      };
      await expect(compile(path, { output: join(target, 'out.onnx'), externalData: 'copy', progress: touch })).rejects.toMatchObject({ code: 'PD021' });
      expect(files(target)).toEqual([]);
    }
  });
});

it('a copy under way that nobody wants any more takes its file away', async () => {
  const path = modelFile(Buffer.alloc(64 * 2 ** 20, 1));
  const text = `
    import { CopyUnderWay } from ${JSON.stringify(new URL('disk/copier.js', DIST).href)};
    import { FileSource } from ${JSON.stringify(new URL('disk/files.js', DIST).href)};
    new CopyUnderWay(new FileSource(${JSON.stringify(path)}), ${JSON.stringify(join(dirname(path), 'copy'))}, 'out.onnx');
    setTimeout(() => process.kill(process.pid, 'SIGKILL'), 1500);
  `;
  expect((await running(script(join(folder(), 'run.mjs'), text))).signal).toBe('SIGKILL');
  await expect.poll(() => files(dirname(path)), { timeout: 10_000 }).toEqual(['model.onnx']);
});
