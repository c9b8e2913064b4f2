/** Three counts side by side: the paper's formula, the whole graph, and what was executed. */
import { paperMacs, type PaperStage } from '../../cost/paper.js';
import type { Plan } from '../../plan/plan.js';
import { graphCost, type GraphCost, layerMap } from './cost.js';
import { cacheBytesPerToken, type ModelFile } from '../models/model.js';
import { scheduleFor, stageOfLayer } from '../models/plan.js';
import type { ProfiledModel } from './placement.js';
import type { Layout } from '../feeding/prompt.js';
import type { CostReport, MacCount } from '../result.js';
import type { Feeds } from '../running/tensor.js';

export interface CostInputs {
  readonly original: ModelFile;
  readonly rewritten: ModelFile;
  readonly plan: Plan;
  readonly sample: string;
  readonly layout: Layout;
  readonly feeds: { readonly original: Feeds; readonly rewritten: Feeds };
  readonly decodeFeeds: { readonly original: Feeds; readonly rewritten: Feeds } | undefined;
  readonly profiled: { readonly original: ProfiledModel; readonly rewritten: ProfiledModel } | undefined;
}

export function costReport(c: CostInputs): CostReport {
  const map = layerMap(c.original);
  const o = graphCost(c.original, c.feeds.original, map);
  const schedule = scheduleFor(c.plan, c.layout);
  const r = graphCost(c.rewritten, c.feeds.rewritten, map, schedule.stageTokens);
  const count = (g: GraphCost, executed: number | undefined, uncounted: readonly string[] = []): MacCount => ({ graph: g.macs, executed: executed ?? null, parts: g.parts, elementOps: g.elementOps, uncounted: [...new Set([...g.uncounted, ...uncounted])] });
  const prefill = {
    original: count(o, c.profiled?.original.prefill.macs, c.profiled?.original.prefill.uncounted),
    rewritten: count(r, c.profiled?.rewritten.prefill.macs, c.profiled?.rewritten.prefill.uncounted),
    cut: cut(o.macs, r.macs),
    idealSpeedup: o.macs / r.macs,
  };
  let decode: CostReport['decode'] = null;
  if (c.decodeFeeds) {
    const od = graphCost(c.original, c.decodeFeeds.original, map);
    const rd = graphCost(c.rewritten, c.decodeFeeds.rewritten, map);
    decode = { original: count(od, c.profiled?.original.decode?.macs), rewritten: count(rd, c.profiled?.rewritten.decode?.macs), cut: cut(od.macs, rd.macs), idealSpeedup: od.macs / rd.macs };
  }
  const { rows, length, past } = c.layout;
  const perToken = cacheBytesPerToken(c.original.io);
  const layers = Array.from({ length: map?.layers ?? perToken.length }, (_, layer) => {
    const stage = stageOfLayer(c.plan, layer);
    const tokens = { original: length, rewritten: schedule.stageTokens[stage] ?? length };
    const bytes = (t: number): number => (perToken[layer] ?? 0) * rows * (past + t);
    return {
      layer,
      stage,
      tokens,
      macs: { original: o.layers[layer] ?? 0, rewritten: r.layers[layer] ?? 0 },
      cacheBytes: { original: bytes(tokens.original), rewritten: bytes(tokens.rewritten) },
    };
  });
  const cache = { original: sum(layers.map((l) => l.cacheBytes.original)), rewritten: sum(layers.map((l) => l.cacheBytes.rewritten)) };
  const pairs = [prefill.original, prefill.rewritten, decode?.original, decode?.rewritten].flatMap((m) => (m && m.executed !== null && m.uncounted.length === 0 ? [Math.abs(m.executed - m.graph) / m.graph] : []));
  return {
    at: { sample: c.sample, rows, tokens: length, imageTokens: Math.max(...(schedule.stageImage[0] ?? [0])) },
    paper: paperFigure(c, map?.layers ?? 0, schedule.stageImage.map((s) => Math.max(...s))),
    prefill,
    decode,
    rankShare: r.parts.rank / r.macs,
    countsDiffer: pairs.length === 0 ? null : Math.max(...pairs),
    cacheBytes: { ...cache, cut: cut(cache.original, cache.rewritten) },
    layers,
  };
}

const sum = (list: readonly number[]): number => list.reduce((a, b) => a + b, 0);

export function cut(original: number, rewritten: number): number {
  return original === 0 ? 0 : 1 - rewritten / original;
}

/** Width of the MLP from the widest weight matrix of a layer that starts or ends at the hidden size. */
export function mlpWidth(file: ModelFile): number | undefined {
  const hidden = file.facts?.hiddenSize;
  const vocab = file.io.logits.dims.at(-1);
  if (!hidden) return undefined;
  const widths = new Map<number, number>();
  for (const node of file.model.graph.nodes) {
    if (!/MatMul|Gemm/.test(node.opType)) continue;
    const [k, n] = node.opType === 'MatMulNBits' ? [node.int('K', 0), node.int('N', 0)] : (node.inputs[1]?.tensor?.dims ?? []);
    // The way down: from the MLP's width back to the hidden size. Attention's output has heads · head size.
    const down = n === hidden ? k : k === hidden && node.opType === 'Gemm' && node.int('transB', 0) === 1 ? n : undefined;
    if (down !== undefined && down !== vocab) widths.set(down, (widths.get(down) ?? 0) + 1);
  }
  const attention = new Set(file.facts?.attention.map((l) => l.core.heads * l.core.headDim));
  const usual = [...widths].filter(([w, n]) => n >= (file.facts?.layers.length ?? 1) / 2 && !(attention.has(w) && widths.size > 1));
  return usual.sort((a, b) => b[0] - a[0])[0]?.[0];
}

function paperFigure(c: CostInputs, layers: number, image: readonly number[]): CostReport['paper'] {
  const hidden = c.original.facts?.hiddenSize;
  const mlp = mlpWidth(c.original);
  if (!hidden || !mlp || layers === 0) return null;
  const edges = [0, ...c.plan.layers, layers];
  const stages = (tokens: (i: number) => number): PaperStage[] => edges.slice(1).map((end, i) => ({ layers: end - (edges[i] ?? 0), imageTokens: tokens(i) }));
  const original = paperMacs({ hidden, mlp, stages: stages(() => image[0] ?? 0) });
  const rewritten = paperMacs({ hidden, mlp, stages: stages((i) => image[i] ?? 0) });
  return { original, rewritten, cut: cut(original, rewritten) };
}
