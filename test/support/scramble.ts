/** Another spelling of the same graph: every node and inner value renamed, initializers and nodes in another order. */
import { graphOf, type GraphProto, type ModelProto, type NodeProto } from './proto.js';
import { seeded } from './random.js';

export function scramble(model: ModelProto, seed: number): void {
  const graph = graphOf(model);
  const random = seeded(seed);
  const keep = new Set([...(graph.input ?? []), ...(graph.output ?? [])].map((v) => v.name as string));
  const names = new Map<string, string>([['', '']]);
  let next = 0;
  const taken = new Set(keep);
  const renamed = (name: string): string => {
    let to = keep.has(name) ? name : names.get(name);
    while (to === undefined) {
      const candidate = `${random.pick(['x', 'layers.0', 'lm_head', 'mask', 'past', '/vision', 'v'])}${random.below(1e6)}_${next++}`;
      if (!taken.has(candidate)) to = candidate;
    }
    names.set(name, to);
    return to;
  };
  const visit = (g: GraphProto): void => {
    for (const n of g.node ?? []) {
      n.name = random.below(4) === 0 ? '' : `n${random.below(1e9)}_${next++}`;
      n.docString = '';
      n.input = (n.input ?? []).map(renamed);
      n.output = (n.output ?? []).map(renamed);
      for (const a of n.attribute ?? []) if (a.g) visit(a.g as GraphProto);
    }
    for (const t of g.initializer ?? []) t.name = renamed(t.name as string);
    for (const v of g.valueInfo ?? []) v.name = renamed(v.name as string);
    if (g !== graph) for (const v of [...(g.input ?? []), ...(g.output ?? [])]) v.name = renamed(v.name as string);
  };
  visit(graph);
  graph.node = shuffled(graph.node as NodeProto[], random);
  const initializers = graph.initializer ?? [];
  for (let i = initializers.length - 1; i > 0; i--) {
    const j = random.below(i + 1);
    [initializers[i], initializers[j]] = [initializers[j] as (typeof initializers)[0], initializers[i] as (typeof initializers)[0]];
  }
}

function readsOf(n: NodeProto): string[] {
  const inner = (n.attribute ?? []).flatMap((a) => ((a.g?.node ?? []) as NodeProto[]).flatMap(readsOf).concat((a.g?.output ?? []).map((o) => o.name as string)));
  return [...(n.input ?? []), ...inner];
}

/** A random topological order. */
function shuffled(nodes: readonly NodeProto[], random: ReturnType<typeof seeded>): NodeProto[] {
  const producer = new Map(nodes.flatMap((n) => (n.output ?? []).map((o): [string, NodeProto] => [o, n])));
  const waiting = new Map<NodeProto, number>();
  const readers = new Map<NodeProto, NodeProto[]>();
  for (const n of nodes) {
    const needs = new Set(readsOf(n).flatMap((i) => (i !== '' && producer.has(i) ? [producer.get(i) as NodeProto] : [])));
    waiting.set(n, needs.size);
    for (const d of needs) readers.set(d, [...(readers.get(d) ?? []), n]);
  }
  const ready = nodes.filter((n) => waiting.get(n) === 0);
  const order: NodeProto[] = [];
  while (ready.length > 0) {
    const [n] = ready.splice(random.below(ready.length), 1) as [NodeProto];
    order.push(n);
    for (const r of readers.get(n) ?? []) {
      const left = (waiting.get(r) as number) - 1;
      waiting.set(r, left);
      if (left === 0) ready.push(r);
    }
  }
  return order;
}
