/**
 * What a folder asks beyond plain pictures and plain texts, by transformers.js: processors that cut pictures into pieces and write out
 * their image tokens, chat templates, positions on three axes.
 */
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { UsageError } from '../../../diagnostics.js';
import { type ImageTokenId, isImageToken } from '../../../plan/image-token-id.js';
import { badSample, SampleFault } from '../../running/faults.js';
import type { HostTensor } from '../../running/tensor.js';
import type { Message } from '../data/json.js';
import { configOf, processorClass, templateOf } from './configs.js';
import type { Picture } from './pictures.js';
import { type Grid, gridsOf } from './tiles.js';
import { hostTensor, type Inputs, isTensor, type Library, type Loader, loadLibrary, locally, type Processor, type Tensor, type Tokenizer } from './transformers.js';

export interface Prepared {
  /** Undefined where the folder's processor knows pictures only: then the image tokens of the text are not written out yet. */
  readonly ids: readonly number[] | undefined;
  /** pixel_values and what goes with it, by the names that vision encoders have for them. */
  readonly tensors: ReadonlyMap<string, HostTensor>;
  /** How so many image tokens lie on the picture, where the processor tells. */
  readonly grids: (imageTokens: number) => readonly Grid[] | undefined;
}

/** Whose processor it is. */
interface Owner {
  readonly folder: string;
  readonly imageTokenId: ImageTokenId;
  /** Pictures are prepared elsewhere: only its tokenizer and chat template are wanted. */
  readonly textsOnly: boolean;
}

/** Processors of transformers.js that take pictures first; the others take the text first. */
const PICTURES_FIRST = ['Florence2Processor', 'Lfm2VlProcessor', 'Lfm3VlProcessor', 'LlavaProcessor', 'PaliGemmaProcessor', 'PixtralProcessor'];

/** Processors that put pictures before a text that does not say where they are. */
const PICTURES_BEFORE = ['PaliGemmaProcessor'];

type RopeIndex = (this: object, ids: Tensor, imageGrid: Tensor, videoGrid: undefined, mask: Tensor) => readonly [Tensor, Tensor];

export class FolderProcessor {
  readonly #library: Library;
  readonly #folder: string;
  readonly #imageTokenId: ImageTokenId;
  readonly #processor: Processor | undefined;
  readonly #tokenizer: Tokenizer;
  readonly #template: string | undefined;
  /** What did it, for messages. */
  readonly name: string;

  private constructor(library: Library, { folder, imageTokenId }: Owner, parts: { processor: Processor | undefined; tokenizer: Tokenizer; name: string }) {
    this.#library = library;
    this.#folder = folder;
    this.#imageTokenId = imageTokenId;
    this.#processor = parts.processor;
    this.#tokenizer = parts.tokenizer;
    this.#template = templateOf(folder);
    this.name = `${parts.name} of transformers.js ${library.env.version}`;
  }

  /** @throws {UsageError} PD524 without the library, PD521 when it cannot read the folder's processor or has none such */
  static async open(owner: Owner): Promise<FolderProcessor> {
    const { folder, textsOnly } = owner;
    const library = await loadLibrary();
    const path = resolve(folder);
    const options = { local_files_only: true } as const;
    const named = textsOnly ? undefined : processorClass(path);
    const known = named !== undefined && Object.hasOwn(library, named) ? (library as unknown as Record<string, unknown>)[named] : undefined;
    const whole = typeof known === 'function' && known.prototype instanceof library.Processor ? (known as unknown as Loader<Processor>) : undefined;
    try {
      return await locally(library, async () => {
        if (whole) {
          const processor = await whole.from_pretrained(path, options);
          if (processor.tokenizer) return new FolderProcessor(library, { ...owner, folder: path }, { processor, tokenizer: processor.tokenizer, name: named as string });
        }
        const pictures = !textsOnly && existsSync(join(path, 'preprocessor_config.json'));
        const processor = pictures ? await library.AutoProcessor.from_pretrained(path, options) : undefined;
        return new FolderProcessor(library, { ...owner, folder: path }, { processor, tokenizer: await library.AutoTokenizer.from_pretrained(path, options), name: String(configOf(path, 'preprocessor_config.json').image_processor_type ?? 'AutoProcessor') });
      });
    } catch (cause) {
      if (cause instanceof UsageError) throw cause;
      const lacking = ['preprocessor_config.json', 'processor_config.json', 'tokenizer_config.json'].filter((file) => !existsSync(join(path, file)));
      throw new UsageError(
        { code: 'PD521', message: `transformers.js ${library.env.version} cannot open the folder’s processor${named === undefined ? '' : ` "${named}"`}: ${(cause as Error).message}${lacking.length > 0 ? `; there is no ${lacking.join(', ')}` : ''}`, culprit: folder, hint: 'put the files of its processor and tokenizer into the folder (preprocessor_config.json, processor_config.json, tokenizer.json, tokenizer_config.json), or give samples with inputs of their own (docs/validate.md)' },
        { cause },
      );
    }
  }

  /** The prompt that the folder's chat template makes of messages, up to where the model answers. @throws {SampleFault} PD525 */
  render(sample: string, messages: readonly Message[]): string {
    const wrong = (why: string, cause?: unknown): SampleFault =>
      new SampleFault({ code: 'PD525', message: `sample ${sample}: the chat template cannot be applied: ${why}`, culprit: this.#folder, hint: 'give the whole prompt as "prompt"' }, cause === undefined ? undefined : { cause });
    // A template of the library's own finding first: it is what the folder runs with.
    const found = typeof this.#processor?.chat_template === 'string' ? this.#processor.chat_template : this.#tokenizer.chat_template ? undefined : this.#template;
    if (found === undefined && !this.#tokenizer.chat_template) throw wrong('the folder has none (tokenizer_config.json, chat_template.jinja, chat_template.json)');
    let text: string;
    try {
      text = this.#tokenizer.apply_chat_template(messages, { tokenize: false, add_generation_prompt: true, ...(found !== undefined && { chat_template: found }) });
    } catch (error) {
      throw wrong((error as Error).message, error);
    }
    // A template for texts alone writes a list of parts as something else.
    const lost = messages.flatMap(textsOf).find((part) => !text.includes(part.trim()));
    if (lost !== undefined) throw wrong(`what it makes of the messages does not hold the text ${JSON.stringify(lost)}`);
    return text;
  }

  /** Ids of a prompt that a template wrote: without the second of two tokens that start a text, since tokenizers add theirs. */
  tokens(text: string): number[] {
    return this.#once(text, this.#tokenizer(text).input_ids);
  }

  /** What the processor makes of pictures and a text with a place for each. @throws {SampleFault} PD510 when it cannot do it */
  async prepare(sample: string, { text, templated }: { readonly text: string; readonly templated: boolean }, pictures: readonly Picture[]): Promise<Prepared> {
    const processor = this.#processor;
    if (!processor) throw new UsageError({ code: 'PD521', message: 'pictures cannot be prepared as the vision encoder takes them: there is no preprocessor_config.json', culprit: join(this.#folder, 'preprocessor_config.json'), hint: 'put the model’s preprocessor_config.json into the folder, or give samples with inputs of their own (docs/validate.md)' });
    if (processor.tokenizer) this.#placed(sample, text, pictures.length, processor);
    const images = pictures.map(({ data, width, height, channels }) => new this.#library.RawImage(data, width, height, channels));
    let made: Inputs;
    try {
      made = await locally(this.#library, () => {
        if (!processor.tokenizer) return processor.image_processor(images);
        return PICTURES_FIRST.includes(processor.constructor.name) ? processor(images, text) : processor(text, images);
      });
    } catch (error) {
      throw badSample(sample, `${this.name} cannot prepare ${pictures.length === 1 ? 'the picture' : `${pictures.length} pictures`} and the text: ${(error as Error).message}`, pictures.length > 1 ? 'some processors of transformers.js take one picture only: ask about one, or give "inputs" that were made elsewhere' : 'give "inputs" that were made elsewhere', error);
    }
    const whole = processor.tokenizer !== undefined;
    const pixels = made.pixel_values;
    if (!whole && !(isTensor(pixels) && pixels.dims.length === 4 && pixels.dims[0] === pictures.length)) {
      throw new UsageError({ code: 'PD521', message: `${this.name} cuts pictures into pieces, and no config names a processor of transformers.js that writes out their image tokens`, culprit: join(this.#folder, 'processor_config.json'), hint: 'put the model’s processor_config.json into the folder (its processor_class says which), or give samples with inputs of their own (docs/validate.md)' });
    }
    const { input_ids: ids, ...rest } = made as { readonly input_ids?: Tensor } & Inputs;
    const tensors = new Map(Object.entries(rest).flatMap(([name, value]) => (isTensor(value) ? [[name, hostTensor(value)] as const] : [])));
    return { ids: ids && (templated ? this.#once(text, ids) : idsOf(ids)), tensors, grids: (imageTokens) => gridsOf(made, processor.image_processor.config?.merge_size, imageTokens) };
  }

  /**
   * Positions on three axes (mRoPE), int64 [3, 1, tokens], as the folder's model class of transformers.js works them out.
   *
   * @throws {UsageError} PD523 when it has no such class, or the class works out none
   */
  positions(ids: readonly number[], tensors: ReadonlyMap<string, HostTensor>): HostTensor {
    const config = configOf(this.#folder, 'config.json');
    const name = Array.isArray(config.architectures) ? String(config.architectures[0]) : '';
    const model = Object.hasOwn(this.#library, name) ? ((this.#library as unknown as Record<string, { prototype?: { get_rope_index?: RopeIndex } }>)[name]?.prototype ?? undefined) : undefined;
    const grid = tensors.get('image_grid_thw');
    // Without a grid the class would give the positions of a text.
    if (typeof model?.get_rope_index !== 'function' || !grid) {
      throw new UsageError({ code: 'PD523', message: `the decoder takes positions on three axes, and transformers.js ${this.#library.env.version} does not work them out for ${name === '' ? 'a config without architectures' : `"${name}"`} from ${[...tensors.keys()].join(', ')}`, culprit: join(this.#folder, 'config.json'), hint: 'give samples with inputs of their own, position_ids among them' });
    }
    const tensor = ({ dtype, data, dims }: HostTensor): Tensor => new this.#library.Tensor(dtype, data, dims);
    const int64 = (values: readonly number[]): Tensor => new this.#library.Tensor('int64', BigInt64Array.from(values, BigInt), [1, values.length]);
    // An object of the class without its constructor, which would want the sessions.
    const [positions] = model.get_rope_index.call(Object.assign(Object.create(model) as object, { config }), int64(ids), tensor(grid), undefined, int64(ids.map(() => 1)));
    return hostTensor(positions);
  }

  /** Processors go by the places they find in the text: some leave pictures out where there are too few, some leave out text where there are too many. */
  #placed(sample: string, text: string, pictures: number, { constructor: { name }, boi_token: begin }: Processor): void {
    const tokens = idsOf(this.#tokenizer(text).input_ids).filter((id) => isImageToken(this.#imageTokenId, id)).length;
    const places = tokens === 0 && begin ? text.split(begin).length - 1 : tokens;
    if (places === pictures || (places === 0 && PICTURES_BEFORE.includes(name))) return;
    throw badSample(sample, `the prompt has ${places} image tokens, for ${pictures} picture${pictures === 1 ? '' : 's'}`, 'write one image token for each picture, where it belongs; a chat template does, of "text" or "messages"');
  }

  #once(text: string, tensor: Tensor): number[] {
    const ids = idsOf(tensor);
    const { bos_token: bos, bos_token_id: id } = this.#tokenizer;
    return bos && text.startsWith(bos) && ids[0] === id && ids[1] === id ? ids.slice(1) : ids;
  }
}

function textsOf({ content }: Message): string[] {
  return typeof content === 'string' ? [content] : content.flatMap((part) => (part.type === 'text' ? [part.text] : []));
}

function idsOf({ data }: Tensor): number[] {
  return Array.from(data as BigInt64Array, Number);
}
