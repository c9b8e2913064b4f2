/**
 * A copy of a whole file that is made while this process goes on working; then its ends are replaced and it is put in
 * place. For models with gigabytes of embedded weights.
 *
 * A process of its own makes it, because this one is busy with the graph and cannot even handle a signal meanwhile: it is
 * ended by one at once, and the copying process, which notices, takes the unfinished file away.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, ftruncateSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import type { InPlaceLayout } from '../onnx/in-place.js';
import { changed, COPY_BUFFER_BYTES, failed, type FileSource } from './files.js';
import { builtScript } from './own-files.js';

const MARKER = '--pdrop-copier';
const SOURCE_FD = 3;
/** How much is copied before the process looks whether it is still wanted. */
const BREATH_BYTES = 4 * 1024 * 1024;

interface Outcome {
  readonly done: boolean;
  readonly problem: string | undefined;
}

export class CopyUnderWay {
  readonly temporary: string;
  readonly #source: FileSource;
  readonly #shown: string;
  readonly #child: ChildProcess;
  readonly #outcome: Promise<Outcome>;
  readonly #ended: Promise<void>;
  #copied = 0;

  /** @param shown what messages call it: the file that it is going to be */
  constructor(source: FileSource, temporary: string, shown: string) {
    this.temporary = temporary;
    this.#source = source;
    this.#shown = shown;
    // Its own process group: Ctrl-C is for us, and tells it by our end.
    this.#child = spawn(process.execPath, [builtScript('src/disk/copier.ts'), MARKER, temporary, String(source.size)], {
      stdio: ['pipe', 'pipe', 'ignore', source.fd],
      detached: true,
      env: { ...process.env, NODE_OPTIONS: '', ELECTRON_RUN_AS_NODE: '1' },
    });
    this.#child.stdin?.on('error', () => {});
    this.#ended = new Promise((resolve) => {
      this.#child.on('error', () => resolve()).on('close', () => resolve());
    });
    this.#outcome = new Promise((resolve) => {
      let text = '';
      this.#child.stdout?.on('data', (data: Buffer) => {
        const lines = (text + data.toString()).split('\n');
        text = lines.pop() ?? '';
        for (const line of lines) {
          if (line.startsWith('at ')) this.#copied = Number(line.slice(3));
          else resolve({ done: line === 'done', problem: line });
        }
      });
      void this.#ended.then(() => resolve({ done: false, problem: undefined }));
    });
  }

  /**
   * Waits for the copy, replaces the first bytes by `head`, some further ones by `patches`, and everything from `tailOffset` on by `tail`.
   *
   * @returns false when no process could be had for it: then nothing is there, and the file has to be streamed
   * @throws {UsageError} PD003 the disk is full, PD021 the source has become shorter
   */
  async finish({ head, patches, tailOffset, tail }: Omit<InPlaceLayout, 'byteLength'>, take: () => void, progress?: (done: number) => void): Promise<boolean> {
    const watch = setInterval(() => progress?.(this.#copied), 200);
    const { done, problem } = await this.#outcome.finally(() => clearInterval(watch));
    if (problem?.startsWith('short ')) throw changed(this.#source.path, `it ends at byte ${problem.slice(6)} now, and had ${this.#source.size}`);
    if (!done && problem === undefined) return false;
    if (!done) throw failed(this.#shown, new Error(problem));
    // From here on it is ours to remove.
    take();
    this.#child.stdin?.end('keep\n');
    await this.#ended;
    try {
      const fd = openSync(this.temporary, 'r+');
      try {
        for (const { offset, bytes } of [{ offset: 0, bytes: head }, ...patches, { offset: tailOffset, bytes: tail }]) {
          for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at, bytes.length - at, offset + at);
        }
        ftruncateSync(fd, tailOffset + tail.length);
      } finally {
        closeSync(fd);
      }
    } catch (error) {
      throw failed(this.#shown, error);
    }
    return true;
  }

  /** Ends the copying and waits until its file is gone. */
  async abort(): Promise<void> {
    this.#child.stdin?.end();
    await this.#ended;
  }
}

/** The copying process: copies file descriptor 3, says so, and removes the copy unless it is told to keep it. */
async function work(temporary: string, size: number): Promise<void> {
  let keep = false;
  let unwanted = false;
  const left = new Promise<void>((resolve) => {
    process.stdin.on('data', (data: Buffer) => {
      keep ||= data.toString().includes('keep');
    });
    process.stdin.on('end', () => {
      unwanted = true;
      resolve();
    });
  });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGXFSZ'] as const) process.on(signal, () => {});
  process.stdout.on('error', () => {});
  const say = (line: string): void => void process.stdout.write(`${line}\n`);
  let fd: number | undefined;
  try {
    fd = openSync(temporary, 'wx');
    const buffer = new Uint8Array(COPY_BUFFER_BYTES);
    for (let at = 0, breath = BREATH_BYTES; at < size && !unwanted; ) {
      const n = readSync(SOURCE_FD, buffer, 0, Math.min(buffer.length, size - at), at);
      if (n === 0) {
        say(`short ${at}`);
        break;
      }
      for (let done = 0; done < n; ) done += writeSync(fd, buffer, done, n - done, at + done);
      at += n;
      if (at === size) say('done');
      else if (at >= breath) {
        say(`at ${at}`);
        breath += BREATH_BYTES;
        await new Promise((resolve) => setImmediate(resolve));
      }
    }
  } catch (error) {
    say((error as Error).message);
  }
  await left;
  if (fd !== undefined) closeSync(fd);
  if (fd !== undefined && !keep) rmSync(temporary, { force: true });
}

const marker = process.argv.indexOf(MARKER);
if (marker > 0) await work(process.argv[marker + 1] as string, Number(process.argv[marker + 2]));
