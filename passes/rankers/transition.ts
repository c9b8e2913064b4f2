/**
 * TransPrune's criterion: how much, and how much the direction of, a token changed in the finished layer's attention and
 * MLP, beside the last instruction token's attention. For each part: ‖out‖/‖in‖ · softmax over image tokens of
 * (1 − cos(in, out)), in and out the hidden states before and after the part. (CVPR 2026.) A layer whose parts stand
 * side by side is one part.
 */
import type { Value } from '../../src/ir/graph.js';
import { attention } from './attention.js';
import { softmax } from './keys.js';
import { outside, overMax, TINY, type Ranker, type RankSite } from './ranker.js';
import { norm, residuals } from './residual.js';

export const transition: Ranker = (site) => {
  const { builder: b } = site.context;
  const { entry, middle, exit } = residuals(site);
  const parts = middle ? [part(site, entry, middle), part(site, middle, exit)] : [part(site, entry, exit)];
  const sum = parts.reduce((x, y) => b.op('Add', 'transition', [x, y]));
  return b.op('Mul', 'score', [b.op('Add', 'transition_and_attention', [overMax(site, sum), overMax(site, attention(site))]), b.float(0.5)]);
};

/** float32 [B, S_j]. */
function part(site: RankSite, before: Value, after: Value): Value {
  const { builder: b } = site.context;
  const [from, to] = [norm(site, 'in', before), norm(site, 'out', after)];
  const dot = b.reduce('ReduceSum', 'in_dot_out', b.op('Mul', 'in_times_out', [before, after]), [2], false);
  const cosine = b.op('Div', 'cosine', [dot, b.op('Add', 'norms_positive', [b.op('Mul', 'norms', [from, to]), b.float(TINY)])]);
  const turned = softmax(site, 'turned', b.op('Sub', 'turn_of_image', [outside(site), cosine]), 2);
  return b.op('Mul', 'grown_and_turned', [b.op('Div', 'growth', [to, b.op('Add', 'in_positive', [from, b.float(TINY)])]), turned]);
}
