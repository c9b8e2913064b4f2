/** Makes a failing case smaller: fewer mutations, fewer boundaries, one prompt, as long as it fails in the same way. */
import { fixtureOf } from './subject.mjs';
import { runSpec } from './case.mjs';

const kindOf = (result) => `${result.verdict} ${(result.detail ?? '').replace(/[\d.e-]+|".*?"|\(.*?\)/g, '').slice(0, 40)}`;

/** @returns the smallest spec found and what it does. */
export async function reduce(spec, log = () => {}) {
  let best = spec;
  let result = await runSpec(best);
  const wanted = kindOf(result);
  if (result.verdict === 'equal' || result.verdict === 'refused') return { spec: best, result };
  const attempt = async (candidate, label) => {
    const found = await runSpec(candidate);
    if (kindOf(found) !== wanted) return false;
    log(`smaller: ${label}`);
    best = candidate;
    result = found;
    return true;
  };
  // Halves first, then one by one.
  for (let size = Math.ceil(best.steps.length / 2); size >= 1 && best.steps.length > 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let at = 0; at < best.steps.length && best.steps.length > size; ) {
      const steps = [...best.steps.slice(0, at), ...best.steps.slice(at + size)];
      if (!(steps.length > 0 && (await attempt({ ...best, steps }, `${steps.length} mutations`)))) at += size;
    }
  }
  for (let i = best.plan.layers.length - 1; i >= 0 && best.plan.layers.length > 1; i--) {
    const without = (list) => list.filter((_, at) => at !== i);
    await attempt({ ...best, plan: { ...best.plan, layers: without(best.plan.layers), keep: without(best.plan.keep) } }, 'fewer boundaries');
  }
  if (best.level === 'all') await attempt({ ...best, level: 'disabled' }, 'without optimizations');
  const { scenarios } = (await fixtureOf(best.fixture)).info;
  const simple = scenarios.findIndex((s) => s.kind === 'prefill');
  if (simple >= 0 && simple !== best.scenario) await attempt({ ...best, scenario: simple }, 'a plain prompt');
  return { spec: best, result };
}
