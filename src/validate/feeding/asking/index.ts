/** Pictures and questions through a folder's own vision encoder and embedding graph, to what its decoder takes. */
import { existsSync } from 'node:fs';
import { UsageError } from '../../../diagnostics.js';
import type { JsonSample } from '../data/json.js';
import { badPicture, badSample } from '../../running/faults.js';
import type { DecoderIo } from '../../running/io.js';
import { openSession, type Session } from '../../running/session.js';
import { at, cast, type Dtype, fromNumbers, type HostTensor } from '../../running/tensor.js';
import { pixelsOf, type Preprocessing, readPreprocessing } from './pictures.js';
import { openPrompts, type Prompts } from './prompts.js';

/** Files of a folder that questions go through; vision and embed are undefined where the decoder's graph holds them. */
export interface AskFiles {
  readonly vision: string | undefined;
  readonly embed: string | undefined;
  readonly tokenizer: string;
  readonly tokenizerConfig: string | undefined;
  readonly preprocessor: string;
  readonly imageTokenId: number | undefined;
  /** Image tokens of one picture, where the decoder's graph makes the features itself. */
  readonly imageTokens: number | undefined;
}

export interface Asked {
  readonly inputs: ReadonlyMap<string, HostTensor>;
  readonly answers: readonly (readonly number[])[] | undefined;
  /** Features of each picture, in order. */
  readonly imageTokens: readonly number[];
  /** Index of each picture's first token. */
  readonly starts: readonly number[];
}

export class Asking {
  readonly #files: AskFiles;
  readonly #io: DecoderIo;
  #prompts: Prompts | undefined;
  #how: Preprocessing | undefined;
  #vision: Session | undefined;
  #embed: Session | undefined;
  /** Questions about one picture follow each other: its features are kept. */
  #last: { readonly path: string; readonly pixels: HostTensor; readonly features: HostTensor | undefined } | undefined;

  constructor(files: AskFiles, io: DecoderIo) {
    this.#files = files;
    this.#io = io;
  }

  async ask(id: string, json: JsonSample, resolvePath: (path: string) => string): Promise<Asked> {
    const { imageTokenId } = this.#files;
    if (imageTokenId === undefined) throw new UsageError({ code: 'PD523', message: 'the folder does not say which token stands for an image', culprit: 'config.json', hint: 'add image_token_id to config.json' });
    const prompts = await this.#open();
    const paths = (json.image === undefined ? [] : Array.isArray(json.image) ? (json.image as string[]) : [json.image as string]).map(resolvePath);
    const seen: { pixels: HostTensor; features: HostTensor | undefined }[] = [];
    for (const path of paths) seen.push(await this.#see(id, path));
    const counts = seen.map(({ features }) => (features ? features.data.length / (features.dims.at(-1) as number) : (this.#files.imageTokens ?? 0)));
    const ids = prompts.ids(id, json.text as string, counts);
    const inputs = new Map<string, HostTensor>([[this.#io.ids?.name ?? 'input_ids', fromNumbers('int64', [1, ids.length], ids)]]);
    const isImage = ids.map((t) => Number(t === imageTokenId));
    if (this.#io.embeds) {
      inputs.set(this.#io.embeds.name, await this.#embedded(id, ids, isImage, seen.flatMap((s) => (s.features ? [s.features] : []))));
      inputs.set('image_token_mask', fromNumbers('bool', [1, ids.length], isImage));
    } else if (seen[0]) inputs.set('pixel_values', seen[0].pixels);
    const starts: number[] = [];
    for (let i = 0, at = isImage.indexOf(1); i < counts.length && at >= 0; at += counts[i++] as number) starts.push(at);
    const texts = json.answer === undefined ? [] : Array.isArray(json.answer) ? (json.answer as string[]) : [json.answer as string];
    return { inputs, answers: texts.length > 0 ? texts.map((t) => prompts.answer(t)) : undefined, imageTokens: counts, starts };
  }

  async close(): Promise<void> {
    await this.#vision?.close();
    await this.#embed?.close();
  }

  async #open(): Promise<Prompts> {
    const { tokenizer, tokenizerConfig, vision, embed, imageTokenId } = this.#files;
    if (this.#io.embeds && (!vision || !embed)) {
      throw new UsageError({ code: 'PD523', message: `the decoder takes embeddings, and the folder has no ${vision ? 'embedding graph' : 'vision encoder'} to make them`, culprit: this.#io.embeds.name, hint: 'put vision_encoder.onnx and embed_tokens.onnx beside the decoder, or give samples with inputs of their own' });
    }
    this.#prompts ??= await openPrompts(tokenizer, tokenizerConfig, imageTokenId as number);
    return this.#prompts;
  }

  /** Pixels of a picture, and its features where the decoder takes embeddings. */
  async #see(sample: string, path: string): Promise<{ pixels: HostTensor; features: HostTensor | undefined }> {
    if (this.#last?.path === path) return this.#last;
    if (!existsSync(path)) throw badPicture(sample, path, 'there is no such file');
    this.#how ??= readPreprocessing(this.#files.preprocessor);
    const pixels = await pixelsOf(sample, path, this.#how);
    const features = this.#io.embeds ? await this.#features(pixels) : undefined;
    this.#last = { path, pixels, features };
    return this.#last;
  }

  async #features(pixels: HostTensor): Promise<HostTensor> {
    const path = this.#files.vision as string;
    this.#vision ??= await openSession(path);
    const [input, ...others] = this.#vision.inputs;
    const wrong = (why: string): UsageError => new UsageError({ code: 'PD523', message: `the vision encoder is not one that is run here: ${why}`, culprit: path, hint: 'give samples with inputs of their own: embeddings that were made elsewhere' });
    if (!input || others.length > 0 || input.dims.length !== 4) throw wrong(`it takes ${this.#vision.inputs.map((i) => `${i.name} [${i.dims.join(', ')}]`).join(', ') || 'nothing'}, not pixels [pictures, 3, height, width] alone`);
    const result = await this.#vision.run(new Map([[input.name, cast(pixels, input.dtype as Dtype)]]));
    const features = result.get(this.#vision.outputs[0]?.name ?? '');
    if (!features || features.dims.length < 2 || features.dims.length > 3) throw wrong('it gives no features [pictures, tokens, width]');
    return features;
  }

  /** Embeddings of the prompt, with the pictures' features in the places of image tokens. */
  async #embedded(sample: string, ids: readonly number[], isImage: readonly number[], features: readonly HostTensor[]): Promise<HostTensor> {
    const path = this.#files.embed as string;
    this.#embed ??= await openSession(path);
    const [input, ...others] = this.#embed.inputs;
    if (!input || others.length > 0) throw new UsageError({ code: 'PD523', message: 'the embedding graph takes more than token ids', culprit: path, hint: 'give samples with inputs of their own' });
    const result = await this.#embed.run(new Map([[input.name, fromNumbers(input.dtype as Dtype, [1, ids.length], ids)]]));
    const embeds = result.get(this.#embed.outputs[0]?.name ?? '');
    const hidden = embeds?.dims.at(-1) ?? 0;
    const places = isImage.flatMap((flag, i) => (flag ? [i] : []));
    const rows = features.reduce((n, f) => n + f.data.length / hidden, 0);
    if (!embeds || rows !== places.length || features.some((f) => f.dims.at(-1) !== hidden)) {
      throw badSample(sample, `${places.length} image tokens for ${rows} rows of features, ${features[0]?.dims.at(-1) ?? hidden} wide beside embeddings of ${hidden}`, 'the vision encoder and the embedding graph must belong to this decoder');
    }
    const values = Float64Array.from({ length: embeds.data.length }, (_, i) => at(embeds, i));
    let row = 0;
    for (const f of features) {
      for (let from = 0; from < f.data.length; from += hidden, row++) {
        const to = (places[row] as number) * hidden;
        for (let k = 0; k < hidden; k++) values[to + k] = at(f, from + k);
      }
    }
    return cast(fromNumbers(embeds.dtype, embeds.dims, values), this.#io.embeds?.dtype as Dtype);
  }
}
