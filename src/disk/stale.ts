/**
 * Names of files that exist for a moment, which say whose they are, and what is done about those whose owner was killed: the next
 * run that writes to their folder takes them away.
 */
import { existsSync, lstatSync, readdirSync, renameSync, rmSync, statSync, unlinkSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { newTag, stateOf, TAG } from './owner.js';

/** What a temporary file is: being written, or an old file that comes back when the run fails. */
export type TemporaryKind = 'tmp' | 'old';

/** Long names are cut: the whole name must stay below the 255 bytes that file systems allow. */
const LONGEST_BASE_BYTES = 120;

export function temporaryName(target: string, kind: TemporaryKind, tag: string, extension = ''): string {
  const base = Buffer.from(basename(target)).subarray(0, LONGEST_BASE_BYTES).toString().replace(/\uFFFD+$/, '');
  return join(dirname(target), `.${base}.${kind}-pdrop-${tag}${extension}`);
}

const TEMPORARY = new RegExp(`^\\.(.*)\\.(tmp|old)-pdrop-(${TAG})(\\.onnx|\\.d)?$`);

/** After how long without a sign of life a file is stale whose owner cannot be asked: another machine's, another container's. */
const STALE_MS = 15 * 60_000;

export function removeQuietly(path: string): void {
  try {
    const found = lstatSync(path, { throwIfNoEntry: false });
    if (found?.isDirectory()) rmSync(path, { recursive: true, force: true });
    else if (found) unlinkSync(path);
  } catch {
    // A folder that was taken away from us; the next run tries again.
  }
}

/**
 * Removes what killed runs left in a folder; files of running ones stay. Something old in whose place there is nothing
 * goes back there.
 */
export function sweep(folder: string): void {
  let names: string[];
  try {
    names = readdirSync(folder).filter((n) => TEMPORARY.test(n));
  } catch {
    return;
  }
  for (const name of names) {
    const [, base, kind, tag] = TEMPORARY.exec(name) as unknown as [string, string, TemporaryKind, string];
    const path = join(folder, name);
    if (!isStale(tag, path)) continue;
    if (kind === 'tmp') removeQuietly(path);
    else if (existsSync(join(folder, base))) removeQuietly(path);
    else if (Buffer.byteLength(base) < LONGEST_BASE_BYTES - 4) renameSync(path, join(folder, base));
  }
}

/** Whether the owner of a file is gone: asked where it can be, else by the file's age, in the file system's own time. */
export function isStale(tag: string, path: string): boolean {
  const state = stateOf(tag);
  if (state !== 'unknown') return state === 'gone';
  const probe = join(dirname(path), `.clock.tmp-pdrop-${newTag()}`);
  try {
    // The time of the last change of the inode: a hard link to an old file is young.
    const then = lstatSync(path).ctimeMs;
    writeFileSync(probe, '', { flag: 'wx' });
    return statSync(probe).ctimeMs - then > STALE_MS;
  } catch {
    return false;
  } finally {
    removeQuietly(probe);
  }
}
