/** Where the package's own files lie. Asked from the sources (the tests), from dist/ and from the bundle of the command line, whose files are not those of the sources. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

let root: string | undefined;

/** Folder of package.json. */
export function packageRoot(): string {
  if (root !== undefined) return root;
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'package.json')) && dirname(folder) !== folder) folder = dirname(folder);
  root = folder;
  return folder;
}

/**
 * A file of ours that is run as a process of its own.
 *
 * @param source its place in the sources, such as src/disk/copier.ts
 * @returns path of what was built of it
 */
export function builtScript(source: `${string}.ts`): string {
  return join(packageRoot(), 'dist', `${source.slice(0, -'.ts'.length)}.js`);
}
