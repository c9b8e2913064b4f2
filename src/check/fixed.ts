/** A graph of fixed shapes: every declared size is a number and right, and each boundary picks as many tokens as its plan says. */
import { evaluateShapes } from '../analyse/shapes/index.js';
import { describeNode } from '../diagnostics.js';
import { isRead, type Model } from '../ir/graph.js';
import { fixedDrops } from '../plan/fixed.js';
import type { FixedSizes, Plan } from '../plan/plan.js';

export interface FixedCheck {
  readonly name: string;
  readonly problems: readonly string[];
}

export function checkFixed({ graph }: Model, plan: Plan, fix: FixedSizes): FixedCheck[] {
  const sizes = evaluateShapes(graph, { inputs: new Map() });
  const conflicts = sizes.conflicts.map((c) => `${c.node ? describeNode(c.node) : 'input'}: ${c.reason}`);
  const declared: string[] = [];
  const control = graph.nodes.filter((n) => n.subgraphs.length > 0).map((n) => `${describeNode(n)} is control flow`);
  for (const v of [...graph.inputs, ...graph.nodes.flatMap((n) => n.outputs)]) {
    if (!v || v.tensor) continue;
    const dims = v.type?.dims;
    if (!dims || dims.some((d) => typeof d !== 'number')) {
      // What no node reads is not worth a declaration.
      if (v.isInput || isRead(v)) declared.push(`"${v.name}" is not declared with numbers`);
      continue;
    }
    const shape = sizes.shape(v);
    if (shape && dims.some((d, i) => shape[i] !== null && shape[i] !== d)) declared.push(`"${v.name}" is declared [${dims}] but is [${shape.map((d) => d ?? '?')}]`);
  }
  return [
    { name: 'sizes go together', problems: conflicts.slice(0, 4) },
    { name: 'no control flow', problems: control.slice(0, 4) },
    { name: 'declared shapes are numbers', problems: declared.slice(0, 4) },
    { name: 'each boundary keeps as many tokens as planned', problems: keptProblems({ graph }, plan, fix, sizes) },
  ];
}

function keptProblems({ graph }: Pick<Model, 'graph'>, plan: Plan, fix: FixedSizes, sizes: ReturnType<typeof evaluateShapes>): string[] {
  const drops = fixedDrops(plan, fix);
  return plan.layers.flatMap((_, i) => {
    const boundary = `b${i + 1}`;
    const want = fix.sequence - (drops[i] as number);
    const picks = graph.nodes.filter((n) => n.is('TopK') && n.name.startsWith(`pdrop/${boundary}/select/`)).map((n) => n.inputs[1] && sizes.scalar(n.inputs[1]));
    // Ranks that ask neither content nor a mask are worked out: rows are gathered by constants, a row of them each.
    const constant = graph.nodes.filter((n) => n.is('Gather') && n.name.startsWith(`pdrop/${boundary}/restage/`)).flatMap((n) => n.inputs[1]?.tensor?.dims.slice(1) ?? []);
    const kept = picks.length > 0 ? picks : constant;
    if (kept.length === 0) return [`nothing picks tokens at boundary ${i + 1}`];
    return kept.flatMap((k) => (k === want ? [] : [`boundary ${i + 1} keeps ${k ?? 'an unknown number of'} tokens, the plan says ${want}`]));
  });
}
