/** Long chains of nodes that change nothing, at each kind of place that a decoder has. */
import type { DecoderFacts } from '../../src/analyse/facts.js';
import type { Value } from '../../src/ir/graph.js';
import { BOOL, FLOAT, float32, graphOf, INT32, INT64, int64, insertAfter, type ModelProto, node, type NodeProto, type TensorProto } from './proto.js';

/** A value of the graph, by name, and what stands there. */
export interface Place {
  readonly name: string;
  readonly value: string;
  readonly dtype: number;
  readonly rank: number;
}

/** One node of a chain, from `x` to `y`. */
interface Spot {
  readonly i: number;
  readonly x: string;
  readonly y: string;
  /** What the node before this one reads. */
  readonly before: string;
  readonly place: Place;
  /** Name of the chain, in front of its constants' names. */
  readonly chain: string;
}

export interface Link {
  readonly name: string;
  readonly fits: (place: Place) => boolean;
  readonly node: (spot: Spot) => NodeProto;
  readonly constants?: (place: Place, chain: string) => TensorProto[];
}

const signed = (p: Place): boolean => p.dtype === FLOAT || p.dtype === INT64 || p.dtype === INT32;

export const LINKS: readonly Link[] = [
  { name: 'Neg', fits: signed, node: ({ x, y }) => node('Neg', [x], [y]) },
  { name: 'Identity', fits: () => true, node: ({ x, y }) => node('Identity', [x], [y]) },
  {
    name: 'Add 0',
    fits: (p) => p.dtype === FLOAT || p.dtype === INT64,
    node: ({ x, y, chain }) => node('Add', [x, `${chain}/zero`], [y]),
    constants: (p, chain) => [p.dtype === FLOAT ? float32(`${chain}/zero`, [0], []) : int64(`${chain}/zero`, [0], [])],
  },
  {
    name: 'Unsqueeze, Squeeze',
    fits: () => true,
    node: ({ i, x, y, chain }) => node(i % 2 === 0 ? 'Unsqueeze' : 'Squeeze', [x, `${chain}/axis`], [y]),
    constants: (_, chain) => [int64(`${chain}/axis`, [0])],
  },
  { name: 'Cast', fits: () => true, node: ({ x, y, place }) => node('Cast', [x], [y], { to: place.dtype }) },
  {
    name: 'Cast there and back',
    fits: (p) => p.dtype !== BOOL,
    node: ({ i, x, y, place: p }) => node('Cast', [x], [y], { to: i % 2 === 1 ? p.dtype : p.dtype === FLOAT ? 11 : p.dtype === INT64 ? FLOAT : INT64 }),
  },
  {
    name: 'Reshape',
    fits: (p) => p.rank > 0,
    node: ({ x, y, chain }) => node('Reshape', [x, `${chain}/same`], [y]),
    constants: (p, chain) => [int64(`${chain}/same`, new Array<number>(p.rank).fill(0))],
  },
  { name: 'Reshape to its own shape', fits: (p) => p.rank > 0, node: ({ i, x, y, before }) => (i % 2 === 0 ? node('Shape', [x], [y]) : node('Reshape', [before, x], [y])) },
  { name: 'Abs', fits: (p) => p.dtype === INT64 || p.dtype === INT32, node: ({ x, y }) => node('Abs', [x], [y]) },
  { name: 'Not', fits: (p) => p.dtype === BOOL, node: ({ x, y }) => node('Not', [x], [y]) },
];

/** Where chains can stand; the places that a graph has not are left out. */
export function placesOf(facts: DecoderFacts): Place[] {
  const { roles, probes, layers, attention, graph, content, logits } = facts;
  const found: Place[] = [];
  const add = (name: string, value: Value | null | undefined): void => {
    const rank = value ? probes.axes(value)?.length : undefined;
    if (value && rank !== undefined && probes.dtype(value) !== 0) found.push({ name, value: value.name, dtype: probes.dtype(value), rank });
  };
  const middle = layers[2];
  const core = middle?.core;
  const cut = middle?.cut.values[0];
  add('embeddings', roles.source);
  add('token ids', roles.inputIds);
  add('mask', roles.attentionMask);
  add('position ids', roles.positionIds);
  add('cache input', core?.past?.key.value);
  add('cache output', core?.present?.key);
  add('query', core?.q.value);
  add('key', core?.k.value);
  add('attention', core?.anchor.outputs[0]);
  add('residual', cut);
  add('norm', cut?.uses.find((u) => /Norm/.test(u.node.opType))?.node.outputs[0] ?? graph.nodes.find((n) => n.is('Mul') && n.outputs[0] && content.has(n.outputs[0]) && n.outputs[0].uses.some((u) => u.node.is('MatMul')))?.outputs[0]);
  add('logits', logits);
  add('angles', graph.nodes.find((n) => n.is('Cos') || n.is('Sin'))?.inputs[0]);
  const shape = graph.nodes.find((n) => n.is('Shape'));
  add('shape', shape?.outputs[0]);
  add('size', shape?.outputs[0]?.uses.find((u) => u.node.is('Gather'))?.node.outputs[0]);
  add('shape of a Reshape', graph.nodes.find((n) => n.is('Reshape') && n.inputs[1]?.producer?.is('Concat'))?.inputs[1]);
  add('mask of the layers', attention[1]?.core.nodes.find((n) => n.is('Add'))?.inputs[1]);
  return found;
}

/** Puts `length` (even) nodes behind a value; in front of the output where the value is one. */
export function insertChain(model: ModelProto, place: Place, link: Link, length: number, chain = 'chain'): void {
  const graph = graphOf(model);
  const output = graph.output?.some((o) => o.name === place.value);
  const start = output ? `${chain}/start` : place.value;
  if (output) {
    for (const n of graph.node ?? []) {
      n.input = (n.input ?? []).map((i) => (i === place.value ? start : i));
      n.output = (n.output ?? []).map((o) => (o === place.value ? start : o));
    }
  }
  const nameOf = (i: number): string => (i < 0 ? start : output && i === length - 1 ? place.value : `${chain}/${i}`);
  const nodes: NodeProto[] = [];
  for (let i = 0; i < length; i++) {
    const made = link.node({ i, x: nameOf(i - 1), y: nameOf(i), before: nameOf(Math.max(i - 2, -1)), place, chain });
    made.name = `${chain}/${i}`;
    nodes.push(made);
  }
  insertAfter(graph, start, [], output ? start : nameOf(length - 1));
  const at = (graph.node ?? []).findIndex((n) => n.output?.includes(start));
  graph.node = [...(graph.node ?? []).slice(0, at + 1), ...nodes, ...(graph.node ?? []).slice(at + 1)];
  graph.initializer?.push(...(link.constants?.(place, chain) ?? []));
}
