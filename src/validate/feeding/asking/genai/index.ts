/** Questions about pictures as onnxruntime-genai puts them to its models: genai_config.json says whose processor it is, processor_config.json what is done to pictures. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { UsageError } from '../../../../diagnostics.js';
import { badPicture, badSample } from '../../../running/faults.js';
import type { HostTensor } from '../../../running/tensor.js';
import type { Message } from '../../data/json.js';
import { decoded, readPicture } from '../pictures.js';
import { type GenaiModel, readGenaiModel } from './config.js';
import { type Answer, PROCESSORS, type Processor } from './processors.js';
import { mropePositions } from './positions.js';
import { Transforms } from './transforms.js';

/** Whether a folder is one of onnxruntime-genai. */
export function isGenai(folder: string): boolean {
  return existsSync(join(folder, 'genai_config.json'));
}

const PNG = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
const JPEG = Buffer.from([0xff, 0xd8]);

/** What genai decodes at most. */
const [MOST_SIDE, MOST_PIXELS] = [16_384, 100_000_000];

export class Genai {
  readonly model: GenaiModel;
  readonly #folder: string;
  readonly #processor: Processor | undefined;
  #transforms: Transforms | undefined;
  /** Questions about one picture follow each other: what was made of it is kept. */
  #last: { readonly key: string; readonly pictures: readonly (readonly HostTensor[])[] } | undefined;

  constructor(folder: string) {
    this.#folder = folder;
    this.model = readGenaiModel(folder);
    this.#processor = Object.hasOwn(PROCESSORS, this.model.type) ? PROCESSORS[this.model.type] : undefined;
  }

  /** Whether a text says itself where its pictures are. */
  marked(text: string): boolean {
    return this.#processor?.marked.test(text) === true;
  }

  /** Messages as the folder's chat template takes them: with pictures as texts, where genai's processor finds them in texts. */
  messages(messages: readonly Message[]): readonly Message[] {
    const place = this.#processor?.place;
    if (!place) return messages;
    let pictures = 0;
    return messages.map(({ role, content }) => ({ role, content: typeof content === 'string' ? content : content.map((part) => (part.type === 'image' ? place(++pictures) : part.text)).join('') }));
  }

  /**
   * Ids of a prompt, and what the vision encoder is run on.
   *
   * @param tokens ids of a text, without any that a tokenizer adds: genai adds none
   * @throws {UsageError} PD521 for a model.type or operations that are not done here; {SampleFault} PD520, PD510 also where the prompt is longer than the model takes
   */
  async prepare(sample: string, text: string, paths: readonly string[], tokens: (text: string) => number[]): Promise<Answer> {
    const answer = await this.#answer(sample, text, paths, tokens);
    const [length, most] = [answer.ids.length, this.model.contextLength];
    if (length > most) throw badSample(sample, `the prompt has ${length} tokens with those of its pictures, and model.context_length of genai_config.json is ${most}`, 'ask about fewer or smaller pictures');
    return answer;
  }

  async #answer(sample: string, text: string, paths: readonly string[], tokens: (text: string) => number[]): Promise<Answer> {
    const processor = this.#processor;
    if (!processor) {
      if (paths.length === 0) return { ids: tokens(text), runs: [] };
      throw new UsageError({ code: 'PD521', message: `the processor that onnxruntime-genai has for model.type "${this.model.type}" is not done here (but those of ${Object.keys(PROCESSORS).join(', ')})`, culprit: join(this.#folder, 'genai_config.json'), hint: 'give samples with inputs of their own (docs/validate.md): embeddings that were made elsewhere, with input_ids' });
    }
    const key = JSON.stringify(paths);
    if (this.#last?.key !== key) {
      const made = [];
      for (const path of paths) made.push(this.#opened().of(sample, await stored(sample, path), path));
      this.#last = { key, pictures: made };
    }
    const { pictures } = this.#last;
    if (pictures.some((results) => results.length < processor.results)) {
      throw new UsageError({ code: 'PD521', message: `the operations end with ${pictures[0]?.length} results, and onnxruntime-genai's processor for model.type "${this.model.type}" takes ${processor.results}`, culprit: this.model.transforms, hint: 'put the model’s own processor_config.json into the folder' });
    }
    return processor.answer({ sample, text, pictures, model: this.model, tokens });
  }

  /**
   * Positions on three axes of a prompt with pictures, int64 [3, 1, tokens]; undefined without pictures: then they count the tokens.
   *
   * @throws {SampleFault} PD510 for a prompt with the token that genai pads with: it takes such a token for none
   */
  positions(sample: string, { ids, runs, grids = [] }: Answer): HostTensor | undefined {
    const { image, visionStart, pad = 0 } = this.model.tokens;
    if (ids.includes(pad)) throw badSample(sample, `the prompt has the token ${pad}, which onnxruntime-genai takes for padding`, 'leave it out, or give "inputs" that were made elsewhere');
    if (runs.length > 0 && (grids.length !== runs.length || image === undefined || visionStart === undefined)) {
      throw new UsageError({ code: 'PD523', message: 'the decoder takes positions on three axes, and they are not told for this folder', culprit: join(this.#folder, 'genai_config.json'), hint: 'its model needs image_token_id and vision_start_token_id, and its pictures a grid (image_grid_thw); or give samples with inputs of their own, position_ids among them' });
    }
    return runs.length === 0 ? undefined : mropePositions(ids, grids, { image, visionStart });
  }

  #opened(): Transforms {
    this.#transforms ??= Transforms.read(this.model.transforms);
    return this.#transforms;
  }
}

/** A picture as genai decodes it: PNG or JPEG, as its pixels are stored, whatever the file says of how it lies and of its colours. */
async function stored(sample: string, path: string): ReturnType<typeof decoded> {
  const bytes = readPicture(sample, path);
  const png = bytes.subarray(0, 8).equals(PNG);
  if (!png && !bytes.subarray(0, 2).equals(JPEG)) throw badPicture(sample, path, 'onnxruntime-genai reads PNG and JPEG, and it is neither', undefined, 'PNG or JPEG');
  // The last byte of the header: genai would take the first of its passes for the picture.
  if (png && bytes[28] !== 0) throw badPicture(sample, path, 'it is an interlaced PNG, which onnxruntime-genai reads wrongly', undefined, 'PNG that is not interlaced, or JPEG');
  const picture = await decoded(sample, path, { asStored: true, bytes });
  if (Math.max(picture.width, picture.height) > MOST_SIDE || picture.width * picture.height > MOST_PIXELS) throw badPicture(sample, path, `onnxruntime-genai reads at most ${MOST_SIDE} pixels a side and ${MOST_PIXELS} in all, and it is ${picture.width} × ${picture.height}`);
  return picture;
}
