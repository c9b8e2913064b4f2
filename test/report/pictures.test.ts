import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readPictures } from '../../src/report/pictures.js';
import type { KeptReport } from '../../src/validate/result.js';
import { PIXEL } from './html-sample.js';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'pdrop-pictures-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test('reads pictures by what they are, and leaves out what is none, too large or not there', () => {
  const write = (name: string, content: string | Buffer): string => {
    writeFileSync(join(folder, name), content);
    return join(folder, name);
  };
  const png = write('named.jpg', Buffer.from(PIXEL.split(',')[1] as string, 'base64'));
  const jpeg = write('b.bin', Buffer.from([0xff, 0xd8, 0xff, 0xe0]));
  const large = write('large.png', Buffer.concat([Buffer.from('\u0089PNG', 'latin1'), Buffer.alloc(2000)]));
  const paths = [png, jpeg, large, write('page.png', '<script>'), join(folder, 'missing.png'), folder, undefined];
  const kept: KeptReport = { samples: paths.map((picture, i) => ({ id: String(i), picture, rows: [] })), histogram: { bins: 24, samples: 0, boundaries: [] } };
  const found = readPictures(kept, 1000);
  expect([...found.keys()]).toEqual([png, jpeg]);
  expect(found.get(png)).toBe(PIXEL);
  expect(found.get(jpeg)).toMatch(/^data:image\/jpeg;base64,/);
  expect(readPictures(null).size).toBe(0);
});
