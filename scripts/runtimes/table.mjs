/** Generated parts of docs/runtimes.md, each between two comments. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const pathOf = (root) => join(root, 'docs', 'runtimes.md');
const blockOf = (name) => new RegExp(`<!-- ${name}:start -->\\n([\\s\\S]*)\\n<!-- ${name}:end -->`);

/** Lines of a block as they stand. */
export function readBlock(root, name) {
  const found = blockOf(name).exec(readFileSync(pathOf(root), 'utf8'));
  if (!found) throw new Error(`${pathOf(root)} has no place for ${name}`);
  return found[1];
}

export function writeBlock(root, name, lines) {
  readBlock(root, name);
  const text = readFileSync(pathOf(root), 'utf8');
  writeFileSync(pathOf(root), text.replace(blockOf(name), () => `<!-- ${name}:start -->\n${lines}\n<!-- ${name}:end -->`));
}
