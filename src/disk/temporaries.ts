/**
 * What a run has begun and not finished: temporary files and folders, and files moved aside until all is in place. They are taken back
 * when the run ends, also by a signal; what a killed run left is taken away by the next (stale.ts).
 */
import { mkdirSync, utimesSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Cleaner } from './cleaner.js';
import { newTag } from './owner.js';
import { removeQuietly, sweep, temporaryName } from './stale.js';

const SIGN_OF_LIFE_MS = 30_000;

/** What takes back each thing that has been begun, and whether the file is ours to touch. */
const unfinished = new Map<string, { readonly undo: () => void; readonly ours: boolean }>();
let alive: NodeJS.Timeout | undefined;

/** Who ends this process on a signal: nobody of ours (the library), handlers of ours, or the system and the cleaner after it. */
let signals: 'not ours' | 'handlers' | 'system' = 'not ours';
let handled: { readonly signal: NodeJS.Signals; readonly handler: () => void }[] = [];
let cleaner: Cleaner | undefined;

/**
 * Registers what has to be taken back if the run ends before `finished`: by default the file or folder at `path` is removed.
 *
 * @param undo where that is not all; what it does must be what the next run would do in `tidy` folders (see `tidiedAfterUs`)
 * @param ours whether its time may be set, as a sign of life; not that of a hard link to somebody's file
 */
export function begun(path: string, undo?: () => void, ours = true): void {
  unfinished.set(path, { undo: undo ?? ((): void => removeQuietly(path)), ours });
  alive ??= setInterval(showLife, SIGN_OF_LIFE_MS).unref();
  if (signals === 'handlers') handleSignals();
  cleanerIfWanted()?.remove(resolve(path));
}

export function finished(path: string): void {
  cleaner?.forget(resolve(path));
  unfinished.delete(path);
  if (unfinished.size > 0) return;
  clearInterval(alive);
  alive = undefined;
}

/** Before files in a folder are put in place of others: if we are ended meanwhile, done or taken back is what the next run would say. */
export function tidiedAfterUs(folder: string): void {
  cleanerIfWanted()?.tidy(resolve(folder));
}

/** A process that must not outlive this one, until what is returned is called. */
export function endsWithUs(pid: number | undefined): () => void {
  const ender = pid === undefined ? undefined : cleanerIfWanted();
  ender?.end(pid as number);
  return () => ender?.forget(pid as number);
}

/** Takes back everything that is registered, the last first. */
export function removeUnfinished(): void {
  for (const [path, { undo }] of [...unfinished].reverse()) {
    undo();
    finished(path);
  }
}

function showLife(): void {
  const now = new Date();
  for (const [path, { ours }] of unfinished) {
    try {
      if (ours) utimesSync(path, now, now);
    } catch {
      // Not made yet.
    }
  }
}

const SIGNALS: readonly (readonly [NodeJS.Signals, number])[] = [['SIGINT', 2], ['SIGTERM', 15], ['SIGHUP', 1]];

/**
 * For the command line: signals end the process, after what is unfinished has been removed. A handler has to wait for the event loop, so
 * there are none until something has been begun: while a graph is analysed in one go the system's own way of ending a process
 * holds. Once there they stay until the command ends: a signal that has been noticed and not handled yet is lost with its handler.
 */
export function endOnSignals(on: boolean): void {
  signals = on ? 'handlers' : 'not ours';
  if (on) return;
  for (const { signal, handler } of handled) process.off(signal, handler);
  handled = [];
}

/**
 * For work that keeps this thread from handling anything for long (onnxruntime is called on it; a folder has many graphs): before anything
 * is begun, signals are left to the system, which ends us at once, and a process of its own takes away what is unfinished then.
 */
export function leaveSignalsToTheSystem(): void {
  if (signals === 'handlers' && handled.length === 0) signals = 'system';
}

/** The cleaner, where signals are the system's; where no process can be had, they are handled here. */
function cleanerIfWanted(): Cleaner | undefined {
  if (signals !== 'system') return undefined;
  cleaner ??= new Cleaner();
  if (cleaner.works) return cleaner;
  signals = 'handlers';
  handleSignals();
  return undefined;
}

function handleSignals(): void {
  if (handled.length > 0) return;
  handled = SIGNALS.map(([signal, number]) => {
    const handler = (): void => {
      removeUnfinished();
      process.off(signal, handler);
      // As if there were no handler: who waits for us sees what ended us.
      process.kill(process.pid, signal);
      process.exit(128 + number);
    };
    process.on(signal, handler);
    return { signal, handler };
  });
}

process.on('exit', removeUnfinished);

/**
 * A folder of this run's own in `parent`, for what is needed only while it lasts; what killed runs left there is removed.
 *
 * @throws what mkdir(2) says
 */
export function scratchFolder(parent: string, name: string): string {
  mkdirSync(parent, { recursive: true });
  sweep(parent);
  const path = temporaryName(join(parent, name), 'tmp', newTag(), '.d');
  begun(path);
  try {
    mkdirSync(path);
  } catch (error) {
    finished(path);
    throw error;
  }
  return path;
}

/** Removes a temporary file or folder before the end of the run. */
export function drop(path: string): void {
  removeQuietly(path);
  finished(path);
}
