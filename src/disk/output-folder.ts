/** A folder that is whole or absent: made beside its place under a temporary name, and renamed at the end. */
import { copyFileSync, existsSync, linkSync, mkdirSync, readdirSync, realpathSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve, sep } from 'node:path';
import { UsageError } from '../diagnostics.js';
import { isHeldBy, leadsOut } from './external-location.js';
import { newTag } from './owner.js';
import { sweep, temporaryName } from './stale.js';
import { begun, finished, leaveSignalsToTheSystem, tidiedAfterUs } from './temporaries.js';

/** Files from this size on are linked where the file system can; smaller ones are copied, so that editing one does not edit both. */
const LINK_BYTES = 1024 * 1024;

export class OutputFolder {
  readonly target: string;
  /** Where files go until `commit`. */
  readonly temporary: string;
  readonly #root: string;
  readonly #force: boolean;
  readonly #tag = newTag();

  /**
   * @throws {UsageError} PD005 when the folder is the input or within it, PD004 when it exists and is not to be replaced
   */
  constructor(input: string, target: string, force: boolean) {
    this.target = resolve(target);
    this.#force = force;
    sweep(dirname(this.target));
    const from = realpathSync(input);
    this.#root = from;
    const to = existsSync(this.target) ? realpathSync(this.target) : this.target;
    if (to === from || to.startsWith(from + sep) || from.startsWith(to + sep)) {
      throw new UsageError({ code: 'PD005', message: 'the output folder is the input folder, within it or around it', culprit: target, hint: 'choose another folder with -o' });
    }
    if (existsSync(this.target) && !(statSync(this.target).isDirectory() && readdirSync(this.target).length === 0) && !force) {
      throw new UsageError({ code: 'PD004', message: `${target} exists`, culprit: target, hint: 'use --force to replace it, or choose another folder with -o' });
    }
    const stranger = existsSync(this.target) ? filesBelow(this.target).find((f) => !existsSync(join(from, f))) : undefined;
    if (stranger !== undefined) {
      throw new UsageError({ code: 'PD004', message: `${target} holds ${stranger}, which the model’s folder does not: it was not made from it`, culprit: target, hint: 'move that file away, or choose another folder with -o; --force replaces only what an earlier run made' });
    }
    this.temporary = temporaryName(this.target, 'tmp', this.#tag, '.d');
    leaveSignalsToTheSystem();
    begun(this.temporary);
    try {
      mkdirSync(dirname(this.target), { recursive: true });
      mkdirSync(this.temporary);
    } catch (error) {
      finished(this.temporary);
      throw new UsageError({ code: 'PD003', message: `cannot make a folder beside ${target}: ${(error as Error).message}`, culprit: target, hint: 'check that the place exists and is writable' }, { cause: error });
    }
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

  /**
   * Brings a file of the input folder here: linked when it is large and on the same file system, else copied.
   *
   * @throws {Refusal} PD108 when it is a link that leads elsewhere: a folder from a stranger is not to fetch files of the user's
   */
  take(source: string, file: string, allowLinks = false): 'linked' | 'copied' {
    const path = this.path(file);
    const real = realpathSync(source);
    if (!allowLinks && !isHeldBy(real, this.#root)) throw leadsOut(file, real);
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
    tidiedAfterUs(dirname(this.target));
    this.#guarded(() => {
      // What is replaced steps aside first, and comes back when the new one cannot take its place.
      const aside = temporaryName(this.target, 'old', this.#tag, '.d');
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
    finished(this.temporary);
  }

  abort(): void {
    rmSync(this.temporary, { recursive: true, force: true });
    finished(this.temporary);
  }

  #guarded(step: () => void): void {
    try {
      step();
    } catch (error) {
      throw new UsageError({ code: 'PD003', message: `writing ${this.target} failed: ${(error as Error).message}`, culprit: this.target, hint: 'free some space or choose another folder with -o; nothing was left behind' }, { cause: error });
    }
  }
}

/** By their paths from the folder. Links are files: Node 22 and later would follow those to folders, and those to a folder around them until the system says no. */
function filesBelow(folder: string): string[] {
  if (!statSync(folder).isDirectory()) return [];
  const found: string[] = [];
  const folders = [''];
  for (let below = folders.pop(); below !== undefined; below = folders.pop()) {
    for (const entry of readdirSync(join(folder, below), { withFileTypes: true })) (entry.isDirectory() ? folders : found).push(join(below, entry.name));
  }
  return found;
}
