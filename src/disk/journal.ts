/**
 * The journal of a transaction that places several files: a file beside the first of them, there only while they are
 * being placed. It is a lock as well: two runs that replace the same model and its data do it one after the other.
 *
 * What is found in a folder may have been put there by a stranger: a journal can only bring back `.x.old-pdrop-…` as `x` in the
 * same folder or below it, and only remove a file that is the same inode as its own `.x.tmp-pdrop-…`.
 */
import { linkSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { basename, dirname, isAbsolute, join, relative, sep } from 'node:path';
import { UsageError } from '../diagnostics.js';
import { stateOf, TAG } from './owner.js';
import { isStale, removeQuietly, temporaryName } from './stale.js';
import { inodeOf } from './target.js';
import { now } from '../clock.js';

interface Journal {
  /** Of the transaction: what its temporary files are called. */
  readonly tag: string;
  /** Files being placed, relative to the journal's folder. */
  readonly files: readonly string[];
}

const SUFFIX = '.placing-pdrop';
const JOURNAL = new RegExp(`^\\..*\\.placing-pdrop(\\.${TAG})?$`);
const CLAIMED = new RegExp(`${TAG}$`);
const PATIENCE_MS = 10_000;
const PAUSE_MS = 20;

function journalOf(first: string): string {
  return join(dirname(first), `.${basename(first).slice(0, 100)}${SUFFIX}`);
}

/**
 * Writes the journal, once no other run is placing files under the same name.
 *
 * @param force whether what an interrupted run left is taken back although its owner cannot be asked
 * @throws {UsageError} PD026 when another run does not come to an end
 */
export async function openJournal(first: string, tag: string, files: readonly string[], force: boolean): Promise<{ close(): void }> {
  const path = journalOf(first);
  const folder = dirname(first);
  const draft = temporaryName(path, 'tmp', tag);
  writeNew(draft, JSON.stringify({ tag, files: files.map((f) => relative(folder, f)) } satisfies Journal));
  try {
    for (const until = now() + PATIENCE_MS; ; ) {
      try {
        // Whole when it appears.
        linkOrWrite(draft, path);
        return { close: () => removeQuietly(path) };
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      }
      recoverFrom(path, force);
      if (now() > until) throw unsettled(first, path);
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  } finally {
    removeQuietly(draft);
  }
}

function linkOrWrite(draft: string, path: string): void {
  try {
    linkSync(draft, path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') throw error;
    writeNew(path, readFileSync(draft));
  }
}

/** A new file with all of `content`, or none: on a full disk it is made, and then not filled. */
function writeNew(path: string, content: string | Uint8Array): void {
  try {
    writeFileSync(path, content, { flag: 'wx' });
  } catch (error) {
    // Then it is another's.
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') removeQuietly(path);
    throw error;
  }
}

function unsettled(first: string, path: string): UsageError {
  return new UsageError({
    code: 'PD026',
    message: `another run is putting ${first} and what belongs to it in place, or was interrupted while it did`,
    culprit: path,
    hint: 'wait for it. If it was interrupted (on another machine, in another container, before a restart), run again with --force: its files are taken back first',
  });
}

/** @throws {UsageError} PD026 when files that belong together with `first` are not all of one run */
export function requireSettled(first: string): void {
  const path = journalOf(first);
  if (read(path) !== 'gone') throw unsettled(first, path);
}

/** Takes back what runs of this machine that were killed while placing files had placed in a folder. */
export function recover(folder: string): void {
  let names: string[];
  try {
    names = readdirSync(folder).filter((n) => JOURNAL.test(n));
  } catch {
    return;
  }
  for (const name of names) recoverFrom(join(folder, name), false);
}

function recoverFrom(path: string, force: boolean): void {
  const journal = read(path);
  if (journal === 'gone') return;
  const gone = journal !== undefined && stateOf(journal.tag) === 'gone';
  // Whoever put a journal of an unknown owner here: only who wants the files replaced has it followed.
  if (!gone && !(force && isStale(journal?.tag ?? NOBODY, path))) return;
  if (!journal) {
    removeQuietly(path);
    return;
  }
  const claimed = CLAIMED.test(path) ? path : `${path}.${journal.tag}`;
  if (claimed !== path) {
    // Of two runs that find it, one takes it.
    try {
      renameSync(path, claimed);
    } catch {
      return;
    }
    const taken = read(claimed);
    if (taken !== 'gone' && taken?.tag !== journal.tag) {
      // Cleared and begun anew in between.
      renameSync(claimed, path);
      return;
    }
  }
  for (const file of journal.files) takeBack(join(dirname(path), file), journal.tag);
  removeQuietly(claimed);
}

/** A tag that is judged by age. */
const NOBODY = '000000000000-0-0-000000000000';

function read(path: string): Journal | undefined | 'gone' {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch {
    return 'gone';
  }
  try {
    const { tag, files } = JSON.parse(text) as Partial<Journal>;
    const fits = (f: unknown): boolean => typeof f === 'string' && f !== '' && !isAbsolute(f) && !f.split(sep).includes('..');
    if (typeof tag === 'string' && new RegExp(`^${TAG}$`).test(tag) && Array.isArray(files) && files.every(fits)) return { tag, files };
  } catch {
    // Cut off, or not ours.
  }
  return undefined;
}

function takeBack(file: string, tag: string): void {
  const [temporary, aside] = [temporaryName(file, 'tmp', tag), temporaryName(file, 'old', tag)];
  const [here, old] = [inodeOf(file), inodeOf(aside)];
  if (old !== undefined) {
    if (old !== here) renameSync(aside, file);
    else removeQuietly(aside);
  } else if (here !== undefined && here === inodeOf(temporary)) removeQuietly(file);
  removeQuietly(temporary);
}
