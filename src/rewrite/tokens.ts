/**
 * The tokens of each stage, as values of the graph: how many, which, where the last valid one is. Frame 0 is the
 * chunk as it comes in; frame i is what is left after boundary i. Made once, used by every frame instance.
 */
import type { Value } from '../ir/graph.js';

/** Values about the incoming chunk. B batch, S tokens of the chunk, m boundaries. */
export interface ChunkTokens {
  /** int64 scalar B. */
  readonly batch: Value;
  /** int64 [1]: B. */
  readonly batch1: Value;
  /** int64 [B, 1]: 0, 1, …, B−1. */
  readonly rows: Value;
  /** int64 scalar S. */
  readonly length: Value;
  /** What is dropped; undefined when nothing ever is (--image-mask none). */
  readonly drops: ChunkDrops | undefined;
}

/** What the chunk loses at the boundaries. */
export interface ChunkDrops {
  /** bool scalar: false when the chunk certainly loses nothing. Cheap: it is worked out in every run. */
  readonly any: Value;
  /** float32 [B, S]: 0 for image tokens that may be dropped, 4 for all others. */
  readonly protect: Value;
  /** int64 [B, S]: 1 for image tokens that may be dropped. */
  readonly droppable: Value;
  /** float32 [B, S]: 0 for valid tokens, a large negative number for padding; undefined without attention_mask. */
  readonly paddingBias: Value | undefined;
  /** int64 [B, 1]: index of the row's last valid token. */
  readonly last: Value;
  /** int64 [m]: tokens dropped from every row after each boundary, cumulative. */
  readonly dropped: Value;
  /**
   * float32 [0, S_1, …, S_m]: no elements, but its shape says how many tokens are left after each boundary. A shape is
   * on the host, so that one small copy brings all lengths there, however many boundaries there are.
   */
  readonly left: Value;
}

/** Values about the tokens of one stage j ≥ 0; S_j of them a row. */
export interface StageTokens {
  /** int64 [1]: S_j, as the selection gives it; what lies behind the boundary reads `Lengths.chunk`. */
  readonly length1: Value;
  /** int64 [B, S_j]: index of each token in the incoming chunk; undefined for stage 0 (it is the identity). */
  readonly origin: Value | undefined;
  /** int64 [B, S_j]: row of each token in the previous stage's [B·S_{j−1}, …]; undefined when all of them stay (stage 0, or nothing is ever dropped). */
  readonly rowsInPrevious: Value | undefined;
  /** int64 [B, 1]: index of the last valid token in this stage; undefined when nothing is ranked. */
  readonly last: Value | undefined;
  /** `protect` of this stage's tokens, float32 [B, S_j]; undefined when nothing is dropped. */
  readonly protect: Value | undefined;
  /** `paddingBias` of this stage's tokens, float32 [B, S_j]; undefined without attention_mask. */
  readonly paddingBias: Value | undefined;
}
