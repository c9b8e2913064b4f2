/** `validate` on folders: pictures and texts through the folder's own vision encoder, embedding graph and tokenizer. */
import { copyFileSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { beforeAll, afterAll, describe, expect, test } from 'vitest';
import { tmpdir } from 'node:os';
import { compileFolder } from '../../../src/index.js';
import { filesOfFolders } from '../../../src/folder/validate-folder.js';
import { Asking } from '../../../src/validate/feeding/asking/index.js';
import { pixelsOf, type Preprocessing, readPreprocessing } from '../../../src/validate/feeding/asking/pictures.js';
import { openPrompts } from '../../../src/validate/feeding/asking/prompts.js';
import { readModelFile } from '../../../src/validate/models/model.js';
import { schemaComplaint, schemaOf } from '../../../src/disk/schemas.js';
import { cli, cliJson } from '../../support/cli.js';
import { files, folder } from '../../support/folder.js';
import { FIXTURES } from '../../support/fixtures.js';

const LVLM = join(FIXTURES, 'lvlm');
const { questions } = JSON.parse(readFileSync(join(LVLM, 'demo', 'questions.json'), 'utf8')) as { questions: { picture: number; text: string; answer: string; prompt: number[]; answerIds: number[] }[] };
const GRAPHS = ['vision_encoder', 'embed_tokens', 'decoder_model_merged'];

let root: string;

/** The shipped model as transformers.js has it, and what is compiled of it. */
beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'pdrop-folders-'));
  mkdirSync(join(root, 'in', 'onnx'), { recursive: true });
  for (const f of files(LVLM).filter((n) => /^[^/]+\.json$/.test(n))) copyFileSync(join(LVLM, f), join(root, 'in', f));
  for (const g of GRAPHS) copyFileSync(join(LVLM, `${g}.onnx`), join(root, 'in', 'onnx', `${g}.onnx`));
  await compileFolder(join(root, 'in'), { output: join(root, 'out'), lambda: 0.5, positions: 'keep', measure: false });
}, 60_000);

afterAll(() => rmSync(root, { recursive: true, force: true }));

/** Questions as a file of samples beside the pictures. */
function asked(lines: readonly object[]): string {
  const at = folder();
  for (const i of [0, 1]) copyFileSync(join(LVLM, 'demo', `picture-${i}.png`), join(at, `picture-${i}.png`));
  writeFileSync(join(at, 'samples.jsonl'), lines.map((l) => JSON.stringify(l)).join('\n'));
  return join(at, 'samples.jsonl');
}

const question = (i: number): { image: string; text: string; answer: string } => {
  const { picture, text, answer } = questions[i] as (typeof questions)[number];
  return { image: `picture-${picture}.png`, text, answer };
};

const QUICK = ['--no-latency', '--no-memory', '--no-gates', '--baselines', 'none', '--continue', '1', '--maps', '0'];

test('questions are answered as the model answers them, before and after', { timeout: 60_000 }, async () => {
  const data = asked([question(0), question(11), { ...question(8), text: `<image> ${question(8).text}` }]);
  const { code, json } = await cliJson('validate', join(root, 'in'), join(root, 'out'), '--data', data, '--generate', '3', ...QUICK);
  expect(code).toBe(0);
  const [provider] = json.providers as { fidelity: { task: { original: number; rewritten: number } }; samples: { title: string }[] }[];
  expect(JSON.stringify(provider?.fidelity)).toContain('"original":1');
  expect(provider?.samples[0]).toMatchObject({ title: `${question(0).text} → ${question(0).answer}` });
  const check = schemaOf('report-validate');
  expect(check(json), schemaComplaint(check)).toBe(true);
});

test('a folder of one length: a picture, named from anywhere, and made-up prompts as long as its span whatever config.json says of pictures', { timeout: 60_000 }, async () => {
  const out = join(folder(), 'fixed');
  await compileFolder(join(root, 'in'), { output: out, lambda: 0.5, measure: false, fix: { batch: 1, sequence: 160 }, imageMask: 'span:1:144' });
  const data = asked([{ ...question(0), image: join(LVLM, 'demo', question(0).image) }]);
  const pictures = await cliJson('validate', join(root, 'in'), out, '--data', data, ...QUICK.filter((o) => o !== '--no-gates'));
  expect([pictures.code, pictures.json.verdict]).toEqual([0, 'passed']);
  const at = folder();
  cpSync(join(root, 'in'), at, { recursive: true });
  const config = join(at, 'config.json');
  writeFileSync(config, JSON.stringify({ ...(JSON.parse(readFileSync(config, 'utf8')) as object), image_seq_length: 16 }));
  const madeUp = await cliJson('validate', at, out, '--samples', '1', ...QUICK);
  expect([madeUp.code, madeUp.json.verdict]).toEqual([0, 'passed']);
  expect(madeUp.json.cost).toMatchObject({ at: { tokens: 160, imageTokens: 144 } });
});

describe('what the decoder is given', () => {
  test('ids as the model was trained on, features in the places of image tokens', async () => {
    const { ask, original } = filesOfFolders(join(root, 'in'), join(root, 'out'));
    const asking = new Asking(ask, (await readModelFile(original)).io);
    const got = await asking.ask('q', question(0), (p) => join(LVLM, 'demo', p));
    await asking.close();
    const { prompt, answerIds } = questions[0] as (typeof questions)[number];
    expect(Array.from(got.inputs.get('input_ids')?.data as BigInt64Array, Number)).toEqual([1, ...new Array<number>(144).fill(4), ...prompt]);
    expect(got.answers).toEqual([answerIds.slice(0, -1)]);
    expect([got.grids, got.inputs.get('inputs_embeds')?.dims]).toEqual([[{ rows: 12, columns: 12, start: 1 }], [1, 145 + prompt.length, 128]]);
    expect((got.inputs.get('image_token_mask')?.data as Uint8Array).reduce((a, b) => a + b, 0)).toBe(144);
  });

  test('a text with image tokens of its own keeps them where they stand; a wrong number of them is told', async () => {
    const prompts = await openPrompts(join(LVLM, 'tokenizer.json'), join(LVLM, 'tokenizer_config.json'), 4);
    const [a, b] = [prompts.ids('q', 'which <image> digit', [3]), prompts.ids('q', 'which digit', [3])];
    expect(b.slice(0, 4)).toEqual([1, 4, 4, 4]);
    expect(a.filter((id) => id !== 4)).toEqual(b.filter((id) => id !== 4));
    expect(a.indexOf(4)).toBe(2);
    expect(prompts.ids('q', '<image><image><image> which', [3]).filter((id) => id === 4)).toHaveLength(3);
    expect(() => prompts.ids('q', '<image><image> which', [3])).toThrow(/2 image tokens, for 1 picture of 3/);
  });

  test('a decoder that makes the features itself gets the pixels of all pictures', async () => {
    const at = folder();
    for (const f of files(LVLM).filter((n) => /^[^/]+\.json$|^model\.onnx$/.test(n))) copyFileSync(join(LVLM, f), join(at, f));
    const { ask, original } = filesOfFolders(at, at);
    const asking = new Asking(ask, (await readModelFile(original)).io);
    const pixels = [];
    for (const image of ['picture-0.png', 'picture-1.png', ['picture-0.png', 'picture-1.png']]) pixels.push((await asking.ask('q', { image, prompt: 'which digit' }, (p) => join(LVLM, 'demo', p))).inputs.get('pixel_values'));
    await asking.close();
    const [first, second, both] = pixels.map((t) => ({ dims: t?.dims, data: Array.from(t?.data as Float32Array) }));
    expect([first?.dims, both?.dims]).toEqual([[1, 3, 96, 96], [2, 3, 96, 96]]);
    expect(both?.data.join() === [first, second].flatMap((p) => p?.data ?? []).join()).toBe(true);
  });

  test('pictures are scaled, cut and normalized as the config says', async () => {
    const at = folder();
    const config = { image_processor_type: 'CLIPImageProcessor', size: { shortest_edge: 48 }, crop_size: { width: 32, height: 32 }, do_center_crop: true, resample: 3, image_mean: [0.5, 0.5, 0.5], image_std: [0.25, 0.25, 0.25] };
    writeFileSync(join(at, 'p.json'), JSON.stringify(config));
    const how = readPreprocessing(join(at, 'p.json')) as Preprocessing;
    expect(how).toMatchObject({ width: 32, height: 32, shortest: 48, kernel: 'cubic' });
    const { default: sharp } = await import('sharp');
    // Left half black, right half white: the middle of it is half and half.
    const white = await sharp({ create: { width: 60, height: 90, channels: 3, background: 'white' } }).png().toBuffer();
    await sharp({ create: { width: 120, height: 90, channels: 3, background: 'black' } }).composite([{ input: white, left: 60, top: 0 }]).png().toFile(join(at, 'half.png'));
    const { dims, data } = await pixelsOf('q', join(at, 'half.png'), how);
    expect(dims).toEqual([1, 3, 32, 32]);
    expect([data[0], data[31]]).toEqual([-2, 2]);
  });
});

interface Bad {
  readonly code: string;
  readonly what: string;
  readonly sample?: object;
  readonly spoil?: (input: string) => void;
  readonly says: RegExp;
}

const BAD: readonly Bad[] = [
  { code: 'PD519', what: 'no tokenizer', spoil: (r) => rmSync(join(r, 'tokenizer.json')), says: /tokenizer\.json/ },
  { code: 'PD519', what: 'a tokenizer that is none', spoil: (r) => writeFileSync(join(r, 'tokenizer.json'), '{"model":{"type":"None"}}'), says: /tokenizer/ },
  { code: 'PD520', what: 'a picture that is missing', sample: { image: 'none.png', text: 'which digit' }, says: /none\.png/ },
  { code: 'PD520', what: 'a device for a picture', sample: { image: `${'../'.repeat(20)}dev/zero`, text: 'which digit' }, says: /not a regular file/ },
  { code: 'PD520', what: 'a picture that is none', sample: { image: 'samples.jsonl', text: 'which digit' }, says: /samples\.jsonl/ },
  { code: 'PD521', what: 'no preprocessor_config.json', spoil: (r) => rmSync(join(r, 'preprocessor_config.json')), says: /preprocessor_config/ },
  { code: 'PD521', what: 'a processor that neither we nor transformers.js have', spoil: (r) => writeFileSync(join(r, 'preprocessor_config.json'), '{"image_processor_type":"OwnImageProcessor"}'), says: /OwnImageProcessor/ },
  { code: 'PD523', what: 'no vision encoder', spoil: (r) => rmSync(join(r, 'onnx', 'vision_encoder.onnx')), says: /vision encoder/ },
  { code: 'PD523', what: 'a config without the image token', spoil: (r) => writeFileSync(join(r, 'config.json'), '{}'), says: /which token/ },
];

test.each(BAD)('$code: $what', async ({ code, sample, spoil, says }) => {
  const input = join(folder(), 'in');
  for (const f of files(join(root, 'in'))) {
    mkdirSync(dirname(join(input, f)), { recursive: true });
    copyFileSync(join(root, 'in', f), join(input, f));
  }
  spoil?.(input);
  const { ask, original } = filesOfFolders(input, join(root, 'out'));
  const asking = new Asking(ask, (await readModelFile(original)).io);
  const data = dirname(asked([question(0)]));
  const error = await asking.ask('q', { ...question(0), ...sample }, (p) => join(data, p)).catch((e: unknown) => e);
  await asking.close();
  expect(error).toMatchObject({ code, hint: expect.stringMatching(/./) });
  const { message, culprit } = error as { message: string; culprit: string };
  expect(`${message} ${culprit}`).toMatch(says);
});

test('what is wrong is told with the sample', { timeout: 60_000 }, async () => {
  const { code, err } = await cli('validate', join(root, 'in'), join(root, 'out'), '--data', asked([{ image: 'none.png', text: 'which digit' }]), ...QUICK);
  expect([code, err]).toEqual([4, expect.stringMatching(/PD520.*none\.png/)]);
});

test('files and folders are not mixed, and texts need a folder', async () => {
  const decoder = (of: string): string => join(root, of, 'onnx', 'decoder_model_merged.onnx');
  expect((await cli('validate', join(root, 'in'), decoder('out'))).err).toMatch(/PD002.*is no folder/);
  expect((await cli('validate', join(root, 'in'), join(root, 'out'), '--only', 'q4')).err).toMatch(/PD611/);
  expect((await cli('validate', decoder('in'), decoder('out'), '--only', 'q4')).err).toMatch(/PD001/);
  expect((await cli('validate', decoder('in'), decoder('out'), '--data', asked([question(0)]), ...QUICK)).err).toMatch(/PD518/);
});
