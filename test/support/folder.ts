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
  return (readdirSync(path, { recursive: true, withFileTypes: true }) as import('node:fs').Dirent[])
    .filter((e) => !e.isDirectory())
    .map((e) => join(e.parentPath, e.name).slice(path.length + 1))
    .sort();
}

/** Writes `bytes` as model.onnx of a new folder and returns its path. */
export function modelFile(bytes: Uint8Array | string, name = 'model.onnx'): string {
  const path = join(folder(), name);
  writeFileSync(path, bytes);
  return path;
}
