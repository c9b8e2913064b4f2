/**
 * One model run as a decoder: prompt, then token by token through its own KV cache. The original and the rewritten
 * model are driven by the same code and get the same feeds; what differs is the caches each carries.
 */
import type { Embedder } from '../feeding/embed.js';
import { badSample, notFinite, SampleFault } from '../running/faults.js';
import { type DecoderIo, describeIo, type KnownCache, withPresents } from '../running/io.js';
import { completeFeeds, type ImageSource, type Layout, layoutOf } from '../feeding/prompt.js';
import type { Sample } from '../feeding/sample.js';
import { openSession, type Session, type SessionOptions } from '../running/session.js';
import { at, cast, type Dtype, floats, fromNumbers, type HostTensor } from '../running/tensor.js';

/** Everything the next step needs. Never changed in place: steps can branch from it. */
export interface DecodeState {
  readonly sample: Sample;
  readonly rows: number;
  /** attention_mask so far, [rows][width]. */
  readonly mask: readonly Uint8Array[];
  readonly nextPosition: readonly number[];
  readonly caches: ReadonlyMap<string, HostTensor>;
  /** For graphs without a cache: the whole sequence so far. */
  readonly whole: ReadonlyMap<string, HostTensor> | undefined;
}

export interface DecoderOptions {
  readonly imageSource?: ImageSource | undefined;
  readonly embedder?: Embedder | undefined;
  /** It is compared with a graph of fixed shapes (or is one): no decode steps. */
  readonly promptsOnly?: boolean | undefined;
}

export interface StepResult {
  /** Next-token logits, a row of the batch each. */
  readonly logits: readonly Float32Array[];
  readonly state: DecodeState;
  readonly outputs: ReadonlyMap<string, HostTensor>;
}

export class Decoder {
  readonly session: Session;
  readonly io: DecoderIo;
  readonly imageSource: ImageSource | undefined;
  readonly #embedder: Embedder | undefined;
  readonly #promptsOnly: boolean;

  constructor(session: Session, io: DecoderIo, options: DecoderOptions = {}) {
    this.session = session;
    this.io = io;
    this.imageSource = options.imageSource;
    this.#embedder = options.embedder;
    this.#promptsOnly = options.promptsOnly === true;
  }

  static async open(path: string, options: SessionOptions & DecoderOptions & { caches?: ReadonlyMap<string, KnownCache> | undefined } = {}): Promise<Decoder> {
    const session = await openSession(path, options);
    const io = describeIo(session.label, session.inputs, session.outputs, options.caches);
    return new Decoder(session, options.promptsOnly ? withPresents(io, session.outputs) : io, options);
  }

  /** True when the next token's feeds can be made, and the graph takes them. */
  get canGenerate(): boolean {
    return !this.#promptsOnly && (this.io.embeds === undefined || this.#embedder !== undefined);
  }

  /** Whether there are decode steps at all, with feeds that are given or made. */
  get takesSteps(): boolean {
    return !this.#promptsOnly;
  }

  layout(sample: Sample): Layout {
    return layoutOf(sample, this.io, this.imageSource);
  }

  feedsFor(sample: Sample, layout = this.layout(sample)): Map<string, HostTensor> {
    return completeFeeds(sample, this.io, layout, this.session.inputs, this.imageSource);
  }

  /** Runs the prompt. @throws {SampleFault} with the tensor at fault; PD514 when the outputs are not finite. */
  async prefill(sample: Sample, feeds = this.feedsFor(sample), layout = this.layout(sample), wanted?: readonly string[]): Promise<StepResult> {
    const outputs = await this.session.run(feeds, { sample: sample.id, outputs: wanted });
    const mask = Array.from({ length: layout.rows }, (_, r) => this.#maskRow(feeds, layout, r));
    const state: DecodeState = {
      sample,
      rows: layout.rows,
      mask,
      nextPosition: this.#nextPositions(feeds, layout),
      caches: this.#carry(outputs),
      whole: this.io.caches.length === 0 ? feeds : undefined,
    };
    return { logits: this.#lastLogits(sample, outputs, layout.trailing), state, outputs };
  }

  /** One more token a row. `embeds` overrides the embedder: [rows, 1, hidden]. */
  async step(state: DecodeState, tokens: readonly number[], embeds?: HostTensor): Promise<StepResult> {
    const { sample } = state;
    const feeds = await this.stepFeeds(state, tokens, embeds);
    const outputs = await this.session.run(feeds, { sample: sample.id });
    const next: DecodeState = {
      sample,
      rows: state.rows,
      mask: state.mask.map((m) => Uint8Array.from([...m, 1])),
      nextPosition: state.nextPosition.map((p) => p + 1),
      caches: this.#carry(outputs),
      whole: state.whole && feeds,
    };
    return { logits: this.#lastLogits(sample, outputs, new Array<number>(state.rows).fill(0)), state: next, outputs };
  }

  /** Feeds of the next step; exposed for latency runs and gates. */
  async stepFeeds(state: DecodeState, tokens: readonly number[], embeds?: HostTensor): Promise<Map<string, HostTensor>> {
    const { io } = this;
    const { rows, sample } = state;
    const feeds = new Map<string, HostTensor>();
    const put = (input: { name: string; dtype: string } | undefined, dims: readonly number[], values: ArrayLike<number>): void => {
      if (input) feeds.set(input.name, fromNumbers(input.dtype as Dtype, dims, values));
    };
    put(io.ids, [rows, 1], tokens);
    if (io.embeds) {
      const made = embeds ? cast(embeds, io.embeds.dtype as Dtype) : await this.#embedder?.embed(tokens.map((t) => [t]), io.embeds.dtype as Dtype);
      if (!made) throw badSample(sample.id, 'the next token has no embedding', 'give --embed <embed_tokens.onnx or table.npy>, or label_embeds in the sample');
      feeds.set(io.embeds.name, made);
    }
    const width = (state.mask[0]?.length ?? 0) + 1;
    put(io.mask, [rows, width], state.mask.flatMap((m) => [...m, 1]));
    if (io.positions) {
      const one = state.nextPosition;
      const axes = io.positionAxes;
      put(io.positions, axes === 0 ? [rows, 1] : [axes, rows, 1], axes === 0 ? one : Array.from({ length: axes }, () => one).flat());
    }
    put(io.imageMask, [rows, 1], new Array<number>(rows).fill(0));
    for (const extra of io.extras) {
      const given = sample.feeds.get(extra.name);
      if (given) feeds.set(extra.name, given);
    }
    for (const [past, value] of state.caches) feeds.set(past, value);
    for (const input of this.session.inputs) {
      // What the prompt needed and no step changes (num_logits_to_keep and the like).
      if (!feeds.has(input.name) && /num_logits_to_keep/.test(input.name)) put(input, input.dims.map((d) => (typeof d === 'number' ? d : 1)), [0]);
    }
    if (!state.whole) return feeds;
    for (const input of [io.ids, io.embeds, io.positions, io.imageMask]) {
      const old = input && state.whole.get(input.name);
      const more = input && feeds.get(input.name);
      if (input && old && more) feeds.set(input.name, append(old, more, input === io.positions && io.positionAxes > 0 ? 2 : 1));
    }
    return feeds;
  }

  #carry(outputs: ReadonlyMap<string, HostTensor>): Map<string, HostTensor> {
    const caches = new Map<string, HostTensor>();
    for (const c of this.io.caches) {
      const v = outputs.get(c.present);
      if (v) caches.set(c.past, v);
    }
    return caches;
  }

  #maskRow(feeds: ReadonlyMap<string, HostTensor>, layout: Layout, row: number): Uint8Array {
    const given = this.io.mask && feeds.get(this.io.mask.name);
    const width = given?.dims[1] ?? layout.past + layout.length;
    return Uint8Array.from({ length: width }, (_, i) => (given ? (at(given, row * width + i) === 0 ? 0 : 1) : 1));
  }

  #nextPositions(feeds: ReadonlyMap<string, HostTensor>, layout: Layout): number[] {
    const given = this.io.positions && feeds.get(this.io.positions.name);
    return Array.from({ length: layout.rows }, (_, r) => {
      let next = given ? 0 : layout.past;
      for (let i = 0; i < layout.length; i++) {
        if (layout.valid[r * layout.length + i] === 0) continue;
        if (!given) next++;
        else for (let a = 0; a < Math.max(1, this.io.positionAxes); a++) next = Math.max(next, at(given, (a * layout.rows + r) * layout.length + i) + 1);
      }
      return next;
    });
  }

  /** The logits of each row's last valid token: counted from the end, since earlier tokens may have been dropped. */
  #lastLogits(sample: Sample, outputs: ReadonlyMap<string, HostTensor>, trailing: readonly number[]): Float32Array[] {
    const name = this.io.logits.name;
    const logits = outputs.get(name);
    if (!logits || logits.dims.length < 2) throw new SampleFault({ code: 'PD516', message: `sample ${sample.id}: ${this.session.label} gave no logits of shape [rows, tokens, vocab]`, culprit: name, hint: 'is this the decoder?' });
    const vocab = logits.dims.at(-1) ?? 0;
    const perRow = logits.dims.length === 3 ? (logits.dims[1] ?? 0) : 1;
    return trailing.map((skip, r) => {
      const place = Math.max(0, perRow - 1 - (perRow > 1 ? skip : 0));
      const values = floats(logits, (r * perRow + place) * vocab, vocab);
      let bad = 0;
      for (const v of values) if (!Number.isFinite(v)) bad++;
      // -Infinity alone is how some graphs forbid tokens.
      if (bad > 0 && (bad === vocab || values.some((v) => Number.isNaN(v) || v === Number.POSITIVE_INFINITY))) throw notFinite(sample.id, name, this.session.label, bad, vocab);
      return values;
    });
  }

  close(): Promise<void> {
    return this.session.close();
  }
}

/** Joins two tensors along `axis`. */
export function append(a: HostTensor, b: HostTensor, axis: number): HostTensor {
  const inner = a.dims.slice(axis + 1).reduce((x, y) => x * y, 1);
  const outer = a.dims.slice(0, axis).reduce((x, y) => x * y, 1);
  const [na, nb] = [(a.dims[axis] ?? 0) * inner, (b.dims[axis] ?? 0) * inner];
  const data = new (a.data.constructor as Float32ArrayConstructor)(outer * (na + nb));
  for (let o = 0; o < outer; o++) {
    data.set((a.data as Float32Array).subarray(o * na, (o + 1) * na), o * (na + nb));
    data.set((b.data as Float32Array).subarray(o * nb, (o + 1) * nb), o * (na + nb) + na);
  }
  return { dtype: a.dtype, dims: a.dims.map((d, i) => (i === axis ? d + (b.dims[axis] ?? 0) : d)), data };
}

/** Index of the largest value; the lower index on a tie. */
export function argmax(values: Float32Array): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if ((values[i] ?? Number.NEGATIVE_INFINITY) > (values[best] ?? Number.NEGATIVE_INFINITY)) best = i;
  return best;
}
