/** Inputs of changing size whose role is not known: nothing says which of their rows a later stage would need. */
import { describeNode, Refusal } from '../diagnostics.js';
import { extentOf, type Node, type Value } from '../ir/graph.js';
import type { DecoderFacts } from './facts.js';

/** What is made, without hidden states, of such inputs; by value, the input. */
export function strangers({ graph, roles, content }: DecoderFacts): Map<Value, Value> {
  const known = new Set<Value | undefined>([
    roles.source,
    roles.inputIds,
    roles.attentionMask,
    roles.positionIds,
    roles.cachePosition,
    ...roles.tokenInputs,
    ...roles.pasts.map((p) => p.value),
    ...roles.states,
  ]);
  const from = new Map<Value, Value>();
  for (const v of graph.inputs) {
    const dims = v.type?.dims;
    if (!v.tensor && !known.has(v) && !(dims && dims.every((d) => extentOf(d) !== undefined))) from.set(v, v);
  }
  if (from.size === 0) return from;
  for (const n of graph.nodes) {
    const v = n.inputs.find((i) => i && from.has(i)) ?? n.captures.find((i) => from.has(i));
    if (v) for (const o of n.outputs) if (o && !content.has(o)) from.set(o, from.get(v) as Value);
  }
  return from;
}

/** The refusal of a boundary with such an input behind it; it names the first layer that a boundary may stand before. */
export function unknownInput(input: Value, strange: ReadonlyMap<Value, Value>, node: Node, facts: DecoderFacts): Refusal {
  const against = facts.notAligned.get(input);
  const first = firstBehind(facts, input, strange);
  const behind = first < facts.layers.length ? `choose boundaries behind the last layer that uses it: the first layer a boundary may stand before is ${first} (--layers)` : 'the last layer uses it, so no boundary can stand behind it';
  const perImage = facts.roles.imageMask && !against ? ` (it seems to have one row an image token, put where "${facts.roles.imageMask.name}" says)` : '';
  return new Refusal({
    code: 'PD308',
    message: against
      ? `the input "${input.name}" is declared like the tokens but is not one entry a token (${against.reason}, at ${describeNode(against.node)}), and it is used behind a boundary`
      : `the input "${input.name}" is used behind a boundary, but whether it is aligned with tokens is not known${perImage}`,
    culprit: describeNode(node),
    hint: against || perImage ? behind : `if it has one entry a token, declare its shape with the symbols of the other inputs (batch, sequence); else ${behind}; \`pdrop-compile inspect\` shows the role of each input`,
  });
}

/** The first layer behind all uses of an input. */
function firstBehind({ graph, content, layers, spine }: DecoderFacts, input: Value, strange: ReadonlyMap<Value, Value>): number {
  const entries = layers.map((l) => spine.links.findIndex((link) => (link.value ? l.cut.values.includes(link.value) : link.node === l.cut.node)));
  let deepest = -1;
  for (const n of graph.nodes) {
    if (!n.reads.some((v) => v && strange.get(v) === input)) continue;
    for (const v of n.reads) if (v && content.has(v)) deepest = Math.max(deepest, spine.last.get(v) ?? -1);
  }
  return entries.filter((at) => at <= deepest).length;
}
