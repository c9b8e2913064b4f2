/** ARCHITECTURE.md is true where a machine can tell: files and folders that it names exist, and names stand in the files that it says they stand in. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { describe, expect, test } from 'vitest';

const root = join(import.meta.dirname, '..', '..');
const page = readFileSync(join(root, 'ARCHITECTURE.md'), 'utf8');
const ROOMS = ['src', 'passes', 'test', 'scripts', 'fixtures/make', 'docs', 'schemas', 'bin', 'bench', 'fuzz'];
const files = ROOMS.flatMap((room) => readdirSync(join(root, room), { recursive: true, encoding: 'utf8' }).map((name) => join(room, name)));
const loose = new Set([...files.map((f) => basename(f)), ...readdirSync(root)]);

/** What is in backticks; the tree of folders is not. */
const quoted = [...page.replaceAll(/```[\s\S]*?```/g, '').matchAll(/`([^`\n]+)`/g)].map((m) => m[1] as string);
const tree = /```\n([\s\S]*?)```/.exec(page)?.[1] as string;
const isPath = (text: string): boolean => /^(src|passes|test|scripts|fixtures|docs|schemas|bin|bench|fuzz)\//.test(text);
const isFile = (text: string): boolean => /^[\w.-]+\.(ts|mjs|cjs|md|json)$/.test(text);

describe('what it names exists', () => {
  const paths = [...new Set(quoted.filter(isPath))];
  test.each(paths)('%s', (path) => expect(existsSync(join(root, path))).toBe(true));

  const names = [...new Set(quoted.filter(isFile))];
  test.each(names)('%s, in some room', (name) => expect(loose.has(name)).toBe(true));

  test('it names enough that this is no empty test', () => expect([paths.length > 20, names.length > 20]).toEqual([true, true]));
});

test('the tree names every folder of src/ and each room of validate', () => {
  const folders = (of: string): string[] => readdirSync(join(root, of), { withFileTypes: true }).filter((e) => e.isDirectory()).map((e) => e.name);
  expect(folders('src').filter((name) => !tree.includes(`src/${name}/`))).toEqual([]);
  expect(folders('src/validate').filter((name) => !tree.includes(` ${name}/`))).toEqual([]);
  const named = [...tree.matchAll(/(?<![\w/])((?:src|passes|bin)\/[\w./-]*)/g)].map((m) => m[1] as string);
  expect(named.filter((path) => !existsSync(join(root, path)) && !existsSync(join(root, `${path}.ts`)))).toEqual([]);
});

// `cutAt` in `src/analyse/layers.ts`, `countDrops` in `passes/image-tokens.ts` …
const held = [...page.matchAll(/`(\w+)` in `((?:src|passes)\/[\w./-]+\.ts)`/g)].map((m) => [m[1], m[2]] as [string, string]);
test.each(held)('%s stands in %s', (name, file) => expect(readFileSync(join(root, file), 'utf8')).toMatch(new RegExp(`\\b(function|class|const|interface|type) ${name}\\b`)));

test('rooms of test/validate are rooms of src/validate', () => {
  const rooms = readdirSync(join(root, 'test/validate'), { withFileTypes: true }).filter((e) => e.isDirectory()).map((e) => e.name);
  expect(rooms.length).toBeGreaterThan(0);
  expect(rooms.filter((room) => !existsSync(join(root, 'src/validate', room)))).toEqual([]);
});
