/**
 * BTP's criterion: λ · attention + (1 − λ) · diversity, each as a share of the row's largest. (Li et al., NeurIPS 2025.)
 */
import { attention } from './attention.js';
import { diverse } from './diverse.js';
import { overMax, type Ranker } from './ranker.js';

export const balanced: Ranker = (site) => {
  const { builder: b, plan } = site.context;
  const share = Number(plan.balance ?? '0.5');
  const attended = b.op('Mul', 'attention_share', [overMax(site, attention(site)), b.float(share)]);
  const unlike = b.op('Mul', 'diversity_share', [overMax(site, diverse(site)), b.float(1 - share)]);
  return b.op('Add', 'score', [attended, unlike]);
};
