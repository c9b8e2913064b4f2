/** A folder's own vision encoder and embedding graph. */
import { UsageError } from '../../../diagnostics.js';
import { badSample, type SampleFault } from '../../running/faults.js';
import { type IoInfo, isFloat, isInteger } from '../../running/io.js';
import { openSession, type Session } from '../../running/session.js';
import { at, cast, type Dtype, fromNumbers, type HostTensor, zeros } from '../../running/tensor.js';

type Tensors = ReadonlyMap<string, HostTensor>;

const declared = (inputs: readonly IoInfo[]): string => inputs.map((i) => `${i.name} [${i.dims.join(', ')}]`).join(', ') || 'nothing';

/** Where a config says what graphs call what they take and give. */
export interface GraphNames {
  /** The vision encoder's result. */
  readonly features: string;
  readonly embedding: { readonly ids: string; readonly features: string; readonly embeds: string };
}

export class FolderGraphs {
  readonly #vision: string;
  readonly #embed: string;
  readonly #names: GraphNames | undefined;
  #encoder: Session | undefined;
  #table: Session | undefined;

  constructor(paths: { readonly vision: string; readonly embed: string }, names?: GraphNames) {
    this.#vision = paths.vision;
    this.#embed = paths.embed;
    this.#names = names;
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
    const features = result.get((outputs.find((o) => o.name === (this.#names?.features ?? 'image_features')) ?? outputs[0])?.name ?? '');
    if (!features || features.dims.length < 2 || features.dims.length > 3) throw wrong('it gives no features [pictures, tokens, width]');
    return features;
  }

  /** Embeddings [1, tokens, width] of a prompt, with the features of its pictures in the places of image tokens. */
  async embedded(sample: string, { ids, isImage, features }: { readonly ids: readonly number[]; readonly isImage: readonly number[]; readonly features: readonly HostTensor[] }): Promise<HostTensor> {
    this.#table ??= await openSession(this.#embed);
    const { inputs, outputs } = this.#table;
    const input = inputs.find((i) => i.name === this.#names?.embedding.ids) ?? inputs.find(isInteger);
    const others = inputs.filter((i) => i !== input);
    const taking = others.find((i) => i.name === this.#names?.embedding.features) ?? (others.length === 1 ? others[0] : undefined);
    if (!input || !others.every(isFloat) || (others.length > 0 && !taking)) throw new UsageError({ code: 'PD523', message: `the embedding graph takes ${declared(inputs)}, and token ids and features of pictures are what it is given`, culprit: this.#embed, hint: 'give samples with inputs of their own' });
    const places = isImage.flatMap((flag, i) => (flag ? [i] : []));
    const rows = features.reduce((n, f) => n + f.data.length / (f.dims.at(-1) as number), 0);
    const wrong = (width: string): SampleFault => badSample(sample, `${places.length} image tokens for ${rows} rows of features${width}`, 'the vision encoder, the embedding graph and the processor must belong to this decoder, and the prompt needs an image token for each picture');
    if (rows !== places.length) throw wrong('');
    const feeds = new Map([[input.name, fromNumbers(input.dtype as Dtype, [1, ids.length], ids)]]);
    for (const other of others) feeds.set(other.name, other === taking && features.length > 0 ? asTaken(other, features) : noFeatures(other));
    const result = await this.#table.run(feeds, { sample });
    const embeds = result.get((outputs.find((o) => o.name === this.#names?.embedding.embeds) ?? outputs[0])?.name ?? '');
    const hidden = embeds?.dims.at(-1) ?? 0;
    if (!embeds || features.some((f) => f.dims.at(-1) !== hidden)) throw wrong(`, ${features[0]?.dims.at(-1) ?? hidden} wide beside embeddings of ${hidden}`);
    // It has put them in their places itself.
    if (taking) return embeds;
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

/** Features of all pictures, one after another, on as many axes as an embedding graph takes: [tokens, width] or [1, tokens, width]. */
function asTaken(input: IoInfo, features: readonly HostTensor[]): HostTensor {
  const dtype = input.dtype as Dtype;
  const width = features[0]?.dims.at(-1) as number;
  const all = features.map((f) => cast(f, dtype));
  const count = all.reduce((n, f) => n + f.data.length, 0);
  const out = zeros(dtype, [...new Array<number>(Math.max(0, input.dims.length - 2)).fill(1), count / width, width]);
  let done = 0;
  for (const { data } of all) {
    (out.data as Float32Array).set(data as Float32Array, done);
    done += data.length;
  }
  return out;
}

/** For a text: no rows, and what is declared of the others. */
function noFeatures({ dtype, dims }: IoInfo): HostTensor {
  return zeros(dtype as Dtype, dims.map((d) => (typeof d === 'number' ? d : 0)));
}
