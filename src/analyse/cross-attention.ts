/**
 * Attention to something that is not the decoder's own sequence: its queries are hidden states, its keys are made of
 * another input (encoder states, image features, their cached keys). Found by what the keys are made of: an exporter
 * may have declared that input [batch, sequence, features] like the tokens.
 */
import { describeNode, Refusal } from '../diagnostics.js';
import type { Graph, Node, Value } from '../ir/graph.js';
import { queryKeyProduct } from './attention/decomposed.js';
import type { DialectContext } from './attention/index.js';
import { carriesNoContent } from './spine.js';

export interface CrossAttention {
  /** The softmax, or the fused op. */
  readonly node: Node;
  /** Graph inputs that the keys are made of. */
  readonly inputs: readonly Value[];
}

export function findCrossAttention(ctx: DialectContext): CrossAttention[] {
  const found: CrossAttention[] = [];
  for (let i = 0; i < ctx.graph.nodes.length; i++) {
    const node = ctx.graph.nodes[i] as Node;
    const keys = keysOf(ctx, node);
    const inputs = keys ? inputsBehind(ctx.graph, keys) : [];
    if (inputs.length > 0) found.push({ node, inputs });
  }
  return found;
}

/** Keys that no hidden state goes into, where queries are hidden states. */
function keysOf(ctx: DialectContext, node: Node): Value | undefined {
  if (node.is('Softmax') && node.inputs[0] && ctx.content.has(node.inputs[0])) {
    const [a, b] = queryKeyProduct(ctx, node.inputs[0])?.inputs ?? [];
    if (!a || !b || ctx.content.has(a) === ctx.content.has(b)) return undefined;
    return ctx.content.has(a) ? b : a;
  }
  if (!node.is('Attention') && !node.is('MultiHeadAttention', 'com.microsoft')) return undefined;
  const [query, key] = node.inputs;
  return query && key && ctx.content.has(query) && !ctx.content.has(key) ? key : undefined;
}

function inputsBehind(graph: Graph, value: Value): Value[] {
  const seen = new Set<Value>([value]);
  const queue = [value];
  for (let v = queue.pop(); v; v = queue.pop()) {
    const n = v.producer;
    if (!n || carriesNoContent(n)) continue;
    for (const i of n.reads) {
      if (!i || seen.has(i)) continue;
      seen.add(i);
      queue.push(i);
    }
  }
  return graph.inputs.filter((v) => seen.has(v) && !v.tensor);
}

/** @throws {Refusal} PD318 */
export function refuseCrossAttention(found: readonly CrossAttention[], layers: number): void {
  const [first] = found;
  if (!first) return;
  const names = first.inputs.slice(0, 3).map((v) => `"${v.name}"`).join(', ');
  const mixed = layers > 0 ? `${found.length} attention ops are cross-attention (beside ${layers} over the decoder's own tokens)` : `all ${found.length} attention ops found are cross-attention`;
  throw new Refusal({
    code: 'PD318',
    message: `${mixed}: their keys come from ${names}, which is not part of the decoder's sequence`,
    culprit: describeNode(first.node),
    hint: 'PyramidDrop drops tokens of the decoder’s own sequence; what is attended to from the side (encoder states; the image in Mllama) is not dropped by it, whatever its shape is declared as. To save there, shorten that input before the decoder runs: docs/cross-attention.md says how and with what',
  });
}
