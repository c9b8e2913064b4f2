/** What every refusal owes the user: the exit code, a code, a reason, a way forward, and nothing written. */
import { dirname } from 'node:path';
import { expect } from 'vitest';
import { cliJson } from './cli.js';
import { files, modelFile } from './folder.js';

export interface Complaint {
  readonly code: string;
  readonly message: string;
  readonly culprit?: string;
  readonly hint: string;
}

/** Compiles a file and expects a clean refusal (3) or usage error (2). */
export async function expectRefusal(path: string, code: string, args: readonly string[] = [], exit = 3): Promise<Complaint> {
  const before = files(dirname(path));
  const result = await cliJson(path, ...args);
  const error = result.json.error as Complaint | undefined;
  expect(error, `expected ${code}, it compiled`).toBeDefined();
  expect(`${error?.code} ${error?.message} ${error?.culprit ?? ''}`).toContain(code);
  expect(result.code).toBe(exit);
  expect(result.err).toContain(`error ${code}`);
  expect(error?.hint.length).toBeGreaterThan(10);
  expect(files(dirname(path))).toEqual(before);
  return error as Complaint;
}

export async function expectBytesRefused(bytes: Uint8Array | string, code: string, args: readonly string[] = [], exit = 3): Promise<Complaint> {
  return expectRefusal(modelFile(bytes), code, args, exit);
}
