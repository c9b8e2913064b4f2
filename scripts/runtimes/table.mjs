/** Generated parts of docs/runtimes.md, each between two comments. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export function writeBlock(root, name, lines) {
  const path = join(root, 'docs', 'runtimes.md');
  const text = readFileSync(path, 'utf8');
  const block = new RegExp(`<!-- ${name}:start -->[\\s\\S]*<!-- ${name}:end -->`);
  if (!block.test(text)) throw new Error(`${path} has no place for ${name}`);
  writeFileSync(path, text.replace(block, () => `<!-- ${name}:start -->\n${lines}\n<!-- ${name}:end -->`));
}
