/** What onnxruntime-genai's processors make of a prompt and of prepared pictures, by model.type: ids with every image token written out, and the vision encoder's runs. */
import { badSample } from '../../../running/faults.js';
import { bytesPerElement, fromBytes, type HostTensor } from '../../../running/tensor.js';
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
}

export interface Processor {
  /** What a question says of picture number `index`, counted from 1, where a chat template takes texts; undefined: it takes parts. */
  readonly place: ((index: number) => string) | undefined;
  /** Whether a text says itself where its pictures are. */
  readonly marked: RegExp;
  answer(request: Request): Answer;
}

const PHI_PLACE = /<\|image_(\d+)\|>/g;

export const PROCESSORS: Readonly<Record<string, Processor>> = {
  phi3v: {
    place: (index) => `<|image_${index}|>\n`,
    marked: /<\|image_\d+\|>/,
    /** The text between places is tokenized piece by piece; each place becomes the negative number of its picture, once for each of its tokens. */
    answer({ sample, text, pictures, tokens }) {
      const places = [...text.matchAll(PHI_PLACE)].map((m) => ({ number: Number(m[1]), from: m.index, to: m.index + m[0].length }));
      const numbers = new Set(places.map((p) => p.number));
      if (numbers.size !== pictures.length || places.length !== pictures.length || [...numbers].some((n) => n < 1 || n > pictures.length)) {
        throw wrongPlaces(sample, `${places.length} places for pictures (${places.map((p) => `<|image_${p.number}|>`).join(', ') || 'none'})`, pictures.length, 'write <|image_1|>, <|image_2|> … where the pictures of "image" belong, each once');
      }
      const ids: number[] = [];
      let done = 0;
      for (const { number, from, to } of places) {
        ids.push(...tokens(text.slice(done, from)), ...new Array<number>(Number(pictures[number - 1]?.[2]?.data[0])).fill(-number));
        done = to;
      }
      return { ids: [...ids, ...tokens(text.slice(done))], runs: pictures.length === 0 ? [] : [new Map([['pixel_values', stacked(pictures, 0)], ['image_sizes', stacked(pictures, 1)]])] };
    },
  },
};

export function wrongPlaces(sample: string, has: string, pictures: number, hint: string): Error {
  return badSample(sample, `the prompt has ${has}, for ${pictures} picture${pictures === 1 ? '' : 's'}`, hint);
}

/** One result of every picture, all of one shape, as a tensor [pictures, …]. */
function stacked(pictures: readonly (readonly HostTensor[])[], result: number): HostTensor {
  const all = pictures.map((p) => p[result] as HostTensor);
  const { dtype, dims } = all[0] as HostTensor;
  const bytes = Buffer.concat(all.map(({ data }) => new Uint8Array(data.buffer, data.byteOffset, data.length * bytesPerElement(dtype))));
  return fromBytes(dtype, [all.length, ...dims], bytes);
}
