/** The documentation is run: the Node loop of docs/running.md on a compiled fixture must pick the tokens that the reference picks. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, expect, test } from 'vitest';
import { compile, VERSION } from '../src/index.js';
import { LoadedFixture } from './support/fixtures.js';

const root = join(import.meta.dirname, '..');
const page = readFileSync(join(root, 'docs', 'running.md'), 'utf8');
const folder = mkdtempSync(join(tmpdir(), 'pdrop-readme-'));

afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

test('the Node loop generates what the reference generates', async () => {
  const code = /### Node \(onnxruntime-node\)\n\n```js\n([\s\S]*?)```/.exec(page)?.[1];
  if (!code) throw new Error('docs/running.md has no Node loop');
  const fixture = new LoadedFixture('llama-ts17-sdpa');
  const output = join(folder, 'model.pdrop.onnx');
  await compile(fixture.model, { stages: 4, lambda: 0.5, output });
  const script = join(folder, 'loop.mjs');
  const runtime = pathToFileURL(createRequire(import.meta.url).resolve('onnxruntime-node')).href;
  writeFileSync(script, code.replace("import * as ort from 'onnxruntime-node';", `import ort from '${runtime}';`).replace("'model.pdrop.onnx'", JSON.stringify(output)));
  const { generate } = (await import(script)) as {
    generate(prompt: { embeds: Float32Array; hidden: number; isImage: number[] }, embed: (token: number) => Float32Array, newTokens: number, eos: number): Promise<number[]>;
  };
  const scenario = fixture.info.scenarios.find((s) => s.plan === 'default' && s.kind === 'prefill');
  const [prompt, ...steps] = scenario?.runs ?? [];
  if (!prompt) throw new Error('no scenario');
  const lastToken = (ref: Parameters<LoadedFixture['numbers']>[0]): number => {
    const row = fixture.numbers(ref).slice(-(ref.shape.at(-1) as number));
    return row.indexOf(Math.max(...row));
  };
  const expected = [prompt, ...steps].map((r) => lastToken(r.expect.logits));
  // The goldens feed given embeddings in decode, whatever token was picked; so does this embed().
  let step = 0;
  const embeds = (run: typeof prompt): Float32Array => fixture.tensor(run.feeds.inputs_embeds as never).data as Float32Array;
  const tokens = await generate(
    { embeds: embeds(prompt), hidden: 64, isImage: fixture.numbers(prompt.feeds.image_token_mask as never) },
    () => embeds(steps[step++] as typeof prompt),
    expected.length,
    -1,
  );
  expect(tokens).toEqual(expected);
});

test('the version is that of package.json', () => {
  expect(VERSION).toBe((JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }).version);
});
