/** Work in child processes: a provider that cannot be had does not take the parent along. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { tinyModel } from '../../../src/validate/doctor.js';
import { readFeeds, runInChild, writeFeeds } from '../../../src/validate/running/child.js';
import { fromNumbers } from '../../../src/validate/running/tensor.js';
import { temporaryFolder } from '../support.js';

const folder = temporaryFolder();

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
