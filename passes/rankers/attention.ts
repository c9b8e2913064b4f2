/**
 * PyramidDrop's rank: the last instruction token's attention in the layer that follows.
 *
 *   q (one token) ─┐
 *                  ├─ MatMul ─ scale, cap, padding ─ Softmax ─ mean over heads
 *   k (all tokens) ┘
 */
import { lastTokenLogits, softmax } from './keys.js';
import { ofStage, type Ranker } from './ranker.js';

/** float32 [B, S_j]: mean over heads of the last valid token's attention to each token of stage j. */
export const attention: Ranker = (site) => {
  const { context, stage } = site;
  const { builder: b, frames } = context;
  let logits = lastTokenLogits(site, true);
  const padding = frames.drops.paddingBias;
  if (padding) logits = b.op('Add', 'logits_masked', [logits, b.unsqueeze('padding', ofStage(context, stage, 'padding_bias', padding), [1, 2])]);
  return b.reduce('ReduceMean', 'score', softmax(site, 'attention', logits, 4), [1, 2], false);
};
