/**
 * Everything one run writes, as one thing: all files are in place at its end, or all is as it was before.
 *
 * Every file that is read or written is announced, and none may be two of them, by path or by inode. New files are written
 * under temporary names beside their targets. `place` puts them where they belong: without `force` a target must not
 * exist, and of two runs that race for it one wins; with it the old file is kept aside until `finish`. Where several
 * files belong together, a journal beside the first says so while they are being placed: if the process is killed right
 * then, the next run takes all of them back (journal.ts).
 */
import { linkSync, rmdirSync } from 'node:fs';
import { dirname, relative, sep } from 'node:path';
import { UsageError } from '../diagnostics.js';
import { Announced } from './announced.js';
import { failed, FileSink } from './files.js';
import { openJournal, recover, requireSettled } from './journal.js';
import { newTag } from './owner.js';
import { exists, type Placed, putInPlace, takeBack } from './placing.js';
import { removeQuietly, sweep, temporaryName } from './stale.js';
import { begun, finished, tidiedAfterUs } from './temporaries.js';
import { makeFolder, type Target, targetOf } from './target.js';
import { ThroughSink } from './through.js';
import type { ByteSink } from '../onnx/bytes.js';

export interface OutputFile {
  readonly target: Target;
  /** Opens it for writing, under its temporary name. Close it before `place`. */
  open(): ByteSink & { close(): Promise<void> | void };
  /** Makes it another name of an existing file. @throws what link(2) says */
  linkTo(file: string): void;
  /** The name it is written under; registered, so that it goes away when the run fails. */
  readonly temporary: string;
  /** Makes its folder; it goes again when the run fails. */
  makeFolder(): void;
  /** Says that something else is making the temporary file, or has made it. */
  adopt(): void;
}

interface Entry extends OutputFile, Placed {
  written: boolean;
  linked: boolean;
}

export class OutputTransaction {
  readonly #force: boolean;
  readonly #tag = newTag();
  readonly #entries: Entry[] = [];
  readonly #announced = new Announced();
  readonly #swept = new Set<string>();
  readonly #folders: string[] = [];
  #journal: { close(): void } | undefined;
  #over = false;

  constructor(force: boolean) {
    this.#force = force;
  }

  /**
   * Announces a file that is read.
   *
   * @throws {UsageError} PD005 when it is one of those that are written
   */
  reads(path: string): void {
    this.#announced.read(path);
  }

  /**
   * Announces a file that is going to be written.
   *
   * @param replace whether an existing file may be replaced; by default what the transaction says
   * @throws {UsageError} PD004 it exists, PD005 it is a file that is read, PD019 it is written twice, PD003, PD025 (see `targetOf`)
   */
  writes(path: string, replace = this.#force): OutputFile {
    this.#sweep(path);
    const target = targetOf(path);
    if (!target.through) {
      const free = this.#announced.free(path, target.real);
      if (target.exists && !replace) {
        requireSettled(target.real);
        throw exists(path);
      }
      free.announce();
    }
    const entry = this.#entry(target, replace);
    this.#entries.push(entry);
    return entry;
  }

  #entry(target: Target, replace: boolean): Entry {
    const temporary = temporaryName(target.real, 'tmp', this.#tag);
    const folder = (): void => {
      const made = makeFolder(dirname(target.real));
      if (made !== undefined) this.#folders.push(made, ...between(made, dirname(target.real)));
    };
    const prepare = (linked: boolean): void => {
      folder();
      begun(temporary, undefined, !linked);
      entry.written = true;
      entry.linked = linked;
    };
    const entry: Entry = {
      target,
      temporary,
      aside: temporaryName(target.real, 'old', this.#tag),
      replace,
      written: false,
      placed: undefined,
      linked: false,
      inode: undefined,
      open: () => {
        if (target.through) return new ThroughSink(target.path);
        prepare(false);
        return new FileSink(temporary, target.path);
      },
      linkTo: (file) => {
        prepare(true);
        try {
          linkSync(file, temporary);
        } catch (error) {
          entry.written = false;
          finished(temporary);
          throw error;
        }
      },
      makeFolder: folder,
      adopt: () => prepare(false),
    };
    return entry;
  }

  #sweep(path: string): void {
    const target = dirname(path);
    if (this.#swept.has(target)) return;
    this.#swept.add(target);
    recover(target);
    sweep(target);
  }

  /**
   * Puts everything that has been written where it belongs. On failure all is as before.
   *
   * @throws {UsageError} PD004 somebody else made a target meanwhile, PD003, PD026 (see journal.ts)
   */
  async place(): Promise<void> {
    const entries = this.#entries.filter((e) => e.written && !e.placed);
    for (const { target } of entries) tidiedAfterUs(dirname(target.real));
    try {
      const [first] = entries;
      const folder = first && dirname(first.target.real);
      // One rename is all or nothing by itself.
      const together = entries.filter((e) => folder !== undefined && isInside(folder, e.target.real));
      if (first && together.length > 1 && !this.#journal) {
        this.#journal = await openJournal(first.target.real, this.#tag, together.map((e) => e.target.real), this.#force);
      }
      // What is read first comes last: a model after its data.
      for (const entry of entries.reverse()) {
        // From here on: not remove the temporary file, but take back all that was placed.
        begun(entry.temporary, () => this.rollback(), !entry.linked);
        putInPlace(entry, (inode) => this.#announced.requireUnread(entry.target.path, inode));
      }
    } catch (error) {
      this.rollback();
      throw error instanceof UsageError ? error : failed(entries.at(-1)?.target.path ?? '', error);
    }
  }

  /** Everything is well: what was kept aside goes. */
  finish(): void {
    if (this.#over) return;
    this.#over = true;
    // This is the moment from which on a killed run counts as done.
    this.#journal?.close();
    for (const { temporary, aside, written } of this.#entries) {
      if (!written) continue;
      removeQuietly(temporary);
      removeQuietly(aside);
      finished(temporary);
    }
  }

  /** All as before; safe to call at any time, and after `finish` without effect. */
  rollback(): void {
    if (this.#over) return;
    this.#over = true;
    for (const entry of [...this.#entries].reverse()) {
      if (!entry.written) continue;
      takeBack(entry);
      removeQuietly(entry.temporary);
      finished(entry.temporary);
    }
    this.#journal?.close();
    for (const folder of this.#folders.reverse()) {
      try {
        rmdirSync(folder);
      } catch {
        // Somebody put something into it.
      }
    }
  }
}

function isInside(folder: string, path: string): boolean {
  const inside = relative(folder, path);
  return inside !== '..' && !inside.startsWith(`..${sep}`);
}

/** Folders below `top` down to `bottom`. */
function between(top: string, bottom: string): string[] {
  const folders: string[] = [];
  for (let f = bottom; f.length > top.length; f = dirname(f)) folders.unshift(f);
  return folders;
}

/** A small file, whole. */
export async function writeText(file: OutputFile, text: string): Promise<void> {
  const sink = file.open();
  try {
    await sink.write(new TextEncoder().encode(text));
  } finally {
    await sink.close();
  }
}
