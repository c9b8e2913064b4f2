/** Folders as cases see them: what is in one, and what changed. */
import { createHash } from 'node:crypto';
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';

export function digest(bytes) {
  return createHash('sha1').update(bytes).digest('hex').slice(0, 16);
}

/** Relative path → digest of its bytes (links: where they point), for everything below a folder. */
export function contents(folder) {
  const all = new Map();
  for (const e of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    const path = join(e.parentPath ?? e.path, e.name);
    const name = path.slice(folder.length + 1);
    if (e.isDirectory()) continue;
    all.set(name, e.isSymbolicLink() ? `→ ${readlinkSync(path)}` : fileDigest(path));
  }
  return all;
}

const known = new Map();

/** Files that did not change are not read again. */
function fileDigest(path) {
  const s = lstatSync(path);
  const key = `${s.dev}:${s.ino}:${s.size}:${s.mtimeMs}`;
  let value = known.get(key);
  if (value === undefined) {
    value = digest(readFileSync(path));
    if (known.size > 1000) known.clear();
    known.set(key, value);
  }
  return value;
}

/** Files of interrupted runs, hidden and marked. */
export const isTemporary = (name) => /\.tmp-pdrop-|(^|\/)\.[^/]*pdrop[^/]*$/.test(name);

/**
 * Waits until nothing tidies up in a folder any more. A run that a signal ends at once leaves its copy of large weights to the
 * process that makes it, which notices and takes it away a moment later: what is still there after `patience` ms is left.
 */
export async function settled(folder, patience = 5000) {
  const until = performance.now() + patience;
  while (readdirSync(folder).some(isTemporary) && performance.now() < until) await new Promise((resolve) => setTimeout(resolve, 10));
}
