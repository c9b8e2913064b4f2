/** What one graph costs at a prompt's sizes, original or rewritten: prefill, and one decode step after it. */
import type { ImageTokenId } from '../plan/image-token-id.js';
import { IMAGE_MASK_INPUT } from './running/io.js';
import { isRankNode } from '../cost/ranking.js';
import { fixedPrompt } from '../plan/fixed.js';
import { graphCost, type GraphCost, layerMap, type LayerMap, lmHead } from './cost/cost.js';
import { type ModelFile, readModelFile } from './models/model.js';
import { hasPlan, planOf, scheduleFor, stageOfLayer } from './models/plan.js';
import { completeFeeds, type Layout, layoutOf } from './feeding/prompt.js';
import { syntheticData } from './feeding/data/synthetic.js';
import type { Sample } from './feeding/sample.js';
import { fromNumbers, type HostTensor, zeros } from './running/tensor.js';

export interface FlopsRequest {
  readonly imageTokens: number;
  readonly textTokens: number;
  readonly past: number;
  readonly batch: number;
  readonly imageTokenId?: ImageTokenId | undefined;
  readonly dims?: Readonly<Record<string, number>> | undefined;
}

export interface FlopsReport {
  readonly model: string;
  readonly compiled: boolean;
  readonly at: FlopsRequest;
  readonly prefill: GraphCost;
  readonly decode: GraphCost | null;
  /** Tokens each stage sees in prefill. */
  readonly stageTokens: readonly number[];
  /** KV cache after the prompt, bytes a layer. */
  readonly cacheBytes: readonly number[];
}

/** Counts on the graph alone: no weights are read, nothing is run. */
export async function flopsOf(path: string, asked: FlopsRequest): Promise<FlopsReport> {
  const file = await readModelFile(path);
  const plan = hasPlan(file.model) ? planOf(file.model, file.name) : undefined;
  // A graph of fixed shapes has one prompt, whatever is asked.
  const request = plan?.fix ? { ...asked, ...fixedPrompt(plan, plan.fix, asked) } : asked;
  const source = plan?.imageMask;
  const sample = await promptOf(file, { ...request, imageTokenId: source?.kind === 'input-ids' ? source.id : request.imageTokenId });
  const layout = layoutOf(sample, file.io, source);
  const feeds = completeFeeds(sample, file.io, layout, file.inputs, source);
  const map = ownLayers(file);
  const schedule = plan ? scheduleFor(plan, layout) : { stageTokens: [layout.length] };
  const tokensOf = (layer: number): number => request.past + (plan ? (schedule.stageTokens[stageOfLayer(plan, layer)] ?? layout.length) : layout.length);
  const perToken = perTokenBytes(file);
  return {
    model: file.name,
    compiled: plan !== undefined,
    at: request,
    prefill: graphCost(file, feeds, map, schedule.stageTokens),
    decode: file.io.caches.length > 0 ? graphCost(file, decodeFeeds(file, feeds, request, layout, tokensOf), map) : null,
    stageTokens: schedule.stageTokens,
    cacheBytes: perToken.map((b, layer) => b * request.batch * tokensOf(layer)),
  };
}

function perTokenBytes(file: ModelFile): number[] {
  const out: number[] = [];
  for (const c of file.io.caches) {
    if (c.tokenAxis < 0) continue;
    const width = c.dims.reduce<number>((a, d, axis) => (axis === 0 || axis === c.tokenAxis || typeof d !== 'number' ? a : a * d), 1);
    out[c.layer] = (out[c.layer] ?? 0) + width * (c.dtype === 'float16' ? 2 : 4);
  }
  return out;
}

async function promptOf(file: ModelFile, request: FlopsRequest): Promise<Sample> {
  const data = syntheticData(file.io, { samples: 1, imageTokens: request.imageTokens, textTokens: request.textTokens, rows: request.batch, seed: 1, imageTokenId: request.imageTokenId, dims: request.dims, sizesOnly: true });
  for await (const s of data.samples()) {
    if ('fault' in s) throw s.fault;
    const feeds = new Map(s.feeds);
    if (request.past > 0) for (const c of file.io.caches) feeds.set(c.past, cacheOf(c, request.batch, request.past));
    return { ...s, feeds };
  }
  throw new Error('no prompt');
}

function cacheOf(c: ModelFile['io']['caches'][number], batch: number, tokens: number): HostTensor {
  const dims = c.dims.map((d, axis) => (axis === 0 ? batch : axis === c.tokenAxis ? (typeof d === 'number' ? d : tokens) : typeof d === 'number' ? d : 0));
  // Sizes are all that counts: a 7B cache is never filled with numbers.
  return { dtype: c.dtype === 'unknown' ? 'float32' : c.dtype, dims, data: new Uint8Array(0) };
}

function decodeFeeds(file: ModelFile, prompt: ReadonlyMap<string, HostTensor>, request: FlopsRequest, layout: Layout, tokensOf: (layer: number) => number): Map<string, HostTensor> {
  const { io } = file;
  const feeds = new Map<string, HostTensor>();
  const { batch } = request;
  const ones = (n: number): number[] => new Array<number>(n).fill(1);
  for (const input of file.inputs) {
    const before = prompt.get(input.name);
    if (!before) continue;
    if (input === io.mask || input.name === io.mask?.name) feeds.set(input.name, fromNumbers(before.dtype, [batch, request.past + layout.length + 1], ones(batch * (request.past + layout.length + 1))));
    else if (input.name === io.ids?.name) feeds.set(input.name, zeros(before.dtype, [batch, 1]));
    else if (input.name === io.embeds?.name) feeds.set(input.name, zeros(before.dtype, [batch, 1, before.dims[2] ?? 0]));
    else if (input.name === io.positions?.name) feeds.set(input.name, fromNumbers(before.dtype, io.positionAxes > 0 ? [io.positionAxes, batch, 1] : [batch, 1], ones(Math.max(1, io.positionAxes) * batch).map(() => request.past + layout.length)));
    else if (input.name === IMAGE_MASK_INPUT) feeds.set(input.name, zeros('bool', [batch, 1]));
    else feeds.set(input.name, before);
  }
  for (const c of io.caches) feeds.set(c.past, cacheOf(c, batch, tokensOf(c.layer)));
  return feeds;
}

/** Layers of the graph's own analysis; a compiled graph is told apart by names: passes name what they make. */
function ownLayers(file: ModelFile): LayerMap {
  const own = layerMap(file);
  if (own) return own;
  const head = lmHead(file);
  return { layers: 1, of: (node) => (head.has(node) ? 'lm-head' : isRankNode(node) ? 'rank' : { layer: 0 }) };
}
