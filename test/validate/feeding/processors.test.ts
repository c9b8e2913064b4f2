/** Folders whose processor cuts pictures into pieces, and chat templates: what the decoder gets is what unmodified transformers.js gives it. */
import { spawnSync } from 'node:child_process';
import { copyFileSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import * as library from '@huggingface/transformers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { filesOfFolders } from '../../../src/folder/validate-folder.js';
import { compileFolder } from '../../../src/index.js';
import { type Asked, Asking } from '../../../src/validate/feeding/asking/index.js';
import type { JsonSample, Message } from '../../../src/validate/feeding/data/json.js';
import { readModelFile } from '../../../src/validate/models/model.js';
import type { HostTensor } from '../../../src/validate/running/tensor.js';
import { packageRoot } from '../../../src/disk/own-files.js';
import { cliJson } from '../../support/cli.js';
import { folder } from '../../support/folder.js';
import { FIXTURES } from '../../support/fixtures.js';

const QUICK = ['--no-latency', '--no-memory', '--no-gates', '--baselines', 'none', '--continue', '1', '--maps', '0'];
const TOKENS = 8;

let root: string;

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'pdrop-processors-'));
  layOutLvlm();
  for (const name of ['smolvlm', 'qwen2-vl', 'lvlm']) {
    if (name !== 'lvlm') cpSync(join(FIXTURES, 'folders', name), join(root, name), { recursive: true });
    await compileFolder(join(root, name), { output: join(root, `${name}-out`), layers: [1], keep: [0.25], positions: 'keep', measure: false });
  }
  const { default: sharp } = await import('sharp');
  const noise = (width: number, height: number, seed: number): Buffer => Buffer.from(Array.from({ length: width * height * 3 }, (_, i) => (Math.imul(i + seed, 2654435761) >>> 13) & 255));
  // Wide, and square: two tiles, and four.
  for (const [name, width, height] of [['wide', 70, 30], ['square', 64, 64]] as const) await sharp(noise(width, height, height), { raw: { width, height, channels: 3 } }).png().toFile(join(root, `${name}.png`));
  const raw = sharp(noise(64, 40, 7), { raw: { width: 64, height: 40, channels: 3 } });
  await raw.clone().greyscale().png().toFile(join(root, 'grey.png'));
  await raw.clone().ensureAlpha(0.5).png().toFile(join(root, 'clear.png'));
  await raw.clone().withMetadata({ orientation: 6 }).jpeg().toFile(join(root, 'turned.jpg'));
  Object.assign(library.env, { allowRemoteModels: false, logLevel: library.LogLevel.ERROR });
}, 60_000);

afterAll(async () => {
  for (const model of models.values()) await (await model).dispose();
  rmSync(root, { recursive: true, force: true });
});

/** The shipped model with the configs of a LLaVA, and a template. */
function layOutLvlm(): void {
  const [from, to] = [join(FIXTURES, 'lvlm'), join(root, 'lvlm')];
  mkdirSync(join(to, 'onnx'), { recursive: true });
  for (const file of ['config.json', 'generation_config.json', 'preprocessor_config.json', 'tokenizer.json', 'tokenizer_config.json']) copyFileSync(join(from, file), join(to, file));
  for (const graph of ['vision_encoder', 'embed_tokens', 'decoder_model_merged']) copyFileSync(join(from, `${graph}.onnx`), join(to, 'onnx', `${graph}.onnx`));
  for (const picture of ['picture-0.png', 'picture-1.png']) copyFileSync(join(from, 'demo', picture), join(root, picture));
  const add = (file: string, more: object): void => writeFileSync(join(to, file), JSON.stringify({ ...(JSON.parse(readFileSync(join(to, file), 'utf8')) as object), ...more }));
  add('preprocessor_config.json', { processor_class: 'LlavaProcessor', image_seq_length: 144 });
  add('tokenizer_config.json', { chat_template: "{{ bos_token }}{% for m in messages %}{% for c in m.content %}{{ '<image> ' if c.type == 'image' else c.text }}{% endfor %}{% endfor %}" });
  writeFileSync(join(to, 'processor_config.json'), JSON.stringify({ image_token: '<image>', patch_size: 8, num_additional_image_tokens: 0, processor_class: 'LlavaProcessor' }));
}

type Feeds = Readonly<Record<string, { readonly dims: readonly number[]; readonly data: ArrayLike<number | bigint> }>>;

const models = new Map<string, Promise<Awaited<ReturnType<typeof library.AutoModelForImageTextToText.from_pretrained>>>>();

/** A sample in transformers.js as its documentation has it, listened to at the decoder. */
async function unmodified(at: string, { messages, prompt }: { readonly messages?: readonly Message[]; readonly prompt?: string }, pictures: readonly string[]): Promise<{ ids: number[]; feeds: Feeds; generated: number[] }> {
  const processor = await library.AutoProcessor.from_pretrained(at, { local_files_only: true });
  const text = prompt ?? (processor.apply_chat_template(messages as never, { add_generation_prompt: true }) as unknown as string);
  const images = await Promise.all(pictures.map((p) => library.RawImage.read(join(root, p))));
  const inputs = (await (images.length === 0 ? processor.tokenizer?.(text) : basename(at).startsWith('lvlm') ? processor(images, text, { add_special_tokens: messages === undefined }) : processor(text, images))) as { input_ids: { dims: number[]; tolist(): bigint[][] } };
  if (!models.has(at)) models.set(at, library.AutoModelForImageTextToText.from_pretrained(at, { dtype: 'fp32', device: 'cpu', local_files_only: true }));
  const model = (await models.get(at)) as NonNullable<Awaited<ReturnType<typeof library.AutoModelForImageTextToText.from_pretrained>>>;
  const session = (model as unknown as { sessions: Record<string, { run(feeds: Feeds): Promise<unknown> }> }).sessions.decoder_model_merged as { run(feeds: Feeds): Promise<unknown> };
  let feeds: Feeds | undefined;
  const run = session.run.bind(session);
  session.run = (given) => {
    feeds ??= given;
    return run(given);
  };
  const output = (await model.generate({ ...inputs, max_new_tokens: TOKENS, do_sample: false } as never)) as { tolist(): bigint[][] };
  session.run = run;
  return { ids: (inputs.input_ids.tolist()[0] as bigint[]).map(Number), feeds: feeds as Feeds, generated: (output.tolist()[0] as bigint[]).slice(inputs.input_ids.dims[1]).map(Number) };
}

async function ask(at: string, sample: JsonSample): Promise<Asked> {
  const { ask: files, original } = filesOfFolders(at, join(root, `${basename(at)}-out`));
  const asking = new Asking(files, (await readModelFile(original)).io);
  try {
    return await asking.ask('q', sample, (p) => join(root, p));
  } finally {
    await asking.close();
  }
}

const numbers = (t: HostTensor | Feeds[string] | undefined): number[] => Array.from((t?.data ?? []) as ArrayLike<number | bigint>, Number);
const furthest = (a: HostTensor | undefined, b: Feeds[string] | undefined): number => {
  const [x, y] = [numbers(a), numbers(b)];
  return x.length === y.length ? x.reduce((most, v, i) => Math.max(most, Math.abs(v - (y[i] as number))), 0) : Number.NaN;
};
const image = { type: 'image' } as const;
const say = (text: string): { type: 'text'; text: string } => ({ type: 'text', text });
const user = (...content: Exclude<Message['content'], string>): Message => ({ role: 'user', content });

interface Case {
  readonly what: string;
  readonly sample: JsonSample;
  readonly same: { readonly messages?: readonly Message[]; readonly prompt?: string };
  readonly imageTokens: number;
}

const CASES: Readonly<Record<string, readonly Case[]>> = {
  smolvlm: [
    { what: 'a question about a picture', sample: { image: 'wide.png', text: 'What is it?' }, same: { messages: [user(image, say('What is it?'))] }, imageTokens: 12 },
    { what: 'about two', sample: { image: ['square.png', 'wide.png'], text: 'Which?' }, same: { messages: [user(image, image, say('Which?'))] }, imageTokens: 32 },
    ...['grey.png', 'clear.png', 'turned.jpg'].map((name): Case => ({ what: name, sample: { image: name, text: 'What is it?' }, same: { messages: [user(image, say('What is it?'))] }, imageTokens: 20 })),
    { what: 'about none', sample: { text: 'Hello' }, same: { messages: [user(say('Hello'))] }, imageTokens: 0 },
    {
      what: 'a conversation',
      sample: { image: ['wide.png', 'square.png'], messages: [user(image, say('first')), { role: 'assistant', content: [say('ok')] }, user(say('then'), image)] },
      same: { messages: [user(image, say('first')), { role: 'assistant', content: [say('ok')] }, user(say('then'), image)] },
      imageTokens: 32,
    },
    { what: 'a prompt as it is', sample: { image: 'square.png', prompt: 'Look: <image> A' }, same: { prompt: 'Look: <image> A' }, imageTokens: 20 },
    { what: 'a text that says where its picture is', sample: { image: 'square.png', text: 'Look: <image> B' }, same: { prompt: 'Look: <image> B' }, imageTokens: 20 },
  ],
  // Its pictures are prepared by ourselves, its template is the library's.
  lvlm: [
    { what: 'a question about a picture', sample: { image: 'picture-0.png', text: 'which digit is at c2 ?' }, same: { messages: [user(image, say('which digit is at c2 ?'))] }, imageTokens: 144 },
    { what: 'a prompt as it is', sample: { image: 'picture-1.png', prompt: '<image> which digit is at c2 ?' }, same: { prompt: '<image> which digit is at c2 ?' }, imageTokens: 144 },
  ],
  // Patches of 4 pixels, 2 × 2 of them a token; sides are scaled to multiples of 8, and to 48² pixels at most.
  'qwen2-vl': [
    { what: 'a question about a picture', sample: { image: 'wide.png', text: 'What is it?' }, same: { messages: [user(image, say('What is it?'))] }, imageTokens: 36 },
    { what: 'about another', sample: { image: 'square.png', text: 'And this?' }, same: { messages: [user(image, say('And this?'))] }, imageTokens: 36 },
    { what: 'about none', sample: { messages: [{ role: 'user', content: 'Hello' }] }, same: { messages: [{ role: 'user', content: 'Hello' }] }, imageTokens: 0 },
    { what: 'a picture behind a text', sample: { image: 'wide.png', messages: [user(say('What about'), image)] }, same: { messages: [user(say('What about'), image)] }, imageTokens: 36 },
  ],
};

const IMAGE: Readonly<Record<string, number>> = { smolvlm: 260, 'qwen2-vl': 261, lvlm: 4 };

const paths = ({ image: given }: JsonSample): string[] => (given === undefined ? [] : [given].flat() as string[]);

describe.each(Object.entries(CASES))('%s', (name, cases) => {
  test.each(cases)('$what: the same tokens, positions and embeddings', { timeout: 60_000 }, async ({ sample, same, imageTokens }) => {
    const at = join(root, name);
    const [got, want] = [await ask(at, sample), await unmodified(at, same, paths(sample))];
    expect(numbers(got.inputs.get('input_ids'))).toEqual(want.ids);
    expect(got.inputs.get('inputs_embeds')?.dims).toEqual(want.feeds.inputs_embeds?.dims);
    // Pictures that are prepared by ourselves are normalized in double precision, theirs in single.
    expect(furthest(got.inputs.get('inputs_embeds'), want.feeds.inputs_embeds)).toBeLessThanOrEqual(name === 'lvlm' ? 1e-4 : 0);
    // What is not given is counted on, as 1-D positions and those of text alone are.
    const positions = got.inputs.get('position_ids');
    if (positions) expect([positions.dims, numbers(positions)]).toEqual([want.feeds.position_ids?.dims, numbers(want.feeds.position_ids)]);
    expect(positions !== undefined).toBe(name === 'qwen2-vl' && imageTokens > 0);
    const mask = numbers(got.inputs.get('image_token_mask'));
    expect(mask).toEqual(want.ids.map((id) => Number(id === IMAGE[name])));
    expect(mask.filter(Boolean)).toHaveLength(imageTokens);
  });

  test('validate generates what unmodified transformers.js does, of the folder and of what is compiled of it', { timeout: 120_000 }, async () => {
    const data = join(root, `${name}.jsonl`);
    writeFileSync(data, cases.map((c) => JSON.stringify(c.sample)).join('\n'));
    const { code, json, err } = await cliJson('validate', join(root, name), join(root, `${name}-out`), '--data', data, '--generate', String(TOKENS), ...QUICK);
    expect([code, err]).toEqual([0, expect.not.stringContaining('PD')]);
    const [provider] = json.providers as { samples: { generated: number[][]; candidates: { rewritten: { generated: number[][] } } }[] }[];
    const generated = [];
    for (const { sample, same } of cases) generated.push([(await unmodified(join(root, name), same, paths(sample))).generated, (await unmodified(join(root, `${name}-out`), same, paths(sample))).generated]);
    // Behind a prompt without pictures transformers.js 4.3 adds the length to a Qwen2-VL's positions that it means to take off: from the second token on it is off.
    const comparable = (tokens: readonly (number[] | undefined)[], i: number): (number[] | undefined)[] => (name === 'qwen2-vl' && cases[i]?.imageTokens === 0 ? tokens.map((t) => t?.slice(0, 1)) : [...tokens]);
    expect(provider?.samples.map((s, i) => comparable([s.generated[0], s.candidates.rewritten.generated[0]], i))).toEqual(generated.map(comparable));
    // Tokens are dropped: or the two would be the same whatever is done. (The trained one's answers hold.)
    expect(generated.some(([original, compiled]) => String(original) !== String(compiled))).toBe(name !== 'lvlm');
  });
});

describe('LLaVA', () => {
  const asked = { image: ['picture-0.png', 'picture-1.png'], text: 'which digit is at c2 ?' };

  test('several pictures, each in the place that the template gives it', async () => {
    const { inputs } = await ask(join(root, 'lvlm'), asked);
    const one = numbers((await ask(join(root, 'lvlm'), { ...asked, image: 'picture-0.png' })).inputs.get('input_ids'));
    expect(numbers(inputs.get('input_ids'))).toEqual([1, ...new Array<number>(288).fill(4), ...one.slice(145)]);
  });

  test.each([
    ['PaliGemmaProcessor', { image: 'picture-0.png', prompt: 'which digit is at c2 ?' }, true],
    ['Gemma3Processor', { image: 'picture-0.png', prompt: 'row which digit is at c2 ?' }, false],
  ] as const)('a processor that writes more around pictures than their tokens is that of transformers.js: %s', async (processor_class, sample, first) => {
    const at = spoilt((set) => {
      set('preprocessor_config.json', (j) => ({ ...j, processor_class }));
      // Words of the tokenizer stand for the tokens around a picture.
      set('tokenizer_config.json', (j) => ({ ...j, boi_token: 'row', image_token: '<image>', eoi_token: 'digit' }));
      set('processor_config.json', (j) => ({ ...j, processor_class, image_seq_length: 144 }));
      writeFileSync(join(set.folder, 'chat_template.jinja'), '');
    }, 'lvlm');
    const processor = await library.AutoProcessor.from_pretrained(at, { local_files_only: true });
    const images = [await library.RawImage.read(join(root, 'picture-0.png'))];
    const want = (await (first ? processor(images, sample.prompt) : processor(sample.prompt, images))) as { input_ids: { tolist(): bigint[][] } };
    const { inputs } = await ask(at, sample);
    expect(numbers(inputs.get('input_ids'))).toEqual(want.input_ids.tolist()[0]?.map(Number));
  });

  test('a processor that transformers.js does not have leaves the prompt to the sample', async () => {
    const at = spoilt((set) => set('preprocessor_config.json', (j) => ({ ...j, processor_class: 'OwnProcessor' })), 'lvlm');
    await expect(ask(at, { image: 'picture-0.png', text: 'which digit is at c2 ?' })).rejects.toMatchObject({ code: 'PD521', message: expect.stringContaining('OwnProcessor'), hint: expect.stringContaining('"prompt"') });
    const sample = { image: 'picture-0.png', prompt: '<image> which digit is at c2 ?' };
    expect((await ask(at, sample)).inputs.get('input_ids')).toEqual((await ask(join(root, 'lvlm'), sample)).inputs.get('input_ids'));
  });

  test('where no processor is named, tokens are written as often as pictures have features', async () => {
    const at = spoilt((set) => set('preprocessor_config.json', (j) => ({ ...j, processor_class: undefined, image_processor_type: 'LlavaOnevisionImageProcessor' })), 'lvlm');
    rmSync(join(at, 'processor_config.json'));
    const [got, plain] = [await ask(at, asked), await ask(join(root, 'lvlm'), asked)];
    expect(got.inputs.get('input_ids')).toEqual(plain.inputs.get('input_ids'));
    expect(furthest(got.inputs.get('inputs_embeds'), plain.inputs.get('inputs_embeds'))).toBeLessThanOrEqual(1e-4);
  });
});

describe('SmolVLM', () => {
  test('the tokens of a picture lie on it row by row', async () => {
    expect((await ask(join(root, 'qwen2-vl'), { image: 'wide.png', text: 'What?' })).grids).toEqual([{ rows: 4, columns: 9 }]);
  });

  test('the pieces of a picture lie on it as they were cut', async () => {
    expect((await ask(join(root, 'smolvlm'), { image: 'wide.png', text: 'What?' })).grids).toEqual([
      { rows: 2, columns: 2, area: [0, 0, 0.5, 1] },
      { rows: 2, columns: 2, area: [0.5, 0, 1, 1] },
      { rows: 2, columns: 2 },
    ]);
    expect((await ask(join(root, 'smolvlm'), { image: ['wide.png', 'wide.png'], text: 'What?' })).grids).toBeUndefined();
  });

  test('the processor and the template are found where transformers 5 writes them', async () => {
    const at = spoilt((set) => {
      const { chat_template } = set('tokenizer_config.json', ({ chat_template: _, ...rest }) => rest) as { chat_template: string };
      set('preprocessor_config.json', ({ processor_class: _, ...rest }) => rest);
      writeFileSync(join(set.folder, 'chat_template.jinja'), chat_template);
    });
    const sample = { image: 'wide.png', text: 'What is it?' };
    expect(numbers((await ask(at, sample)).inputs.get('inputs_embeds'))).toEqual(numbers((await ask(join(root, 'smolvlm'), sample)).inputs.get('inputs_embeds')));
  });
});

type Json = Record<string, unknown>;
type Setter = { (file: string, change: (json: Json) => Json): Json; readonly folder: string };

/** A copy of the folder with changed configs. */
function spoilt(spoil: (set: Setter) => void, of = 'smolvlm'): string {
  const at = join(folder(), of);
  cpSync(join(root, of), at, { recursive: true });
  const set = (file: string, change: (json: Json) => Json): Json => {
    const before = JSON.parse(readFileSync(join(at, file), 'utf8')) as Json;
    writeFileSync(join(at, file), JSON.stringify(change(before)));
    return before;
  };
  spoil(Object.assign(set, { folder: at }));
  return at;
}

interface Bad {
  readonly code: string;
  readonly what: string;
  /** Default: smolvlm. */
  readonly of?: string;
  readonly sample?: JsonSample;
  readonly spoil?: (set: Setter) => void;
  readonly says: RegExp;
}

const ASKED = { image: 'wide.png', text: 'What is it?' };
const BAD: readonly Bad[] = [
  { code: 'PD521', what: 'no processor_config.json', spoil: ({ folder: f }) => rmSync(join(f, 'processor_config.json')), says: /Idefics3Processor.*processor_config\.json/s },
  { code: 'PD521', what: 'a processor that transformers.js does not have', spoil: (set) => set('preprocessor_config.json', () => ({ image_processor_type: 'LlavaNextImageProcessor', processor_class: 'LlavaNextProcessor' })), says: /LlavaNext/ },
  {
    code: 'PD521',
    what: 'pieces, and nobody who writes out their tokens',
    spoil: (set) => {
      set('preprocessor_config.json', (j) => ({ ...j, processor_class: undefined }));
      set('tokenizer_config.json', (j) => ({ ...j, processor_class: undefined }));
      rmSync(join(set.folder, 'processor_config.json'));
    },
    says: /Idefics3ImageProcessor.*processor_config/s,
  },
  { code: 'PD521', what: 'no tokenizer_config.json', spoil: ({ folder: f }) => rmSync(join(f, 'tokenizer_config.json')), sample: { text: 'a', image: 'wide.png' }, says: /tokenizer_config/ },
  { code: 'PD521', what: 'no preprocessor_config.json', spoil: ({ folder: f }) => rmSync(join(f, 'preprocessor_config.json')), says: /preprocessor_config/ },
  { code: 'PD610', what: 'a config that is no JSON', spoil: ({ folder: f }) => writeFileSync(join(f, 'processor_config.json'), '{'), says: /processor_config/ },
  { code: 'PD525', what: 'a template with a fault', spoil: (set) => set('tokenizer_config.json', (j) => ({ ...j, chat_template: "{{ raise_exception('no pictures here') }}" })), says: /no pictures here/ },
  { code: 'PD525', what: 'a template for texts alone', spoil: (set) => set('tokenizer_config.json', (j) => ({ ...j, chat_template: '<image>{{ messages[0].role }}' })), says: /What is it/ },
  { code: 'PD525', what: 'messages, and no template', sample: { image: 'wide.png', messages: [user(image, say('a'))] }, spoil: (set) => set('tokenizer_config.json', (j) => ({ ...j, chat_template: undefined })), says: /has none/ },
  { code: 'PD510', what: 'a template that leaves pictures out', spoil: (set) => set('tokenizer_config.json', (j) => ({ ...j, chat_template: '{{ messages[0].content[1].text }}' })), says: /0 image tokens, for 1 picture/ },
  { code: 'PD510', what: 'more image tokens than pictures', sample: { image: 'wide.png', prompt: 'a <image> b <image> c' }, says: /2 image tokens, for 1 picture/ },
  { code: 'PD510', what: 'more image parts than pictures', sample: { image: 'wide.png', messages: [user(image, image, say('a'))] }, says: /2 image parts, for 1 picture/ },
  { code: 'PD510', what: 'two pictures, which transformers.js takes for a video', of: 'qwen2-vl', sample: { image: ['square.png', 'square.png'], text: 'Which?' }, says: /Qwen2VLProcessor of transformers\.js 4.*2 pictures/ },
  { code: 'PD523', what: 'positions on three axes of a model that transformers.js does not have', of: 'qwen2-vl', spoil: (set) => set('config.json', (j) => ({ ...j, architectures: ['OwnForConditionalGeneration'] })), says: /OwnForConditionalGeneration.*config\.json/ },
  { code: 'PD510', what: 'two ways to ask', sample: { text: 'a', prompt: 'b' }, says: /more than one/ },
  { code: 'PD520', what: 'a picture that is none', sample: { image: 'samples.txt', text: 'a' }, says: /samples\.txt/ },
];

test.each(BAD)('$code: $what', async ({ code, of = 'smolvlm', sample, spoil, says }) => {
  writeFileSync(join(root, 'samples.txt'), 'no picture');
  const error = await ask(spoil ? spoilt(spoil, of) : join(root, of), sample ?? ASKED).catch((e: unknown) => e);
  expect(error).toMatchObject({ code, hint: expect.stringMatching(/./), culprit: expect.stringMatching(/./) });
  const { message, culprit } = error as { message: string; culprit: string };
  expect(`${message} ${culprit}`).toMatch(says);
});

test('nothing is fetched, and settings of the library stay what they were', async () => {
  const before = { ...library.env };
  let fetched = 0;
  Object.assign(library.env, {
    allowRemoteModels: true,
    fetch: () => {
      fetched++;
      return Promise.reject(new Error('no network'));
    },
  });
  const { allowRemoteModels, useFSCache, logLevel } = library.env;
  try {
    await ask(spoilt(({ folder: f }) => rmSync(join(f, 'processor_config.json'))), ASKED).catch(() => undefined);
    await ask(join(root, 'smolvlm'), ASKED);
    expect([fetched, library.env.allowRemoteModels, library.env.useFSCache, library.env.logLevel]).toEqual([0, allowRemoteModels, useFSCache, logLevel]);
  } finally {
    Object.assign(library.env, before);
  }
});

test.each([
  ['ERR_MODULE_NOT_FOUND', /is not installed[\s\S]*npm install @huggingface\/transformers/],
  // What Node says of the second of two versions of onnxruntime-node.
  ['ERR_DLOPEN_FAILED', /cannot be loaded: Not here[\s\S]*npm ls onnxruntime-node/],
])('PD524, %s: without transformers.js the sample that needs it says so', { timeout: 60_000 }, (reason, says) => {
  const at = folder();
  const hidden = `export async function resolve(name, context, next) { if (name === '@huggingface/transformers') throw Object.assign(new Error('Not here'), { code: '${reason}' }); return next(name, context); }`;
  writeFileSync(join(at, 'hide.mjs'), `import { register } from 'node:module'; register('data:text/javascript,' + encodeURIComponent(${JSON.stringify(hidden)}));`);
  copyFileSync(join(root, 'wide.png'), join(at, 'wide.png'));
  writeFileSync(join(at, 'samples.jsonl'), JSON.stringify(ASKED));
  const { status, stderr } = spawnSync(process.execPath, ['--import', join(at, 'hide.mjs'), join(packageRoot(), 'bin', 'pdrop-compile.js'), 'validate', join(root, 'smolvlm'), join(root, 'smolvlm-out'), '--data', join(at, 'samples.jsonl'), ...QUICK], { encoding: 'utf8' });
  expect([status, stderr]).toEqual([4, expect.stringMatching(/PD524/)]);
  expect(stderr).toMatch(says);
});
