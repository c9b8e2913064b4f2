/** The report of `validate` as data: what schemas/report-validate.schema.json describes. */
import type { GateResult } from './gates/types.js';
import type { Latency } from './speed/latency.js';
import type { Placement } from './cost/profile.js';
import type { FaultRecord, Fidelity, SampleRecord } from './fidelity/records.js';
import type { Words } from './feeding/words.js';
import type { Estimate } from './fidelity/statistics.js';
import type { PatchGrid } from './feeding/sample.js';
import type { Plan } from '../plan/plan.js';

export const REPORT_SCHEMA = 'pdrop-compile/validate-report/1';

export interface ModelSummary {
  readonly file: string;
  readonly bytes: number;
  readonly dtype: string;
  readonly layers: number;
  readonly vocab: number | null;
  readonly hidden: number | null;
}

/** One run's MACs, counted on the graph and as executed. FLOPs are twice as many. */
export interface MacCount {
  readonly graph: number;
  readonly executed: number | null;
  readonly parts: { readonly decoder: number; readonly lmHead: number; readonly rank: number; readonly other: number };
  /** Elements visited by element-wise work, softmax and norms. */
  readonly elementOps: number;
  readonly uncounted: readonly string[];
}

export interface LayerCost {
  readonly layer: number;
  readonly stage: number;
  /** Tokens of the prompt the layer sees. */
  readonly tokens: { readonly original: number; readonly rewritten: number };
  readonly macs: { readonly original: number; readonly rewritten: number };
  readonly cacheBytes: { readonly original: number; readonly rewritten: number };
}

export interface CostReport {
  /** The prompt these figures are for. */
  readonly at: { readonly sample: string; readonly rows: number; readonly tokens: number; readonly imageTokens: number };
  /** The paper's figure, MACs of image tokens only; null where the shape of the MLP is not known. */
  readonly paper: { readonly original: number; readonly rewritten: number; readonly cut: number } | null;
  readonly prefill: { readonly original: MacCount; readonly rewritten: MacCount; readonly cut: number; readonly idealSpeedup: number };
  readonly decode: { readonly original: MacCount; readonly rewritten: MacCount; readonly cut: number; readonly idealSpeedup: number } | null;
  /** Share of the rewritten prefill's MACs that ranking takes. */
  readonly rankShare: number;
  /** Largest relative difference between the graph's count and the executed one; null when nothing was profiled. */
  readonly countsDiffer: number | null;
  readonly cacheBytes: { readonly original: number; readonly rewritten: number; readonly cut: number };
  readonly layers: readonly LayerCost[];
}

export interface PlacementReport {
  readonly original: { readonly prefill: Placement; readonly decode: Placement | null };
  readonly rewritten: { readonly prefill: Placement; readonly decode: Placement | null };
}

export interface MemoryReport {
  /** Bytes of resident host memory of a process that runs one prompt; null where the process failed. */
  readonly original: { readonly loaded: number; readonly peak: number } | null;
  readonly rewritten: { readonly loaded: number; readonly peak: number } | null;
  readonly note: string | null;
}

export interface LatencyReport extends Latency {
  readonly idealPrefill: number;
  readonly idealDecode: number | null;
  /** Share of the ideal speed-up (MACs ratio) that was measured. */
  readonly achievedPrefill: number;
  readonly achievedDecode: number | null;
  /** Image tokens from which on the rewritten prefill is the faster one, worked out from this prompt's times; null where it cannot be told. */
  readonly breakEven: number | null;
}

export interface BaselineReport {
  readonly rank: string;
  readonly fidelity: Fidelity | null;
  /** In mean KL a sample. */
  readonly klAdvantage: Advantage | null;
  /** In the share of right answers. */
  readonly answerAdvantage: Advantage | null;
}

/** The ranker against a baseline on the samples that have both: means over samples, and their difference; positive: the ranker is better. */
export interface Advantage extends Estimate {
  readonly own: number;
  readonly baseline: number;
}

export interface ProviderReport {
  readonly provider: string;
  readonly gates: readonly GateResult[];
  /** How far no-op Gathers move the original, where the bound comes from that. */
  readonly control: number | null;
  readonly fidelity: Fidelity | null;
  readonly baselines: readonly BaselineReport[];
  readonly placement: PlacementReport | null;
  readonly latency: LatencyReport | null;
  readonly memory: MemoryReport | null;
  readonly samples: readonly SampleRecord[];
  readonly faults: readonly FaultRecord[];
  /** What could not be measured, and why. */
  readonly notes: readonly string[];
}

export interface KeptSample {
  readonly id: string;
  readonly title?: string | undefined;
  /** Path of the picture as the data gave it. */
  readonly picture?: string | undefined;
  readonly rows: readonly {
    readonly imageTokens: number;
    readonly grids: readonly PatchGrid[];
    /** A boundary each: which of the row's image tokens are kept, counted among the image tokens. */
    readonly kept: readonly (readonly number[])[];
  }[];
}

export interface KeptReport {
  readonly samples: readonly KeptSample[];
  /** Kept share by place in the image-token order, in equal bins; a boundary each. */
  readonly histogram: { readonly bins: number; readonly samples: number; readonly boundaries: readonly { readonly layer: number; readonly keptShare: readonly number[] }[] };
}

export interface CurvePoint {
  readonly stages: number;
  readonly lambda: string;
  readonly positions: 'compact' | 'keep';
  readonly layers: readonly number[];
  readonly keep: readonly string[];
  readonly macs: number;
  readonly macsCut: number;
  readonly cacheCut: number;
  readonly fidelity: Fidelity | null;
  /** The same schedule, tokens chosen without looking. */
  readonly baselines: readonly BaselineReport[];
}

export interface CurveReport {
  readonly points: readonly CurvePoint[];
  /** Index of the point whose plan is this report's, -1 for none. */
  readonly chosen: number;
}

export interface ThresholdResult {
  readonly name: string;
  readonly option: string;
  readonly provider: string | null;
  readonly limit: number;
  /** null when there is nothing to compare: that is a miss too. */
  readonly actual: number | null;
  readonly met: boolean;
}

export interface ValidateReport {
  readonly schema: typeof REPORT_SCHEMA;
  readonly tool: { readonly name: 'pdrop-compile'; readonly version: string };
  readonly machine: { readonly platform: string; readonly cpus: number; readonly cpu: string; readonly node: string; readonly onnxruntime: string };
  readonly original: ModelSummary;
  readonly rewritten: ModelSummary & { readonly plan: Plan };
  readonly data: { readonly kind: string; readonly source: string; readonly samples: number; readonly failed: number; readonly resumed: number; readonly note: string | null };
  readonly shard: { readonly index: number; readonly of: number } | null;
  readonly settings: { readonly positions: number; readonly generate: number; readonly embeddings: string | null; readonly gateSamples: number };
  readonly providers: readonly ProviderReport[];
  readonly cost: CostReport | null;
  readonly kept: KeptReport | null;
  /** Words of the token ids in samples' texts and answers; null where no tokenizer lies beside the model. */
  readonly words: Words | null;
  readonly curve: CurveReport | null;
  readonly thresholds: readonly ThresholdResult[];
  /** Statements in plain words, the uncomfortable ones among them. */
  readonly findings: readonly string[];
  readonly verdict: 'passed' | 'failed' | 'incomplete';
}
