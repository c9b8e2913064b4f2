/** Where an output really goes: through links, to a file, or into a device. And which file a path means. */
import { lstatSync, mkdirSync, realpathSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { UsageError } from '../diagnostics.js';

export interface Target {
  /** As it was given. */
  readonly path: string;
  /** The file that is made or replaced; where `path` is a link, what it points to. */
  readonly real: string;
  readonly exists: boolean;
  /** Permissions and owner of the file that is there. */
  readonly old: { readonly mode: number; readonly uid: number; readonly gid: number } | undefined;
  /** A device or pipe, which is written into and stays what it is. */
  readonly through: boolean;
  readonly isLink: boolean;
}

/**
 * @throws {UsageError} PD003 for folders and unreadable paths; PD025 for what can be neither replaced nor written into:
 *   a dangling link, a block device, a socket
 */
export function targetOf(path: string): Target {
  const link = look(path, () => lstatSync(path));
  if (!link) return { path, real: join(realFolder(dirname(resolve(path))), basename(path)), exists: false, old: undefined, through: false, isLink: false };
  const isLink = link.isSymbolicLink();
  const stat = isLink ? look(path, () => statSync(path)) : link;
  if (!stat) throw cannotHold(path, 'is a link to nothing', 'remove the link, or give the path that it should point to');
  if (stat.isDirectory()) throw new UsageError({ code: 'PD003', message: `cannot write ${path}: it is a folder`, culprit: path, hint: 'give the path of a file' });
  if (stat.isFIFO() || stat.isCharacterDevice()) return { path, real: resolve(path), exists: true, old: undefined, through: true, isLink };
  if (!stat.isFile()) throw cannotHold(path, stat.isBlockDevice() ? 'is a block device: its contents would be destroyed' : 'is a socket', 'give the path of a file');
  return { path, real: realpathSync(path), exists: true, old: { mode: stat.mode & 0o7777, uid: stat.uid, gid: stat.gid }, through: false, isLink };
}

function cannotHold(path: string, what: string, hint: string): UsageError {
  return new UsageError({ code: 'PD025', message: `${path} ${what}`, culprit: path, hint });
}

function look<T>(path: string, get: () => T): T | undefined {
  try {
    return get();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw new UsageError({ code: 'PD003', message: `cannot look at ${path}: ${(error as Error).message}`, culprit: path, hint: 'check the path and its permissions' }, { cause: error });
  }
}

/** The real path of a folder, also of one that is still to be made. */
function realFolder(folder: string): string {
  try {
    return realpathSync(folder);
  } catch {
    const parent = dirname(folder);
    return parent === folder ? folder : join(realFolder(parent), basename(folder));
  }
}

/** Makes a folder and returns the topmost one that was not there. @throws {UsageError} PD003 */
export function makeFolder(path: string): string | undefined {
  try {
    return mkdirSync(path, { recursive: true });
  } catch (error) {
    throw new UsageError({ code: 'PD003', message: `cannot make the folder ${path}: ${(error as Error).message}`, culprit: path, hint: 'choose another path with -o' }, { cause: error });
  }
}

/** Whether a folder is there. */
export function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

/** Device and inode: the same for two names of one file. Undefined where there is no file. */
export function inodeOf(path: string): string | undefined {
  try {
    const { dev, ino } = statSync(path, { bigint: true });
    return `${dev}:${ino}`;
  } catch {
    return undefined;
  }
}
