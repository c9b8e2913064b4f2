/** What a graph costs at given feeds, layer by layer: the shape evaluator and the MAC counter on the whole graph. */
import { evaluateShapes, type InputBinding } from '../../analyse/shapes/index.js';
import { sharedInMetadata } from '../../compile.js';
import { countMacs } from '../../cost/macs.js';
import { isRankNode, labelOf, rankingMacs } from '../../cost/ranking.js';
import type { Node, Value } from '../../ir/graph.js';
import { IS_MARKED } from '../../analyse/added-names.js';
import { markedRows } from '../feeding/marks.js';
import { planOf } from '../models/plan.js';
import type { ModelFile } from '../models/model.js';
import { at, type Feeds } from '../running/tensor.js';

export interface GraphCost {
  readonly macs: number;
  /** Element-wise, softmax and norm work: elements visited. */
  readonly elementOps: number;
  /** MACs by part. */
  readonly parts: { readonly decoder: number; readonly lmHead: number; readonly rank: number; readonly other: number };
  /** MACs per decoder layer, without what is ranking's (src/cost/ranking.ts). */
  readonly layers: readonly number[];
  /** Product ops whose sizes could not be evaluated. */
  readonly uncounted: readonly string[];
}

/** Which decoder layer each product node belongs to: -1 before the first, `lmHead` after the last. */
export interface LayerMap {
  readonly layers: number;
  of(node: Node): { layer: number } | 'lm-head' | 'other' | 'rank';
}

/** Layers of the original graph's nodes by data flow from the cuts; other graphs map by the names they share with it. */
export function layerMap(original: ModelFile): LayerMap | undefined {
  const { facts } = original;
  if (!facts) return undefined;
  const layerAt = new Map<Value, number>();
  for (const layer of facts.layers) for (const v of layer.cut.values) layerAt.set(v, layer.index);
  const ofNode = new Map<Node, number>();
  const ofValue = new Map<Value, number>();
  for (const node of facts.graph.nodes) {
    let layer = -1;
    for (const v of node.inputs) if (v) layer = Math.max(layer, layerAt.get(v) ?? ofValue.get(v) ?? -1);
    ofNode.set(node, layer);
    for (const o of node.outputs) if (o) ofValue.set(o, Math.max(layer, layerAt.get(o) ?? -1));
  }
  const head = lmHead(original);
  const names = new Map<string, { layer: number } | 'lm-head' | 'other'>();
  for (const [node, layer] of ofNode) names.set(labelOf(node), head.has(node) ? 'lm-head' : layer < 0 ? 'other' : { layer });
  // What a pass made of a node of the model belongs where that does.
  return { layers: facts.layers.length, of: (node) => (isRankNode(node) ? 'rank' : (names.get(labelOf(node)) ?? names.get(labelOf(node).replace(MADE, '')) ?? 'other')) };
}

const MADE = /^pdrop\/(?:b\d+\/)?[\w-]+\//;
const IS_PRODUCT = /MatMul|Gemm/;

/** Products nearest to the logits: what is reached from them backwards before any other product. */
export function lmHead(file: ModelFile): Set<Node> {
  const head = new Set<Node>();
  const logits = file.model.graph.outputs.find((v) => v.name === file.io.logits.name);
  const seen = new Set<Node>();
  // A list, not recursion: the chain behind the logits may be as long as the graph.
  const pending: (Value | null)[] = [logits ?? null];
  while (pending.length) {
    const node = pending.pop()?.producer;
    if (!node || seen.has(node)) continue;
    seen.add(node);
    if (IS_PRODUCT.test(node.opType)) head.add(node);
    else for (const i of node.inputs) pending.push(i);
  }
  return head;
}

/**
 * Bindings of feeds to the graph's inputs; contents of masks and ids steer how much is dropped. `stageTokens`: what each stage
 * of a compiled graph sees of this chunk.
 */
export function graphCost(file: ModelFile, feeds: Feeds, map: LayerMap | undefined, stageTokens: readonly number[] = []): GraphCost {
  const inputs = new Map<Value, InputBinding>();
  let elements = 4096;
  for (const value of file.model.graph.inputs) {
    const feed = feeds.get(value.name);
    if (!feed) continue;
    const steers = feed.dtype === 'bool' || feed.dtype === 'int64' || feed.dtype === 'int32';
    if (steers) elements = Math.max(elements, feed.data.length * 4);
    inputs.set(value, { shape: feed.dims, ...(steers && feed.data.length <= 65536 ? { data: Array.from({ length: feed.data.length }, (_, i) => at(feed, i)) } : {}) });
  }
  bindMarks(file, feeds, inputs);
  const facts = evaluateShapes(file.model.graph, { inputs, dataLimit: elements });
  const table = countMacs(file.model.graph, facts);
  const parts = { decoder: 0, lmHead: 0, rank: 0, other: 0 };
  const ranking = rankingMacs(table.nodes, sharedInMetadata(file.model), stageTokens);
  const layers: number[] = new Array<number>(map?.layers ?? 0).fill(0);
  for (const { node, macs: all } of table.nodes) {
    if (all === 0) continue;
    const ranks = ranking.get(node) ?? 0;
    parts.rank += ranks;
    const macs = all - ranks;
    const where = map?.of(node) ?? 'other';
    if (where === 'lm-head') parts.lmHead += macs;
    else if (where === 'rank' || where === 'other') parts.other += macs;
    else {
      parts.decoder += macs;
      layers[where.layer] = (layers[where.layer] ?? 0) + macs;
    }
  }
  return {
    macs: table.macs,
    elementOps: table.elementOps,
    parts,
    layers,
    uncounted: [...new Set(table.uncounted.map((n) => n.opType).filter((op) => /MatMul|Gemm|Attention|Conv|Einsum/.test(op)))],
  };
}

/** A graph that reads marks off its embeddings is told what it reads: contents of floats are not followed. */
function bindMarks(file: ModelFile, feeds: Feeds, inputs: Map<Value, InputBinding>): void {
  const marked = file.model.graph.values.get(IS_MARKED);
  const embeds = file.io.embeds && feeds.get(file.io.embeds.name);
  const marks = marked && embeds && planOf(file.model, file.name).imageMask;
  if (marked && embeds && marks?.kind === 'marks') inputs.set(marked, { shape: embeds.dims.slice(0, 2), data: [...markedRows(embeds, marks)] });
}
