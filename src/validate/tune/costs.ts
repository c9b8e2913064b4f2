/** What a plan costs, without running it. */
import { compileModel } from '../../compile.js';
import { countAtPrompt, type PromptSizes } from '../../cost/stages.js';
import { FileSource } from '../../disk/files.js';
import type { Plan } from '../../plan/plan.js';

/** Counted from the graph, not measured: shares of the original's prefill MACs and of its cache. */
export function costMeter(path: string, prompt: PromptSizes, layers: number): (plan: Plan) => Promise<{ macs: number; cache: number }> {
  const known = new Map<string, { macs: number; cache: number }>();
  return async (plan) => {
    const key = JSON.stringify(plan);
    const held = known.get(key);
    if (held) return held;
    const source = new FileSource(path);
    try {
      let before = 0;
      const compiled = await compileModel(source, { planToReplay: plan, analysed: (facts) => (before = countAtPrompt(facts.graph, facts, prompt, plan.imageMask).table.macs) });
      const after = countAtPrompt(compiled.model.graph, compiled.facts, prompt, plan.imageMask).table.macs;
      const total = prompt.imageTokens + prompt.textTokens;
      const tokens = Array.from({ length: layers }, (_, l) => prompt.textTokens + Math.floor(prompt.imageTokens * Number(plan.keep[plan.layers.filter((b) => b <= l).length - 1] ?? 1) + 1e-6));
      const cost = { macs: after / before, cache: tokens.reduce((a, t) => a + t, 0) / (layers * total) };
      known.set(key, cost);
      return cost;
    } finally {
      source.close();
    }
  };
}
