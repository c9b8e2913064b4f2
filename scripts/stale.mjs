/** Removes what an earlier build left in dist/ whose source is gone: a moved file's old build would still be found, and be packed. */
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
for (const path of readdirSync(join(root, 'dist'), { recursive: true })) {
  const source = /^(.+?)\.(?:js|d\.ts)(?:\.map)?$/.exec(path)?.[1];
  if (source !== undefined && !source.startsWith('cli/') && !existsSync(join(root, `${source}.ts`))) rmSync(join(root, 'dist', path));
}
console.log('build: dist/ is up to date');
