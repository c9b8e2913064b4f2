/** Questions as token ids: tokenizer.json read by Hugging Face's own library, with as many image tokens as the picture has features. */
import { readRegularText } from '../../../disk/small-files.js';
import { UsageError } from '../../../diagnostics.js';
import { anImageToken, type ImageTokenId, isImageToken } from '../../../plan/image-token-id.js';
import { badSample } from '../../running/faults.js';

export interface Prompts {
  /** Ids of a prompt; each image token of the text stands for one picture, and without any pictures come first. */
  ids(sample: string, text: string, imageTokens: readonly number[]): number[];
  /** The same of ids; each image token among them stands for one picture. */
  placed(sample: string, given: readonly number[], imageTokens: readonly number[]): number[];
  /** Whether a text says itself where its pictures are. */
  marked(text: string): boolean;
  /** Ids of a piece of text or an answer, without what a tokenizer adds to whole texts. */
  bare(text: string): number[];
}

const MOST_BYTES = 256 * 1024 * 1024;

/** @throws {UsageError} PD519 when the tokenizer is missing, or is none */
export async function openPrompts(tokenizerPath: string, configPath: string | undefined, imageTokenId: ImageTokenId): Promise<Prompts> {
  const { Tokenizer } = await import('@huggingface/tokenizers');
  let tokenizer: InstanceType<typeof Tokenizer>;
  try {
    tokenizer = new Tokenizer(JSON.parse(readRegularText(tokenizerPath, MOST_BYTES)) as object, configPath === undefined ? {} : (JSON.parse(readRegularText(configPath)) as object));
    tokenizer.encode('a');
  } catch (error) {
    throw new UsageError({ code: 'PD519', message: `the tokenizer cannot be read: ${(error as Error).message}`, culprit: tokenizerPath, hint: 'put the model’s tokenizer.json into the folder, or give samples with inputs of their own' }, { cause: error });
  }
  const isImage = (id: number): boolean => isImageToken(imageTokenId, id);
  const placed = (sample: string, given: readonly number[], imageTokens: readonly number[]): number[] => {
    const places = given.filter(isImage).length;
    // Written out already.
    if (places === imageTokens.reduce((a, b) => a + b, 0)) return [...given];
    const images = imageTokens.map((n) => new Array<number>(n).fill(anImageToken(imageTokenId)));
    if (places === images.length) return given.flatMap((id) => (isImage(id) ? (images.shift() as number[]) : [id]));
    throw badSample(sample, `the prompt has ${places} image tokens, for ${images.length} picture${images.length === 1 ? '' : 's'} of ${imageTokens.join(' + ')} tokens`, 'write one image token for each picture, or none: then pictures stand before the text');
  };
  return {
    ids(sample, text, imageTokens) {
      const given = tokenizer.encode(text).ids;
      if (imageTokens.length === 0 || given.some(isImage)) return placed(sample, given, imageTokens);
      const start = given.length - tokenizer.encode(text, { add_special_tokens: false }).ids.length;
      const first = given.slice(0, Math.max(0, start));
      // What a tokenizer adds at the end of a text ends it: only what it puts first goes before the pictures.
      const own = tokenizer.encode('', {}).ids;
      const prefix = own.length > 0 && first.length > 0 && given[0] === own[0] ? 1 : 0;
      return [...given.slice(0, prefix), ...imageTokens.flatMap((n) => new Array<number>(n).fill(anImageToken(imageTokenId))), ...given.slice(prefix)];
    },
    placed,
    marked: (text) => tokenizer.encode(text).ids.some(isImage),
    bare: (text) => tokenizer.encode(text, { add_special_tokens: false }).ids,
  };
}
