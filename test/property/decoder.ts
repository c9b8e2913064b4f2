/** A Llama fixture as the reference needs it (its weights) and as onnxruntime runs it (compiled, fed, its outputs read back). */
import * as ort from 'onnxruntime-node';
import { compileModel, writeCompiled } from '../../src/compile.js';
import { MemorySink, MemorySource } from '../../src/onnx/bytes.js';
import { SESSION, toNumbers } from '../support/fixtures.js';
import { encodeModel, graphOf, loadModel, type ModelProto, type TensorProto } from '../support/proto.js';
import type { LayerWeights, Matrix, RowInput, Schedule, Weights } from './reference.js';

const HEADS = { heads: 4, kvHeads: 2, headDim: 16 } as const;
export const HIDDEN = 64;
export const VOCABULARY = 128;

function numbersOf(t: TensorProto): Float64Array {
  const raw = Uint8Array.from(t.rawData as Uint8Array);
  return Float64Array.from(new Float32Array(raw.buffer));
}

function matrix(t: TensorProto): Matrix {
  const [rows, columns] = (t.dims as unknown[]).map(Number) as [number, number];
  return { rows, columns, data: numbersOf(t) };
}

function columnsOf(m: Matrix, from: number, to: number): Matrix {
  const data = new Float64Array(m.rows * (to - from));
  for (let i = 0; i < m.rows; i++) data.set(m.data.subarray(i * m.columns + from, i * m.columns + to), i * (to - from));
  return { rows: m.rows, columns: to - from, data };
}

/** Products with weights in the order of the graph: q, k, v (or one for the three), o, gate, up, down; at the end the head. */
export function weightsOf(model: ModelProto): Weights {
  const graph = graphOf(model);
  const tensors = new Map((graph.initializer ?? []).map((t) => [t.name as string, t as TensorProto]));
  const products = (graph.node ?? []).filter((n) => n.opType === 'MatMul').flatMap((n) => (tensors.has(n.input?.[1] as string) ? [matrix(tensors.get(n.input?.[1] as string) as TensorProto)] : []));
  const norms = [...tensors].flatMap(([name, t]) => (/norm.*weight$/.test(name) ? [[name, numbersOf(t)] as const] : []));
  const norm = (pattern: RegExp): Float64Array => norms.find(([name]) => pattern.test(name))?.[1] as Float64Array;
  const packed = (products[0] as Matrix).columns === 128;
  const count = (products.length - 1) / (packed ? 5 : 7);
  if (!Number.isInteger(count) || count < 2) throw new Error(`${products.length} products do not make layers`);
  const layers = Array.from({ length: count }, (_, l): LayerWeights => {
    const own = products.slice(l * (packed ? 5 : 7), (l + 1) * (packed ? 5 : 7));
    const qkv = own[0] as Matrix;
    const [q, k, v] = packed ? [columnsOf(qkv, 0, 64), columnsOf(qkv, 64, 96), columnsOf(qkv, 96, 128)] : (own.slice(0, 3) as [Matrix, Matrix, Matrix]);
    const [o, gate, up, down] = own.slice(packed ? 1 : 3) as [Matrix, Matrix, Matrix, Matrix];
    return { q, k, v, o, gate, up, down, norm: norm(new RegExp(`layers\\.${l}\\.input_layernorm`)), mlpNorm: norm(new RegExp(`layers\\.${l}\\.post_attention_layernorm`)) };
  });
  const final = norms.find(([name]) => !/layers\.\d+\.(input|post)/.test(name) || new RegExp(`layers\\.${count}\\.`).test(name));
  return { ...HEADS, epsilon: 1e-6, theta: 1e4, layers, norm: final?.[1] as Float64Array, head: products.at(-1) as Matrix };
}

/** The fixture; with `zeroQueries` every score is equal, so that ties decide. */
export function modelOf(fixture: string, zeroQueries = false): ModelProto {
  const model = loadModel(fixture);
  if (!zeroQueries) return model;
  const graph = graphOf(model);
  const reads = (name: string | undefined): TensorProto | undefined => (graph.initializer ?? []).find((t) => t.name === name) as TensorProto | undefined;
  for (const n of (graph.node ?? []).filter((m) => m.opType === 'MatMul')) {
    const t = reads(n.input?.[1] as string);
    if (!t || Number(t.dims?.[0]) !== HIDDEN || Number(t.dims?.[1]) !== 128 || !/qkv/.test(t.name as string)) continue;
    const raw = new Float32Array(Uint8Array.from(t.rawData as Uint8Array).buffer);
    for (let i = 0; i < HIDDEN; i++) raw.fill(0, i * 128, i * 128 + 64);
    t.rawData = new Uint8Array(raw.buffer);
  }
  return model;
}

export type RunOutputs = Readonly<Record<string, ort.Tensor>>;

/** The compiled model in onnxruntime; the caches are carried from chunk to chunk. */
export class Compiled {
  readonly #session: ort.InferenceSession;
  #pasts = new Map<string, ort.Tensor>();

  private constructor(session: ort.InferenceSession) {
    this.#session = session;
  }

  static async of(model: ModelProto, schedule: Schedule, rank = 'attention'): Promise<Compiled> {
    const compiled = await compileModel(new MemorySource(encodeModel(model)), { layers: schedule.layers, keep: schedule.keep.map((k) => String(k / 100)), positions: schedule.positions, imageMask: 'input', probe: true, rank });
    const sink = new MemorySink();
    await writeCompiled(compiled, sink);
    return new Compiled(await ort.InferenceSession.create(sink.bytes(), { ...SESSION, graphOptimizationLevel: 'basic' }));
  }

  /** Forgets the caches. */
  reset(): void {
    this.#pasts.clear();
  }

  async run(rows: readonly RowInput[]): Promise<RunOutputs> {
    const batch = rows.length;
    const length = rows[0]?.embeds.length as number;
    const width = rows[0]?.mask.length as number;
    const ints = (values: number[], dims: number[]): ort.Tensor => new ort.Tensor('int64', BigInt64Array.from(values, BigInt), dims);
    const feeds: Record<string, ort.Tensor> = {
      inputs_embeds: new ort.Tensor('float32', Float32Array.from(rows.flatMap((r) => r.embeds.flatMap((e) => [...e]))), [batch, length, HIDDEN]),
      attention_mask: ints(rows.flatMap((r) => [...r.mask]), [batch, width]),
      image_token_mask: new ort.Tensor('bool', Uint8Array.from(rows.flatMap((r) => r.image.map(Number))), [batch, length]),
    };
    if (this.#session.inputNames.includes('position_ids')) feeds.position_ids = ints(rows.flatMap((r) => [...r.positions]), [batch, length]);
    for (const name of this.#session.inputNames) {
      if (name.startsWith('past_key_values')) feeds[name] = this.#pasts.get(name) ?? new ort.Tensor('float32', new Float32Array(0), [batch, HEADS.kvHeads, 0, HEADS.headDim]);
    }
    const outputs = (await this.#session.run(feeds)) as RunOutputs;
    for (const [name, value] of Object.entries(outputs)) if (name.startsWith('present')) this.#pasts.set(name.replace('present', 'past_key_values'), value);
    return outputs;
  }

  async release(): Promise<void> {
    await this.#session.release();
  }
}

/** Indices kept at each boundary, row by row. */
export function keptOf(outputs: RunOutputs, boundaries: number): number[][][] {
  return Array.from({ length: boundaries }, (_, i) => {
    const t = outputs[`pdrop_kept.${i + 1}`] as ort.Tensor;
    const [rows, width] = t.dims as [number, number];
    const all = toNumbers(t);
    return Array.from({ length: rows }, (_r, r) => all.slice(r * width, (r + 1) * width));
  });
}
