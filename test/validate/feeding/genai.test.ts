/** Folders of onnxruntime-genai: what the graphs get of pictures and prompts is what unmodified genai 0.18 gives them, bit for bit (fixtures/genai-pictures). */
import { createHash } from 'node:crypto';
import { copyFileSync, cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { filesOfFolders } from '../../../src/folder/validate-folder.js';
import { compileFolder, validate } from '../../../src/index.js';
import { Genai } from '../../../src/validate/feeding/asking/genai/index.js';
import { Asking } from '../../../src/validate/feeding/asking/index.js';
import { openPrompts } from '../../../src/validate/feeding/asking/prompts.js';
import type { JsonSample } from '../../../src/validate/feeding/data/json.js';
import { openEmbedder } from '../../../src/validate/feeding/embed.js';
import { follow } from '../../../src/validate/fidelity/follow.js';
import { Decoder } from '../../../src/validate/models/decoder.js';
import { readModelFile } from '../../../src/validate/models/model.js';
import { bytesPerElement, type Dtype, type HostTensor } from '../../../src/validate/running/tensor.js';
import { cli, cliJson } from '../../support/cli.js';
import { FIXTURES } from '../../support/fixtures.js';
import { folder } from '../../support/folder.js';

interface Golden {
  readonly prompt: string;
  readonly pictures: readonly string[];
  readonly ids: readonly (readonly [number, number])[];
  readonly tensors: Readonly<Record<string, { readonly dtype: Dtype; readonly dims: readonly number[]; readonly sha256: string }>>;
}

interface Answered {
  readonly prompt: string;
  readonly pictures: readonly string[];
  readonly original: readonly number[];
  readonly keep: readonly number[];
  readonly compact: readonly number[];
}

const PICTURES = join(FIXTURES, 'genai-pictures');
const PHI3V = join(FIXTURES, 'genai-phi3v');

/** A folder and what genai makes in it; without configs it is fixtures/genai-phi3v. */
interface Described {
  readonly genai_config?: object;
  readonly processor_config?: object;
  readonly tokens?: Readonly<Record<string, number>>;
  readonly cases: readonly Golden[];
  readonly answers?: readonly Answered[];
}

const { folders } = JSON.parse(readFileSync(join(PICTURES, 'goldens.json'), 'utf8')) as { folders: Readonly<Record<string, Described>> };
const described = (name: string): Described => folders[name] as Described;

/** The folder that the goldens describe, but for graphs that are only loaded there. */
function laidOut(name: string, at = folder()): string {
  const { genai_config: config, processor_config: transforms, tokens } = described(name);
  if (!config) return PHI3V;
  writeFileSync(join(at, 'genai_config.json'), JSON.stringify(config));
  writeFileSync(join(at, 'processor_config.json'), JSON.stringify(transforms));
  const tokenizer = JSON.parse(readFileSync(join(PHI3V, 'tokenizer.json'), 'utf8')) as { model: { vocab: Record<string, number> }; added_tokens: object[] };
  tokenizer.model.vocab['\u010a'] = 98;
  tokenizer.added_tokens.push(...Object.entries(tokens ?? {}).map(([content, id]) => ({ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true })));
  writeFileSync(join(at, 'tokenizer.json'), JSON.stringify(tokenizer));
  copyFileSync(join(PHI3V, 'tokenizer_config.json'), join(at, 'tokenizer_config.json'));
  if (name !== 'qwen2_5_vl') return at;
  for (const graph of ['vision.onnx', 'embedding.onnx']) copyFileSync(join(PICTURES, name, graph), join(at, graph));
  copyFileSync(join(FIXTURES, 'genai-qwen2.5-vl-fp32', 'model.onnx'), join(at, 'model.onnx'));
  return at;
}

let root: string;
/** Pictures, good and bad. */
let pictures: string;
/** Folders that models run in. */
const inputs = new Map<string, string>();

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'pdrop-genai-'));
  pictures = join(root, 'pictures');
  cpSync(PICTURES, pictures, { recursive: true });
  rmSync(join(pictures, 'goldens.json'));
  const { default: sharp } = await import('sharp');
  writeFileSync(join(pictures, 'short.png'), readFileSync(join(pictures, 'wide.png')).subarray(0, 300));
  await sharp(join(pictures, 'square.png')).png({ progressive: true }).toFile(join(pictures, 'interlaced.png'));
  await sharp(join(pictures, 'square.png')).toColourspace('cmyk').jpeg().toFile(join(pictures, 'cmyk.jpg'));
  await sharp(join(pictures, 'square.png')).resize(6000, 1, { fit: 'fill' }).png().toFile(join(pictures, 'line.png'));
  for (const { name, which } of ANSWERS.filter((a) => a.which !== 'original')) {
    const input = inputs.get(name) ?? laidOut(name, mkdtempSync(join(root, name)));
    inputs.set(name, input);
    await compileFolder(input, { output: join(root, `${name}-${which}`), stages: 3, lambda: 0.5, positions: which === 'keep' ? 'keep' : 'compact', measure: false });
  }
}, 60_000);

afterAll(() => rmSync(root, { recursive: true, force: true }));

const runsOf = (ids: readonly number[]): [number, number][] => {
  const runs: [number, number][] = [];
  for (const id of ids) {
    const last = runs.at(-1);
    if (last?.[0] === id) last[1]++;
    else runs.push([id, 1]);
  }
  return runs;
};

const digest = (tensors: readonly HostTensor[]): string => {
  const hash = createHash('sha256');
  for (const { dtype, data } of tensors) hash.update(new Uint8Array(data.buffer, data.byteOffset, data.length * bytesPerElement(dtype)));
  return hash.digest('hex');
};

/** What is made of a case, as the goldens have it; what is made picture by picture one after another. */
async function made(path: string, { prompt, pictures: asked, tensors }: Golden): Promise<Pick<Golden, 'ids' | 'tensors'>> {
  const prompts = await openPrompts(join(path, 'tokenizer.json'), join(path, 'tokenizer_config.json'), 'negative');
  const { ids, runs } = await new Genai(path).prepare('q', prompt, asked.map((p) => join(PICTURES, p)), (text) => prompts.bare(text));
  const got = Object.keys(tensors).map((name) => {
    const all = runs.map((run) => run.get(name) as HostTensor);
    const { dtype, dims } = all[0] as HostTensor;
    return [name, { dtype, dims: [all.reduce((n, t) => n + (t.dims[0] as number), 0), ...dims.slice(1)], sha256: digest(all) }] as const;
  });
  return { ids: runsOf(ids), tensors: Object.fromEntries(got) };
}

const CASES = Object.entries(folders).flatMap(([name, { cases }]) => cases.map((golden) => ({ name, golden, what: `${golden.pictures.join(', ') || 'no picture'}: ${JSON.stringify(golden.prompt)}` })));

test.each(CASES)('what genai’s processor makes, $name, $what', async ({ name, golden }) => {
  const { ids, tensors } = golden;
  expect(await made(laidOut(name), golden)).toEqual({ ids, tensors });
});

const ANSWERS = [
  { name: 'phi3v', which: 'original' },
  { name: 'phi3v', which: 'keep' },
  { name: 'phi3v', which: 'compact' },
  { name: 'qwen2_5_vl', which: 'original' },
  { name: 'qwen2_5_vl', which: 'keep' },
] as const;

test.each(ANSWERS)('answers are genai’s: $name, $which', { timeout: 60_000 }, async ({ name, which }) => {
  const { ask, original, rewritten, embed, eos } = filesOfFolders(inputs.get(name) as string, join(root, `${name}-${which === 'original' ? 'keep' : which}`));
  const { io, caches } = await readModelFile(original);
  const asking = new Asking(ask, io);
  const embedder = await openEmbedder(embed as string);
  const decoder = await Decoder.open(which === 'original' ? original : rewritten, { embedder, caches, imageSource: { kind: 'input-ids', id: ask.imageTokenId as number } });
  const { answers = [] } = described(name);
  const got: (readonly number[] | undefined)[] = [];
  for (const { prompt, pictures: images } of answers) {
    const made = await asking.ask('q', { ...(images.length > 0 && { image: images }), prompt }, (p) => join(PICTURES, p));
    const { generated } = await follow(decoder, { id: 'q', index: 0, source: 'q', feeds: made.inputs }, { positions: 1, generate: 16, forced: undefined, eos });
    got.push(generated[0]);
  }
  await decoder.close();
  await embedder.close();
  await asking.close();
  expect(answers.length).toBeGreaterThan(0);
  expect(got).toEqual(answers.map((a) => a[which]));
});

/** A file of questions beside the pictures. */
function asked(lines: readonly object[]): string {
  const path = join(pictures, 'questions.jsonl');
  writeFileSync(path, lines.map((l) => JSON.stringify(l)).join('\n'));
  return path;
}

test('two folders and questions: one picture, two, and none', { timeout: 60_000 }, async () => {
  const data = asked([
    { image: 'wide.png', text: 'say <|image_1|> what', answer: 'a cat' },
    { image: ['wide.png', 'wide-2.png'], prompt: 'one <|image_1|> two <|image_2|>?' },
    { prompt: 'no picture at all' },
  ]);
  const { original, rewritten, embed, eos, ask } = filesOfFolders(PHI3V, join(root, 'phi3v-keep'));
  const report = await validate({ original, rewritten, ...(embed && { embed }), ...(eos && { eos }), ask, data: [data], generate: 2, positions: 2, latency: false, memory: false, baselines: ['none'], workDir: root });
  const [provider] = report.providers;
  expect(provider?.gates.map((g) => [g.gate, g.status]).filter(([, status]) => status !== 'passed')).toEqual([]);
  expect(provider?.gates.length).toBeGreaterThanOrEqual(8);
  expect(report.failures ?? []).toEqual([]);
});

test('from the command line', { timeout: 60_000 }, async () => {
  const quick = ['--no-latency', '--no-memory', '--no-gates', '--baselines', 'none', '--continue', '1', '--maps', '0'];
  const { code, json } = await cliJson('validate', PHI3V, join(root, 'phi3v-keep'), '--data', asked([{ image: 'wide.png', text: 'say <|image_1|> what' }]), '--generate', '4', ...quick);
  expect(code).toBe(0);
  expect((json.providers as { samples: { title: string }[] }[])[0]?.samples[0]).toMatchObject({ title: 'say <|image_1|> what' });
  const { code: wrong, err } = await cli('validate', PHI3V, join(root, 'phi3v-keep'), '--data', asked([{ image: 'wide.png', text: 'no place' }]), ...quick);
  expect([wrong, err]).toEqual([4, expect.stringMatching(/PD510.*0 places for pictures \(none\), for 1 picture/)]);
});

test('tokens that end an answer are genai’s', () => {
  const at = folder();
  cpSync(PHI3V, at, { recursive: true });
  const path = join(at, 'genai_config.json');
  const config = JSON.parse(readFileSync(path, 'utf8')) as { model: Record<string, unknown> };
  expect(filesOfFolders(at, join(root, 'phi3v-keep')).eos).toEqual([127]);
  config.model.eos_token_id = [2, 127];
  writeFileSync(path, JSON.stringify(config));
  writeFileSync(join(at, 'generation_config.json'), '{"eos_token_id":5}');
  expect(filesOfFolders(at, join(root, 'phi3v-keep')).eos).toEqual([2, 127]);
  delete config.model.eos_token_id;
  writeFileSync(path, JSON.stringify(config));
  expect(filesOfFolders(at, join(root, 'phi3v-keep')).eos).toEqual([5]);
});

function operation(type: string, attrs?: object): object {
  return { operation: { name: 'it', domain: 'com.microsoft.extensions', type, ...(attrs && { attrs }) } };
}

/** Other operations behind the decoding. */
function transformsOf(...operations: readonly object[]): (input: string) => void {
  return (input) => writeFileSync(join(input, 'processor_config.json'), JSON.stringify({ processor: { transforms: [operation('DecodeImage'), ...operations] } }));
}

function configured(change: (model: Record<string, unknown>) => void): (input: string) => void {
  return (input) => {
    const path = join(input, 'genai_config.json');
    const config = JSON.parse(readFileSync(path, 'utf8')) as { model: Record<string, unknown> };
    change(config.model);
    writeFileSync(path, JSON.stringify(config));
  };
}

const PLACE = '<|vision_start|><|image_pad|><|vision_end|>';

/** Input ids of a question in a folder whose chat template is given. */
async function idsWith(input: string, template: string, sample: JsonSample): Promise<number[]> {
  const at = join(folder(), 'in');
  cpSync(input, at, { recursive: true });
  const config = JSON.parse(readFileSync(join(at, 'tokenizer_config.json'), 'utf8')) as object;
  writeFileSync(join(at, 'tokenizer_config.json'), JSON.stringify({ ...config, chat_template: template }));
  const { ask, original } = filesOfFolders(at, at);
  const asking = new Asking(ask, (await readModelFile(original)).io);
  const { inputs: made } = await asking.ask('q', sample, (p) => join(PICTURES, p));
  await asking.close();
  return Array.from(made.get('input_ids')?.data as BigInt64Array, Number);
}

test('a chat template gets the places of pictures as texts where genai’s processor finds them there, and begins with what it says', { timeout: 60_000 }, async () => {
  const phi = "{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>{% endfor %}<assistant>";
  const image = 'wide.png';
  const plain = await idsWith(PHI3V, '{{ 1 / 0 }}', { image, prompt: '<user><|image_1|>\nwhat<end><assistant>' });
  expect(await idsWith(PHI3V, phi, { image, text: 'what' })).toEqual(plain);
  expect(await idsWith(PHI3V, phi, { image, messages: [{ role: 'user', content: [{ type: 'image' }, { type: 'text', text: 'what' }] }] })).toEqual(plain);
  expect(await idsWith(PHI3V, phi, { image, messages: [{ role: 'user', content: '<|image_1|>\nwhat' }] })).toEqual(plain);
  // It says itself where its picture is: no template.
  expect(await idsWith(PHI3V, phi, { image, text: 'say <|image_1|> what' })).toEqual(await idsWith(PHI3V, phi, { image, prompt: 'say <|image_1|> what' }));
  const qwen = inputs.get('qwen2_5_vl') as string;
  const chat = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{{ '<|im_start|>assistant\n' }}";
  expect(await idsWith(qwen, chat, { image: [image, 'high.png'], text: 'what' })).toEqual(await idsWith(qwen, chat, { image: [image, 'high.png'], prompt: `<|im_start|>user\n${PLACE}${PLACE}what<|im_end|>\n<|im_start|>assistant\n` }));
  const parts = [{ role: 'user', content: [{ type: 'image' }, { type: 'text', text: 'what' }] }] as const;
  expect(new Genai(laidOut('gemma3')).messages(parts)).toEqual(parts);
});

test('a decoder in half precision gets embeddings in half precision', async () => {
  const at = join(folder(), 'in');
  cpSync(inputs.get('qwen2_5_vl') as string, at, { recursive: true });
  copyFileSync(join(FIXTURES, 'genai-llama-fp16', 'model.onnx'), join(at, 'model.onnx'));
  const { ask, original } = filesOfFolders(at, at);
  const asking = new Asking(ask, (await readModelFile(original)).io);
  const { inputs: made } = await asking.ask('q', { image: 'wide.png', prompt: PLACE }, (p) => join(PICTURES, p));
  await asking.close();
  expect(made.get('inputs_embeds')).toMatchObject({ dtype: 'float16', dims: [1, 12, 64] });
});

test('how the tokens of one picture lie on it, where they are a grid', async () => {
  const input = inputs.get('qwen2_5_vl') as string;
  const { ask, original } = filesOfFolders(input, input);
  const asking = new Asking(ask, (await readModelFile(original)).io);
  const of = async (...image: readonly string[]): Promise<unknown> => (await asking.ask('q', { image, prompt: image.map(() => PLACE).join() }, (p) => join(PICTURES, p))).grids;
  expect([await of('wide.png'), await of('high.png'), await of('wide.png', 'high.png')]).toEqual([[{ rows: 1, columns: 10 }], [{ rows: 4, columns: 2 }], undefined]);
  await asking.close();
  const prompts = await openPrompts(join(laidOut('mistral3'), 'tokenizer.json'), undefined, 100);
  expect((await new Genai(laidOut('mistral3')).prepare('q', '[IMG]', [join(PICTURES, 'high.png')], (text) => prompts.bare(text))).grids).toEqual([{ rows: 3, columns: 1 }]);
});

/** Prompts that a model's processor does not take, and folders that it does not. */
const REFUSED: readonly { readonly name: string; readonly prompt: string; readonly pictures: readonly string[]; readonly spoil?: (input: string) => void; readonly code: string; readonly says: RegExp }[] = [
  { name: 'qwen2_5_vl', prompt: 'no place', pictures: ['wide.png'], code: 'PD510', says: /0 places for pictures, for 1 picture/ },
  { name: 'qwen2_5_vl', prompt: `${PLACE} ${PLACE}`, pictures: ['wide.png'], code: 'PD510', says: /2 places/ },
  { name: 'qwen2_5_vl', prompt: '<|vision_start|> and <|vision_start|><|vision_end|>', pictures: ['wide.png', 'wide.png'], code: 'PD510', says: /does not end/ },
  { name: 'qwen2_5_vl', prompt: PLACE, pictures: [], code: 'PD510', says: /1 places for pictures, for 0 pictures/ },
  { name: 'qwen2_5_vl', prompt: PLACE, pictures: ['line.png'], code: 'PD510', says: /one side is longer than 200 times the other/ },
  { name: 'qwen2_5_vl', prompt: PLACE, pictures: ['wide.png'], spoil: transformsOf(operation('Rescale'), operation('Normalize')), code: 'PD521', says: /end with 1 results, .* "qwen2_5_vl" takes 2/ },
  { name: 'qwen2_5_vl', prompt: PLACE, pictures: ['wide.png'], spoil: transformsOf(operation('Rescale'), operation('PatchImage')), code: 'PD521', says: /270 × 30 pixels are not whole squares of 28/ },
  { name: 'gemma3', prompt: 'see <start_of_image>', pictures: ['wide.png', 'high.png'], code: 'PD510', says: /1 places for pictures, for 2 pictures/ },
  { name: 'gemma3', prompt: '<start_of_image> <start_of_image>', pictures: ['wide.png', 'high.png'], spoil: transformsOf(operation('Rescale')), code: 'PD510', says: /become \[30, 270, 3\] and \[97, 31, 3\]/ },
  { name: 'gemma4', prompt: '<|image|><|image|>', pictures: ['wide.png'], code: 'PD510', says: /2 places for pictures, for 1 picture/ },
  { name: 'gemma4', prompt: 'what', pictures: ['wide.png', 'square.png'], code: 'PD510', says: /as many as the first/ },
  { name: 'gemma4', prompt: 'what', pictures: ['wide.png'], spoil: transformsOf(operation('Gemma4ImageTransform', { max_soft_tokens: 60_000 })), code: 'PD521', says: /ask for \d+ pixels/ },
  { name: 'mistral3', prompt: 'what', pictures: ['wide.png'], spoil: (at) => copyFileSync(join(PHI3V, 'tokenizer.json'), join(at, 'tokenizer.json')), code: 'PD510', says: /tokenizer has no token \[IMG\]/ },
  { name: 'mistral3', prompt: '[IMG] and [IMG]', pictures: ['wide.png'], code: 'PD510', says: /2 places/ },
  { name: 'mistral3', prompt: '[IMG]', pictures: ['wide.png'], spoil: transformsOf(operation('Rescale'), operation('Permute3D', { dims: [2, 0, 1] }), operation('PixtralImageSizes')), code: 'PD510', says: /270 × 30 pixels, no whole patches of 28/ },
  { name: 'mistral3', prompt: '[IMG]', pictures: ['wide.png'], spoil: transformsOf(operation('Rescale'), operation('PixtralImageSizes')), code: 'PD521', says: /channels first/ },
  { name: 'mistral3', prompt: '[IMG]', pictures: ['wide.png'], spoil: transformsOf(operation('Rescale'), operation('Permute3D', { dims: [2, 2, 1] })), code: 'PD521', says: /order of three axes/ },
  { name: 'phi4mm', prompt: 'no place', pictures: ['wide.png'], code: 'PD510', says: /0 places/ },
  { name: 'phi4mm', prompt: '<|image_1|>', pictures: ['line.png'], code: 'PD510', says: /of 6000 × 1 pixels/ },
  { name: 'phi4mm', prompt: '<|image_1|>', pictures: ['wide.png'], spoil: transformsOf(operation('Phi4VisionDynamicPreprocess', { dynamic_hd: 1e6 })), code: 'PD521', says: /"dynamic_hd" is 1000000/ },
  { name: 'phi4mm', prompt: '<|image_1|>', pictures: ['wide.png'], spoil: transformsOf(operation('Rescale'), operation('Phi4VisionProcessor')), code: 'PD521', says: /whole squares of 448 pixels and their mask/ },
  { name: 'phi4mm', prompt: '<|image_1|>', pictures: ['wide.png'], spoil: (at) => writeFileSync(join(at, 'processor_config.json'), JSON.stringify({ processor: { transforms: [operation('DecodeImage'), { operation: { type: 'Rescale', inputs: ['none:3'] } }] } })), code: 'PD521', says: /"none:3" is no result/ },
];

test.each(REFUSED)('$code, $name: $says', async ({ name, prompt, pictures: images, spoil, code, says }) => {
  const at = laidOut(name);
  spoil?.(at);
  const prompts = await openPrompts(join(at, 'tokenizer.json'), join(at, 'tokenizer_config.json'), 'negative');
  const error = await new Genai(at).prepare('q', prompt, images.map((p) => join(pictures, p)), (text) => prompts.bare(text)).catch((e: unknown) => e);
  expect(error).toMatchObject({ code, message: expect.stringMatching(says), hint: expect.stringMatching(/./) });
});

test('positions on three axes: not told without the tokens that mark pictures, nor of a prompt with padding', async () => {
  const asked = async (change: (model: Record<string, unknown>) => void, prompt: string): Promise<unknown> => {
    const at = join(folder(), 'in');
    cpSync(inputs.get('qwen2_5_vl') as string, at, { recursive: true });
    configured(change)(at);
    const { ask, original } = filesOfFolders(at, at);
    const asking = new Asking({ ...ask, imageTokenId: 102 }, (await readModelFile(original)).io);
    return await asking.ask('q', { image: 'wide.png', prompt }, (p) => join(PICTURES, p)).catch((e: unknown) => e).finally(() => asking.close());
  };
  expect(await asked((m) => delete m.vision_start_token_id, PLACE)).toMatchObject({ code: 'PD523', message: expect.stringMatching(/three axes/) });
  expect(await asked((m) => Object.assign(m, { pad_token_id: 101 }), PLACE)).toMatchObject({ code: 'PD510', message: expect.stringMatching(/token 101, which onnxruntime-genai takes for padding/) });
});

interface Bad {
  readonly code: string;
  readonly what: string;
  readonly sample?: Partial<JsonSample>;
  readonly spoil?: (input: string) => void;
  readonly says: RegExp;
}

const BAD: readonly Bad[] = [
  { code: 'PD521', what: 'no processor_config.json', spoil: (r) => rmSync(join(r, 'processor_config.json')), says: /processor_config\.json/ },
  { code: 'PD521', what: 'another name for it, and no such file', spoil: configured((m) => Object.assign(m.vision as object, { config_filename: 'vision_processor.json' })), says: /vision_processor\.json/ },
  { code: 'PD521', what: 'broken JSON', spoil: (r) => writeFileSync(join(r, 'processor_config.json'), '{"processor":'), says: /cannot be read/ },
  { code: 'PD521', what: 'no operations', spoil: (r) => writeFileSync(join(r, 'processor_config.json'), '{"processor":{"transforms":[]}}'), says: /no list/ },
  { code: 'PD521', what: 'an operation that is not known', spoil: transformsOf(operation('Posterize')), says: /operation "it": "Posterize" is not done here \(but DecodeImage/ },
  { code: 'PD521', what: 'operations that decode twice', spoil: transformsOf(operation('DecodeImage')), says: /decoded first, and once, and the operations are DecodeImage, DecodeImage/ },
  { code: 'PD521', what: 'an attribute that is not known', spoil: transformsOf(operation('Resize', { crop: 3 })), says: /operation "it" \(Resize\): its attribute "crop"/ },
  { code: 'PD521', what: 'attributes that are none', spoil: transformsOf(operation('Resize', [4, 4])), says: /attributes are no object/ },
  { code: 'PD521', what: 'more operations than are followed', spoil: transformsOf(...Array.from({ length: 16 }, () => operation('ConvertRGB'))), says: /no list of 1 to 16/ },
  { code: 'PD521', what: 'a filter that genai does not have', spoil: transformsOf(operation('Resize', { interpolation: 'NEAREST' })), says: /"interpolation" is "NEAREST"/ },
  { code: 'PD521', what: 'a size that is too large', spoil: transformsOf(operation('Resize', { width: 1e9, height: 4 })), says: /"width" is 1000000000/ },
  { code: 'PD510', what: 'two sizes that are too large together', spoil: transformsOf(operation('Resize', { width: 8000, height: 8000 })), says: /8000 × 8000 pixels/ },
  { code: 'PD521', what: 'operations that do not fit', spoil: transformsOf(operation('Normalize')), says: /takes float32 on three axes/ },
  { code: 'PD510', what: 'a crop larger than the picture', spoil: transformsOf(operation('CenterCrop', { width: 400, height: 10 })), says: /270 × 30 pixels are less than the 400 × 10/ },
  { code: 'PD521', what: 'a model type that is not known', spoil: configured((m) => Object.assign(m, { type: 'own', image_token_id: 5 })), says: /model\.type "own" is not done here \(but those of phi3v/ },
  { code: 'PD610', what: 'a genai_config.json that is none', spoil: (r) => writeFileSync(join(r, 'genai_config.json'), '{'), says: /genai_config\.json/ },
  { code: 'PD510', what: 'a prompt longer than the model takes', spoil: configured((m) => Object.assign(m, { context_length: 20 })), says: /has \d{3,} tokens with .*context_length of genai_config\.json is 20/ },
  { code: 'PD510', what: 'a place too few', sample: { image: ['wide.png', 'high.png'] }, says: /1 places for pictures .*, for 2 pictures/ },
  { code: 'PD510', what: 'a place for a picture that is not there', sample: { prompt: 'one <|image_1|> two <|image_2|>' }, says: /2 places for pictures/ },
  { code: 'PD510', what: 'a place with another number', sample: { prompt: 'one <|image_7|>' }, says: /<\|image_7\|>/ },
  { code: 'PD510', what: 'pictures that the vision encoder takes for others', sample: { image: ['wide.png', 'high.png'], prompt: '<|image_1|><|image_2|>' }, says: /image tokens for \d+ rows of features/ },
  { code: 'PD520', what: 'a picture that is missing', sample: { image: 'none.png' }, says: /none\.png/ },
  { code: 'PD520', what: 'a device for a picture', sample: { image: `${'../'.repeat(20)}dev/zero` }, says: /not a regular file/ },
  { code: 'PD520', what: 'a picture that is none', sample: { image: 'questions.jsonl' }, says: /reads PNG and JPEG, and it is neither/ },
  { code: 'PD520', what: 'a picture that is cut off', sample: { image: 'short.png' }, says: /short\.png/ },
  { code: 'PD520', what: 'a picture that genai reads wrongly', sample: { image: 'interlaced.png' }, says: /interlaced/ },
  { code: 'PD520', what: 'a picture in CMYK', sample: { image: 'cmyk.jpg' }, says: /CMYK/ },
  { code: 'PD510', what: 'a picture of which nothing would be left', sample: { image: 'line.png' }, says: /no row would be left/ },
  { code: 'PD523', what: 'an embedding graph with another input', spoil: (r) => copyFileSync(join(r, 'model.onnx'), join(r, 'embedding.onnx')), says: /embedding graph takes/ },
];

test.each(BAD)('$code: $what', async ({ code, sample, spoil, says }) => {
  const input = join(folder(), 'in');
  cpSync(PHI3V, input, { recursive: true });
  const question = { image: 'wide.png', prompt: 'say <|image_1|> what', ...sample };
  asked([question]);
  const error = await (async () => {
    const { ask, original } = filesOfFolders(PHI3V, join(root, 'phi3v-keep'));
    spoil?.(input);
    const asking = new Asking({ ...ask, folder: input, embed: join(input, 'embedding.onnx') }, (await readModelFile(original)).io);
    await asking.ask('q', question, (p) => join(pictures, p)).finally(() => asking.close());
  })().catch((e: unknown) => e);
  expect(error).toMatchObject({ code, hint: expect.stringMatching(/./) });
  const { message, culprit } = error as { message: string; culprit: string };
  expect(`${message} ${culprit}`).toMatch(says);
});
