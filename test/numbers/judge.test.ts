/** The judge (fixtures/judge) on its first 28 evaluation pictures: what docs/accuracy.md finds on all of them, pinned. */
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
// @ts-expect-error a script without types
import { askModel, isRight, lookAtEval, openLvlm } from '../../scripts/accuracy-lvlm.mjs';
import { compile } from '../../src/index.js';
import { folder } from '../support/folder.js';

const judge = join(import.meta.dirname, '..', '..', 'fixtures', 'judge');
const PLAIN = join(judge, 'decoder_model_merged.onnx');
const TRAINED = join(judge, 'decoder_trained_with_dropping.onnx');
const PICTURES = 28;

interface Question {
  readonly picture: number;
}

let model: { readonly questions: readonly Question[]; close(): Promise<void> };
let features: unknown;
let questions: readonly Question[];
const original = new Map<string, number>();

beforeAll(async () => {
  model = await openLvlm(judge);
  questions = model.questions.filter((q) => q.picture < PICTURES);
  features = await lookAtEval(model, questions.map((q) => q.picture));
  for (const path of [PLAIN, TRAINED]) original.set(path, await right(path));
}, 120_000);

afterAll(() => model.close());

/** Right answers in percent. */
async function right(path: string): Promise<number> {
  const answers = (await askModel(model, path, questions, features, { batch: 64 })) as number[][];
  return (100 * questions.filter((q, i) => isRight(q, answers[i])).length) / questions.length;
}

async function under(path: string, options: Parameters<typeof compile>[1]): Promise<{ accuracy: number; macs: number }> {
  const output = join(folder(), 'out.onnx');
  const report = await compile(path, { ...options, output, imageTokens: 64, textTokens: 12 });
  return { accuracy: await right(output), macs: report.macs.ratio };
}

test('before pruning at least 95% are right', () => {
  expect(questions.length).toBeGreaterThan(200);
  expect(original.get(PLAIN)).toBeGreaterThan(95);
  expect(original.get(TRAINED)).toBeGreaterThan(90);
});

test('at equal cost: positions do not matter, attention beats chance, what is diverse keeps nearly all', async () => {
  const [kept, compact, blind, balanced] = [await under(PLAIN, {}), await under(PLAIN, { preset: 'paper' }), await under(PLAIN, { rank: 'random' }), await under(PLAIN, { rank: 'balanced' })];
  expect(kept.macs).toBeLessThan(0.53);
  expect(Math.abs(kept.accuracy - compact.accuracy)).toBeLessThan(4);
  expect(kept.accuracy - blind.accuracy).toBeGreaterThan(3);
  expect(balanced.accuracy - kept.accuracy).toBeGreaterThan(10);
  expect((original.get(PLAIN) as number) - balanced.accuracy).toBeLessThan(3);
});

test('trained with dropping, the default schedule costs much less', async () => {
  const [plain, trained] = [await under(PLAIN, {}), await under(TRAINED, {})];
  expect(trained.accuracy - plain.accuracy).toBeGreaterThan(5);
});
