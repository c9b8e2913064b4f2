/** Temporary folders that are gone after the test, and what is in them. */
import { mkdtempSync, readdirSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach } from 'vitest';

const made: string[] = [];

afterEach(() => {
  for (const folder of made.splice(0)) rmSync(folder, { recursive: true, force: true });
});

export function folder(): string {
  const path = realpathSync(mkdtempSync(join(tmpdir(), 'pdrop-test-')));
  made.push(path);
  return path;
}

/** All files below a folder, hidden ones too, sorted. */
export function files(path: string): string[] {
  // By itself `recursive` follows links to folders, from Node 22 on.
  const below = (folder: string): string[] => readdirSync(join(path, folder), { withFileTypes: true }).flatMap((e) => (e.isDirectory() ? below(join(folder, e.name)) : [join(folder, e.name)]));
  return below('').sort();
}

/** Writes `bytes` as model.onnx of a new folder and returns its path. */
export function modelFile(bytes: Uint8Array | string, name = 'model.onnx'): string {
  const path = join(folder(), name);
  writeFileSync(path, bytes);
  return path;
}
