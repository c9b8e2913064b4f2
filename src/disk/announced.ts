/** The one check against overwriting: every file that a run reads or writes is known here, by its real path and its inode, and none is two of them. */
import { UsageError } from '../diagnostics.js';
import { inodeOf, targetOf } from './target.js';

export class Announced {
  readonly #reads = new Map<string, string>();
  readonly #writes = new Map<string, string>();

  /**
   * Announces a file that is read.
   *
   * @throws {UsageError} PD005 when it is one of those that are written
   */
  read(path: string): void {
    for (const key of keysOf(path, undefined)) {
      this.#reads.set(key, path);
      const output = this.#writes.get(key);
      if (output !== undefined) throw replaces(output, path);
    }
  }

  /**
   * Looks whether a file may be written; what is returned announces it.
   *
   * @param real where it goes
   * @throws {UsageError} PD005 it is a file that is read, PD019 it is written twice
   */
  free(path: string, real: string): { announce(): void } {
    const keys = keysOf(path, real);
    for (const key of keys) {
      const read = this.#reads.get(key);
      if (read !== undefined) throw replaces(path, read);
      const other = this.#writes.get(key);
      if (other !== undefined) {
        throw new UsageError({ code: 'PD019', message: `${path} and ${other} are the same file, and both are to be written`, culprit: path, hint: 'give every output a path of its own' });
      }
    }
    return {
      announce: () => {
        for (const key of keys) this.#writes.set(key, path);
      },
    };
  }

  /** @throws {UsageError} PD005 when what stands in the place of an output by now is read */
  requireUnread(output: string, inode: string): void {
    const read = this.#reads.get(`inode ${inode}`);
    if (read !== undefined) throw replaces(output, read);
  }
}

/** Names of a file by which it is recognised. */
function keysOf(path: string, real: string | undefined): string[] {
  const inode = inodeOf(path);
  return [...(inode === undefined ? [] : [`inode ${inode}`]), `path ${real ?? targetPath(path)}`];
}

function targetPath(path: string): string {
  try {
    return targetOf(path).real;
  } catch {
    return path;
  }
}

function replaces(output: string, input: string): UsageError {
  return new UsageError({ code: 'PD005', message: `${output} would replace ${output === input ? 'the input' : `${input}, which is read`}`, culprit: output, hint: 'choose another path; --force does not change this' });
}
