/** A model file's structure, read sparsely: declared inputs and outputs, the plan it carries, and the decoder's facts. */
import { existsSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { analyseDecoder } from '../../analyse/decoder.js';
import type { DecoderFacts } from '../../analyse/facts.js';
import { attentionGeometry } from '../../analyse/shapes/attention.js';
import { evaluateShapes, type InputBinding } from '../../analyse/shapes/index.js';
import { METADATA } from '../../compile.js';
import { FileSource } from '../../disk/files.js';
import { DataType, type Model, type Value } from '../../ir/graph.js';
import { readModel } from '../../onnx/read.js';
import { type DecoderIo, describeIo, type IoInfo, type KnownCache, readDim } from '../running/io.js';
import { DTYPE_OF } from '../running/tensor.js';

export interface ModelFile {
  readonly path: string;
  readonly name: string;
  readonly model: Model;
  readonly inputs: readonly IoInfo[];
  readonly outputs: readonly IoInfo[];
  readonly io: DecoderIo;
  /** File plus external data. */
  readonly bytes: number;
  /** Facts about the decoder; undefined where analysis refuses the graph (a rewritten one may be refused). */
  readonly facts: DecoderFacts | undefined;
  /** Lowest float precision computed with: weights or casts in half show here, whatever the inputs are. */
  readonly precision: 'float32' | 'float16';
  /** What the facts say of the caches; the rewritten graph has the same ones. */
  readonly caches: ReadonlyMap<string, KnownCache>;
}

/** Reads the structure of a model; the weights stay on disk. */
export async function readModelFile(path: string, options: { readonly analyse?: boolean; readonly caches?: ReadonlyMap<string, KnownCache> } = {}): Promise<ModelFile> {
  const source = new FileSource(path);
  try {
    const model = await readModel(source);
    const constant = new Set<Value>(model.graph.initializers);
    const inputs = model.graph.inputs.filter((v) => !constant.has(v)).map(info);
    const outputs = model.graph.outputs.map(info);
    let bytes = source.size;
    for (const location of model.externalLocations) {
      const file = join(dirname(path), location);
      if (existsSync(file)) bytes += statSync(file).size;
    }
    let facts: DecoderFacts | undefined;
    // A compiled graph is past analysis: what its passes made would be taken for the model's own.
    if (options.analyse !== false && !model.metadata.has(METADATA.plan)) {
      try {
        facts = analyseDecoder(model);
      } catch {
        facts = undefined;
      }
    }
    const caches = options.caches ?? (facts ? knownCaches(facts) : fusedCaches(model));
    return { path, name: basename(path), model, inputs, outputs, io: describeIo(basename(path), inputs, outputs, caches), bytes, facts, caches, precision: precisionOf(model) };
  } finally {
    source.close();
  }
}

function precisionOf(model: Model): ModelFile['precision'] {
  const half = (type: number | undefined): boolean => type === DataType.FLOAT16 || type === DataType.BFLOAT16;
  // A weight stored in half behind a Cast to float32 is computed with in float32.
  const used = (v: Value): boolean => v.uses.some((u) => !(u.node.is('Cast') && !half(u.node.int('to', 0))));
  const { graph } = model;
  const found = graph.initializers.some((v) => half(v.tensor?.dataType) && used(v)) || graph.nodes.some((n) => n.is('Cast') && half(n.int('to', 0))) || graph.inputs.some((v) => half(v.type?.elemType));
  return found ? 'float16' : 'float32';
}

/** Slots of past_key and past_value in attention ops that hold the cache. */
const FUSED: Readonly<Record<string, readonly [number, number]>> = { GroupQueryAttention: [3, 4], MultiHeadAttention: [6, 7], Attention: [4, 5] };

/** Without facts: heads and head sizes of caches that go straight into an attention op, which alone knows them. */
function fusedCaches(model: Model): Map<string, KnownCache> {
  const out = new Map<string, KnownCache>();
  const inputs = new Map<Value, InputBinding>();
  for (const v of model.graph.inputs) inputs.set(v, { shape: (v.type?.dims ?? []).map((d) => (typeof d === 'number' ? d : 1)) });
  const shapes = evaluateShapes(model.graph, { inputs });
  let layer = 0;
  for (const node of model.graph.nodes) {
    const slots = FUSED[node.opType];
    const pasts = slots?.map((i) => node.inputs[i]) ?? [];
    if (!pasts.some((p) => p?.isInput)) continue;
    const g = attentionGeometry(node, (i) => (node.inputs[i] ? shapes.get(node.inputs[i]) : undefined));
    for (const [i, kind] of (['key', 'value'] as const).entries()) {
      const past = pasts[i];
      if (past?.isInput && g?.kvHeads && g.headSize) out.set(past.name, { layer, kind, tokenAxis: 2, kvHeads: g.kvHeads, headDim: g.headSize });
    }
    layer++;
  }
  return out;
}

function knownCaches(facts: DecoderFacts): Map<string, KnownCache> {
  const out = new Map<string, KnownCache>();
  for (const { index, core } of facts.attention) {
    for (const kind of ['key', 'value'] as const) {
      const past = core.past?.[kind];
      if (past) out.set(past.value.name, { layer: index, kind, tokenAxis: past.tokenAxis, kvHeads: core.kvHeads, headDim: core.headDim });
    }
  }
  return out;
}

function info(v: Value): IoInfo {
  return { name: v.name, dtype: DTYPE_OF[v.type?.elemType ?? 0] ?? 'unknown', dims: (v.type?.dims ?? []).map((d) => readDim(d ?? '')) };
}

/** Symbolic names of one decoder's dims are enough to size a cache: key and value heads by head size. */
export function cacheBytesPerToken(io: DecoderIo): number[] {
  const perLayer: number[] = [];
  for (const c of io.caches) {
    const width = c.dims.reduce<number>((a, d, axis) => (axis === 0 || axis === c.tokenAxis || typeof d !== 'number' ? a : a * d), 1);
    perLayer[c.layer] = (perLayer[c.layer] ?? 0) + width * (c.dtype === 'float16' ? 2 : c.dtype === 'float64' ? 8 : c.dtype === 'float32' ? 4 : 1);
  }
  return perLayer;
}
