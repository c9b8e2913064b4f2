/**
 * V2Drop's criterion: how far the finished layer moved a token, ‖x_out − x_in‖₂. It needs no attention. (CVPR 2026.)
 */
import type { Ranker } from './ranker.js';
import { overMax } from './ranker.js';
import { norm, residuals } from './residual.js';

export const change: Ranker = (site) => {
  const { builder: b } = site.context;
  const { entry, exit } = residuals(site);
  return overMax(site, norm(site, 'change', b.op('Sub', 'moved', [exit, entry])));
};
