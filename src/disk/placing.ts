/** One file put in its place, or taken back from there: hard links where the file system has them, copies and claims where not. */
import { chmodSync, chownSync, closeSync, constants, copyFileSync, linkSync, openSync, renameSync } from 'node:fs';
import { UsageError } from '../diagnostics.js';
import { removeQuietly } from './stale.js';
import { inodeOf, type Target } from './target.js';

export interface Placed {
  readonly target: Target;
  /** The name it was written under. */
  readonly temporary: string;
  /** The name the old file is kept under. */
  readonly aside: string;
  /** Whether a file that is there may be replaced. */
  readonly replace: boolean;
  /** It is another name of an existing file, whose permissions stay. */
  readonly linked: boolean;
  /** What happened; said before it does. */
  placed: 'created' | 'replaced' | undefined;
  /** Which file it is, wherever it goes. */
  inode: string | undefined;
}

/**
 * Puts a file in its place; what stands there is kept aside.
 *
 * @param replacing is told which file is going to be replaced, and may object
 * @throws {UsageError} PD004 when there is one and it is to stay; what the system says
 */
export function putInPlace(file: Placed, replacing: (inode: string) => void): void {
  const { target, temporary, aside } = file;
  const { real, old } = target;
  if (old && !file.linked) keepPermissions(temporary, old);
  file.inode = inodeOf(temporary);
  const there = inodeOf(real);
  if (there !== undefined && file.replace) {
    replacing(there);
    try {
      linkSync(real, aside);
    } catch (error) {
      if (!cannotLink(error)) throw error;
      copyFileSync(real, aside, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
    }
    file.placed = 'replaced';
    renameSync(temporary, real);
    return;
  }
  try {
    linkSync(temporary, real);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') throw exists(target.path);
    if (!cannotLink(error)) throw error;
    // No hard links here: claim the name, then replace what is ours.
    try {
      closeSync(openSync(real, 'wx'));
    } catch (claim) {
      throw (claim as NodeJS.ErrnoException).code === 'EEXIST' ? exists(target.path) : claim;
    }
    renameSync(temporary, real);
  }
  file.placed = 'created';
}

/** All as before; a file that somebody else has put there meanwhile stays. */
export function takeBack({ target, aside, placed, inode }: Placed): void {
  const here = inodeOf(target.real);
  try {
    if (placed === 'replaced' && inodeOf(aside) !== here) renameSync(aside, target.real);
    else if (placed === 'replaced') removeQuietly(aside);
    else if (placed === 'created' && here === inode) removeQuietly(target.real);
  } catch {
    // The folder is gone or closed to us: the old file stays under its other name.
  }
}

function cannotLink(error: unknown): boolean {
  return ['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK', 'EINVAL'].includes((error as NodeJS.ErrnoException).code ?? '');
}

function keepPermissions(path: string, old: NonNullable<Target['old']>): void {
  chmodSync(path, old.mode);
  try {
    if (process.getuid?.() === 0) chownSync(path, old.uid, old.gid);
  } catch {
    // Some file systems have no owners.
  }
}

export function exists(path: string): UsageError {
  return new UsageError({ code: 'PD004', message: `${path} exists`, culprit: path, hint: 'use --force to replace it, or choose another path' });
}
