/** Small files that are read whole: configurations, plans, reports. Never a device, a pipe or a folder, and never more than is sensible. */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { UsageError } from '../diagnostics.js';

/** Largest JSON document that is read whole. */
export const MOST_JSON_BYTES = 64 * 1024 * 1024;

/** Largest file of sample tensors. */
export const MOST_DATA_BYTES = 2 ** 31;

/**
 * A regular file's content. What is no regular file is not opened for reading: a FIFO or a terminal would block for ever.
 *
 * @throws {Error} with the reason, in words
 */
export function readRegularFile(path: string, mostBytes = MOST_JSON_BYTES): Buffer {
  const fd = openSync(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile()) throw new Error(`${path} is not a regular file`);
    if (stat.size > mostBytes) throw new Error(`${path} has ${stat.size} bytes; at most ${mostBytes} are read`);
    const bytes = Buffer.alloc(stat.size);
    let done = 0;
    for (let n = 1; n > 0 && done < bytes.length; done += n) n = readSync(fd, bytes, done, bytes.length - done, done);
    return bytes.subarray(0, done);
  } finally {
    closeSync(fd);
  }
}

export function readRegularText(path: string, mostBytes?: number): string {
  return readRegularFile(path, mostBytes).toString('utf8');
}

/**
 * A JSON file that the user named.
 *
 * @param what what it is called in messages, with its verb: `the plan is`
 * @param hint where to look when it is not JSON
 * @throws {UsageError} PD002 unreadable, PD017 not JSON
 */
export function readJson(path: string, what: `${string} ${'is' | 'are'}`, hint: string): unknown {
  let text: string;
  try {
    text = readRegularText(path);
  } catch (error) {
    throw new UsageError({ code: 'PD002', message: `cannot read ${what.replace(/ \w+$/, '')}: ${(error as Error).message}`, culprit: path, hint: 'check the path' }, { cause: error });
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new UsageError({ code: 'PD017', message: `${what} not JSON: ${(error as Error).message}`, culprit: path, hint }, { cause: error });
  }
}
