/** What ONNX Runtime warns of: a compiled graph must be as silent as its original, when it is loaded and when it runs. */
import { execFile } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import { fixtureNames, LoadedFixture } from '../support/fixtures.js';
import { folder } from '../support/folder.js';
import { decodeModel, encodeModel, graphOf } from '../support/proto.js';

const SCRIPT = join(import.meta.dirname, '..', 'support', 'warnings.mjs');

/** Warnings by "fixture form", numbers and times left out. */
async function warningsOf(args: readonly string[]): Promise<Map<string, string[]>> {
  const { stderr } = await promisify(execFile)(process.execPath, [SCRIPT, ...args], { maxBuffer: 2 ** 26 });
  expect(stderr.trim().split('\n').at(-1)).toBe('== end');
  const found = new Map<string, string[]>();
  let lines: string[] = [];
  for (const line of stderr.split('\n')) {
    const [, title] = /^== (.+)$/.exec(line) ?? [];
    if (title) {
      lines = [];
      found.set(title, lines);
    } else if (line.includes(':onnxruntime:')) lines.push(line.replace(/^.*?\[(\w):onnxruntime:[^,]*, \S+ /, '$1 '));
  }
  found.delete('end');
  return found;
}

it('is heard of at all', async () => {
  const { model } = new LoadedFixture('llama-ts17-sdpa');
  const proto = decodeModel(readFileSync(model));
  const [some] = graphOf(proto).initializer ?? [];
  graphOf(proto).initializer?.push(Object.assign(Object.create(Object.getPrototypeOf(some)), some, { name: 'nobody reads this' }));
  const path = join(folder(), 'idle.onnx');
  writeFileSync(path, encodeModel(proto));
  expect([...(await warningsOf([path])).values()].flat().join()).toContain('nobody reads this');
});

it('no fixture warns of more when it is compiled', { timeout: 600_000 }, async () => {
  const names = fixtureNames().filter((n) => (new LoadedFixture(n).info.execution_provider ?? 'cpu') === 'cpu');
  const found = await warningsOf(names);
  expect([...found.keys()].filter((k) => k.endsWith(' original'))).toHaveLength(names.length);
  expect(found.size).toBeGreaterThanOrEqual(3 * names.length - 3);
  const more = [...found].flatMap(([title, lines]) => {
    const before = new Set(found.get(`${title.split(' ')[0]} original`));
    return lines.filter((l) => !before.has(l)).map((l) => `${title}: ${l}`);
  });
  expect(more).toEqual([]);
});
