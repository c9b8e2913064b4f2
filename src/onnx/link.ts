/** Names of a graph that is being read → values: what a name means, and links between values and the nodes that compute and read them. */
import { Refusal } from '../diagnostics.js';
import { addCapture, addUse, type Graph, type Node, Value } from '../ir/graph.js';

const parents = new WeakMap<Graph, Graph>();

/** `inner` is a subgraph of a node of `outer`: names that it does not declare are looked for there. */
export function nest(inner: Graph, outer: Graph): void {
  parents.set(inner, outer);
}

/** The value of that name of this very graph. */
export function declare(graph: Graph, name: string): Value {
  let value = graph.values.get(name);
  if (!value) {
    value = new Value(name);
    graph.values.set(name, value);
  }
  return value;
}

function visibleIn(graph: Graph | undefined, name: string): Value | undefined {
  for (let g = graph; g; g = parents.get(g)) {
    const value = g.values.get(name);
    if (value) return value;
  }
  return undefined;
}

/**
 * A subgraph may declare the type of a value that it only reads from an enclosing graph (onnxslim writes down all it infers): that makes
 * no value of its own, and hides none. To be called when the subgraph's nodes have said what they compute.
 */
export function releaseForeign(graph: Graph): void {
  const parent = parents.get(graph);
  if (!parent) return;
  for (const [name, v] of graph.values) if (!v.producer && !v.isInput && !v.isOutput && !v.tensor && visibleIn(parent, name)) graph.values.delete(name);
}

/** Where a node's values gather: lists are made as long as they are, for one that grows keeps room for sixteen more. */
const gathered: (Value | null)[] = [];

/** Makes the named values those that `node` computes. */
export function linkOutputs(graph: Graph, node: Node, names: readonly string[]): void {
  for (let i = 0; i < names.length; i++) {
    const name = names[i] as string;
    if (name === '') {
      gathered[i] = null;
      continue;
    }
    const value = declare(graph, name);
    if (value.producer || value.isInput || value.tensor) {
      throw new Refusal({
        code: 'PD102',
        message: value.producer ? `two nodes compute the value "${name}"` : `a node computes "${name}", which is an ${value.isInput ? 'input' : 'initializer'} of the graph`,
        culprit: node.name || name,
        hint: 'the graph is not valid ONNX (SSA); export it again or run onnx.checker on it',
      });
    }
    value.producer = node;
    value.outputIndex = i;
    gathered[i] = value;
  }
  node.outputs = gathered.slice(0, names.length);
}

/** Makes the named values those that `node` reads: the graph's own, or (recorded as captures) those of an enclosing graph. */
export function linkInputs(graph: Graph, node: Node, names: readonly string[]): void {
  for (let index = 0; index < names.length; index++) {
    const name = names[index] as string;
    if (name === '') {
      gathered[index] = null;
      continue;
    }
    const own = graph.values.get(name);
    const outer = own ? undefined : visibleIn(parents.get(graph), name);
    const value = own ?? outer ?? declare(graph, name);
    gathered[index] = value;
    if (!outer) addUse(value, node, index);
  }
  node.inputs = gathered.slice(0, names.length);
}

/** Records which values of `graph` the subgraphs of `node` read, at any depth. */
export function linkCaptures(graph: Graph, node: Node): void {
  const captured = new Set<Value>();
  const visit = (sub: Graph): void => {
    for (const v of [...sub.nodes.flatMap((n) => n.inputs), ...sub.outputs]) {
      if (v && graph.values.get(v.name) === v) captured.add(v);
    }
    for (const n of sub.nodes) n.subgraphs.forEach(visit);
  };
  node.subgraphs.forEach(visit);
  node.captures = [...captured];
  for (const v of captured) addCapture(v, node);
}

/** Everything that is read must be computed by something. */
export function refuseDangling(graph: Graph): void {
  const nothing = (v: Value): boolean => !v.producer && !v.isInput && !v.tensor && graph.values.get(v.name) === v;
  const refuse = (name: string, culprit: string): Refusal =>
    new Refusal({ code: 'PD102', message: `nothing computes the value "${name}"`, culprit, hint: 'the graph is not valid ONNX; export it again or run onnx.checker on it (sparse initializers are not supported)' });
  const { nodes } = graph;
  for (let i = 0; i < nodes.length; i++) {
    const { inputs, name, opType } = nodes[i] as Node;
    for (let k = 0; k < inputs.length; k++) {
      const v = inputs[k];
      if (v && nothing(v)) throw refuse(v.name, name || opType);
    }
  }
  // A subgraph may hand on a value of an enclosing graph.
  if (!graph.owner) for (const v of graph.outputs) if (nothing(v)) throw refuse(v.name, v.name);
}
