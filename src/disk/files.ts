/** The file-backed ByteSource and ByteSink. The core imports nothing of Node; here it meets the disk. */
import { closeSync, constants, fstatSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { UsageError } from '../diagnostics.js';
import type { ByteSink, ByteSource, ExternalPlace } from '../onnx/bytes.js';
import { externalFile, requireProper, truncated } from './external-location.js';

/** A file, read by position. Keep it open until the model read from it has been written. */
export class FileSource implements ByteSource {
  readonly size: number;
  readonly path: string;
  readonly fd: number;
  /** Less of it is on the disk than its size says: it has holes. */
  readonly sparse: boolean;
  readonly #changed: bigint;
  readonly #allowLinks: boolean;
  readonly #beside = new Map<string, FileSource>();

  /**
   * @param allowLinks whether links of external data are followed out of the folder
   * @throws {UsageError} PD002 when it cannot be read or is no regular file
   */
  constructor(path: string, allowLinks = false) {
    this.path = path;
    this.#allowLinks = allowLinks;
    let fd: number | undefined;
    try {
      // A FIFO without a writer would block here for ever.
      fd = openSync(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
      const stat = fstatSync(fd, { bigint: true });
      if (!stat.isFile()) throw new UsageError({ code: 'PD002', message: `${path} is not a file`, culprit: path, hint: 'give the path of the .onnx file' });
      this.fd = fd;
      this.size = Number(stat.size);
      this.sparse = stat.blocks * 512n < stat.size;
      this.#changed = stat.mtimeNs;
    } catch (error) {
      if (fd !== undefined) closeSync(fd);
      if (error instanceof UsageError) throw error;
      throw new UsageError(
        { code: 'PD002', message: `cannot read ${path}: ${(error as Error).message}`, culprit: path, hint: wayOut(error, 'check the path and its permissions') },
        { cause: error },
      );
    }
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(length);
    this.readInto(bytes, offset, length);
    return bytes;
  }

  /** @throws {UsageError} PD021 when the file has become shorter */
  readInto(bytes: Uint8Array, offset: number, length: number): void {
    for (let done = 0; done < length; ) {
      const n = readSync(this.fd, bytes, done, length - done, offset + done);
      if (n === 0) throw changed(this.path, `it ends at byte ${offset + done} now, and had ${this.size}`);
      done += n;
    }
  }

  async external(place: ExternalPlace, byteLength: number, culprit: string): Promise<Uint8Array> {
    requireProper(place, byteLength, culprit);
    let file = this.#beside.get(place.location);
    if (!file) {
      file = new FileSource(externalFile(dirname(resolve(this.path)), place.location, culprit, this.#allowLinks).path);
      this.#beside.set(place.location, file);
    }
    if (place.offset + byteLength > file.size) throw truncated(place.location, file.size, place.offset + byteLength, culprit);
    return file.read(place.offset, byteLength);
  }

  /** @throws {UsageError} PD021 when somebody wrote to the file since it was opened: what was read of it may not fit together */
  requireUnchanged(): void {
    const stat = fstatSync(this.fd, { bigint: true });
    if (Number(stat.size) !== this.size) throw changed(this.path, `it has ${stat.size} bytes now, and had ${this.size}`);
    if (stat.mtimeNs !== this.#changed) throw changed(this.path, 'it was written to');
  }

  close(): void {
    for (const file of this.#beside.values()) file.close();
    closeSync(this.fd);
  }
}

/** What to do where the system refuses: too few open files have a way out of their own. */
export function wayOut(error: unknown, otherwise: string): string {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'EMFILE' || code === 'ENFILE' ? 'allow more open files (ulimit -n 256)' : otherwise;
}

export function changed(path: string, how: string): UsageError {
  return new UsageError({ code: 'PD021', message: `${path} changed while it was being read: ${how}`, culprit: path, hint: 'wait until it is whole (a download, an export or a copy may be under way) and run again; nothing was written' });
}

/** Fits a core's own cache: with megabytes, every byte goes through memory twice more and copying takes twice the time. */
export const COPY_BUFFER_BYTES = 256 * 1024;

/** How much is copied before signals get a chance to be handled. */
const BREATH_BYTES = 64 * 1024 * 1024;

/** In sparse files, blocks of zeros of this size become holes again. */
const HOLE_BYTES = 64 * 1024;
const ZEROS = new Uint8Array(HOLE_BYTES);

/** Writes a file that does not exist yet, from its start to its end. */
export class FileSink implements ByteSink {
  readonly path: string;
  readonly #shown: string;
  readonly #fd: number;
  #at = 0;
  #buffer: Uint8Array | undefined;
  #open = true;

  /**
   * @param shown what messages call it: the file that it is going to be
   * @throws {UsageError} PD003 when it cannot be made
   */
  constructor(path: string, shown = path) {
    this.path = path;
    this.#shown = shown;
    try {
      this.#fd = openSync(path, 'wx+');
    } catch (error) {
      throw new UsageError(
        { code: 'PD003', message: `cannot write beside ${shown}: ${(error as Error).message}`, culprit: shown, hint: wayOut(error, 'check that the folder exists and is writable') },
        { cause: error },
      );
    }
  }

  async write(chunk: Uint8Array): Promise<void> {
    this.#writeAll(chunk);
  }

  async copy(source: ByteSource, offset: number, length: number): Promise<void> {
    this.#buffer ??= new Uint8Array(COPY_BUFFER_BYTES);
    for (let done = 0, breath = BREATH_BYTES; done < length; ) {
      if (done >= breath) {
        await new Promise((resolve) => setImmediate(resolve));
        breath += BREATH_BYTES;
      }
      const n = Math.min(this.#buffer.length, length - done);
      const chunk = this.#buffer.subarray(0, n);
      if (source instanceof FileSource) source.readInto(chunk, offset + done, n);
      else chunk.set(await source.read(offset + done, n));
      if (source instanceof FileSource && source.sparse) this.#writeWithHoles(chunk);
      else this.#writeAll(chunk);
      done += n;
    }
  }

  #writeWithHoles(chunk: Uint8Array): void {
    for (let at = 0; at < chunk.length; at += HOLE_BYTES) {
      const block = chunk.subarray(at, at + HOLE_BYTES);
      if (Buffer.compare(block, ZEROS.subarray(0, block.length)) === 0) this.#at += block.length;
      else this.#writeAll(block);
    }
  }

  #writeAll(chunk: Uint8Array): void {
    try {
      for (let done = 0; done < chunk.length; ) {
        const n = writeSync(this.#fd, chunk, done, chunk.length - done, this.#at);
        done += n;
        this.#at += n;
      }
    } catch (error) {
      throw failed(this.#shown, error);
    }
  }

  /**
   * Ends the file. No fsync: like cp, it leaves to the system when gigabytes reach the disk.
   *
   * @throws {UsageError} PD003 when the system reports now what it could not write
   */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    try {
      // A hole at the end has not made the file any longer yet.
      ftruncateSync(this.#fd, this.#at);
    } catch (error) {
      throw failed(this.#shown, error);
    } finally {
      closeSync(this.#fd);
    }
  }
}

export function failed(path: string, error: unknown): UsageError {
  return new UsageError(
    { code: 'PD003', message: `writing ${path} failed: ${(error as Error).message}`, culprit: path, hint: 'free some space or choose another folder with -o; nothing was left behind' },
    { cause: error },
  );
}
