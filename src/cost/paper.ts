/**
 * PyramidDrop's own figure (arXiv 2410.17247, section 3.3): MACs of image tokens only, in a dense decoder with a
 * three-matrix MLP. It ignores text, grouped heads and the LM head; it is for comparing with published numbers.
 */

import { keepCount, parseRatio, powRatio, type Ratio } from './keep.js';

/** A run of layers that sees the same image tokens. */
export interface PaperStage {
  readonly layers: number;
  readonly imageTokens: number;
}

export interface PaperModel {
  /** Width of the hidden states (d). */
  readonly hidden: number;
  /** Width of the MLP (m). */
  readonly mlp: number;
  readonly stages: readonly PaperStage[];
}

/** Σ over stages of layers·(4·n·d² + 2·n²·d + 3·n·d·m), in MACs. The paper prints it in units of 10¹². */
export function paperMacs(model: PaperModel): number {
  const { hidden: d, mlp: m } = model;
  let macs = 0;
  for (const { layers, imageTokens: n } of model.stages) macs += layers * (4 * n * d ** 2 + 2 * n ** 2 * d + 3 * n * d * m);
  return macs;
}

/**
 * The paper's schedule: `count` stages with boundaries at floor(i·layers/count), stage i keeping lambda^i of the tokens.
 * @param lambda share kept at each boundary, a decimal string or ratio; 1 drops nothing
 */
export function paperStages(layers: number, count: number, imageTokens: number, lambda: Ratio | string): PaperStage[] {
  const ratio = typeof lambda === 'string' ? parseRatio(lambda) : lambda;
  const boundary = (i: number): number => Math.floor((i * layers) / count);
  return Array.from({ length: count }, (_, i) => ({
    layers: boundary(i + 1) - boundary(i),
    imageTokens: keepCount(imageTokens, powRatio(ratio, i)),
  }));
}
