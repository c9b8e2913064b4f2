/**
 * Files that exist for a moment: what is being written, and what was moved aside until all is in place. They are removed
 * when the run ends, also by a signal; what a killed run left is removed by the next run that writes to the folder.
 */
import { existsSync, lstatSync, mkdirSync, readdirSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { Cleaner } from './cleaner.js';
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
const SIGN_OF_LIFE_MS = 30_000;

/** What takes back each thing that has been begun, and whether the file is ours to touch. */
const unfinished = new Map<string, { readonly undo: () => void; readonly ours: boolean; readonly plain: boolean }>();
let alive: NodeJS.Timeout | undefined;
let handled: { readonly signal: NodeJS.Signals; readonly handler: () => void }[] = [];
let catching = false;
/** Sessions of onnxruntime that are made or open. */
let native = 0;
let cleaner: Cleaner | undefined;

/**
 * Registers what has to be taken back if the run ends before `finished`: by default the file or folder at `path` is removed.
 *
 * @param ours whether its time may be set, as a sign of life; not that of a hard link to somebody's file
 */
export function begun(path: string, undo?: () => void, ours = true): void {
  unfinished.set(path, { undo: undo ?? ((): void => removeQuietly(path)), ours, plain: undo === undefined });
  if (undo === undefined) cleaner?.add(resolve(path));
  alive ??= setInterval(showLife, SIGN_OF_LIFE_MS).unref();
  watchSignals();
}

export function finished(path: string): void {
  if (unfinished.get(path)?.plain) cleaner?.forget(resolve(path));
  unfinished.delete(path);
  if (unfinished.size > 0) return;
  clearInterval(alive);
  alive = undefined;
  watchSignals();
}

/** Takes back everything that is registered, the last first. */
export function removeUnfinished(): void {
  for (const [path, { undo }] of [...unfinished].reverse()) {
    undo();
    finished(path);
  }
}

export function removeQuietly(path: string): void {
  try {
    rmSync(path, { recursive: true, force: true });
  } catch {
    // A folder that was taken away from us; the next run tries again.
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
 * For the command line: signals end the process, after what is unfinished has been removed. Handlers are there only while
 * something is: a handler has to wait for the event loop, so while a graph is analysed in one go the system's own way of
 * ending a process holds, and there is nothing to remove then.
 */
export function endOnSignals(on: boolean): void {
  catching = on;
  watchSignals();
}

/**
 * Waits until signals that came while this thread was busy have been handled. Before handlers are taken off: what is pending then is
 * lost, and who sent it waits in vain (the import of onnxruntime alone takes long enough).
 */
export function signalsHandled(): Promise<void> {
  // The first may come in the turn that runs already, after its look at what is pending.
  return new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
}

/**
 * Around the life of a session of onnxruntime, which keeps this thread from handling anything: signals are the system's
 * meanwhile, and a process of its own removes what only has to be removed.
 */
export function nativeBegins(): void {
  native++;
  if (catching && !cleaner) {
    cleaner = new Cleaner();
    for (const [path, { plain }] of unfinished) if (plain) cleaner.add(resolve(path));
  }
  watchSignals();
}

export function nativeEnds(): void {
  native--;
  watchSignals();
}

/** A process that must not outlive this one, until what is returned is called. */
export function endsWithUs(pid: number | undefined): () => void {
  if (!cleaner || pid === undefined) return () => {};
  const { add, forget } = { add: cleaner.add.bind(cleaner), forget: cleaner.forget.bind(cleaner) };
  add(pid);
  return () => forget(pid);
}

function watchSignals(): void {
  const cleaned = native > 0 && cleaner !== undefined && [...unfinished.values()].every((u) => u.plain);
  const wanted = catching && unfinished.size > 0 && !cleaned;
  if (wanted === handled.length > 0) return;
  for (const { signal, handler } of handled) process.off(signal, handler);
  handled = wanted
    ? SIGNALS.map(([signal, number]) => {
        const handler = (): void => {
          removeUnfinished();
          process.off(signal, handler);
          // As if there were no handler: who waits for us sees what ended us.
          process.kill(process.pid, signal);
          process.exit(128 + number);
        };
        process.on(signal, handler);
        return { signal, handler };
      })
    : [];
}

process.on('exit', removeUnfinished);

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

/**
 * A folder of this run's own in `parent`, for what is needed only while it lasts; what killed runs left there is removed.
 *
 * @throws what mkdir(2) says
 */
export function scratchFolder(parent: string, name: string): string {
  mkdirSync(parent, { recursive: true });
  sweep(parent);
  const path = temporaryName(join(parent, name), 'tmp', newTag(), '.d');
  mkdirSync(path);
  begun(path);
  return path;
}

/** Removes a temporary file or folder before the end of the run. */
export function drop(path: string): void {
  removeQuietly(path);
  finished(path);
}
