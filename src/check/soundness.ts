/** Soundness of a rewritten graph: structure, types and sizes, and that it does what its plan says. */
import { describeNode, InternalError, Refusal } from '../diagnostics.js';
import type { DecoderFacts } from '../analyse/facts.js';
import { evaluateShapes } from '../analyse/shapes/index.js';
import { headDimsOf, shapesAt } from '../analyse/input-sizes.js';
import { PROBE_SIZES } from '../analyse/probes.js';
import type { Model } from '../ir/graph.js';
import { verifyGraph } from '../ir/verify.js';
import type { Plan } from '../plan/plan.js';
import type { RewriteResult } from '../rewrite/rewrite.js';

/** PD330: what was made of a graph does not hold together. */
export function failsCheck(name: string, problem: string, culprit: string): Refusal {
  return new Refusal({
    code: 'PD330',
    message: `what was made of this graph fails the check "${name}": ${problem}`,
    culprit,
    hint: 'nothing was written. Either the graph declares what does not hold (run onnx.checker on it with full_check), or it is not understood rightly: please report it with `pdrop-compile inspect --json`',
  });
}

/**
 * Checks what the compiler made before it is written, where no prompt is tried on it (src/check/follows-plan.ts): links, order, and
 * sizes of every value at probe sizes.
 *
 * @throws {InternalError} when something does not hold; a broken graph is never written
 * @throws {Refusal} PD102 when what does not hold did not hold before either, PD323 when that is for a size that had to be assumed, PD330 when sizes came apart by what was added
 */
export function checkSoundness(model: Model, facts: DecoderFacts, plan: Plan, result: RewriteResult): void {
  const problem = verifyGraph(model.graph)[0];
  if (problem) throw new InternalError(problem.reason, problem.culprit);
  if (result.stages.count !== plan.layers.length) throw new InternalError('the stages made are not those of the plan');
  // Clones share their original's record: what did not hold there does not hold here either.
  const before = new Set(facts.probes.facts[0].conflicts.flatMap((c) => (c.node?.record ? [c.node.record] : [])));
  const known = facts.probes.facts[0].conflicts.filter((c) => !c.node?.record).length;
  const headDimOf = headDimsOf(facts.attention.map((l) => l.core));
  const [sizes] = PROBE_SIZES;
  const inputs = shapesAt(model.graph, facts.roles, sizes, headDimOf);
  const after = evaluateShapes(model.graph, { inputs: new Map([...inputs].map(([v, shape]) => [v, { shape: shape as number[] }])) });
  const conflicts = after.conflicts.filter((c) => !c.node?.record || !before.has(c.node.record));
  const original = conflicts.length > known ? selfContradiction(facts) : undefined;
  if (original) throw original;
  if (conflicts.length > known) {
    // Sound graphs do not come here (the fuzzer sees to that); graphs whose declarations do not hold do.
    const conflict = conflicts.at(-1);
    throw failsCheck('sizes', conflict?.reason ?? '', conflict?.node ? describeNode(conflict.node) : 'sizes');
  }
}

/** What is to be said when something made of a graph does not hold, and the graph itself did not. */
export function selfContradiction(facts: DecoderFacts): Refusal | undefined {
  const first = facts.probes.facts[0].conflicts[0];
  if (!first) return undefined;
  const culprit = first.node ? describeNode(first.node) : undefined;
  if (first.node?.outputs.some((o) => o && facts.guessed.has(o))) return openSize(facts, first.reason, culprit);
  return new Refusal({
    code: 'PD102',
    message: `the graph contradicts itself: ${first.reason}`,
    culprit,
    hint: 'the graph is not valid ONNX; export it again or run onnx.checker on it with full_check',
  });
}

/** A size had to be assumed, and does not fit: that says nothing against the graph. */
function openSize(facts: DecoderFacts, reason: string, culprit: string | undefined): Refusal {
  const open = facts.graph.inputs.filter((v) => facts.guessed.has(v));
  const assumed = open.map((v) => `${v.name} [${facts.probes.facts[0].get(v)?.shape?.join(', ') ?? ''}]`).join(', ');
  return new Refusal({
    code: 'PD323',
    message: `the graph leaves the size of an input open, nothing in it tells the size, and the one that was assumed does not fit: ${assumed}; ${reason}`,
    culprit,
    hint: `declare the size that the model runs with: python -m onnxruntime.tools.make_dynamic_shape_fixed --input_name ${open[0]?.name ?? 'pixel_values'} --input_shape <sizes> model.onnx fixed.onnx, or export with pictures of one size`,
  });
}
