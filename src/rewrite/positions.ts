/** Where a graph that computes its positions itself holds them: what a stage gathers when positions are kept. */
import { Refusal } from '../diagnostics.js';
import type { Node, Value } from '../ir/graph.js';
import type { DecoderFacts } from '../analyse/facts.js';
import { isTableLookup } from '../analyse/input-flow.js';
import { carriesNoContent } from '../analyse/spine.js';
import { frameDependent, isShapeSlot } from './stages.js';

/**
 * The values from which rotary tables are made (the angles before Cos and Sin, the indices of a table lookup, the
 * position input of a RotaryEmbedding op), for graphs without a position_ids input.
 */
export function positionValues(facts: DecoderFacts): Set<Value> {
  const found = anglesOf(facts);
  for (const table of chosenTables(facts)) found.add(table);
  return found;
}

/**
 * Rotary tables that are chosen while the graph runs (long RoPE: by the length), for ops that look positions up in them.
 * Kept positions go up to the whole prompt's length, so the choice is the whole prompt's too: frame 0's.
 */
function chosenTables(facts: DecoderFacts): Value[] {
  const { graph, content, probes } = facts;
  const slots = (n: Node): readonly number[] => (n.domain !== '' ? [2, 3] : n.inputs[3] ? [1, 2] : []);
  const ops = graph.nodes.filter((n) => n.opType.endsWith('RotaryEmbedding'));
  if (ops.length === 0) return [];
  const dependent = frameDependent(facts);
  return ops
    .flatMap((n) => slots(n).map((i) => n.inputs[i]))
    .filter((v): v is Value => !!v && dependent.has(v) && !content.has(v) && probes.axes(v)?.includes('S') !== true);
}

function anglesOf(facts: DecoderFacts): Set<Value> {
  const { graph, content, attention } = facts;
  const internal = attention.find((l) => l.core.rotary && !l.core.rotary.positions);
  if (internal) {
    throw new Refusal({
      code: 'PD313',
      message: 'positions cannot be kept: the attention op rotates inside, at past length + index',
      culprit: internal.core.anchor.name,
      hint: 'use --positions compact; or export with the rotary embedding outside the attention op (use_rotemb_in_attn off)',
    });
  }
  const found = new Set<Value>();
  if (facts.roles.positionIds) return found;
  const dependent = frameDependent(facts);
  const seen = new Set<Value>();
  const visit = (value: Value): void => {
    const pending: Value[] = [value];
    for (let v = pending.pop(); v; v = pending.pop()) {
      if (seen.has(v) || !dependent.has(v)) continue;
      seen.add(v);
      const n: Node | null = v.producer;
      if (!n) continue;
      if (n.is('Cos') || n.is('Sin')) {
        if (n.inputs[0]) found.add(n.inputs[0]);
      } else if (isTableLookup(n) && n.inputs[1]) found.add(n.inputs[1]);
      // Backwards, so that the first input comes next: what is found keeps its order.
      else for (const i of n.inputs.filter((v) => v !== null).reverse()) pending.push(i);
    }
  };
  for (const node of graph.nodes) {
    if (carriesNoContent(node) || !node.outputs.some((o) => o && content.has(o))) continue;
    const rotary = /RotaryEmbedding$/.test(node.opType);
    node.inputs.forEach((v, i) => {
      if (!v || content.has(v) || !dependent.has(v) || isShapeSlot(node, i)) return;
      if (rotary && node.domain !== '' && i === 1) found.add(v);
      else if (rotary || node.is('Mul')) visit(v);
    });
  }
  if (found.size === 0) {
    throw new Refusal({
      code: 'PD313',
      message: 'positions cannot be kept: where the graph computes them was not found',
      hint: 'use --positions compact, or export with position_ids as an input',
    });
  }
  return found;
}
