/** Real exports and their goldens: fixtures/<name>/{model.onnx, fixture.json, golden.bin}. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as ort from 'onnxruntime-node';
import { fromHalf } from '../../src/ir/half.js';

export const FIXTURES = join(import.meta.dirname, '..', '..', 'fixtures');

export interface Ref {
  readonly dtype: 'float32' | 'float16' | 'int64' | 'int32' | 'bool';
  readonly shape: readonly number[];
  readonly offset: number;
  readonly bytes: number;
}

export interface FixtureRun {
  readonly name: string;
  readonly carry: boolean;
  readonly feeds: Readonly<Record<string, Ref>>;
  readonly expect: { readonly logits: Ref; readonly compare?: Ref; readonly kept: readonly Ref[]; readonly cache_lengths: readonly number[] };
}

export interface FixturePlan {
  readonly layers: readonly number[];
  readonly keep: readonly string[];
  readonly positions: 'compact' | 'keep';
  readonly imageMask: string;
}

export interface Scenario {
  readonly name: string;
  readonly kind: string;
  readonly plan: string;
  readonly score_gap: number;
  readonly runs: readonly FixtureRun[];
}

export interface Fixture {
  readonly name: string;
  readonly family: string;
  readonly exporter: string;
  readonly model_type: string;
  readonly dtype: string;
  readonly layers: number;
  readonly heads: number;
  readonly kv_heads: number;
  readonly head_dim: number;
  readonly tolerance: { readonly logits: number };
  readonly not_applicable: Readonly<Record<string, string>>;
  readonly execution_provider?: string;
  readonly cache: readonly { readonly layer: number; readonly kind: string; readonly past: string | null; readonly present: string }[];
  readonly plans: Readonly<Record<string, FixturePlan>>;
  readonly scenarios: readonly Scenario[];
}

export class LoadedFixture {
  readonly info: Fixture;
  readonly model: string;
  readonly #golden: Buffer;

  constructor(name: string) {
    const folder = join(FIXTURES, name);
    this.info = JSON.parse(readFileSync(join(folder, 'fixture.json'), 'utf8')) as Fixture;
    this.model = join(folder, 'model.onnx');
    this.#golden = readFileSync(join(folder, 'golden.bin'));
  }

  /** A golden tensor as onnxruntime takes it. */
  tensor(ref: Ref): ort.Tensor {
    const bytes = new Uint8Array(this.#golden.subarray(ref.offset, ref.offset + ref.bytes)).slice();
    const arrays = { float32: Float32Array, float16: Uint16Array, int64: BigInt64Array, int32: Int32Array, bool: Uint8Array } as const;
    const data = new arrays[ref.dtype](bytes.buffer);
    return new ort.Tensor(ref.dtype, data as never, [...ref.shape]);
  }

  numbers(ref: Ref): number[] {
    return toNumbers(this.tensor(ref));
  }
}

export function fixtureNames(): string[] {
  return readdirSync(FIXTURES)
    .filter((name) => existsSync(join(FIXTURES, name, 'fixture.json')) && existsSync(join(FIXTURES, name, 'golden.bin')))
    .sort();
}

/** Values of a tensor as JS numbers; float16 is decoded whether the runtime has Float16Array or not. */
export function toNumbers(tensor: ort.Tensor): number[] {
  if (tensor.type === 'float16') {
    const data = tensor.data as unknown as Uint16Array;
    return data.constructor.name === 'Float16Array' ? Array.from(data as unknown as ArrayLike<number>) : Array.from(data, fromHalf);
  }
  if (tensor.type === 'int64') return Array.from(tensor.data as BigInt64Array, Number);
  return Array.from(tensor.data as Float32Array);
}

/** One thread a session: the models are tiny, and spinning threads of parallel sessions only get in each other's way. */
export const SESSION: ort.InferenceSession.SessionOptions = { intraOpNumThreads: 1, interOpNumThreads: 1, logSeverityLevel: 3 };

export type Feeds = Record<string, ort.Tensor>;

/** Runs the chunks of a scenario on a session, carrying the caches from run to run. */
export async function runScenario(session: ort.InferenceSession, fixture: LoadedFixture, scenario: Scenario, each: (run: FixtureRun, outputs: ort.InferenceSession.ReturnType) => void): Promise<void> {
  let previous: ort.InferenceSession.ReturnType | undefined;
  for (const run of scenario.runs) {
    const outputs = await session.run(feedsOf(session, fixture, run, previous));
    each(run, outputs);
    previous = outputs;
  }
}

/** What a run feeds: its own tensors as far as the session takes them, and the caches. */
export function feedsOf(session: ort.InferenceSession, fixture: LoadedFixture, run: FixtureRun, previous: ort.InferenceSession.ReturnType | undefined): Feeds {
  const { info } = fixture;
  const feeds: Feeds = {};
  for (const [name, ref] of Object.entries(run.feeds)) if (session.inputNames.includes(name)) feeds[name] = fixture.tensor(ref);
  const batch = (run.feeds.inputs_embeds ?? run.feeds.input_ids)?.shape[0] ?? 1;
  for (const { past, present } of info.cache) {
    if (past === null || !session.inputNames.includes(past) || feeds[past]) continue;
    if (run.carry && previous) feeds[past] = previous[present] as ort.Tensor;
    else if (!feeds[past]) {
      const type = info.dtype === 'float16' ? 'float16' : 'float32';
      feeds[past] = new ort.Tensor(type, (type === 'float16' ? new Uint16Array(0) : new Float32Array(0)) as never, [batch, info.kv_heads, 0, info.head_dim]);
    }
  }
  return feeds;
}

/** Largest difference over the range of the golden values, at the positions that mean something. */
export function relativeError(actual: readonly number[], golden: readonly number[], width: number, compare?: readonly number[]): number {
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  let worst = 0;
  for (let i = 0; i < golden.length; i++) {
    const g = golden[i] as number;
    low = Math.min(low, g);
    high = Math.max(high, g);
    if (compare && !compare[Math.floor(i / width)]) continue;
    const difference = Math.abs(g - (actual[i] as number));
    if (!(difference <= worst)) worst = difference;
  }
  return worst / (high - low);
}
