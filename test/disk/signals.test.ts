/** What becomes of what a run has begun when a signal ends it: handlers that stay, and the process that tidies up where there are none. */
import { spawn } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { newTag, stateOf } from '../../src/disk/owner.js';
import { packageRoot } from '../../src/disk/own-files.js';
import { files, folder } from '../support/folder.js';

const DIST = new URL(`file://${join(packageRoot(), 'dist', 'src', 'disk')}/`);
const linux = process.platform === 'linux';

/** A run that does something to temporary files; its script has the functions of these modules. */
function runOf(text: string): string {
  const path = join(folder(), 'run.mjs');
  const from = (module: string): string => JSON.stringify(new URL(module, DIST).href);
  writeFileSync(path, `
    import { writeFileSync } from 'node:fs';
    import { begun, endOnSignals, finished, leaveSignalsToTheSystem } from ${from('temporaries.js')};
    import { OutputTransaction, writeText } from ${from('transaction.js')};
    const busy = (milliseconds) => { for (const until = performance.now() + milliseconds; performance.now() < until; ); };
    endOnSignals(true);
    ${text}
  `);
  return path;
}

type End = Promise<NodeJS.Signals | number | null>;

function start(command: string, ...args: string[]): { readonly end: End; kill(): void } {
  const child = spawn(command, args, { stdio: 'ignore' });
  return { end: new Promise((resolve) => child.on('exit', (code, signal) => resolve(signal ?? code))), kill: () => void child.kill('SIGKILL') };
}

const endOf = (...command: [string, ...string[]]): End => start(...command).end;

describe('a signal', () => {
  it('that has arrived and could not be handled yet is not lost when the last thing that was begun is finished', async () => {
    const path = join(folder(), 'file');
    const run = runOf(`
      begun(${JSON.stringify(path)});
      process.kill(process.pid, 'SIGTERM');
      busy(50);
      finished(${JSON.stringify(path)});
      setTimeout(() => {}, 3000);
    `);
    expect(await endOf(process.execPath, run)).toBe('SIGTERM');
  });

  it('ends at once what leaves signals to the system, busy or not, and nothing is left', async () => {
    const place = folder();
    const run = runOf(`
      leaveSignalsToTheSystem();
      begun(${JSON.stringify(join(place, 'file'))});
      writeFileSync(${JSON.stringify(join(place, 'file'))}, 'text');
      process.kill(process.pid, 'SIGTERM');
      busy(5000);
    `);
    const started = performance.now();
    expect(await endOf(process.execPath, run)).toBe('SIGTERM');
    expect(performance.now() - started).toBeLessThan(3000);
    await expect.poll(() => files(place), { timeout: 5000 }).toEqual([]);
  });
});

describe.runIf(linux)('where signals are the system’s, a run that is killed', () => {
  const replacing = (place: string, then: string, mark: string): string => runOf(`
    leaveSignalsToTheSystem();
    const transaction = new OutputTransaction(true);
    for (const name of ['a', 'b', 'c']) await writeText(transaction.writes(${JSON.stringify(place)} + '/' + name), 'new');
    ${then}
    writeFileSync(${JSON.stringify(mark)}, '');
    process.kill(process.pid, 'SIGKILL');
  `);
  const cases = [
    ['before anything is in place', '', ['old', 'old', undefined]],
    ['while files are being put in place, has them taken back', 'await transaction.place();', ['old', 'old', undefined]],
    ['once it is done, has nothing taken back', 'await transaction.place(); transaction.finish();', ['new', 'new', 'new']],
  ] as const;
  // The second time nobody asks how the run ended: the system still knows its number.
  describe.each([[[]], [['bash', '-c', '"$0" "$@" & exec sleep 60']]])('%j', (wrapped) => {
    it.each(cases)('%s', { timeout: 30_000 }, async (_, then, expected) => {
      const [place, mark] = [folder(), join(folder(), 'mark')];
      for (const name of ['a', 'b']) writeFileSync(join(place, name), 'old');
      const [command = '', ...args] = [...wrapped, process.execPath, replacing(place, then, mark)];
      const run = start(command, ...args);
      const texts = (): (string | undefined)[] => ['a', 'b', 'c'].map((n) => (existsSync(join(place, n)) ? readFileSync(join(place, n), 'utf8') : undefined));
      await expect.poll(() => existsSync(mark), { timeout: 10_000 }).toBe(true);
      await expect.poll(() => [texts(), files(place).length], { timeout: 5000 }).toEqual([expected, expected.filter((t) => t !== undefined).length]);
      if (wrapped.length > 0) run.kill();
      expect(await run.end).toBe('SIGKILL');
    });
  });
});

it.runIf(linux)('a process of which there is nothing but its exit code owns no files', async () => {
  const shell = spawn('bash', ['-c', 'sleep 0.2 & echo $!; exec sleep 4'], { stdio: ['ignore', 'pipe', 'ignore'] });
  const pid = Number(await new Promise((resolve) => shell.stdout.once('data', (d: Buffer) => resolve(d.toString()))));
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const [place] = newTag().split('-');
  const tag = `${place}-${pid}-${stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]}-000000000000`;
  expect(stateOf(tag)).toBe('running');
  await expect.poll(() => readFileSync(`/proc/${pid}/stat`, 'utf8')).toContain(') Z ');
  expect(stateOf(tag)).toBe('gone');
  shell.kill();
});
