/** What a plan is made of when it is asked for by options, and the presets. */
import { UsageError } from '../diagnostics.js';
import type { ImageTokenId } from './image-token-id.js';
import type { FixedSizes, Marks } from './plan.js';
import type { HeadWeights } from './rank-option.js';

/** The paper's exact setting, whatever the defaults are; what is given besides wins. */
const PRESETS = { paper: { stages: 4, lambda: '0.5', positions: 'compact', rank: 'attention' } } as const;

/** Options of planning; the same names as on the command line and in a config file. */
export interface PlanOptions {
  /** `paper`: 4 stages, λ 0.5, attention's rank, compact positions, as PyramidDrop's own code has them. */
  readonly preset?: keyof typeof PRESETS | undefined;
  /** Number of stages S; boundaries at floor(i·L/S). Default 4. */
  readonly stages?: number | undefined;
  /** Share of image tokens kept at each boundary, a decimal in (0, 1]. Default 0.5. */
  readonly lambda?: string | number | undefined;
  /** Layers before which tokens are dropped; instead of `stages`. */
  readonly layers?: readonly number[] | undefined;
  /** Cumulative keep ratios, one per boundary; instead of `lambda`. */
  readonly keep?: readonly (string | number)[] | undefined;
  /** `input`, `input-ids:<id>`, `input-ids:negative`, `span:<start>:<count>`, `marks` or `none`. Default: what the graph offers. */
  readonly imageMask?: string | undefined;
  /** For `marks`: channels and bits proved against the embedding table (src/marks/prove.ts). */
  readonly marks?: Marks | undefined;
  readonly positions?: 'auto' | 'compact' | 'keep' | undefined;
  /** A ranker, as `--rank` takes it: see parseRank. */
  readonly rank?: string | undefined;
  /** Weights of rank `heads`, by layer. */
  readonly headWeights?: HeadWeights | undefined;
  readonly probe?: boolean | undefined;
  /** False: no `If` in the graph, for runtimes that have none. Default true. */
  readonly controlFlow?: boolean | undefined;
  /** `training`: ranked at the token that an input names, labels follow the kept tokens. Default `inference`. */
  readonly for?: 'inference' | 'training' | undefined;
  /** What the result runs in; `genai` and `openvino` (no `If`) change the graph, the others only what is chosen by default. */
  readonly runtime?: 'generic' | 'transformers.js' | 'genai' | 'openvino' | undefined;
  /** Sizes of the one prompt that the graph is compiled for. Default: any. */
  readonly fix?: FixedSizes | undefined;
  /** Image token id found beside the model (config.json); used when the graph takes input_ids. */
  readonly imageTokenId?: ImageTokenId | undefined;
}

export function withPreset({ preset, ...given }: PlanOptions): PlanOptions {
  if (preset === undefined) return given;
  if (!(preset in PRESETS)) throw usage('PD001', `there is no preset "${String(preset)}"`, '--preset', `presets: ${Object.keys(PRESETS).join(', ')}`);
  const { stages, lambda, ...rest } = PRESETS[preset];
  const schedule = { ...(given.layers ? {} : { stages }), ...(given.keep ? {} : { lambda }) };
  return { ...schedule, ...rest, ...Object.fromEntries(Object.entries(given).filter(([, v]) => v !== undefined)) };
}

export function usage(code: string, message: string, culprit: string, hint: string): UsageError {
  return new UsageError({ code, message, culprit, hint });
}
