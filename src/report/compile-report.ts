/** What a compilation did, as data. The JSON Schema is schemas/report.schema.json; the terminal shows the same. */
import type { Compiled } from '../compile.js';
import type { CostTable } from '../cost/macs.js';
import { isRankNode, rankingMacs, sharedProducts } from '../cost/ranking.js';
import { countAtPrompt, type PromptSizes } from '../cost/stages.js';
import { FLOPS_PER_MAC } from '../cost/macs.js';
import { keepCount } from '../cost/keep.js';
import type { Node } from '../ir/graph.js';
import { formatImageMask, type Plan } from '../plan/plan.js';
import type { MarksEffect } from '../validate/marks-effect.js';
import { VERSION } from '../version.js';

export interface StageReport {
  readonly stage: number;
  /** First and last layer, both included. */
  readonly layers: readonly [number, number];
  /** Tokens of the chunk that this stage sees, and how many of them are image tokens. */
  readonly tokens: number;
  readonly imageTokens: number;
  /** MACs of this stage's layers in prefill; null when a node's size is not known. */
  readonly macs: number | null;
  /** The same layers in the original graph. */
  readonly originalMacs: number | null;
}

export interface MarksReport {
  /** Rows of embedding tables none of which looks marked, and in how many channels the closest one does. */
  readonly proof: { readonly rows: number; readonly closest: number; readonly of: number };
  readonly vision: {
    readonly input: string;
    /** null after a dry run. */
    readonly output: string | null;
    /** The output of the graph that is marked. */
    readonly features: string;
    /** Largest change of a value by the mark, and the magnitude from which on values are clipped. */
    readonly largestMove: number;
    readonly limit: number;
    /** What marking did to features of made-up pictures; null where it was not, or could not be, measured. */
    readonly effect: MarksEffect | null;
  };
}

export interface CompileReport {
  readonly tool: 'pdrop-compile';
  readonly version: string;
  readonly input: string;
  /** null after a dry run. */
  readonly output: string | null;
  readonly plan: Plan;
  readonly imageMask: string;
  readonly addedInputs: readonly string[];
  readonly layers: number;
  readonly hiddenSize: number;
  /** Sizes the counts are for. */
  readonly prompt: PromptSizes;
  readonly stages: readonly StageReport[];
  readonly macs: {
    readonly original: number;
    readonly rewritten: number;
    readonly originalFlops: number;
    readonly rewrittenFlops: number;
    /** rewritten / original. */
    readonly ratio: number;
    /** MACs of ranking (its nodes, and key projections of tokens that are then dropped), and their share of the rewritten prefill. */
    readonly rank: number;
    readonly rankShare: number;
    /** Nodes whose cost is not known; they are in none of the sums. */
    readonly uncounted: number;
  };
  readonly nodes: { readonly before: number; readonly after: number; readonly added: number };
  readonly passes: readonly { readonly name: string; readonly milliseconds: number; readonly nodesAfter: number; readonly changed: boolean; readonly applied: readonly string[]; readonly declined: readonly string[] }[];
  readonly warnings: readonly string[];
  readonly externalData: { readonly mode: string; readonly files: readonly string[] };
  /** In-band marks: what they were proved against and who puts them on. */
  readonly marks?: MarksReport | undefined;
  readonly bytes: number;
  readonly milliseconds: number;
}

/** Costs of the graph before it is rewritten; taken first, because rewriting edits it. */
export interface OriginalCost {
  readonly macs: number;
  readonly byNode: ReadonlyMap<Node, number>;
}

export function originalCost(table: CostTable): OriginalCost {
  return { macs: table.macs, byNode: new Map(table.nodes.map((n) => [n.node, n.macs])) };
}

export interface ReportContext {
  readonly input: string;
  readonly output: string | null;
  readonly prompt: PromptSizes;
  readonly original: OriginalCost;
  readonly externalData: { readonly mode: string; readonly files: readonly string[] };
  readonly marks?: MarksReport | undefined;
  readonly milliseconds: number;
}

export function compileReport(compiled: Compiled, context: ReportContext): CompileReport {
  const { facts, plan, rewrite, model } = compiled;
  const { prompt, original } = context;
  const { table } = countAtPrompt(model.graph, facts, prompt, plan.imageMask);
  const byNode = new Map(table.nodes.map((n) => [n.node, n.macs]));
  const tokens = [0, ...plan.layers].map((_, stage) => tokensOf(plan, prompt, stage));
  const ranking = rankingMacs(table.nodes, sharedProducts(rewrite.stages.shared), tokens);
  const rank = [...ranking.values()].reduce((a, b) => a + b, 0);
  return {
    tool: 'pdrop-compile',
    version: VERSION,
    input: context.input,
    output: context.output,
    plan,
    imageMask: formatImageMask(plan.imageMask),
    addedInputs: rewrite.addedInputs,
    layers: facts.layers.length,
    hiddenSize: facts.hiddenSize,
    prompt,
    stages: stageRows(compiled, context, byNode),
    macs: {
      original: original.macs,
      rewritten: table.macs,
      originalFlops: original.macs * FLOPS_PER_MAC,
      rewrittenFlops: table.macs * FLOPS_PER_MAC,
      ratio: table.macs / original.macs,
      rank,
      rankShare: rank / table.macs,
      uncounted: table.uncounted.length,
    },
    nodes: { before: compiled.nodesBefore, after: compiled.nodesAfter, added: rewrite.addedNodes },
    passes: rewrite.runs.map((r) => ({
      name: r.name,
      milliseconds: round(r.milliseconds),
      nodesAfter: r.nodesAfter,
      changed: r.changed,
      applied: r.applied,
      declined: r.declined.map((d) => d.reason),
    })),
    warnings: compiled.warnings,
    externalData: context.externalData,
    ...(context.marks ? { marks: context.marks } : {}),
    bytes: compiled.byteLength,
    milliseconds: round(context.milliseconds),
  };
}

function imageTokensOf(plan: Plan, prompt: PromptSizes, stage: number): number {
  const ratio = plan.keep[stage - 1];
  return plan.imageMask.kind === 'none' || ratio === undefined ? prompt.imageTokens : keepCount(prompt.imageTokens, ratio);
}

function tokensOf(plan: Plan, prompt: PromptSizes, stage: number): number {
  return imageTokensOf(plan, prompt, stage) + prompt.textTokens;
}

function round(ms: number): number {
  return Math.round(ms * 10) / 10;
}

function stageRows(compiled: Compiled, context: ReportContext, byNode: ReadonlyMap<Node, number>): StageReport[] {
  const { facts, plan, rewrite } = compiled;
  const { prompt, original } = context;
  const bounds = [0, ...plan.layers, facts.layers.length];
  const sums = new Array<number>(plan.layers.length + 1).fill(0);
  const before = new Array<number>(plan.layers.length + 1).fill(0);
  for (const [node, stage] of rewrite.stages.home) {
    if (isRankNode(node)) continue;
    sums[stage] = (sums[stage] as number) + (byNode.get(node) ?? 0);
    before[stage] = (before[stage] as number) + (original.byNode.get(node) ?? 0);
  }
  return sums.map((macs, stage) => {
    const imageTokens = imageTokensOf(plan, prompt, stage);
    const tokens = tokensOf(plan, prompt, stage);
    return {
      stage,
      layers: [bounds[stage] as number, (bounds[stage + 1] as number) - 1] as const,
      tokens,
      imageTokens,
      macs,
      originalMacs: before[stage] as number,
    };
  });
}
