/** Reports are written whole or not at all: to a temporary file beside the target, then renamed. */
import { accessSync, constants, existsSync, mkdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { UsageError } from '../diagnostics.js';

/** @throws {UsageError} PD003 when it cannot be written. */
export function writeAtomically(path: string, text: string): void {
  const temporary = join(dirname(path), `.${basename(path)}.tmp-pdrop-${process.pid}`);
  try {
    writeFileSync(temporary, text);
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw unwritable(path, error);
  }
}

/** Fails before the long work, not after it. @throws {UsageError} PD003 */
export function checkWritable(path: string): void {
  try {
    mkdirSync(dirname(path), { recursive: true });
    accessSync(dirname(path), constants.W_OK);
    if (existsSync(path) && statSync(path).isDirectory()) throw new Error('it is a folder');
  } catch (error) {
    throw unwritable(path, error);
  }
}

function unwritable(path: string, error: unknown): UsageError {
  return new UsageError({ code: 'PD003', message: `cannot write ${path}: ${(error as Error).message}`, culprit: path, hint: 'check that the folder exists and is writable, and that the disk is not full' }, { cause: error });
}
