/** A folder that is whole or absent: made beside its place under a temporary name, and renamed at the end. */
import { copyFileSync, existsSync, linkSync, mkdirSync, readdirSync, realpathSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { basename, dirname, join, resolve, sep } from 'node:path';
import { UsageError } from '../diagnostics.js';
import { forgetUnfinished, noteUnfinished } from './files.js';

/** Files from this size on are linked where the file system can; smaller ones are copied, so that editing one does not edit both. */
const LINK_BYTES = 1024 * 1024;

export class OutputFolder {
  readonly target: string;
  /** Where files go until `commit`. */
  readonly temporary: string;
  readonly #force: boolean;

  /**
   * @throws {UsageError} PD005 when the folder is the input or within it, PD004 when it exists and is not to be replaced
   */
  constructor(input: string, target: string, force: boolean) {
    this.target = resolve(target);
    this.#force = force;
    const from = realpathSync(input);
    const to = existsSync(this.target) ? realpathSync(this.target) : this.target;
    if (to === from || to.startsWith(from + sep) || from.startsWith(to + sep)) {
      throw new UsageError({ code: 'PD005', message: 'the output folder is the input folder, within it or around it', culprit: target, hint: 'choose another folder with -o' });
    }
    if (existsSync(this.target) && !(statSync(this.target).isDirectory() && readdirSync(this.target).length === 0) && !force) {
      throw new UsageError({ code: 'PD004', message: `${target} exists`, culprit: target, hint: 'use --force to replace it, or choose another folder with -o' });
    }
    this.temporary = join(dirname(this.target), `.${basename(this.target)}.tmp-pdrop-${process.pid}`);
    try {
      mkdirSync(dirname(this.target), { recursive: true });
      mkdirSync(this.temporary);
    } catch (error) {
      throw new UsageError({ code: 'PD003', message: `cannot make a folder beside ${target}: ${(error as Error).message}`, culprit: target, hint: 'check that the place exists and is writable' }, { cause: error });
    }
    noteUnfinished(this.temporary);
  }

  /** Path of a file of the folder while it is made; its own folder is there. */
  path(file: string): string {
    const path = join(this.temporary, file);
    mkdirSync(dirname(path), { recursive: true });
    return path;
  }

  write(file: string, text: string): void {
    this.#guarded(() => writeFileSync(this.path(file), text));
  }

  /** Brings a file of another folder here: linked when it is large and on the same file system, else copied. */
  take(source: string, file: string): 'linked' | 'copied' {
    const path = this.path(file);
    const real = realpathSync(source);
    if (statSync(real).size >= LINK_BYTES) {
      try {
        linkSync(real, path);
        return 'linked';
      } catch {
        // Another file system, or one without links.
      }
    }
    this.#guarded(() => copyFileSync(real, path));
    return 'copied';
  }

  /** Puts the folder in place. */
  commit(): void {
    this.#guarded(() => {
      // What is replaced steps aside first, and comes back when the new one cannot take its place.
      const aside = `${this.temporary}-old`;
      const replaces = existsSync(this.target);
      if (replaces && !this.#force && readdirSync(this.target).length > 0) throw new Error('it has appeared meanwhile');
      if (replaces) renameSync(this.target, aside);
      try {
        renameSync(this.temporary, this.target);
      } catch (error) {
        if (replaces) renameSync(aside, this.target);
        throw error;
      }
      if (replaces) rmSync(aside, { recursive: true, force: true });
    });
    forgetUnfinished(this.temporary);
  }

  abort(): void {
    rmSync(this.temporary, { recursive: true, force: true });
    forgetUnfinished(this.temporary);
  }

  #guarded(step: () => void): void {
    try {
      step();
    } catch (error) {
      throw new UsageError({ code: 'PD003', message: `writing ${this.target} failed: ${(error as Error).message}`, culprit: this.target, hint: 'free some space or choose another folder with -o; nothing was left behind' }, { cause: error });
    }
  }
}
