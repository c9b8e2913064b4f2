/**
 * A process of its own that tidies up behind this one. While onnxruntime makes or runs a session nothing of ours can handle a
 * signal: it calls the library on this thread. So the system ends us at once, and what notices does what we would have done.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import { recover } from './journal.js';
import { declareGone, newTag } from './owner.js';
import { builtScript } from './own-files.js';
import { sweep } from './stale.js';

const MARKER = '--pdrop-cleaner';

type What = string | number;
/** What is done when we end: a file or folder is removed, a process ended, a folder left as the next run would leave it. */
type Line = readonly ['remove' | 'tidy' | 'end' | 'forget', What];

export class Cleaner {
  readonly #child: ChildProcess;

  constructor() {
    // Its own process group: Ctrl-C is for us, and tells it by our end.
    this.#child = spawn(process.execPath, [builtScript('src/disk/cleaner.ts'), MARKER, newTag()], { stdio: ['pipe', 'ignore', 'ignore'], detached: true, env: { ...process.env, NODE_OPTIONS: '', ELECTRON_RUN_AS_NODE: '1' } });
    this.#child.on('error', () => {});
    this.#child.stdin?.on('error', () => {});
    this.#child.unref();
    (this.#child.stdin as { unref?(): void } | null)?.unref?.();
  }

  /** Whether there is such a process. */
  get works(): boolean {
    return this.#child.pid !== undefined;
  }

  /** A file or folder that goes when we end, before it is made. */
  remove(path: string): void {
    this.#say(['remove', path]);
  }

  /** A folder in which files are being put in place of others: what belongs together is all new or all old. */
  tidy(folder: string): void {
    this.#say(['tidy', folder]);
  }

  /** A process that must not outlive us. */
  end(pid: number): void {
    this.#say(['end', pid]);
  }

  /** No longer to be removed or ended. */
  forget(what: What): void {
    this.#say(['forget', what]);
  }

  /** A pipe takes a line at once: it is in the system's hands when this returns, whatever becomes of us. */
  #say(line: Line): void {
    this.#child.stdin?.write(`${JSON.stringify(line)}\n`);
  }
}

/** Reads what there is until we end; then takes it away. */
async function work(tag: string): Promise<void> {
  const left = new Map<What, 'remove' | 'end'>();
  const folders = new Set<string>();
  let text = '';
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});
  for await (const data of process.stdin) {
    const lines = (text + String(data)).split('\n');
    text = lines.pop() ?? '';
    for (const line of lines) {
      const [verb, what] = JSON.parse(line) as Line;
      if (verb === 'tidy') folders.add(String(what));
      else if (verb === 'forget') left.delete(what);
      else left.set(what, verb);
    }
  }
  // Only we held the other end: nothing of ours runs any more, also where the system still has our number.
  declareGone(tag);
  // Processes first, for they may write; then what was being put in place, which is told by the temporary files.
  for (const [pid, verb] of left) if (verb === 'end') quietly(() => process.kill(Number(pid), 'SIGKILL'));
  for (const folder of folders) {
    quietly(() => recover(folder));
    quietly(() => sweep(folder));
  }
  for (const [path, verb] of left) if (verb === 'remove') quietly(() => rmSync(String(path), { recursive: true, force: true, maxRetries: 3 }));
}

/** What fails for one thing is no reason to leave the others. */
function quietly(step: () => void): void {
  try {
    step();
  } catch {
    // Gone by itself, or a folder that was taken away from us.
  }
}

const marker = process.argv.indexOf(MARKER);
if (marker > 0) await work(process.argv[marker + 1] as string);
