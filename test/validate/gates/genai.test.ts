/** Graphs compiled for onnxruntime-genai are validated as they are: ids that mark, counts that are carried, logits of the last token. */
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { filesOfFolders } from '../../../src/folder/validate-folder.js';
import { compile, compileFolder, validate } from '../../../src/index.js';
import { FIXTURES } from '../../support/fixtures.js';
import { damage, temporaryFolder } from '../support.js';

const folder = temporaryFolder();
const QUICK = { samples: 2, imageTokens: 24, textTokens: 12, generate: 4, latency: false, memory: false, baselines: ['none'], workDir: folder } as const;
const ALL = { identity: 'passed', 'text-only': 'passed', counts: 'passed', order: 'passed', 'text-kept': 'passed', choice: 'passed', decode: 'passed', reproduction: 'passed' };

async function gatesOf(files: { readonly original: string; readonly rewritten: string; readonly embed?: string | undefined }): Promise<Record<string, string>> {
  const report = await validate({ ...QUICK, ...files });
  return Object.fromEntries(report.providers.flatMap((p) => p.gates.map((g) => [g.gate, g.status])));
}

test('a folder of three graphs: its embedding graph takes features, none of them for text', async () => {
  const input = join(FIXTURES, 'genai-phi3v');
  const { output } = await compileFolder(input, { lambda: 0.5, output: join(folder, 'phi3v') });
  const { original, rewritten, embed } = filesOfFolders(input, output as string);
  expect(embed).toBe(join(input, 'embedding.onnx'));
  expect(await gatesOf({ original, rewritten, embed })).toEqual(ALL);
});

test('a decoder that takes ids; one that loses a token of the text is caught', async () => {
  const original = join(FIXTURES, 'genai-llama-fp32', 'model.onnx');
  const sound = await compile(original, { stages: 3, imageMask: 'input-ids:120', runtime: 'genai', controlFlow: false, output: join(folder, 'sound.onnx') });
  expect(await gatesOf({ original, rewritten: sound.output as string })).toEqual(ALL);
  const broken = await damage(sound.output as string, join(folder, 'broken.onnx'), 'drop-text');
  expect(await gatesOf({ original, rewritten: broken })).toMatchObject({ counts: 'passed', 'text-kept': 'failed' });
});
