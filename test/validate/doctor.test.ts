/** doctor: which providers work, and why others cannot. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { doctor } from '../../src/validate/doctor.js';
import { temporaryFolder } from './support.js';

const folder = temporaryFolder();

describe('doctor', () => {
  it('runs the CPU and says why others cannot', async () => {
    const report = await doctor(['cpu', process.platform === 'darwin' ? 'dml' : 'coreml']);
    expect(report.providers[0]).toMatchObject({ provider: 'cpu', works: true });
    expect(report.providers[1]).toMatchObject({ works: false, reason: expect.stringMatching(/does not have it/) });
    expect(report.providers[1]?.needs).toMatch(/macOS|Windows/);
  });
});

it('onnxruntime leaves nothing in the temporary folder, and tells nobody', async () => {
  const tmp = join(folder, 'tmp');
  mkdirSync(tmp);
  const { TMPDIR: _, ORT_DISABLE_TELEMETRY: __, ...env } = process.env;
  const run = spawnSync(process.execPath, [join(import.meta.dirname, '../../bin/pdrop-compile.js'), 'doctor'], { encoding: 'utf8', env: { ...env, TMPDIR: tmp } });
  expect([run.status, run.stderr]).toEqual([0, '']);
  expect(readdirSync(tmp)).toEqual([]);
});
