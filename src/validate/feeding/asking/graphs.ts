/** A folder's own vision encoder and embedding graph. */
import { UsageError } from '../../../diagnostics.js';
import { badSample } from '../../running/faults.js';
import type { IoInfo } from '../../running/io.js';
import { openSession, type Session } from '../../running/session.js';
import { at, cast, type Dtype, fromNumbers, type HostTensor } from '../../running/tensor.js';

type Tensors = ReadonlyMap<string, HostTensor>;

const declared = (inputs: readonly IoInfo[]): string => inputs.map((i) => `${i.name} [${i.dims.join(', ')}]`).join(', ') || 'nothing';

export class FolderGraphs {
  readonly #vision: string;
  readonly #embed: string;
  #encoder: Session | undefined;
  #table: Session | undefined;

  constructor(paths: { readonly vision: string; readonly embed: string }) {
    this.#vision = paths.vision;
    this.#embed = paths.embed;
  }

  async close(): Promise<void> {
    await this.#encoder?.close();
    await this.#table?.close();
  }

  /**
   * Features [pictures or pieces, tokens, width] or [tokens, width] of what a processor made of pictures.
   *
   * @throws {UsageError} PD523 when the encoder takes something else
   */
  async features(sample: string, tensors: Tensors): Promise<HostTensor> {
    this.#encoder ??= await openSession(this.#vision);
    const { inputs, outputs } = this.#encoder;
    const wrong = (why: string): UsageError => new UsageError({ code: 'PD523', message: `the vision encoder is not one that is run here: ${why}`, culprit: this.#vision, hint: 'give samples with inputs of their own: embeddings that were made elsewhere' });
    const feeds = new Map<string, HostTensor>();
    for (const input of inputs) {
      const tensor = tensorFor(input, inputs, tensors);
      if (!tensor || tensor.dims.length !== input.dims.length) throw wrong(`it takes ${declared(inputs)}, and there are ${[...tensors].map(([name, t]) => `${name} [${t.dims.join(', ')}]`).join(', ')}`);
      feeds.set(input.name, cast(tensor, input.dtype as Dtype));
    }
    const result = await this.#encoder.run(feeds, { sample });
    const features = result.get((outputs.find((o) => o.name === 'image_features') ?? outputs[0])?.name ?? '');
    if (!features || features.dims.length < 2 || features.dims.length > 3) throw wrong('it gives no features [pictures, tokens, width]');
    return features;
  }

  /** Embeddings [1, tokens, width] of a prompt, with the features of its pictures in the places of image tokens. */
  async embedded(sample: string, { ids, isImage, features }: { readonly ids: readonly number[]; readonly isImage: readonly number[]; readonly features: readonly HostTensor[] }): Promise<HostTensor> {
    this.#table ??= await openSession(this.#embed);
    const [input, ...others] = this.#table.inputs;
    if (!input || others.length > 0) throw new UsageError({ code: 'PD523', message: 'the embedding graph takes more than token ids', culprit: this.#embed, hint: 'give samples with inputs of their own' });
    const result = await this.#table.run(new Map([[input.name, fromNumbers(input.dtype as Dtype, [1, ids.length], ids)]]), { sample });
    const embeds = result.get(this.#table.outputs[0]?.name ?? '');
    const hidden = embeds?.dims.at(-1) ?? 0;
    const places = isImage.flatMap((flag, i) => (flag ? [i] : []));
    const rows = features.reduce((n, f) => n + f.data.length / hidden, 0);
    if (!embeds || rows !== places.length || features.some((f) => f.dims.at(-1) !== hidden)) {
      throw badSample(sample, `${places.length} image tokens for ${rows} rows of features, ${features[0]?.dims.at(-1) ?? hidden} wide beside embeddings of ${hidden}`, 'the vision encoder, the embedding graph and the processor must belong to this decoder, and the prompt needs an image token for each picture');
    }
    const values = Float64Array.from({ length: embeds.data.length }, (_, i) => at(embeds, i));
    let row = 0;
    for (const f of features) {
      for (let from = 0; from < f.data.length; from += hidden, row++) {
        const to = (places[row] as number) * hidden;
        for (let k = 0; k < hidden; k++) values[to + k] = at(f, from + k);
      }
    }
    return fromNumbers(embeds.dtype, embeds.dims, values);
  }
}

/** By name, as transformers.js feeds it; an encoder that takes one tensor takes pixels, whatever it calls them. */
function tensorFor(input: IoInfo, inputs: readonly IoInfo[], tensors: Tensors): HostTensor | undefined {
  const named = tensors.get(input.name) ?? (input.name === 'grid_thw' ? tensors.get('image_grid_thw') : undefined);
  return named ?? (inputs.length === 1 ? tensors.get('pixel_values') : undefined);
}
