/**
 * The residual stream where something goes past its layers: per-layer inputs made of the embeddings and read late (Gemma 3n,
 * Gemma 4), keys and values that later layers use again, skip connections over several layers. What goes past is content
 * like any other and is gathered where it crosses a boundary; layers are told apart by what is left.
 */
import type { Graph, Node, Value } from '../ir/graph.js';
import type { AttentionCore } from './facts.js';
import { carriesNoContent, dominatorChain, lastLinks, type Spine } from './spine.js';

/** Edges that do not count: by reading node, the values that went past a layer to it. */
type Bypasses = ReadonlyMap<Node, ReadonlySet<Value>>;

/** The chain that puts each attention op between two links of its own, if leaving out what goes past layers gives one; else the plain one. */
export function spineOf(graph: Graph, content: ReadonlySet<Value>, source: Value, logits: Value, cores: readonly AttentionCore[]): Spine {
  const plain = spine(graph, content, source, logits);
  if (!collides(plain, cores)) return plain;
  const bypasses = findBypasses(graph, content, source, cores);
  if (bypasses.size === 0) return plain;
  const without = spine(graph, content, source, logits, bypasses);
  return collides(without, cores) ? plain : without;
}

/** Index of the link that an attention op stands behind; -1 where it stands behind none (a vision tower's). */
export function placeOf({ last }: Spine, core: AttentionCore): number {
  return Math.max(-1, ...core.anchor.inputs.map((v) => (v ? (last.get(v) ?? -1) : -1)));
}

function spine(graph: Graph, content: ReadonlySet<Value>, source: Value, logits: Value, bypasses?: Bypasses): Spine {
  const links = dominatorChain(graph, content, source, logits, bypasses && ((n, v) => bypasses.get(n)?.has(v) ?? false));
  return { links, last: lastLinks(graph, content, links) };
}

function collides(found: Spine, cores: readonly AttentionCore[]): boolean {
  const places = cores.map((c) => placeOf(found, c)).filter((at) => at >= 0);
  return new Set(places).size < places.length;
}

/**
 * A value's depth is the number of attention ops that were passed on the way to it. A node that reads what is two behind the
 * deepest it reads joins something that went past a whole layer (the residual itself is one behind); an attention op's own
 * keys and values are as deep as its queries, or they are another layer's.
 */
function findBypasses(graph: Graph, content: ReadonlySet<Value>, source: Value, cores: readonly AttentionCore[]): Bypasses {
  const inside = new Set(cores.flatMap((c) => c.nodes));
  const ends = new Set(cores.map((c) => c.nodes.at(-1)));
  const depth = new Map<Value, number>([[source, 0]]);
  const found = new Map<Node, Set<Value>>();
  for (const n of graph.nodes) {
    if (carriesNoContent(n)) continue;
    const reads = n.reads.filter((v): v is Value => v !== null && content.has(v));
    if (reads.length === 0) continue;
    const deepest = Math.max(...reads.map((v) => depth.get(v) ?? 0));
    const past = reads.filter((v) => (depth.get(v) ?? 0) <= deepest - (inside.has(n) ? 1 : 2));
    if (past.length > 0) found.set(n, new Set(past));
    for (const o of n.outputs) if (o && content.has(o) && o !== source) depth.set(o, deepest + (ends.has(n) ? 1 : 0));
  }
  return found;
}
