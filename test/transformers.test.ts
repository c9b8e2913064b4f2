/** The adapter for transformers.js, on a stand-in that treats a decoder's session as transformers.js 4.3 does; the library itself: npm run test:runtimes. */
import { Tensor } from 'onnxruntime-node';
import { expect, test } from 'vitest';
import { UsageError } from '../src/diagnostics.js';
import { pyramidDrop } from '../src/transformers.js';

type Feeds = Record<string, Tensor>;

class Session {
  readonly seen: Feeds[] = [];
  readonly #names: readonly string[];
  constructor(names: readonly string[]) {
    this.#names = names;
  }
  get inputNames(): readonly string[] {
    return this.#names;
  }
  run(feeds: Feeds): Promise<string> {
    this.seen.push(feeds);
    return Promise.resolve('outputs');
  }
}

const int64 = (rows: readonly (readonly number[])[]): Tensor => new Tensor('int64', BigInt64Array.from(rows.flat(), BigInt), [rows.length, rows[0]?.length ?? 0]);

class Model {
  readonly sessions: Record<string, Session>;
  constructor(
    readonly config: object,
    readonly decoder = new Session(['inputs_embeds', 'attention_mask', 'image_token_mask']),
  ) {
    this.sessions = { vision_encoder: new Session(['pixel_values']), decoder_model_merged: decoder };
  }
  /** Embeds, then runs the decoder; names are checked before, as sessionRun does. */
  async forward(inputs: Record<string, unknown>): Promise<unknown> {
    const dims = ((inputs.input_ids ?? inputs.inputs_embeds) as Tensor).dims;
    // What takes longer for some chunks than for others: the vision encoder.
    await new Promise((done) => setTimeout(done, inputs.pixel_values ? 20 : 0));
    const feeds: Feeds = { inputs_embeds: new Tensor('float32', new Float32Array((dims[0] as number) * (dims[1] as number) * 2), [dims[0] as number, dims[1] as number, 2]), attention_mask: int64([[1]]) };
    const missing = this.decoder.inputNames.filter((n) => !feeds[n]);
    if (missing.length > 0) throw new Error(`Missing the following inputs: ${missing.join(', ')}`);
    return this.decoder.run(Object.fromEntries(this.decoder.inputNames.map((n) => [n, feeds[n] as Tensor])));
  }
}

const pixel_values = new Tensor('float32', new Float32Array(3), [1, 3]);
const mask = (feeds: Feeds | undefined): unknown => [feeds?.image_token_mask?.type, feeds?.image_token_mask?.dims, Array.from((feeds?.image_token_mask?.data ?? []) as Uint8Array)];

test.each([
  ['image_token_id', { image_token_id: 9 }],
  ['image_token_index', { image_token_index: 9 }],
  ['both, of which one is another’s', { image_token_id: 9, image_token_index: 77 }],
])('%s: image tokens of each chunk are marked', async (_, config) => {
  const model = pyramidDrop(new Model(config));
  expect(await model.forward({ input_ids: int64([[1, 9, 9, 2], [9, 3, 4, 5]]), pixel_values })).toBe('outputs');
  await model.forward({ input_ids: int64([[7], [9]]), pixel_values });
  await model.forward({ input_ids: int64([[1, 2, 3]]) });
  await model.forward({ inputs_embeds: int64([[5]]) });
  expect(model.decoder.seen.map(mask)).toEqual([
    ['bool', [2, 4], [0, 1, 1, 0, 1, 0, 0, 0]],
    ['bool', [2, 1], [0, 1]],
    ['bool', [1, 3], [0, 0, 0]],
    ['bool', [1, 1], [0]],
  ]);
});

test('calls that overlap keep their own masks', async () => {
  const model = pyramidDrop(new Model({ image_token_id: 9 }));
  await Promise.all([model.forward({ input_ids: int64([[9, 9, 1]]), pixel_values }), model.forward({ input_ids: int64([[1, 2, 3]]) })]);
  expect(model.decoder.seen.map(mask)).toEqual([['bool', [1, 3], [1, 1, 0]], ['bool', [1, 3], [0, 0, 0]]]);
});

test.each<[string, (m: Model) => unknown, RegExp]>([
  ['PD616', (m) => pyramidDrop(m).forward({ input_ids: int64([[1, 2]]), pixel_values }), /none of its tokens is 9/],
  ['PD616', (m) => pyramidDrop(m, { imageTokenId: 8 }).forward({ input_ids: int64([[1, 9]]), pixel_values }), /none of its tokens is 8/],
  ['PD616', (m) => pyramidDrop(m).forward({ inputs_embeds: int64([[1, 2]]), pixel_values }), /without input_ids/],
  ['PD615', () => pyramidDrop(new Model({ image_token: '<image>' })), /neither image_token_id nor image_token_index/],
  ['PD614', () => pyramidDrop(new Model({ image_token_id: 9 }, new Session(['inputs_embeds']))), /--image-mask input/],
])('%s: nothing is pruned, or left unpruned, in silence', async (code, act, message) => {
  const model = new Model({ image_token_id: 9 });
  const error = await Promise.resolve().then(() => act(model)).catch((e: unknown) => e);
  expect(error).toBeInstanceOf(UsageError);
  expect(error).toMatchObject({ code, message: expect.stringMatching(message) });
  expect(model.decoder.seen).toEqual([]);
});

test('after a chunk that was refused the next one runs', async () => {
  const model = pyramidDrop(new Model({ image_token_id: 9 }));
  await expect(model.forward({ input_ids: int64([[1, 2]]), pixel_values })).rejects.toMatchObject({ code: 'PD616' });
  await model.forward({ input_ids: int64([[9, 2]]), pixel_values });
  expect(model.decoder.seen.map(mask)).toEqual([['bool', [1, 2], [1, 0]]]);
});
