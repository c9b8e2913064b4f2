/** Fixtures as cases use them: the model's bytes, its plans, the runs of its scenarios, and what onnxruntime makes of them. */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import ort from 'onnxruntime-node';
import { fromHalf } from '../dist/src/ir/half.js';
import { slice } from './slice.mjs';

// onnxruntime-node 1.30 takes a Float16Array (Node 24 and later) for empty; where there is none, half precision is bits.
delete globalThis.Float16Array;

const ROOT = fileURLToPath(new URL('../fixtures/', import.meta.url));
const CACHE = fileURLToPath(new URL('../.cache/fuzz/', import.meta.url));
const ARRAYS = { float32: Float32Array, float16: Uint16Array, int64: BigInt64Array, int32: Int32Array, bool: Uint8Array };

/** Real exports that run on the CPU. */
export function fixtureNames() {
  return readdirSync(ROOT)
    .filter((name) => existsSync(`${ROOT}${name}/golden.bin`))
    .filter((name) => JSON.parse(readFileSync(`${ROOT}${name}/fixture.json`, 'utf8')).execution_provider !== 'webgpu')
    .sort();
}

export class Fixture {
  constructor(name, bytes = new Uint8Array(readFileSync(`${ROOT}${name}/model.onnx`)), info = JSON.parse(readFileSync(`${ROOT}${name}/fixture.json`, 'utf8'))) {
    this.name = name;
    this.bytes = bytes;
    this.info = info;
    this.golden = readFileSync(`${ROOT}${name}/golden.bin`);
  }

  /** The fixture with fewer layers; undefined where they cannot be taken apart. */
  async sliced(layers = 4) {
    // The decode half of a pair is fed with caches of given lengths, layer by layer.
    if (this.info.scenarios.every((s) => s.kind === 'decode' || s.kind === 'text-only')) return undefined;
    const made = await this.#cut(layers);
    if (!made) return undefined;
    const plans = Object.entries(this.info.plans).map(([name, plan]) => {
      const boundaries = Math.min(plan.layers.length, layers - 1);
      return [name, { ...plan, layers: Array.from({ length: boundaries }, (_, i) => i + 1), keep: plan.keep.slice(0, boundaries) }];
    });
    return new Fixture(this.name, made.bytes, { ...this.info, layers, cache: this.info.cache.filter((c) => !made.gone.has(c.present)), plans: Object.fromEntries(plans) });
  }

  /** The decode half of a pair is fed with the shorter caches of a compiled prefill, which the original does not take. */
  runsUncompiled(scenario) {
    return scenario.kind !== 'decode';
  }

  /** Cutting means an analysis: kept in a folder that git ignores, by the content of what was cut. */
  async #cut(layers) {
    const key = createHash('sha256').update(this.bytes).update(readFileSync(new URL('slice.mjs', import.meta.url))).digest('hex').slice(0, 16);
    const path = `${CACHE}${this.name}-${layers}-${key}`;
    if (existsSync(`${path}.json`)) {
      const gone = JSON.parse(readFileSync(`${path}.json`, 'utf8'));
      return gone && { bytes: new Uint8Array(readFileSync(`${path}.onnx`)), gone: new Set(gone) };
    }
    const made = await slice(this.bytes, layers);
    mkdirSync(CACHE, { recursive: true });
    // Renamed into place: another process may be doing the same.
    const put = (suffix, data) => {
      writeFileSync(`${path}.${process.pid}`, data);
      renameSync(`${path}.${process.pid}`, `${path}${suffix}`);
    };
    if (made) put('.onnx', made.bytes);
    put('.json', JSON.stringify(made ? [...made.gone].filter((name) => name !== undefined) : null));
    return made;
  }

  tensor(ref) {
    const bytes = new Uint8Array(this.golden.subarray(ref.offset, ref.offset + ref.bytes)).slice();
    return new ort.Tensor(ref.dtype, new ARRAYS[ref.dtype](bytes.buffer), ref.shape);
  }

  /** Half precision or quantized activations anywhere inside show in the tolerance the fixture was given. */
  get tolerance() {
    return this.info.tolerance.logits;
  }

  /**
   * Outputs of every run of a scenario, the cache carried from run to run. `names` maps graph inputs and outputs of the
   * fixture to those of a model in which they are called otherwise.
   */
  async run(session, scenario, names = new Map(), change = (_name, tensor) => tensor) {
    const all = [];
    let previous;
    const to = (name) => names.get(name) ?? name;
    for (const run of scenario.runs) {
      const feeds = {};
      for (const [name, ref] of Object.entries(run.feeds)) if (session.inputNames.includes(to(name))) feeds[to(name)] = change(name, this.tensor(ref));
      const batch = (run.feeds.inputs_embeds ?? run.feeds.input_ids)?.shape[0] ?? 1;
      for (const { past, present, layer } of this.info.cache) {
        if (past === null || !session.inputNames.includes(to(past)) || feeds[to(past)]) continue;
        if (run.carry && previous) feeds[to(past)] = previous[to(present)];
        else feeds[to(past)] = this.emptyPast(session, to(past), batch, layer);
      }
      previous = await session.run(feeds);
      all.push(previous);
    }
    return all;
  }

  emptyPast(session, name, batch, layer) {
    const type = session.inputMetadata.find((m) => m.name === name)?.type === 'float16' ? 'float16' : 'float32';
    const heads = this.info.kv_heads_by_layer?.[layer] ?? this.info.kv_heads;
    return new ort.Tensor(type, new ARRAYS[type](0), [batch, heads, 0, this.info.head_dim]);
  }
}

/** One thread a session: the models are tiny. */
export function open(model, level = 'disabled') {
  return ort.InferenceSession.create(model, { intraOpNumThreads: 1, interOpNumThreads: 1, logSeverityLevel: 4, graphOptimizationLevel: level });
}

/** Numbers of a tensor; float16 is decoded whether the runtime has Float16Array or not. */
export function values(tensor) {
  if (tensor.type === 'float16' && tensor.data.constructor.name !== 'Float16Array') return Array.from(tensor.data, fromHalf);
  if (tensor.type === 'int64' || tensor.type === 'uint64') return Array.from(tensor.data, Number);
  return tensor.data;
}

/**
 * How far two tensors are apart: a string when they differ in shape or type, else the largest difference relative to
 * the range of the first. NaN equals NaN; numbers that are not floats must be equal.
 */
export function distance(a, b) {
  if (!b) return 'missing';
  if (a.type !== b.type) return `${a.type} → ${b.type}`;
  if (a.dims.join() !== b.dims.join()) return `[${a.dims}] → [${b.dims}]`;
  const [x, y] = [values(a), values(b)];
  let low = Infinity;
  let high = -Infinity;
  let most = 0;
  for (let i = 0; i < x.length; i++) {
    const [p, q] = [x[i], y[i]];
    if (Number.isFinite(p)) {
      if (p < low) low = p;
      if (p > high) high = p;
    }
    if (p === q || (Number.isNaN(p) && Number.isNaN(q))) continue;
    const d = Math.abs(p - q);
    if (!(d <= most)) most = d;
  }
  if (most === 0) return 0;
  if (!a.type.startsWith('float')) return `${a.type} values differ`;
  return Number.isNaN(most) ? Infinity : most / Math.max(high - low, 1e-6);
}
