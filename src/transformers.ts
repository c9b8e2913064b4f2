/**
 * A decoder with the input image_token_mask in transformers.js, which feeds a decoder nothing but what it knows.
 *
 * ```js
 * import { pyramidDrop } from 'pdrop-compile/transformers';
 * const model = pyramidDrop(await AutoModelForImageTextToText.from_pretrained('./model-pdrop'));
 * ```
 * A folder that was compiled as a whole needs none of it: its image tokens mark themselves.
 */
import { UsageError } from './diagnostics.js';

interface Tensor {
  readonly dims: readonly number[];
  readonly data: ArrayLike<number | bigint>;
}

type Feeds = Record<string, unknown>;

/** What is used of an onnxruntime session. */
export interface DecoderSession {
  readonly inputNames: readonly string[];
  run(feeds: Feeds, ...rest: unknown[]): Promise<unknown>;
}

/** What is used of a model of transformers.js. */
export interface TransformersModel {
  readonly config: object;
  readonly sessions: Readonly<Record<string, unknown>>;
  forward(inputs: Feeds): Promise<unknown>;
}

export interface PyramidDropOptions {
  /** Id of the tokens that stand for the image. Default: image_token_id and image_token_index of the model's config. */
  readonly imageTokenId?: number | undefined;
}

const MASK = 'image_token_mask';

/**
 * Feeds `image_token_mask` to the model's decoder: true where a token of the chunk is an image token. The model is changed
 * in place and returned; `generate`, `forward` and calls work as before, one after another.
 *
 * @throws {UsageError} PD614 when no session takes the mask, PD615 when it is not known which token stands for an image;
 *   later, from `forward`, PD616 when a prompt comes with pixels and no token of it stands for an image, or without ids
 */
export function pyramidDrop<Model extends object>(model: Model, options: PyramidDropOptions = {}): Model {
  const target = model as unknown as TransformersModel;
  const session = Object.values(target.sessions ?? {}).find((s): s is DecoderSession => (s as Partial<DecoderSession>).inputNames?.includes(MASK) === true);
  if (!session) {
    throw new UsageError({
      code: 'PD614',
      message: `no session of the model takes ${MASK}: compile its decoder with --image-mask input. A folder compiled as a whole needs no adapter`,
      culprit: Object.keys(target.sessions ?? {}).join(', '),
      hint: 'compile the decoder with --image-mask input, or leave pyramidDrop out',
    });
  }
  const ids = imageTokens(target.config, options);
  // transformers.js looks at the names before it runs: it must not miss what is added here.
  const known = session.inputNames.filter((n) => n !== MASK);
  Object.defineProperty(session, 'inputNames', { value: known, configurable: true });

  let flags: Uint8Array | undefined;
  const run = session.run.bind(session);
  session.run = (feeds, ...rest) => {
    const chunk = (feeds.inputs_embeds ?? feeds.input_ids) as Tensor & { constructor: new (type: string, data: Uint8Array, dims: readonly number[]) => unknown };
    const dims = chunk.dims.slice(0, 2);
    const size = (dims[0] ?? 0) * (dims[1] ?? 0);
    // A chunk of one token each is a decode step, whatever it was made from.
    const mask = flags?.length === size ? flags : dims[1] === 1 ? new Uint8Array(size) : undefined;
    if (!mask) throw unknownTokens(`the decoder gets a chunk of ${dims.join(' × ')} tokens, and input_ids were of another size`);
    return run({ ...feeds, [MASK]: new chunk.constructor('bool', mask, dims) }, ...rest);
  };

  const forward = target.forward.bind(model);
  // One at a time: between forward and the decoder's run other graphs run.
  let before: Promise<unknown> = Promise.resolve();
  target.forward = (inputs) => {
    const now = before.then(() => {
      flags = flagsOf(inputs, ids);
      return forward(inputs);
    });
    before = now.catch(() => undefined);
    return now;
  };
  return model;
}

/** Configs of some models say image_token_id, of others image_token_index, of some both. */
function imageTokens(config: object, { imageTokenId }: PyramidDropOptions): ReadonlySet<number> {
  const { image_token_id: id, image_token_index: index } = config as { image_token_id?: unknown; image_token_index?: unknown };
  const found = new Set((imageTokenId === undefined ? [id, index] : [imageTokenId]).filter((v): v is number => Number.isInteger(v)));
  if (found.size > 0) return found;
  throw new UsageError({
    code: 'PD615',
    message: 'the model’s config has neither image_token_id nor image_token_index: give pyramidDrop(model, { imageTokenId })',
    culprit: 'config',
    hint: 'give the id: pyramidDrop(model, { imageTokenId })',
  });
}

/** 1 at image tokens of the chunk that is about to run; undefined where there are no ids to tell by. */
function flagsOf(inputs: Feeds, ids: ReadonlySet<number>): Uint8Array | undefined {
  const tokens = inputs.input_ids as Tensor | undefined | null;
  const pixels = inputs.pixel_values !== undefined && inputs.pixel_values !== null;
  if (!tokens) {
    const embeds = inputs.inputs_embeds as Tensor | undefined | null;
    if (embeds && embeds.dims[1] !== 1) throw unknownTokens('inputs_embeds come without input_ids');
    return undefined;
  }
  const flags = Uint8Array.from(tokens.data as ArrayLike<number>, (id) => Number(ids.has(Number(id))));
  const decoding = tokens.dims[1] === 1;
  if (pixels && !decoding && !flags.includes(1)) throw unknownTokens(`the prompt comes with pixels, and none of its tokens is ${[...ids].join(' or ')}`);
  return flags;
}

function unknownTokens(why: string): UsageError {
  return new UsageError({
    code: 'PD616',
    message: `it cannot be told which tokens are image tokens: ${why}`,
    culprit: 'input_ids',
    hint: 'check image_token_id and image_token_index of the config, or give pyramidDrop(model, { imageTokenId })',
  });
}
