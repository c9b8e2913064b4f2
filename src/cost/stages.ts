/** What a compiled graph costs at a prompt's sizes: tokens and MACs of each stage, and the share of ranking. */
import type { Graph } from '../ir/graph.js';
import { evaluateShapes, type ShapeFacts } from '../analyse/shapes/index.js';
import type { DecoderFacts } from '../analyse/facts.js';
import { withContents } from '../analyse/contents.js';
import { headDimsOf, shapesAt } from '../analyse/input-sizes.js';
import type { ImageMaskSource } from '../plan/plan.js';
import { countMacs, type CostTable } from './macs.js';

/** A prompt to count at: one row, `textTokens` of which half stand before the image. */
export interface PromptSizes {
  readonly batch: number;
  readonly imageTokens: number;
  readonly textTokens: number;
  /** Tokens in every layer's cache before the chunk. */
  readonly past: number;
}

/** Longest prompt that costs are counted for: masks of its length are followed element by element. */
export const MOST_PROMPT_TOKENS = 2 ** 20;

export const TYPICAL_PROMPT: PromptSizes = { batch: 1, imageTokens: 576, textTokens: 64, past: 0 };

/**
 * Evaluates `graph` (original or rewritten) at a prompt's sizes: masks are given their contents, so that lengths that
 * depend on counted image tokens are known.
 */
export function evaluateAtPrompt(graph: Graph, facts: DecoderFacts, prompt: PromptSizes, imageMask: ImageMaskSource | undefined): ShapeFacts {
  const { batch, imageTokens, textTokens, past } = prompt;
  const sequence = imageTokens + textTokens;
  const headDimOf = headDimsOf(facts.attention.map((l) => l.core));
  const shapes = shapesAt(graph, facts.roles, { batch, sequence, past }, headDimOf);
  const first = Math.floor(textTokens / 2);
  const pattern = { valid: () => true, image: (_row: number, t: number) => t >= first && t < first + imageTokens };
  const inputs = withContents(graph, facts.roles, shapes, imageMask ?? { kind: 'none' }, pattern);
  return evaluateShapes(graph, { inputs, dataLimit: Math.max(4096, 4 * batch * (sequence + past)) });
}

export function countAtPrompt(graph: Graph, facts: DecoderFacts, prompt: PromptSizes, imageMask: ImageMaskSource | undefined): { table: CostTable; shapes: ShapeFacts } {
  const shapes = evaluateAtPrompt(graph, facts, prompt, imageMask);
  return { table: countMacs(graph, shapes), shapes };
}
