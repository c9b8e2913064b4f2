/**
 * Who a temporary file belongs to. The name of every file that a run leaves behind for a moment says which process made
 * it, so that the next run can tell a file that is being written from one whose writer was killed.
 *
 * A process number alone is not enough: it is used again, and in containers it is always 1. So the tag holds the machine's
 * boot and process namespace (hashed), the process number and the moment the process started.
 */
import { readFileSync, readlinkSync } from 'node:fs';
import { hostname } from 'node:os';

export type OwnerState = 'this process' | 'running' | 'gone' | 'unknown';

/** Where process numbers mean the same: this boot of this machine, in this process namespace. */
function place(): string {
  const parts = [attempt(() => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()), attempt(() => readlinkSync('/proc/self/ns/pid')), hostname()];
  return twelveDigits(parts.join('\n'));
}

/**
 * Two FNV-1a hashes, 48 bits of them. Places need to be told apart, not kept secret, and names need to be new, not
 * unguessable (files are made exclusively): loading Node's crypto takes longer than many a command.
 */
function twelveDigits(text: string): string {
  let [low, high] = [0x811c9dc5, 0x050c5d1f];
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    low = Math.imul(low ^ unit, 0x01000193);
    high = Math.imul(high ^ unit ^ (low >>> 24), 0x01000193);
  }
  return `${hex(low)}${hex(high).slice(0, 4)}`;
}

const hex = (word: number): string => (word >>> 0).toString(16).padStart(8, '0');

function attempt(get: () => string): string {
  try {
    return get();
  } catch {
    return '';
  }
}

/** When a process started, in the kernel's clock ticks; 0 where the system does not say, undefined when there is no such process, or nothing but its exit code. */
function startOf(pid: number): number | undefined {
  try {
    // Field 22; the command in brackets may have blanks and brackets of its own.
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' || fields[0] === 'X' ? undefined : Number(fields[19]) || 0;
  } catch {
    try {
      process.kill(pid, 0);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ESRCH') return undefined;
    }
    return 0;
  }
}

let own: { place: string; prefix: string } | undefined;

function self(): { place: string; prefix: string } {
  if (!own) {
    const where = place();
    own = { place: where, prefix: `${where}-${process.pid}-${startOf(process.pid) ?? 0}` };
  }
  return own;
}

/** A tag no other run has: owner, then something random. */
export function newTag(): string {
  return `${self().prefix}-${twelveDigits(`${Math.random()} ${Math.random()}`)}`;
}

/** The form of a tag, for patterns. */
export const TAG = '([0-9a-f]{12})-(\\d+)-(\\d+)-[0-9a-f]{12}';

/** What process numbers cannot tell: it has ended, and perhaps nobody has asked for its exit code yet. */
export function declareGone(tag: string): void {
  gone.add(ownerOf(tag));
}

const gone = new Set<string>();

/** A tag without what is random. */
function ownerOf(tag: string): string {
  return tag.slice(0, tag.lastIndexOf('-'));
}

export function stateOf(tag: string): OwnerState {
  const [, where, pid, start] = new RegExp(`^${TAG}$`).exec(tag) ?? [];
  if (tag.startsWith(`${self().prefix}-`)) return 'this process';
  if (gone.has(ownerOf(tag))) return 'gone';
  if (where !== self().place) return 'unknown';
  const now = startOf(Number(pid));
  if (now === undefined) return 'gone';
  if (now === 0 || start === '0') return 'unknown';
  return now === Number(start) ? 'running' : 'gone';
}
