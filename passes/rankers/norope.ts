/**
 * FEATHER's criterion: the last instruction token's attention without rotary positions, over image tokens only. Rotary
 * positions make near tokens, the bottom of the picture, rank high whatever they show.
 * (Endo et al., "Feather the Throttle", ICCV 2025.)
 */
import type { Value } from '../../src/ir/graph.js';
import { lastTokenLogits, softmax } from './keys.js';
import { outside, type Ranker, type RankSite } from './ranker.js';

/** float32 [B, kv heads, heads of a group, S_j]: attention to image tokens, by head. */
export function imageAttention(site: RankSite): Value {
  const { builder: b } = site.context;
  const logits = b.op('Add', 'logits_of_image', [lastTokenLogits(site, false), b.unsqueeze('outside_heads', outside(site), [1, 2])]);
  return softmax(site, 'attention', logits, 4);
}

export const norope: Ranker = (site) => site.context.builder.reduce('ReduceMean', 'score', imageAttention(site), [1, 2], false);
