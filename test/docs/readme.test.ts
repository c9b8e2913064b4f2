/** The documentation is run: the Node loop of docs/running.md, as it stands, on compiled fixtures must pick the tokens that the reference picks. */
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { InferenceSession, type Tensor } from 'onnxruntime-node';
import { expect, test } from 'vitest';
import { compile, VERSION } from '../../src/index.js';
import { type FixtureRun, LoadedFixture, SESSION } from '../support/fixtures.js';
import { folder } from '../support/folder.js';

const root = join(import.meta.dirname, '..', '..');
const page = readFileSync(join(root, 'docs', 'running.md'), 'utf8');

type Chunk = Record<string, Tensor>;
type Generate = (chunk: Chunk, isImage: readonly number[], embed: (token: number) => Chunk, newTokens: number, eos: number) => Promise<number[]>;

// float16, no mask, no positions, an input for the logits, caches of the model builder; all others: npm run test:runtimes.
test.each(['llama-ts17-sdpa', 'llama-dynamo20-fp16', 'llama-ts17-nomask', 'qwen2-ts17-noposids', 'llama-ts17-logits-to-keep', 'genai-llama-fp16', 'genai-llama-fp32'])('%s: the Node loop generates what the reference generates', async (name) => {
  const code = /### Node \(onnxruntime-node\)\n\n```js\n([\s\S]*?)```/.exec(page)?.[1];
  if (!code) throw new Error('docs/running.md has no Node loop');
  const fixture = new LoadedFixture(name);
  const scenario = fixture.info.scenarios.find((s) => s.kind === 'prefill');
  const plan = fixture.info.plans[scenario?.plan as string];
  if (!scenario || !plan) throw new Error('no scenario');
  const out = folder();
  const output = join(out, 'model.pdrop.onnx');
  const { layers, keep, positions, imageMask } = plan;
  await compile(fixture.model, { layers, keep, positions, imageMask, output });
  const script = join(out, 'loop.mjs');
  const runtime = pathToFileURL(createRequire(import.meta.url).resolve('onnxruntime-node')).href;
  writeFileSync(script, code.replace("import * as ort from 'onnxruntime-node';", `import ort from '${runtime}';`).replace("'model.pdrop.onnx'", JSON.stringify(output)));
  const { generate } = (await import(script)) as { generate: Generate };
  const [prompt, ...steps] = scenario.runs as [FixtureRun, ...FixtureRun[]];
  const expected = scenario.runs.map((r) => {
    const row = fixture.numbers(r.expect.logits).slice(-(r.expect.logits.shape.at(-1) as number));
    return row.indexOf(Math.max(...row));
  });
  const chunkOf = ({ feeds }: FixtureRun): Chunk => {
    const key = feeds.inputs_embeds ? 'inputs_embeds' : 'input_ids';
    return { [key]: fixture.tensor(feeds[key] as never) };
  };
  const marks = prompt.feeds.image_token_mask;
  const isImage = marks ? fixture.numbers(marks) : new Array<number>(prompt.feeds.input_ids?.shape[1] ?? 0).fill(0);
  // The goldens feed given chunks in decode, whatever token was picked; so does this embed().
  let step = 0;
  expect(await generate(chunkOf(prompt), isImage, () => chunkOf(steps[step++] as FixtureRun), expected.length, -1)).toEqual(expected);
});

// The builder calls the head size kv_cache_dim; torch's exporter writes sizes as symbols named after the number.
test.each(['genai-qwen3-fp32', 'tf-llama-ort-rotary', 'tf-lfm2'])('%s: caches are declared with the numbers they have', async (name) => {
  const output = join(folder(), 'model.onnx');
  await compile(new LoadedFixture(name).model, { stages: 2, output });
  const session = await InferenceSession.create(output, SESSION);
  const shapes = [...session.inputMetadata, ...session.outputMetadata].filter((v) => /past_key_values|present/.test(v.name)).map((v) => (v as { shape: readonly (number | string)[] }).shape);
  await session.release();
  expect(shapes.length).toBeGreaterThan(0);
  for (const shape of shapes) expect(shape.map((d) => typeof d)).toEqual(shape.length === 4 ? ['string', 'number', 'string', 'number'] : ['string', 'number', 'number']);
});

test('the version is that of package.json', () => {
  expect(VERSION).toBe((JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }).version);
});
