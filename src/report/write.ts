/** Reports are written together: all whole and in place, or all as before. */
import { accessSync, closeSync, constants, fstatSync, ftruncateSync, mkdirSync, openSync, readSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { UsageError } from '../diagnostics.js';
import { type OutputFile, OutputTransaction, writeText } from '../disk/transaction.js';

export interface ReportOptions {
  /** Replace whatever is there. */
  readonly force?: boolean;
  /** Replace what a former run wrote. */
  readonly reports?: boolean;
}

export class ReportFiles {
  readonly #transaction: OutputTransaction;
  readonly #options: ReportOptions;

  /** @param reads files that are read, which no report may replace */
  constructor(reads: readonly string[], options: ReportOptions) {
    this.#options = options;
    this.#transaction = new OutputTransaction(options.force ?? false);
    for (const path of reads) this.#transaction.reads(path);
  }

  /** Fails before the long work, not after it. @throws {UsageError} PD003, PD004, PD005, PD019, PD025 */
  announce(path: string): OutputFile {
    const replace = this.#options.force === true || (this.#options.reports === true && isReport(path));
    const file = this.#transaction.writes(path, replace);
    try {
      mkdirSync(dirname(path), { recursive: true });
      accessSync(dirname(file.target.real), constants.W_OK);
    } catch (error) {
      if (!file.target.through) throw unwritable(path, error);
    }
    return file;
  }

  /** Announces a file that is added to, whatever is in it. @throws as `announce` does */
  announceAppended(path: string): void {
    this.#transaction.writes(path, true);
    if (head(path)?.includes(0)) {
      throw new UsageError({ code: 'PD004', message: `${path} exists, and is not text that a summary could be added to`, culprit: path, hint: 'give another path' });
    }
  }

  async write(files: readonly (readonly [OutputFile, string])[]): Promise<void> {
    try {
      for (const [file, text] of files) await writeText(file, text);
      await this.#transaction.place();
      this.#transaction.finish();
    } finally {
      this.#transaction.rollback();
    }
  }
}

/** Whether a former run of this program wrote it. */
function isReport(path: string): boolean {
  const text = head(path)?.toString('latin1') ?? '';
  return /^\s*(\{|<!doctype html|<\?xml)/i.test(text) && text.includes('pdrop-compile') && !text.includes('\0');
}

const HEAD_BYTES = 64 * 1024;

function head(path: string): Buffer | undefined {
  let fd: number | undefined;
  try {
    fd = openSync(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
    if (!fstatSync(fd).isFile()) return undefined;
    const bytes = Buffer.alloc(HEAD_BYTES);
    return bytes.subarray(0, readSync(fd, bytes, 0, HEAD_BYTES, 0));
  } catch {
    return undefined;
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

/** Adds text at the end of a file: all of it, or nothing. @throws {UsageError} PD003 */
export function append(path: string, text: string): void {
  try {
    mkdirSync(dirname(path), { recursive: true });
    const fd = openSync(path, 'a');
    const before = fstatSync(fd);
    try {
      const bytes = Buffer.from(text);
      for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done);
    } catch (error) {
      if (before.isFile()) ftruncateSync(fd, before.size);
      throw error;
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    throw unwritable(path, error);
  }
}

function unwritable(path: string, error: unknown): UsageError {
  return new UsageError({ code: 'PD003', message: `cannot write ${path}: ${(error as Error).message}`, culprit: path, hint: 'check that the folder exists and is writable, and that the disk is not full' }, { cause: error });
}
