/** Pictures and questions through a folder's own vision encoder and embedding graph, to what its decoder takes. */
import { existsSync } from 'node:fs';
import { UsageError } from '../../../diagnostics.js';
import { anImageToken, type ImageTokenId, isImageToken } from '../../../plan/image-token-id.js';
import type { JsonSample, Message } from '../data/json.js';
import { badPicture, badSample } from '../../running/faults.js';
import type { DecoderIo } from '../../running/io.js';
import { cast, type Dtype, fromNumbers, type HostTensor } from '../../running/tensor.js';
import { processorClass, templateOf } from './configs.js';
import { Genai, isGenai } from './genai/index.js';
import { FolderGraphs } from './graphs.js';
import { decoded, pixelsOf, type Preprocessing, readPreprocessing } from './pictures.js';
import { FolderProcessor } from './processor.js';
import { openPrompts, type Prompts } from './prompts.js';
import type { Grid } from './tiles.js';

/** Files of a folder that questions go through; vision and embed are undefined where the decoder's graph holds them. */
export interface AskFiles {
  readonly folder: string;
  readonly vision: string | undefined;
  readonly embed: string | undefined;
  readonly tokenizer: string;
  readonly tokenizerConfig: string | undefined;
  readonly preprocessor: string;
  readonly imageTokenId: ImageTokenId | undefined;
  /** Image tokens of one picture, where the decoder's graph makes the features itself. */
  readonly imageTokens: number | undefined;
}

export interface Asked {
  readonly inputs: ReadonlyMap<string, HostTensor>;
  readonly answers: readonly (readonly number[])[] | undefined;
  /** What was asked, for people. */
  readonly question: string;
  /** Where the image tokens lie on the picture: of samples with one picture, where it is known. */
  readonly grids: readonly Grid[] | undefined;
}

/** A prompt on its way to the decoder. */
interface Made {
  readonly ids: readonly number[];
  /** pixel_values and what else was made of the pictures. */
  readonly tensors: ReadonlyMap<string, HostTensor>;
  /** Undefined where the decoder makes them itself, or there are no pictures. */
  readonly features: readonly HostTensor[];
  readonly positions: HostTensor | undefined;
  readonly grids: readonly Grid[] | undefined;
}

/** A sample's question: the prompt as it is, or messages for the chat template. */
type Question = { readonly prompt: string } | { readonly messages: readonly Message[] };

/** A prompt that is written out but for its image tokens. */
interface Prompt {
  readonly text: string;
  /** False where the sample says it all: then nothing but image tokens is missing in it. */
  readonly templated: boolean;
  /** Its ids, for so many image tokens of each picture. */
  ids(imageTokens: readonly number[]): number[];
}

/** Processors that do no more to a text than write each image token as often as its picture has features; others write more around them, which transformers.js knows. */
const PLAIN: ReadonlySet<string | undefined> = new Set([undefined, 'CLIPProcessor', 'LlavaOnevisionProcessor', 'LlavaProcessor', 'SiglipProcessor']);

export class Asking {
  readonly #files: AskFiles;
  readonly #io: DecoderIo;
  readonly #genai: Genai | undefined;
  #prompts: Prompts | undefined;
  #how: { readonly own: Preprocessing | undefined } | undefined;
  #template: { readonly text: string | undefined } | undefined;
  #processor: FolderProcessor | undefined;
  #graphs: FolderGraphs | undefined;
  /** Questions about one picture follow each other: its features are kept. */
  #last: { readonly key: string; readonly features: readonly HostTensor[]; readonly tensors: ReadonlyMap<string, HostTensor> } | undefined;

  constructor(files: AskFiles, io: DecoderIo) {
    this.#files = files;
    this.#io = io;
    this.#genai = isGenai(files.folder) ? new Genai(files.folder) : undefined;
  }

  async ask(id: string, json: JsonSample, resolvePath: (path: string) => string): Promise<Asked> {
    const { imageTokenId } = this.#files;
    if (imageTokenId === undefined) throw new UsageError({ code: 'PD523', message: 'the folder does not say which token stands for an image', culprit: this.#genai ? 'genai_config.json' : 'config.json', hint: `add image_token_id to ${this.#genai ? 'model of genai_config.json' : 'config.json'}` });
    const prompts = await this.#open();
    const paths = (json.image === undefined ? [] : [json.image].flat()).map(resolvePath);
    for (const path of paths) if (!existsSync(path)) throw badPicture(id, path, 'there is no such file');
    const question = this.#question(id, json, paths.length);
    const prompt = await this.#written(id, question);
    if (paths.length > 0 && !this.#genai) this.#how ??= { own: PLAIN.has(processorClass(this.#files.folder)) ? readPreprocessing(this.#files.preprocessor) : undefined };
    const made = this.#genai ? await this.#byGenai(id, prompt, paths, this.#genai) : paths.length === 0 || this.#how?.own ? await this.#plain(id, prompt, paths) : await this.#processed(id, prompt, paths);
    const { ids } = made;
    const inputs = new Map<string, HostTensor>([[this.#io.ids?.name ?? 'input_ids', fromNumbers('int64', [1, ids.length], ids)]]);
    const isImage = ids.map((t) => Number(isImageToken(imageTokenId, t)));
    if (this.#io.embeds && this.#graphs) {
      inputs.set(this.#io.embeds.name, cast(await this.#graphs.embedded(id, { ids, isImage, features: made.features }), this.#io.embeds.dtype as Dtype));
      inputs.set('image_token_mask', fromNumbers('bool', [1, ids.length], isImage));
    } else for (const { name } of this.#io.extras) if (made.tensors.has(name)) inputs.set(name, made.tensors.get(name) as HostTensor);
    if (this.#io.positions && made.positions) inputs.set(this.#io.positions.name, cast(made.positions, this.#io.positions.dtype as Dtype));
    const texts = json.answer === undefined ? [] : [json.answer].flat();
    return { inputs, answers: texts.length > 0 ? texts.map((t) => prompts.bare(t)) : undefined, question: saidIn(json), grids: paths.length === 1 ? made.grids : undefined };
  }

  async close(): Promise<void> {
    await this.#graphs?.close();
  }

  async #open(): Promise<Prompts> {
    const { tokenizer, tokenizerConfig, vision, embed, imageTokenId } = this.#files;
    if (this.#io.embeds) {
      if (!vision || !embed) {
        throw new UsageError({ code: 'PD523', message: `the decoder takes embeddings, and the folder has no ${vision ? 'embedding graph' : 'vision encoder'} to make them`, culprit: this.#io.embeds.name, hint: 'put vision_encoder.onnx and embed_tokens.onnx beside the decoder, or give samples with inputs of their own' });
      }
      this.#graphs ??= new FolderGraphs({ vision, embed }, this.#genai?.model);
    }
    this.#prompts ??= await openPrompts(tokenizer, tokenizerConfig, imageTokenId as ImageTokenId);
    return this.#prompts;
  }

  /** `text` is a question where the folder has a chat template and the text does not say itself where pictures are; else the whole prompt. */
  #question(id: string, { text, prompt, messages: given }: JsonSample, pictures: number): Question {
    if ([text, prompt, given].filter((way) => way !== undefined).length > 1) throw badSample(id, '"text", "prompt" and "messages" are three ways to ask, and more than one is given', 'give one of them');
    if (given && this.#genai) return { messages: this.#genai.messages(given) };
    if (given) {
      const places = given.flatMap(({ content }) => (typeof content === 'string' ? [] : content.filter((part) => part.type === 'image'))).length;
      if (places !== pictures) throw badSample(id, `the messages have ${places} image parts, for ${pictures} picture${pictures === 1 ? '' : 's'}`, 'write a part {"type": "image"} for each picture of "image", in their order');
      return { messages: given };
    }
    if (prompt !== undefined) return { prompt };
    const asked = text as string;
    this.#template ??= { text: templateOf(this.#files.folder) };
    if (this.#template.text === undefined || (this.#genai ?? this.#prompts)?.marked(asked)) return { prompt: asked };
    const messages = [{ role: 'user', content: [...Array.from({ length: pictures }, () => ({ type: 'image' }) as const), { type: 'text', text: asked } as const] }];
    return { messages: this.#genai?.messages(messages) ?? messages };
  }

  /** The prompt as a text. */
  async #written(id: string, question: Question): Promise<Prompt> {
    const prompts = this.#prompts as Prompts;
    if ('prompt' in question) return { text: question.prompt, templated: false, ids: (counts) => prompts.ids(id, question.prompt, counts) };
    const processor = await this.#opened();
    const text = processor.render(id, question.messages);
    return { text, templated: true, ids: (counts) => prompts.placed(id, processor.tokens(text), counts) };
  }

  async #opened(): Promise<FolderProcessor> {
    this.#processor ??= await FolderProcessor.open({ folder: this.#files.folder, imageTokenId: this.#files.imageTokenId as ImageTokenId, textsOnly: this.#genai !== undefined });
    return this.#processor;
  }

  /** Pictures of one size, each with as many image tokens as it has features. */
  async #plain(id: string, prompt: Prompt, paths: readonly string[]): Promise<Made> {
    const seen: { tensors: ReadonlyMap<string, HostTensor>; features: readonly HostTensor[] }[] = [];
    for (const path of paths) {
      seen.push(await this.#seen(id, path, async () => new Map([['pixel_values', await pixelsOf(id, path, this.#how?.own as Preprocessing)]])));
    }
    const features = seen.flatMap((s) => s.features);
    const counts = features.length > 0 ? features.map((f) => f.data.length / (f.dims.at(-1) as number)) : paths.map(() => this.#files.imageTokens ?? 0);
    const ids = prompt.ids(counts);
    return { ids, features, tensors: joined(seen.map((s) => s.tensors)), positions: undefined, grids: this.#square(ids, counts) };
  }

  /** Pictures as the folder's processor in transformers.js prepares them. */
  async #processed(id: string, prompt: Prompt, paths: readonly string[]): Promise<Made> {
    const processor = await this.#opened();
    const pictures = [];
    for (const path of paths) pictures.push(await decoded(id, path));
    const { ids: given, tensors, grids } = await processor.prepare(id, prompt, pictures);
    const name = processorClass(this.#files.folder);
    if (!given && prompt.templated && !PLAIN.has(name)) {
      throw new UsageError({ code: 'PD521', message: `transformers.js has no "${name}", so it is not known what it makes of the pictures in what the chat template writes`, culprit: this.#files.folder, hint: 'give the whole prompt as "prompt", with an image token for each picture, or samples with inputs of their own (docs/validate.md)' });
    }
    const { features } = await this.#seen(id, JSON.stringify(paths), async () => tensors);
    const ids = given ?? prompt.ids(this.#counts(id, paths, features));
    const imageTokens = ids.filter((t) => isImageToken(this.#files.imageTokenId as ImageTokenId, t)).length;
    const positions = this.#io.positionAxes > 0 ? processor.positions(ids, tensors) : undefined;
    return { ids, features, tensors, positions, grids: grids(imageTokens) ?? (given ? undefined : this.#square(ids, [imageTokens])) };
  }

  /** Pictures and the prompt as onnxruntime-genai's processor prepares them. */
  async #byGenai(id: string, { text }: Prompt, paths: readonly string[], genai: Genai): Promise<Made> {
    const answer = await genai.prepare(id, text, paths, (piece) => (this.#prompts as Prompts).bare(piece));
    const { ids, runs, grids } = answer;
    const key = JSON.stringify(paths);
    if (this.#last?.key !== key) {
      const features: HostTensor[] = [];
      if (this.#graphs) for (const run of runs) features.push(await this.#graphs.features(id, new Map([...run].map(([name, tensor]) => [genai.model.visionInput(name), tensor]))));
      this.#last = { key, features, tensors: runs[0] ?? new Map() };
    }
    return { ids, ...this.#last, positions: this.#io.positionAxes > 0 ? genai.positions(id, answer) : undefined, grids };
  }

  /** What was made of pictures, and their features where the decoder takes embeddings. */
  async #seen(id: string, key: string, make: () => Promise<ReadonlyMap<string, HostTensor>>): Promise<{ readonly tensors: ReadonlyMap<string, HostTensor>; readonly features: readonly HostTensor[] }> {
    if (this.#last?.key !== key) {
      const tensors = await make();
      this.#last = { key, tensors, features: this.#graphs ? [await this.#graphs.features(id, tensors)] : [] };
    }
    return this.#last;
  }

  /** Image tokens of each picture, where the processor leaves them to be counted. */
  #counts(id: string, paths: readonly string[], [features]: readonly HostTensor[]): number[] {
    if (!features) return paths.map(() => this.#files.imageTokens ?? 0);
    const rows = features.data.length / (features.dims.at(-1) as number);
    if (paths.length === 1) return [rows];
    if (features.dims.length === 3 && features.dims[0] === paths.length) return paths.map(() => features.dims[1] as number);
    throw badSample(id, `the features [${features.dims.join(', ')}] of ${paths.length} pictures do not say which are of which picture`, 'ask about one picture, or give "inputs" that were made elsewhere');
  }

  /** The grid of one picture whose tokens are a square of one piece. */
  #square(ids: readonly number[], counts: readonly number[]): readonly Grid[] | undefined {
    const side = Math.sqrt(counts[0] ?? 0);
    return counts.length === 1 && Number.isInteger(side) && side > 0 ? [{ rows: side, columns: side, start: ids.indexOf(anImageToken(this.#files.imageTokenId as ImageTokenId)) }] : undefined;
  }
}

/** pixel_values of several pictures as one tensor [pictures, 3, height, width]. */
function joined(pictures: readonly ReadonlyMap<string, HostTensor>[]): ReadonlyMap<string, HostTensor> {
  const [first, ...others] = pictures.flatMap((p) => p.get('pixel_values') ?? []);
  if (!first) return new Map();
  if (others.length === 0) return new Map([['pixel_values', first]]);
  return new Map([['pixel_values', fromNumbers('float32', [pictures.length, ...first.dims.slice(1)], [first, ...others].flatMap((t) => Array.from(t.data as Float32Array)))]]);
}

/** The last thing that was said, for people. */
function saidIn({ text, prompt, messages }: JsonSample): string {
  const content = messages?.at(-1)?.content ?? text ?? prompt ?? '';
  return typeof content === 'string' ? content : content.flatMap((part) => (part.type === 'text' ? [part.text] : [])).join(' ');
}
