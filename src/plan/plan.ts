/** The plan: what will be done to which graph, as data that can be printed, reviewed, edited and replayed. */
import type { ImageTokenId } from './image-token-id.js';
import type { RankMethod } from './ranks.js';

/** Where image tokens are marked. */
export type ImageMaskSource =
  | { readonly kind: 'input' }
  | { readonly kind: 'input-ids'; readonly id: ImageTokenId }
  | { readonly kind: 'span'; readonly start: number; readonly count: number }
  | ({ readonly kind: 'marks' } & Marks)
  | { readonly kind: 'none' };

/** In-band marks (src/plan/marks.ts): an image token's embedding is an odd multiple of 2^−bits in each of these channels. */
export interface Marks {
  /** Channels of the embeddings, ascending. */
  readonly channels: readonly number[];
  /** By the element type of the embeddings. */
  readonly bits: { readonly float32: number; readonly float16: number };
}

/** One prompt's sizes: rows, and tokens of each row, padding included. The image is where the plan's span says. */
export interface FixedSizes {
  readonly batch: number;
  readonly sequence: number;
}

export interface Plan {
  /** Version of this format. */
  readonly version: 1;
  /** Layers at whose entry tokens are dropped, ascending, counted from 0; one per boundary. */
  readonly layers: readonly number[];
  /** Share of the original image tokens kept after each boundary: decimal strings in [0, 1], non-increasing. */
  readonly keep: readonly string[];
  readonly imageMask: ImageMaskSource;
  readonly positions: 'compact' | 'keep';
  readonly rank: RankMethod;
  /** Seed of the random rank. */
  readonly seed: number;
  /** Share of the kept tokens that is evenly spaced whatever the score: a decimal string in (0, 1). */
  readonly grid?: string | undefined;
  /** Of rank `balanced`: the share of attention, a decimal string in [0, 1]; the rest is diversity. Default 0.5. */
  readonly balance?: string | undefined;
  /** Of rank `heads`: a weight ≥ 0 for each attention head, one list a boundary. */
  readonly headWeights?: readonly (readonly number[])[] | undefined;
  /** Adds an output per boundary with the kept indices, int64 [batch, kept]. */
  readonly probe: boolean;
  /** For onnxruntime-genai, which keeps all caches at one length: what stages have dropped is carried in a state. */
  readonly runtime?: 'genai' | undefined;
  /** Sizes of the one prompt the graph is for: every length in it is a number. */
  readonly fix?: FixedSizes | undefined;
  /**
   * A training forward: ranked by the token that `query_index` names (the last of the instruction, before the answer), labels
   * follow the kept tokens, and nothing stands in the way of a gradient.
   */
  readonly training?: boolean | undefined;
  /** False: no `If` in the graph; ranking and selecting then run in every decode step. Default true. */
  readonly controlFlow?: boolean | undefined;
}

export function formatImageMask(source: ImageMaskSource): string {
  switch (source.kind) {
    case 'input-ids':
      return `input-ids:${source.id}`;
    case 'span':
      return `span:${source.start}:${source.count}`;
    case 'marks':
      return `marks in channels ${source.channels.join(', ')}`;
    default:
      return source.kind;
  }
}

/** The rank as it is written on the command line; head weights are in a file there. */
export function describeRank(plan: Pick<Plan, 'rank' | 'seed' | 'grid' | 'balance'>): string {
  const detail = plan.rank === 'random' && plan.seed > 0 ? `:${plan.seed}` : plan.rank === 'balanced' && plan.balance ? `:${plan.balance}` : '';
  return `${plan.rank}${detail}${plan.grid === undefined ? '' : `+grid:${plan.grid}`}`;
}
