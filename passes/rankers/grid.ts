/**
 * FEATHER's grid beside any ranker: a share of what is kept is evenly spaced over the image tokens that are left, the rest is
 * chosen by score. No part of the picture goes without a token.
 */
import { DataType, type Value } from '../../src/ir/graph.js';
import { parseRatio } from '../../src/cost/keep.js';
import { evenly, type RankSite } from './ranker.js';

/** Added to tokens of the grid: above every score, below what protects text. */
const ABOVE_SCORES = 2;

export function withGrid(site: RankSite, share: string, score: Value): Value {
  const { builder: b } = site.context;
  const { num, den } = parseRatio(share);
  const inGrid = evenly(site, (kept) => b.op('Div', 'grid_size', [b.op('Mul', 'grid_scaled', [kept, b.int(Number(num))]), b.int(Number(den))]));
  return b.op('Add', 'score_with_grid', [score, b.op('Mul', 'grid_bonus', [b.cast('in_grid', inGrid, DataType.FLOAT), b.float(ABOVE_SCORES)])]);
}
