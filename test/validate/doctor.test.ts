/** doctor, and work in child processes: a provider that cannot be had does not take the parent along. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readFeeds, runInChild, writeFeeds } from '../../src/validate/running/child.js';
import { doctor, tinyModel } from '../../src/validate/doctor.js';
import { fromNumbers } from '../../src/validate/running/tensor.js';
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

describe('a child process', () => {
  const feeds = join(folder, 'feeds.bin');
  it('keeps feeds through the file', () => {
    const given = new Map([['x', fromNumbers('float32', [4, 4], Array.from({ length: 16 }, (_, i) => i))], ['n', fromNumbers('int64', [0, 2], [])]]);
    writeFeeds(feeds, given);
    expect(readFeeds(feeds)).toEqual(given);
  });
  it('tells its memory, and its fault', async () => {
    const model = join(folder, 'tiny.onnx');
    writeFileSync(model, await tinyModel());
    const answer = await runInChild({ model, provider: 'cpu', feeds });
    expect(answer.ok).toBe(true);
    expect(answer.rss?.peak).toBeGreaterThan(answer.rss?.before ?? Number.POSITIVE_INFINITY);
    writeFileSync(join(folder, 'no.onnx'), 'nothing');
    expect(await runInChild({ model: join(folder, 'no.onnx'), provider: 'cpu', feeds })).toMatchObject({ ok: false, code: 'PD501' });
  });
});
