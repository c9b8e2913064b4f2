/**
 * The graph every floor above works on: values and nodes linked by object identity, never by name.
 *
 * Nothing here knows protobuf. What the reader needs to write a node or a tensor back byte for byte rides
 * along as an opaque `record`; the writer (src/onnx/write.ts) is the only one that looks into it.
 */

export { DataType } from './data-type.js';

/** A declared dimension: a number, a symbolic name (`dim_param`), or null when nothing is declared. */
export type Dim = number | string | null;

/** The number that a dimension is declared as; some exporters write it as a symbol named after it. */
export function extentOf(dim: Dim): number | undefined {
  return typeof dim === 'string' && /^\d+$/.test(dim) ? Number(dim) : typeof dim === 'number' ? dim : undefined;
}

/** Declared type of a value. `dims` is undefined when no shape is declared (the rank is unknown). */
export interface TensorType {
  readonly elemType: number;
  readonly dims: readonly Dim[] | undefined;
}

/** One input slot of one node that reads a value. */
export interface Use {
  readonly node: Node;
  readonly index: number;
}

/** What an attribute holds. Integers are JS numbers when safe, else bigint. */
export type AttributeValue =
  | { readonly kind: 'int'; readonly value: number | bigint }
  | { readonly kind: 'float'; readonly value: number }
  | { readonly kind: 'string'; readonly value: string }
  | { readonly kind: 'ints'; readonly value: readonly (number | bigint)[] }
  | { readonly kind: 'floats'; readonly value: readonly number[] }
  | { readonly kind: 'strings'; readonly value: readonly string[] }
  | { readonly kind: 'tensor'; readonly value: Tensor }
  | { readonly kind: 'graph'; readonly value: Graph }
  | { readonly kind: 'other'; readonly value: null };

/** Constant data: an initializer, or the tensor of a `Constant` node's attribute. */
export interface Tensor {
  readonly dataType: number;
  readonly dims: readonly number[];
  /**
   * Little-endian payload when it is small enough to be held (see SMALL_TENSOR_BYTES), else undefined:
   * the weights themselves are never in memory.
   */
  readonly data: Uint8Array | undefined;
  /** Payload size in bytes, 0 when unknown. */
  readonly byteLength: number;
  /** Where the payload lies when it is outside the model file. */
  readonly external: { readonly location: string; readonly offset: number; readonly length: number | undefined } | undefined;
  /** Opaque: what the writer needs to write the tensor as it was read. */
  readonly record?: unknown;
  /** Opaque: what evaluations know of it (src/analyse/shapes/constant-fact.ts). */
  facts?: unknown;
}

/** Attributes by name. */
export interface AttributeMap extends ReadonlyMap<string, AttributeValue> {
  /** Opaque: what the evaluator keeps for all nodes that share the map (src/analyse/shapes/memo.ts). */
  forms?: unknown;
}

/** Payloads up to this many bytes are decoded and held, so that shape arithmetic and scalars can be evaluated. */
export const SMALL_TENSOR_BYTES = 4096;

// What most have, the same for all of them: a list each would be a third of what a graph takes.
const NO_NODES: readonly Node[] = [];
const NO_GRAPHS: readonly Graph[] = [];
const NO_VALUES: readonly Value[] = [];

/** A named value of a graph: a graph input, an initializer, or a node's output. */
export class Value {
  name: string;
  /** The node that computes it; null for graph inputs and initializers. */
  producer: Node | null = null;
  outputIndex = 0;
  /** Direct uses in this graph. Uses inside subgraphs are captures: `capturedBy`. */
  uses: Use[] = [];
  /** Nodes of this graph whose subgraphs read this value. */
  capturedBy: readonly Node[] = NO_NODES;
  /** Declared type, if any (graph input/output or value_info). */
  type: TensorType | undefined;
  /** What became of the declaration since it was read: `dropped` value_info is not written. */
  typeState: 'read' | 'changed' | 'dropped' = 'read';
  /** Constant data when this is an initializer. */
  tensor: Tensor | undefined;
  isInput = false;
  isOutput = false;

  constructor(name: string) {
    this.name = name;
  }
}

/** Whether anything reads a value: a node, a node's subgraph, or who runs the graph. */
export function isRead(value: Value): boolean {
  return value.uses.length > 0 || value.capturedBy.length > 0 || value.isOutput;
}

/** The tensor of an initializer that nobody may feed, or of a Constant node. */
export function constantTensorOf(value: Value): Tensor | undefined {
  if (value.tensor) return value.isInput ? undefined : value.tensor;
  const attribute = value.producer?.is('Constant') ? value.producer.attributes.get('value') : undefined;
  return attribute?.kind === 'tensor' ? attribute.value : undefined;
}

/** Whether `values`, null where a slot is empty, have these names. */
export function areNamed(values: readonly (Value | null)[], names: readonly string[]): boolean {
  if (values.length !== names.length) return false;
  for (let i = 0; i < names.length; i++) if ((values[i]?.name ?? '') !== names[i]) return false;
  return true;
}

/** Of one call: they are all on the stack. */
const MOST_ARGUMENTS = 4096;

/** Makes `list` hold `items`, in their order; arguments of one call, as in a splice, may not be as many as a large graph has nodes. */
export function refill<T>(list: T[], items: Iterable<T>): void {
  list.length = 0;
  if (Array.isArray(items)) for (let at = 0; at < items.length; at += MOST_ARGUMENTS) list.push(...items.slice(at, at + MOST_ARGUMENTS));
  else for (const item of items) list.push(item);
}

/** Adds a use. The first makes a list of one: most values have no other, and a list that grows keeps room for sixteen more. */
export function addUse(value: Value, node: Node, index: number): void {
  if (value.uses.length === 0) value.uses = [{ node, index }];
  else value.uses.push({ node, index });
}

/** Notes that `node` has `value` among its captures. */
export function addCapture(value: Value, node: Node): void {
  if (value.capturedBy.length === 0) value.capturedBy = [node];
  else (value.capturedBy as Node[]).push(node);
}

export function removeCapture(value: Value, node: Node): void {
  const at = value.capturedBy.indexOf(node);
  if (at >= 0) (value.capturedBy as Node[]).splice(at, 1);
}

/**
 * Takes one use off a value's list, the others staying in order. What is taken off is mostly among the first or the last (walks go
 * one way or the other), so both ends are looked at in turn: a value with 100,000 readers must not cost their square.
 */
export function removeUse(value: Value, node: Node, index: number): void {
  const { uses } = value;
  const isIt = (at: number): boolean => uses[at]?.node === node && uses[at].index === index;
  for (let low = 0, high = uses.length - 1; low <= high; low++, high--) {
    const at = isIt(high) ? high : isIt(low) ? low : -1;
    if (at < 0) continue;
    if (at === uses.length - 1) uses.pop();
    else uses.splice(at, 1);
    return;
  }
}

/** What most nodes have: one for all of them, for a graph may have a million. */
const NO_STAMPS: ReadonlyMap<string, string> = new Map();
const NOTHING: ReadonlySet<string> = new Set();
const NO_ATTRIBUTES: AttributeMap = new Map();

/** One operator call. */
export class Node {
  readonly opType: string;
  /** Normalised: `ai.onnx` is written as the empty string. */
  readonly domain: string;
  name: string;
  inputs: (Value | null)[] = [];
  outputs: (Value | null)[] = [];
  /** Nodes with the same attributes may share one map: `completeAttribute` and `setAttribute` make a new one. */
  attributes: AttributeMap;
  /** Subgraphs of If, Loop, Scan and the like. */
  subgraphs: readonly Graph[] = NO_GRAPHS;
  /** Values of the enclosing graph that the subgraphs read. */
  captures: readonly Value[] = NO_VALUES;
  /** metadata_props that a pass stamped (pass name, boundary); written after those the node was read with. */
  stamps: ReadonlyMap<string, string> = NO_STAMPS;
  /** Names of attributes a pass has changed since the node was read (`setAttribute`). */
  changedAttributes: ReadonlySet<string> = NOTHING;
  /** Opaque: what the writer needs to write the node as it was read; undefined for new nodes. */
  record: unknown = undefined;
  /** Opaque: what the evaluator keeps of op and attributes (src/analyse/shapes/memo.ts). */
  form: unknown = undefined;
  /** Opaque: the last walk that came by (src/ir/order.ts). */
  mark = 0;

  constructor(opType: string, domain: string, name: string, attributes: AttributeMap = NO_ATTRIBUTES) {
    this.opType = opType;
    this.domain = domain;
    this.name = name;
    this.attributes = attributes;
  }

  /** Everything the node reads: its inputs, and what its subgraphs read of the graph around them. */
  get reads(): readonly (Value | null)[] {
    return this.captures.length === 0 ? this.inputs : [...this.inputs, ...this.captures];
  }

  /** Whether the node or a subgraph of it reads one of `values`. Asked of every node by whatever follows values through the graph. */
  readsOneOf(values: ReadonlySet<Value>): boolean {
    const { inputs, captures } = this;
    for (let i = 0; i < inputs.length; i++) if (values.has(inputs[i] as Value)) return true;
    for (let i = 0; i < captures.length; i++) if (values.has(captures[i] as Value)) return true;
    return false;
  }

  /** Whether one of `values` is an output of the node. */
  makesOneOf(values: ReadonlySet<Value>): boolean {
    const { outputs } = this;
    for (let i = 0; i < outputs.length; i++) if (values.has(outputs[i] as Value)) return true;
    return false;
  }

  /** True when the node is `opType` of the standard domain (or of `domain` when given). */
  is(opType: string, domain = ''): boolean {
    return this.opType === opType && this.domain === domain;
  }

  /** Integer attribute as a JS number, or `fallback` when absent. */
  int(name: string, fallback: number): number {
    const a = this.attributes.get(name);
    return a?.kind === 'int' ? Number(a.value) : fallback;
  }

  /** Completes what was read of the node, which is no change. */
  completeAttribute(name: string, value: AttributeValue): void {
    this.attributes = new Map(this.attributes).set(name, value);
  }

  setAttribute(name: string, value: AttributeValue): void {
    this.completeAttribute(name, value);
    if (!this.changedAttributes.has(name)) this.changedAttributes = new Set([...this.changedAttributes, name]);
    this.form = undefined;
  }

  float(name: string, fallback: number): number {
    const a = this.attributes.get(name);
    return a?.kind === 'float' ? a.value : fallback;
  }

  string(name: string, fallback: string): string {
    const a = this.attributes.get(name);
    return a?.kind === 'string' ? a.value : fallback;
  }

  ints(name: string): number[] | undefined {
    const a = this.attributes.get(name);
    return a?.kind === 'ints' ? a.value.map(Number) : undefined;
  }
}

/** Adds what a node makes. */
export function addOutputs(node: Node, values: Set<Value>): void {
  const { outputs } = node;
  for (let i = 0; i < outputs.length; i++) if (outputs[i]) values.add(outputs[i] as Value);
}

/** A graph (the model's, or a subgraph), in topological order. */
export class Graph {
  name = '';
  readonly nodes: Node[] = [];
  readonly inputs: Value[] = [];
  readonly outputs: Value[] = [];
  /** Initializers in file order. */
  readonly initializers: Value[] = [];
  /** All values by name: names are unique within a scope (SSA). Used for reading, writing and reports only. */
  readonly values: Map<string, Value> = new Map();
  /** The node that holds this graph as an attribute, for subgraphs. */
  owner: Node | null = null;
  /** Opaque: untouched fields of the source. */
  record: unknown = undefined;
}

/** A whole model. */
export interface Model {
  readonly irVersion: number;
  /** Opset version per domain; the standard domain is ''. */
  readonly opsets: Map<string, number>;
  readonly graph: Graph;
  readonly metadata: Map<string, string>;
  readonly producer: string;
  /** Model-local functions by `domain:name`, opaque bodies. */
  readonly functions: readonly string[];
  /** Distinct external data locations, in order of first appearance. */
  readonly externalLocations: readonly string[];
  /** Opaque: untouched fields of the source. */
  readonly record: unknown;
}
