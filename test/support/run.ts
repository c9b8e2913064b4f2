/** Running models with the feeds of a fixture's scenarios: several runs, the cache carried from one to the next. */
import { existsSync, readFileSync } from 'node:fs';
import ort from 'onnxruntime-node';
import { fixturePath } from './proto.js';

interface Ref {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly offset: number;
  readonly bytes: number;
}

interface Fixture {
  readonly kv_heads: number;
  readonly kv_heads_by_layer?: readonly number[];
  readonly head_dim: number;
  readonly image_token_id: number | null;
  readonly cache: readonly { readonly layer: number; readonly past: string; readonly present: string }[];
  readonly plans: Readonly<Record<string, { readonly layers: readonly number[]; readonly keep: readonly string[]; readonly positions: 'compact' | 'keep'; readonly imageMask: string }>>;
  readonly scenarios: readonly { readonly name: string; readonly plan: string; readonly runs: readonly { readonly name: string; readonly carry: boolean; readonly feeds: Readonly<Record<string, Ref>> }[] }[];
}

export function hasFixture(name: string): boolean {
  return existsSync(fixturePath(name, 'fixture.json')) && existsSync(fixturePath(name));
}

export function readFixture(name: string): Fixture {
  return JSON.parse(readFileSync(fixturePath(name, 'fixture.json'), 'utf8')) as Fixture;
}

/** Command-line options that make a fixture's plan. */
export function planArgs(name: string, plan = 'default'): string[] {
  const p = readFixture(name).plans[plan];
  if (!p) throw new Error(`${name} has no plan ${plan}`);
  return ['--layers', p.layers.join(','), '--keep', p.keep.join(','), '--positions', p.positions, '--image-mask', p.imageMask];
}

const ARRAYS = { float32: Float32Array, float16: Uint16Array, int64: BigInt64Array, int32: Int32Array, bool: Uint8Array } as const;

export type Outputs = Readonly<Record<string, ort.Tensor>>;

/** Outputs of every run of every scenario of a plan, as the model at `path` computes them. */
export async function runScenarios(path: string, name: string, plan = 'default', most = 3): Promise<Outputs[]> {
  const fixture = readFixture(name);
  const golden = readFileSync(fixturePath(name, 'golden.bin'));
  const session = await ort.InferenceSession.create(path, { logSeverityLevel: 3, graphOptimizationLevel: 'disabled', intraOpNumThreads: 1 });
  const results: Outputs[] = [];
  for (const scenario of fixture.scenarios.filter((s) => s.plan === plan).slice(0, most)) {
    let previous: Outputs = {};
    for (const run of scenario.runs) {
      const feeds: Record<string, ort.Tensor> = {};
      let batch = 1;
      for (const [key, ref] of Object.entries(run.feeds)) {
        const bytes = golden.buffer.slice(golden.byteOffset + ref.offset, golden.byteOffset + ref.offset + ref.bytes) as ArrayBuffer;
        feeds[key] = new ort.Tensor(ref.dtype as 'float32', new ARRAYS[ref.dtype as 'float32'](bytes), [...ref.shape]);
        if (key === 'inputs_embeds' || key === 'input_ids' || key === 'attention_mask') batch = ref.shape[0] as number;
      }
      for (const c of fixture.cache) {
        const type = (session.inputMetadata.find((m) => m.name === c.past) as unknown as { type: string } | undefined)?.type ?? 'float32';
        const empty = new ort.Tensor(type as 'float32', new ARRAYS[type as 'float32'](0), [batch, fixture.kv_heads_by_layer?.[c.layer] ?? fixture.kv_heads, 0, fixture.head_dim]);
        feeds[c.past] = run.carry ? (previous[c.present] as ort.Tensor) : empty;
      }
      for (const key of Object.keys(feeds)) if (!session.inputNames.includes(key)) delete feeds[key];
      previous = await session.run(feeds);
      results.push(previous);
    }
  }
  await session.release();
  return results;
}

/** Loads a model; the message of what onnxruntime says when it does not. */
export async function loads(path: string | Uint8Array): Promise<string | undefined> {
  try {
    const session = await ort.InferenceSession.create(path as string, { logSeverityLevel: 3, graphOptimizationLevel: 'disabled' });
    await session.release();
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

/** Bytes of every output by name: equal strings mean equal tensors. */
export function exactly(outputs: Outputs): Record<string, string> {
  return Object.fromEntries(
    Object.entries(outputs).map(([k, t]) => {
      const data = t.data as Float32Array;
      return [k, `${t.dims.join('x')}:${Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString('base64')}`];
    }),
  );
}
