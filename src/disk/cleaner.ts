/**
 * A process of its own that tidies up behind this one. While onnxruntime makes or runs a session nothing of ours can handle a
 * signal: it calls the library on this thread. So the system ends us at once, and what notices removes our temporary files.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import { builtScript } from './own-files.js';

const MARKER = '--pdrop-cleaner';

export class Cleaner {
  readonly #child: ChildProcess;

  constructor() {
    // Its own process group: Ctrl-C is for us, and tells it by our end.
    this.#child = spawn(process.execPath, [builtScript('src/disk/cleaner.ts'), MARKER], { stdio: ['pipe', 'ignore', 'ignore'], detached: true, env: { ...process.env, NODE_OPTIONS: '', ELECTRON_RUN_AS_NODE: '1' } });
    // Where no process can be had, the next run sweeps.
    this.#child.on('error', () => {});
    this.#child.stdin?.on('error', () => {});
    this.#child.unref();
    (this.#child.stdin as { unref?(): void } | null)?.unref?.();
  }

  /** From now on to be removed (a path), or to be ended (a process), when we end. */
  add(what: string | number): void {
    this.#child.stdin?.write(`${JSON.stringify(['add', what])}\n`);
  }

  /** No longer ours. */
  forget(what: string | number): void {
    this.#child.stdin?.write(`${JSON.stringify(['forget', what])}\n`);
  }
}

/** Reads what there is until we end; then takes it away, processes first: they may write into the folders. */
async function work(): Promise<void> {
  const left = new Set<string | number>();
  let text = '';
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});
  for await (const data of process.stdin) {
    const lines = (text + String(data)).split('\n');
    text = lines.pop() ?? '';
    for (const line of lines) {
      const [verb, what] = JSON.parse(line) as ['add' | 'forget', string | number];
      if (verb === 'add') left.add(what);
      else left.delete(what);
    }
  }
  for (const what of left) {
    try {
      if (typeof what === 'number') process.kill(what, 'SIGKILL');
    } catch {
      // Gone by itself.
    }
  }
  for (const what of left) if (typeof what === 'string') rmSync(what, { recursive: true, force: true, maxRetries: 3 });
}

if (process.argv.includes(MARKER)) await work();
