/**
 * PyramidDrop's rank: the last instruction token's attention in the layer that follows.
 *
 *   q (one token) ─┐
 *                  ├─ MatMul ─ scale, cap, bias, padding ─ Softmax (with sinks) ─ mean over heads
 *   k (all tokens) ┘
 */
import { lastTokenLogits } from './keys.js';
import type { Ranker } from './ranker.js';
import { biasOfLast, softmaxWithSinks } from './terms.js';

/** float32 [B, S_j]: mean over heads of the last valid token's attention to each token of stage j. */
export const attention: Ranker = (site) => {
  const { context, stage } = site;
  const { builder: b, frames } = context;
  const { core } = site.layer;
  let logits = lastTokenLogits(site, true);
  const bias = biasOfLast(context, core, stage);
  if (bias) logits = b.op('Add', 'logits_biased', [logits, bias]);
  const padding = frames.tokens(stage).paddingBias;
  if (padding) logits = b.op('Add', 'logits_masked', [logits, b.unsqueeze('padding', padding, [1, 2])]);
  return b.reduce('ReduceMean', 'score', softmaxWithSinks(context, core, logits), [1, 2], false);
};
