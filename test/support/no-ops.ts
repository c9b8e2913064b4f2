/** Nodes that do nothing, and where a decoder's layer can have them. */
import type { DecoderFacts } from '../../src/analyse/facts.js';
import { carriesNoContent } from '../../src/analyse/spine.js';
import type { Node, Value } from '../../src/ir/graph.js';
import { BOOL, FLOAT, float32, graphOf, INT64, int64, type ModelProto, node, type NodeProto, type TensorProto } from './proto.js';

/** One input of one node: where a no-op can stand. `consumer` is the name of the reading node's first output. */
export interface Edge {
  readonly consumer: string;
  readonly index: number;
  readonly value: string;
  readonly dtype: number;
  readonly rank: number;
}

interface Made {
  readonly nodes: NodeProto[];
  readonly initializers?: TensorProto[];
}

export interface Kind {
  readonly name: string;
  readonly fits: (edge: Edge) => boolean;
  /** Nodes from `x` to `y`; `p` makes names unique. */
  readonly make: (x: string, y: string, p: string, edge: Edge) => Made;
}

const isNumber = (e: Edge): boolean => e.dtype === FLOAT || e.dtype === INT64;
const one = (e: Edge, name: string, value: number): TensorProto => (e.dtype === FLOAT ? float32(name, [value], []) : int64(name, [value], []));
const single = (op: string, fits: Kind['fits']): Kind => ({ name: `one-input ${op}`, fits, make: (x, y) => ({ nodes: [node(op, [x], [y], op === 'Concat' ? { axis: 0 } : {})] }) });
const neutral = (op: string, name: string, value: number, swapped = false): Kind => ({
  name,
  fits: isNumber,
  make: (x, y, p, e) => ({ nodes: [node(op, swapped ? [`${p}/c`, x] : [x, `${p}/c`], [y])], initializers: [one(e, `${p}/c`, value)] }),
});

export const KINDS: readonly Kind[] = [
  single('Concat', (e) => e.rank > 0),
  single('Sum', (e) => e.dtype === FLOAT),
  single('Mean', (e) => e.dtype === FLOAT),
  single('Max', isNumber),
  single('Min', isNumber),
  single('Identity', () => true),
  { name: 'Cast to the same type', fits: () => true, make: (x, y, _p, e) => ({ nodes: [node('Cast', [x], [y], { to: e.dtype })] }) },
  { name: 'Cast to a wider type and back', fits: (e) => e.dtype === FLOAT || e.dtype === BOOL, make: (x, y, p, e) => ({ nodes: [node('Cast', [x], [`${p}/w`], { to: e.dtype === FLOAT ? 11 : INT64 }), node('Cast', [`${p}/w`], [y], { to: e.dtype })] }) },
  neutral('Mul', 'x · 1', 1),
  neutral('Mul', '1 · x', 1, true),
  neutral('Div', 'x / 1', 1),
  neutral('Add', 'x + 0', 0),
  neutral('Sub', 'x − 0', 0),
  {
    name: 'full Slice',
    fits: (e) => e.rank > 0 && e.dtype !== BOOL,
    make: (x, y, p, e) => ({ nodes: [node('Slice', [x, `${p}/s`, `${p}/e`, `${p}/a`], [y])], initializers: [int64(`${p}/s`, [0]), int64(`${p}/e`, [Number.MAX_SAFE_INTEGER]), int64(`${p}/a`, [e.rank - 1])] }),
  },
  {
    name: 'Slice to the axis’s own size',
    fits: (e) => e.rank > 0 && e.dtype !== BOOL,
    make: (x, y, p) => ({ nodes: [node('Shape', [x], [`${p}/h`]), node('Slice', [`${p}/h`, `${p}/s`, `${p}/o`], [`${p}/e`]), node('Slice', [x, `${p}/s`, `${p}/e`], [y])], initializers: [int64(`${p}/s`, [0]), int64(`${p}/o`, [1])] }),
  },
  {
    name: 'Transpose there and back',
    fits: (e) => e.rank > 1,
    make: (x, y, p, e) => {
      const perm = Array.from({ length: e.rank }, (_, i) => (i + 1) % e.rank);
      return { nodes: [node('Transpose', [x], [`${p}/t`], { perm }), node('Transpose', [`${p}/t`], [y], { perm: perm.map((_, i) => perm.indexOf(i)) })] };
    },
  },
  {
    name: 'Unsqueeze and Squeeze',
    fits: () => true,
    make: (x, y, p) => ({ nodes: [node('Unsqueeze', [x, `${p}/a`], [`${p}/u`]), node('Squeeze', [`${p}/u`, `${p}/a`], [y])], initializers: [int64(`${p}/a`, [0])] }),
  },
  { name: 'Reshape to the same shape', fits: (e) => e.rank > 0, make: (x, y, p) => ({ nodes: [node('Shape', [x], [`${p}/h`]), node('Reshape', [x, `${p}/h`], [y])] }) },
  { name: 'Expand to the same shape', fits: (e) => e.rank > 0, make: (x, y, p) => ({ nodes: [node('Shape', [x], [`${p}/h`]), node('Expand', [x, `${p}/h`], [y])] }) },
  { name: 'Dropout', fits: (e) => e.dtype === FLOAT, make: (x, y) => ({ nodes: [node('Dropout', [x], [y])] }) },
];

/** All inputs of the nodes between the entries of two layers (or behind the first, for the last layer). */
export function edgesOf(facts: DecoderFacts, layer: number): Edge[] {
  const { graph, probes, layers } = facts;
  const cut = layers[layer]?.cut;
  const stop = layers[layer + 1]?.cut;
  if (!cut) throw new Error(`no layer ${layer}`);
  const reached = new Set<Value>(cut.values);
  const inside: Node[] = [];
  for (const n of graph.nodes) {
    if (n === cut.node || n === stop?.node || carriesNoContent(n) || !n.inputs.some((v) => v && reached.has(v))) continue;
    inside.push(n);
    for (const o of n.outputs) if (o && !stop?.values.includes(o)) reached.add(o);
  }
  return inside.flatMap((n) =>
    n.inputs.flatMap((v, index): Edge[] => {
      const axes = v && probes.axes(v);
      const dtype = v ? probes.dtype(v) : 0;
      return v && axes && [FLOAT, INT64, BOOL].includes(dtype) ? [{ consumer: n.outputs.find((o) => o)?.name as string, index, value: v.name, dtype, rank: axes.length }] : [];
    }),
  );
}

/** Puts a no-op on each of the edges that the kind it is given fits. */
export function insertNoOps(model: ModelProto, kindOf: (edge: number) => Kind, edges: readonly Edge[]): number {
  const graph = graphOf(model);
  const nodes = graph.node as NodeProto[];
  let count = 0;
  edges.forEach((edge, which) => {
    const kind = kindOf(which);
    if (!kind.fits(edge)) return;
    const at = nodes.findIndex((n) => n.output?.includes(edge.consumer));
    const reader = nodes[at];
    if (!reader?.input) throw new Error(`nothing makes ${edge.consumer}`);
    const p = `no-op/${count++}/${edge.consumer}/${edge.index}`;
    const made = kind.make(edge.value, `${p}/y`, p, edge);
    reader.input[edge.index] = `${p}/y`;
    nodes.splice(at, 0, ...made.nodes.map((n, i) => Object.assign(n, { name: `${p}/${i}` })));
    graph.initializer?.push(...(made.initializers ?? []));
  });
  return count;
}
