/** What onnxruntime-genai's processors make of a prompt and of prepared pictures, by model.type: ids with every image token written out, and the vision encoder's runs. */
import { badSample } from '../../../running/faults.js';
import { bytesPerElement, cast, fromBytes, type HostTensor } from '../../../running/tensor.js';
import type { Grid } from '../tiles.js';
import type { GenaiModel } from './config.js';

/** A text with its places for pictures, and what the operations made of each picture. */
export interface Request {
  readonly sample: string;
  readonly text: string;
  /** Results of the last operation, a list a picture. */
  readonly pictures: readonly (readonly HostTensor[])[];
  readonly model: GenaiModel;
  /** Ids of a text, without any that a tokenizer adds. */
  tokens(text: string): number[];
}

export interface Answer {
  readonly ids: readonly number[];
  /** Inputs of the vision encoder by the processor's names, a map each time that it is run. */
  readonly runs: readonly ReadonlyMap<string, HostTensor>[];
  /** How each picture's tokens lie on it, row by row; undefined where they are not of one grid. */
  readonly grids?: readonly Grid[];
}

export interface Processor {
  /** How many results it needs of the last operation. */
  readonly results: number;
  /** What a question says of picture number `index`, counted from 1, where a chat template takes texts; undefined: it takes parts. */
  readonly place: ((index: number) => string) | undefined;
  /** Whether a text says itself where its pictures are. */
  readonly marked: RegExp;
  answer(request: Request): Answer;
}

const PHI_PLACE = /<\|image_(\d+)\|>/g;

export const PROCESSORS: Readonly<Record<string, Processor>> = {
  phi3v: {
    results: 3,
    place: (index) => `<|image_${index}|>\n`,
    marked: /<\|image_\d+\|>/,
    /** The text between places is tokenized piece by piece; each place becomes the negative number of its picture, once for each of its tokens. */
    answer({ sample, text, pictures, tokens }) {
      const places = [...text.matchAll(PHI_PLACE)].map((m) => ({ number: Number(m[1]), from: m.index, to: m.index + m[0].length }));
      const numbers = new Set(places.map((p) => p.number));
      if (numbers.size !== pictures.length || places.length !== pictures.length || [...numbers].some((n) => n < 1 || n > pictures.length)) {
        throw wrongPlaces(sample, `${places.length} places for pictures (${places.map((p) => `<|image_${p.number}|>`).join(', ') || 'none'})`, pictures.length, 'write <|image_1|>, <|image_2|> … where the pictures of "image" belong, each once');
      }
      const ends = places.map((p) => p.to);
      const pieces = places.flatMap(({ number, from }, i) => [tokens(text.slice(ends[i - 1] ?? 0, from)), new Array<number>(countOf(pictures[number - 1]?.[2])).fill(-number)]);
      const ids = [...pieces, tokens(text.slice(ends.at(-1) ?? 0))].flat();
      return { ids, runs: pictures.length === 0 ? [] : [new Map([['pixel_values', stacked(sample, pictures, 0)], ['image_sizes', stacked(sample, pictures, 1)]])] };
    },
  },

  phi4mm: {
    results: 4,
    place: (index) => `<|image_${index}|>\n`,
    marked: /<\|image_\d+\|>|<\|endoftext10\|>/,
    /** Places become one token, whatever their numbers; each such token stands for the next picture. Crops that a picture lacks are zeros, and their masks ones. */
    answer({ sample, text, pictures, tokens }) {
      const given = tokens(text.replaceAll(/<\|image_\d+\|>/g, '<|endoftext10|>'));
      const ids = eachPlace({ sample, given, image: PHI4_IMAGE, pictures, hint: 'write <|image_1|>, <|image_2|> … where the pictures of "image" belong' }, (i) => new Array<number>(countOf(pictures[i]?.[3])).fill(PHI4_IMAGE));
      if (pictures.length === 0) return { ids, runs: [] };
      const most = Math.max(...pictures.map((p) => p[0]?.dims[0] as number));
      const [pixels, masks] = [pictures.map((p) => padded(p[0] as HostTensor, most, 0)), pictures.map((p) => padded(cast(p[2] as HostTensor, 'float32'), most, 1))];
      return { ids, runs: [new Map([['pixel_values', stackedOf(sample, pixels)], ['image_sizes', stacked(sample, pictures, 1)], ['image_attention_mask', stackedOf(sample, masks)], ['attention_mask', stackedOf(sample, masks)]])] };
    },
  },
  gemma3: {
    results: 1,
    place: undefined,
    marked: /<start_of_image>/,
    answer({ sample, text, pictures, tokens }) {
      atPlaces(sample, text, '<start_of_image>', pictures.length);
      const ids = tokens(text.replaceAll('<start_of_image>', () => `\n\n<start_of_image>${'<image_soft_token>'.repeat(GEMMA3_SIDE ** 2)}<end_of_image>\n\n`));
      return { ids, runs: pictures.length === 0 ? [] : [new Map([['pixel_values', stacked(sample, pictures, 0)]])], grids: pictures.map(() => ({ rows: GEMMA3_SIDE, columns: GEMMA3_SIDE })) };
    },
  },
  gemma4: {
    results: 3,
    place: undefined,
    marked: /<\|image>|<\|image\|>/,
    /** Every picture gets as many tokens as the first, and as many patches as these have. */
    answer({ sample, text, pictures, tokens }) {
      const count = countOf(pictures[0]?.[2]);
      if (pictures.some((p) => countOf(p[2]) !== count)) throw badSample(sample, `the pictures have ${pictures.map((p) => countOf(p[2])).join(', ')} tokens, and onnxruntime-genai gives each as many as the first`, 'ask about one picture, or about pictures of one shape');
      let asked = text;
      if (pictures.length > 0 && !asked.includes('<|image>')) {
        const places = asked.split('<|image|>').length - 1;
        if (places > 0 && places !== pictures.length) throw wrongPlaces(sample, `${places} places for pictures`, pictures.length, 'write one <|image|> for each picture of "image", or none: then they stand before the text');
        if (places > 0) asked = asked.replaceAll('<|image|>', '<|image>');
        else asked = `${pictures.map(() => '<|image>').join(' ')}${asked === '' ? '' : ' '}${asked}`;
      }
      atPlaces(sample, asked, '<|image>', pictures.length);
      const ids = tokens(asked.replaceAll('<|image>', () => `\n\n<|image>${'<|image|>'.repeat(count)}<image|>\n\n`));
      if (pictures.length === 0) return { ids, runs: [] };
      const patches = count * GEMMA4_PATCHES;
      const trimmed = (result: number): HostTensor => stackedOf(sample, pictures.map((p) => firstRows(p[result] as HostTensor, patches)));
      return { ids, runs: [new Map([['pixel_values', trimmed(0)], ['pixel_position_ids', trimmed(1)]])] };
    },
  },
  mistral3: {
    results: 2,
    place: () => '[IMG]',
    marked: /\[IMG\]/,
    /** One [IMG] after another stand for one picture; pictures without a place go behind the first [INST], or to the front. The vision encoder is run picture by picture. */
    answer({ sample, text, pictures, tokens, model }) {
      if (pictures.length === 0) return { ids: tokens(text), runs: [] };
      const one = (token: string): number => {
        const [id, ...more] = tokens(token);
        if (id === undefined || more.length > 0) throw badSample(sample, `the tokenizer has no token ${token}`, 'put the model’s tokenizer.json into the folder');
        return id;
      };
      const [image, rowEnd, end, begin] = [one('[IMG]'), one('[IMG_BREAK]'), one('[IMG_END]'), one('[INST]')];
      const side = model.patchSize * model.mergeSize;
      const grids = pictures.map((p) => {
        const [height = 0, width = 0] = Array.from(p[1]?.data as BigInt64Array, Number);
        if (height % side !== 0 || width % side !== 0) throw badSample(sample, `a picture becomes ${width} × ${height} pixels, no whole patches of ${side}`, 'check patch_size and merge_size of Resize in processor_config.json, and patch_size and spatial_merge_size of vision in genai_config.json');
        return { rows: height / side, columns: width / side };
      });
      const written = grids.map(({ rows, columns }) => Array.from({ length: rows }, (_, r) => [...new Array<number>(columns).fill(image), r < rows - 1 ? rowEnd : end]).flat());
      const given = tokens(text);
      const places = given.filter((id, i) => id === image && given[i - 1] !== image).length;
      if (places > pictures.length) throw wrongPlaces(sample, `${places} places for pictures`, pictures.length, 'write one [IMG] for each picture of "image"');
      let next = 0;
      const ids = given.flatMap((id, i) => (id !== image ? [id] : given[i - 1] === image ? [] : (written[next++] as number[])));
      const left = written.slice(next).flat();
      const at = ids.indexOf(begin) + 1;
      return { ids: [...ids.slice(0, at), ...left, ...ids.slice(at)], runs: pictures.map((p) => new Map([['pixel_values', stacked(sample, [p], 0)], ['image_sizes', stacked(sample, [p], 1)]])), grids };
    },
  },
  ...Object.fromEntries(['fara', 'qwen2_5_vl', 'qwen3_vl', 'qwen3_5', 'qwen3_5_moe'].map((type) => [type, { results: 2, place: () => '<|vision_start|><|image_pad|><|vision_end|>', marked: /<\|vision_start\|>/, answer: qwen }])),
};

const PHI4_IMAGE = 200010;
/** Tokens on a side of a picture. */
const GEMMA3_SIDE = 16;
/** Patches of one token: genai counts on 3 × 3. */
const GEMMA4_PATCHES = 9;

/** What stands between the two marks of a place becomes as many image tokens as the picture has. The vision encoder is run picture by picture. */
function qwen({ sample, text, pictures, tokens, model }: Request): Answer {
  const [begin, end] = ['<|vision_start|>', '<|vision_end|>'];
  const [before = '', ...places] = text.split(begin);
  if (places.length !== pictures.length) throw wrongPlaces(sample, `${places.length} places for pictures`, pictures.length, `write ${begin}<|image_pad|>${end} where each picture of "image" belongs`);
  const grids = pictures.map((p): Grid => {
    const [, height = 0, width = 0] = Array.from(p[1]?.data as BigInt64Array, Number);
    return { rows: Math.floor(height / model.mergeSize), columns: Math.floor(width / model.mergeSize) };
  });
  const asked = places.map((place, i) => {
    const { rows, columns } = grids[i] as Grid;
    const at = place.indexOf(end);
    if (at < 0 && i < places.length - 1) throw wrongPlaces(sample, `a place that begins with ${begin} and does not end`, pictures.length, `write ${end} behind each picture's place`);
    return `${begin}${'<|image_pad|>'.repeat(rows * columns)}${end}${at < 0 ? place : place.slice(at + end.length)}`;
  });
  return { ids: tokens(before + asked.join('')), runs: pictures.map(([pixels, grid]) => new Map([['pixel_values', pixels as HostTensor], ['image_grid_thw', grid as HostTensor]])), grids };
}

/** Ids with what is written for picture `i` in place of the `i`th image token. */
function eachPlace({ sample, given, image, pictures, hint }: { sample: string; given: readonly number[]; image: number; pictures: readonly unknown[]; hint: string }, write: (i: number) => number[]): number[] {
  const places = given.filter((id) => id === image).length;
  if (places !== pictures.length) throw wrongPlaces(sample, `${places} places for pictures`, pictures.length, hint);
  let next = 0;
  return given.flatMap((id) => (id === image ? write(next++) : [id]));
}

function atPlaces(sample: string, text: string, mark: string, pictures: number): void {
  const places = text.split(mark).length - 1;
  if (places !== pictures) throw wrongPlaces(sample, `${places} places for pictures`, pictures, `write one ${mark} for each picture of "image"`);
}

function wrongPlaces(sample: string, has: string, pictures: number, hint: string): Error {
  return badSample(sample, `the prompt has ${has}, for ${pictures} picture${pictures === 1 ? '' : 's'}`, hint);
}

/** A count that an operation gave. */
function countOf(tensor: HostTensor | undefined): number {
  return Number(tensor?.data[0] ?? 0);
}

/** One result of every picture, all of one shape, as a tensor [pictures, …]. */
function stacked(sample: string, pictures: readonly (readonly HostTensor[])[], result: number): HostTensor {
  return stackedOf(sample, pictures.map((p) => p[result] as HostTensor));
}

function stackedOf(sample: string, all: readonly HostTensor[]): HostTensor {
  const { dtype, dims } = all[0] as HostTensor;
  const shapes = new Set(all.map((t) => `[${t.dims.join(', ')}]`));
  if (shapes.size > 1) throw badSample(sample, `the pictures become ${[...shapes].join(' and ')}, and the vision encoder takes one shape at a time`, 'ask about one picture, or about pictures of one shape');
  return fromBytes(dtype, [all.length, ...dims], Buffer.concat(all.map(bytesOf)));
}

function bytesOf({ dtype, data }: HostTensor): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.length * bytesPerElement(dtype));
}

/** float32 with `rows` rows, those that are added filled with `value`. */
function padded({ dtype, dims, data }: HostTensor, rows: number, value: number): HostTensor {
  const out = new Float32Array((data.length / (dims[0] as number)) * rows).fill(value);
  out.set(data as Float32Array);
  return { dtype, dims: [rows, ...dims.slice(1)], data: out };
}

/** The first rows, as many as there are of them at most. */
function firstRows({ dtype, dims, data }: HostTensor, rows: number): HostTensor {
  const kept = Math.min(rows, dims[0] as number);
  return { dtype, dims: [kept, ...dims.slice(1)], data: data.slice(0, (data.length / (dims[0] as number)) * kept) };
}
