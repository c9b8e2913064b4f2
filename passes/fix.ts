/**
 * Puts the sizes of one prompt into the graph (`--fix`), for runtimes that want nothing to move: CUDA graphs, TensorRT, WebNN, NPUs.
 *
 *   in:   TopK(score, S − dropped), past_key_values.0.key [batch, 2, past, 16], …
 *   out:  TopK(score, 352), no caches, every value declared with numbers
 */
import { fixShapes } from '../src/rewrite/fixed.js';
import type { Pass } from '../src/rewrite/pass.js';

export const fix: Pass = {
  name: 'fix',
  summary: 'with --fix: put the prompt’s sizes into the graph',
  run(graph, context) {
    const { plan, builder } = context;
    if (!plan.fix) return { applied: ['no sizes are fixed'], declined: [] };
    builder.scope('fix');
    return { applied: [fixShapes(graph, context, plan.fix)], declined: [] };
  },
};
