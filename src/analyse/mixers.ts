/**
 * Token mixers that are no softmax attention: short convolutions, gated linear attention, state spaces. Such a layer is told
 * by its state, an input of fixed size a row that it hands on renewed: [batch, width, kernel], [batch, heads, key, value].
 *
 * Behind a boundary a mixer runs on the tokens of its stage, in order, and so does its state: it has seen those only.
 */
import type { Graph, Node, Value } from '../ir/graph.js';
import type { InputRoles, Mixer } from './facts.js';
import type { Probes } from './probes.js';
import { carriesNoContent, type Link } from './spine.js';

interface View {
  readonly graph: Graph;
  readonly roles: InputRoles;
  readonly content: ReadonlySet<Value>;
  readonly probes: Probes;
}

/** A mixer and the link of the residual stream's chain that it starts from. */
export interface PlacedMixer {
  readonly at: number;
  readonly mixer: Mixer;
}

/** The mixers of a graph, in order. States that meet hidden states between the same two links belong to one layer. */
export function findMixers({ graph, roles, content, probes }: View, chain: readonly Link[], last: ReadonlyMap<Value, number>): PlacedMixer[] {
  const places = new Map<number, Value[]>();
  for (const state of roles.states) {
    const meets = firstMeeting(state, content);
    const at = meets ? Math.max(-1, ...meets.reads.map((v) => (v ? (last.get(v) ?? -1) : -1))) : -1;
    if (at < 0 || at + 1 >= chain.length) continue;
    places.set(at, [...(places.get(at) ?? []), state]);
  }
  return [...places]
    .sort(([a], [b]) => a - b)
    .map(([at, states]) => {
      const nodes = between(graph, content, chain, last, at);
      const renewed = graph.outputs.filter((o) => o.producer && leadsTo(nodes, o) && states.some((s) => sameSizes(probes, s, o)));
      return { at, mixer: { states, renewed, nodes, exits: exitsOf(chain[at + 1] as Link, content) } };
    });
}

/** The first content node that a state reaches, through whatever is not content. */
function firstMeeting(state: Value, content: ReadonlySet<Value>): Node | undefined {
  const seen = new Set<Value>();
  const queue = [state];
  for (let v = queue.shift(); v; v = queue.shift()) {
    if (seen.has(v)) continue;
    seen.add(v);
    for (const node of [...v.uses.map((u) => u.node), ...v.capturedBy]) {
      if (carriesNoContent(node)) continue;
      if (node.outputs.some((o) => o && content.has(o))) return node;
      for (const o of node.outputs) if (o) queue.push(o);
    }
  }
  return undefined;
}

/** Content nodes between two links, the one that makes the second included. */
function between(graph: Graph, content: ReadonlySet<Value>, chain: readonly Link[], last: ReadonlyMap<Value, number>, at: number): Set<Node> {
  const next = chain[at + 1] as Link;
  const end = next.value ? next.value.producer : next.node;
  const nodes = new Set<Node>();
  for (const n of graph.nodes) {
    if (carriesNoContent(n)) continue;
    if (n === end || (n !== chain[at]?.node && n !== chain[at]?.value?.producer && n.outputs.some((o) => o && content.has(o) && last.get(o) === at))) nodes.add(n);
  }
  return nodes;
}

function exitsOf(link: Link, content: ReadonlySet<Value>): Value[] {
  return link.value ? [link.value] : link.node.outputs.filter((o): o is Value => o !== null && content.has(o));
}

/** True when the output is made by the nodes, or only passed on from what they make. */
function leadsTo(nodes: ReadonlySet<Node>, output: Value): boolean {
  let v: Value | null | undefined = output;
  for (let steps = 0; v?.producer && steps < 8; steps++) {
    if (nodes.has(v.producer)) return true;
    if (!['Cast', 'Identity', 'Transpose', 'Squeeze', 'Unsqueeze', 'Reshape'].includes(v.producer.opType)) return false;
    v = v.producer.inputs[0];
  }
  return false;
}

function sameSizes(probes: Probes, a: Value, b: Value): boolean {
  const [x, y] = [probes.axes(a), probes.axes(b)];
  return !!x && !!y && x.length === y.length && x.every((d, i) => d === y[i] || y[i] === '?');
}
