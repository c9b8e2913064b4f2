/**
 * The file-backed ByteSource and ByteSink, and everything else the command line does with the file system:
 * atomic output, external data. The core imports nothing of Node; this file is where it meets the disk.
 */
import { closeSync, constants, existsSync, ftruncateSync, openSync, readSync, renameSync, rmSync, statSync, writeSync } from 'node:fs';
import { copyFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { UsageError } from '../diagnostics.js';
import type { ByteSink, ByteSource } from '../onnx/bytes.js';

/** A file, read by position. Keep it open until the model read from it has been written. */
export class FileSource implements ByteSource {
  readonly size: number;
  readonly path: string;
  readonly fd: number;

  constructor(path: string) {
    this.path = path;
    try {
      const stat = statSync(path);
      if (!stat.isFile()) throw new UsageError({ code: 'PD002', message: `${path} is not a file`, culprit: path, hint: 'give the path of the .onnx file' });
      this.size = stat.size;
      this.fd = openSync(path, 'r');
    } catch (error) {
      if (error instanceof UsageError) throw error;
      throw new UsageError(
        { code: 'PD002', message: `cannot read ${path}: ${(error as Error).message}`, culprit: path, hint: 'check the path and its permissions' },
        { cause: error },
      );
    }
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(length);
    this.readInto(bytes, offset, length);
    return bytes;
  }

  readInto(bytes: Uint8Array, offset: number, length: number): void {
    for (let done = 0; done < length; ) {
      const n = readSync(this.fd, bytes, done, length - done, offset + done);
      if (n === 0) throw new RangeError(`${this.path} ended at byte ${offset + done}`);
      done += n;
    }
  }

  close(): void {
    closeSync(this.fd);
  }
}

/** Fits a core's own cache: with megabytes, every byte goes through memory twice more and copying takes twice the time. */
const COPY_BUFFER_BYTES = 256 * 1024;

/** How much is copied before signals get a chance to be handled. */
const BREATH_BYTES = 64 * 1024 * 1024;

/** Temporary files that exist at this moment. */
const unfinished = new Set<string>();

/** Removes the temporary files of writes that are under way: for handlers of signals that end the process. */
export function removeUnfinished(): void {
  for (const path of unfinished) rmSync(path, { recursive: true, force: true });
  unfinished.clear();
}

/** Notes a folder that is being made, so that it is removed when the process is ended. */
export function noteUnfinished(path: string): void {
  unfinished.add(path);
}

export function forgetUnfinished(path: string): void {
  unfinished.delete(path);
}

/**
 * A copy of a whole file that the system makes while the process goes on working; then its ends are replaced and it is
 * renamed into place. For models with gigabytes of embedded weights.
 */
export class CopyUnderWay {
  readonly #target: string;
  readonly #temporary: string;
  readonly #done: Promise<Error | undefined>;

  constructor(source: string, target: string) {
    this.#target = target;
    this.#temporary = join(dirname(target), `.${basename(target)}.tmp-pdrop-${process.pid}-copy`);
    unfinished.add(this.#temporary);
    this.#done = copyFile(source, this.#temporary, constants.COPYFILE_EXCL).then(
      () => undefined,
      (error: Error) => error,
    );
  }

  /** Replaces the first bytes by `head`, everything from `tailOffset` on by `tail`, and puts the file in place. */
  async finish(head: Uint8Array, tailOffset: number, tail: Uint8Array, progress?: (done: number) => void): Promise<void> {
    const watch = setInterval(() => progress?.(statSync(this.#temporary, { throwIfNoEntry: false })?.size ?? 0), 200);
    const failed = await this.#done.finally(() => clearInterval(watch));
    try {
      if (failed) throw failed;
      const fd = openSync(this.#temporary, 'r+');
      try {
        for (let done = 0; done < head.length; ) done += writeSync(fd, head, done, head.length - done, done);
        for (let done = 0; done < tail.length; ) done += writeSync(fd, tail, done, tail.length - done, tailOffset + done);
        ftruncateSync(fd, tailOffset + tail.length);
      } finally {
        closeSync(fd);
      }
      renameSync(this.#temporary, this.#target);
      unfinished.delete(this.#temporary);
    } catch (error) {
      throw new UsageError(
        { code: 'PD003', message: `writing ${this.#target} failed: ${(error as Error).message}`, culprit: this.#target, hint: 'free some space or choose another folder with -o; nothing was left behind' },
        { cause: error },
      );
    }
  }

  /** Waits for the copy to end and removes it. */
  async abort(): Promise<void> {
    await this.#done;
    rmSync(this.#temporary, { force: true });
    unfinished.delete(this.#temporary);
  }
}

/** Writes to a temporary file beside the target; `commit` renames it into place, `abort` removes it. */
export class AtomicFileSink implements ByteSink {
  readonly target: string;
  readonly temporary: string;
  readonly #fd: number;
  #buffer: Uint8Array | undefined;
  #open = true;

  constructor(target: string) {
    this.target = target;
    this.temporary = join(dirname(target), `.${basename(target)}.tmp-pdrop-${process.pid}`);
    try {
      this.#fd = openSync(this.temporary, 'wx');
      unfinished.add(this.temporary);
    } catch (error) {
      throw new UsageError(
        { code: 'PD003', message: `cannot write beside ${target}: ${(error as Error).message}`, culprit: target, hint: 'check that the folder exists and is writable' },
        { cause: error },
      );
    }
  }

  async write(chunk: Uint8Array): Promise<void> {
    this.#writeAll(chunk);
  }

  async copy(source: ByteSource, offset: number, length: number): Promise<void> {
    this.#buffer ??= new Uint8Array(Math.min(COPY_BUFFER_BYTES, Math.max(length, 64 * 1024)));
    if (this.#buffer.length < Math.min(COPY_BUFFER_BYTES, length)) this.#buffer = new Uint8Array(COPY_BUFFER_BYTES);
    for (let done = 0, breath = BREATH_BYTES; done < length; ) {
      if (done >= breath) {
        await new Promise((resolve) => setImmediate(resolve));
        breath += BREATH_BYTES;
      }
      const n = Math.min(this.#buffer.length, length - done);
      const chunk = this.#buffer.subarray(0, n);
      if (source instanceof FileSource) source.readInto(chunk, offset + done, n);
      else chunk.set(await source.read(offset + done, n));
      this.#writeAll(chunk);
      done += n;
    }
  }

  #writeAll(chunk: Uint8Array): void {
    try {
      for (let done = 0; done < chunk.length; ) done += writeSync(this.#fd, chunk, done, chunk.length - done);
    } catch (error) {
      throw new UsageError(
        { code: 'PD003', message: `writing ${this.target} failed: ${(error as Error).message}`, culprit: this.target, hint: 'free some space or choose another folder with -o; nothing was left behind' },
        { cause: error },
      );
    }
  }

  /** No fsync: like cp, it leaves to the system when gigabytes reach the disk. Nobody ever sees half a file under this name. */
  commit(): void {
    closeSync(this.#fd);
    this.#open = false;
    try {
      renameSync(this.temporary, this.target);
    } catch (error) {
      throw new UsageError(
        { code: 'PD003', message: `cannot put ${this.target} in place: ${(error as Error).message}`, culprit: this.target, hint: 'choose another path with -o; nothing was left behind' },
        { cause: error },
      );
    }
    unfinished.delete(this.temporary);
  }

  abort(): void {
    if (this.#open) closeSync(this.#fd);
    this.#open = false;
    rmSync(this.temporary, { force: true });
    unfinished.delete(this.temporary);
  }
}

/** The same file under two names: through a link, or by two hard links. */
function sameFile(a: string, b: string): boolean {
  const [x, y] = [a, b].map((path) => {
    try {
      return statSync(path);
    } catch {
      return undefined;
    }
  });
  return x !== undefined && y !== undefined && x.ino === y.ino && x.dev === y.dev;
}

/** @throws {UsageError} PD004, PD005 when writing `output` would replace what is there. */
export function refuseOverwrite(input: string, output: string, force: boolean): void {
  if (resolve(input) === resolve(output) || sameFile(input, output)) {
    throw new UsageError({ code: 'PD005', message: 'the output would replace the input', culprit: output, hint: 'choose another path with -o' });
  }
  if (!force && existsSync(output)) {
    throw new UsageError({ code: 'PD004', message: `${output} exists`, culprit: output, hint: 'use --force to replace it, or choose another path with -o' });
  }
}
