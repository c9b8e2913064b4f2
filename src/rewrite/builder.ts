/**
 * Makes nodes and constants. Every node carries the name of the pass that made it, and its boundary, in its name and
 * in metadata_props. Ops are spelled for the model's own opset.
 */
import { Refusal } from '../diagnostics.js';
import { toHalf } from '../ir/half.js';
import { addCapture, addUse, type AttributeValue, DataType, Graph, type Model, Node, removeCapture, removeUse, type Tensor, Value } from '../ir/graph.js';

/** What the passes use for "one or the other" until it is known which nodes only one side needs. Never written. */
export const SELECT = { op: 'Select', domain: 'pdrop', dropping: 1, whole: 2 } as const;

export class Builder {
  readonly graph: Graph;
  readonly opset: number;
  readonly created: Node[] = [];
  readonly #constants = new Map<string, Value>();
  readonly #taken: Set<string>;
  readonly #counters = new Map<string, number>();
  #pass = 'pdrop';
  #boundary: number | undefined;
  #stamps: ReadonlyMap<string, string> = new Map([['pdrop.pass', this.#pass]]);

  constructor(model: Model) {
    this.graph = model.graph;
    this.opset = model.opsets.get('') ?? 0;
    this.#taken = new Set(this.graph.values.keys());
    for (const n of this.graph.nodes) if (n.name) this.#taken.add(n.name);
  }

  /** Names and stamps of what is made from now on. */
  scope(pass: string, boundary?: number): void {
    // Asked for node after node.
    if (pass === this.#pass && boundary === this.#boundary) return;
    this.#pass = pass;
    this.#boundary = boundary;
    this.#stamps = new Map([['pdrop.pass', pass], ...(boundary === undefined ? [] : [['pdrop.boundary', String(boundary)] as const])]);
  }

  unique(base: string): string {
    let name = base;
    for (let i = this.#counters.get(base) ?? 1; this.#taken.has(name); i++) {
      name = `${base}_${i}`;
      this.#counters.set(base, i + 1);
    }
    this.#taken.add(name);
    return name;
  }

  #prefix(): string {
    return this.#boundary === undefined ? `pdrop/${this.#pass}` : `pdrop/b${this.#boundary}/${this.#pass}`;
  }

  newValue(name: string): Value {
    const value = new Value(this.unique(name));
    this.graph.values.set(value.name, value);
    return value;
  }

  /** Adds a node of standard ONNX with `outputs` outputs and returns them. */
  multi(opType: string, label: string, inputs: readonly (Value | null)[], outputs: number, attributes: Record<string, AttributeValue> = {}): Value[] {
    return this.#add({ opType, domain: '', label, attributes }, inputs, outputs);
  }

  #add({ opType, domain, label, attributes }: { opType: string; domain: string; label: string; attributes: Record<string, AttributeValue> }, inputs: readonly (Value | null)[], outputs: number): Value[] {
    const node = new Node(opType, domain, this.unique(`${this.#prefix()}/${label}`), new Map(Object.entries(attributes)));
    node.stamps = this.#stamps;
    this.attach(node, inputs);
    const made: Value[] = [];
    for (let i = 0; i < outputs; i++) {
      const value = this.newValue(`${node.name}:${i}`);
      value.producer = node;
      value.outputIndex = i;
      node.outputs.push(value);
      made.push(value);
    }
    this.created.push(node);
    return made;
  }

  op(opType: string, label: string, inputs: readonly (Value | null)[], attributes: Record<string, AttributeValue> = {}, domain = ''): Value {
    return this.#add({ opType, domain, label, attributes }, inputs, 1)[0] as Value;
  }

  attach(node: Node, inputs: readonly (Value | null)[]): void {
    for (const input of inputs) {
      if (input) addUse(input, node, node.inputs.length);
      node.inputs.push(input);
    }
  }

  /** A copy of `node` that reads `inputs`; unchanged attributes and unknown fields come with it. */
  clone(node: Node, inputs: readonly (Value | null)[]): Node {
    const copy = new Node(node.opType, node.domain, this.unique(`${this.#prefix()}/${node.name || node.opType}`), node.attributes);
    copy.record = node.record;
    copy.changedAttributes = node.changedAttributes;
    copy.subgraphs = node.subgraphs;
    copy.stamps = this.#stamps;
    this.attach(copy, inputs);
    node.outputs.forEach((o, i) => {
      if (!o) {
        copy.outputs.push(null);
        return;
      }
      const value = this.newValue(`${this.#prefix()}/${o.name}`);
      value.producer = copy;
      value.outputIndex = i;
      copy.outputs.push(value);
    });
    this.created.push(copy);
    return copy;
  }

  /** An empty subgraph. */
  subgraph(name: string): Graph {
    const sub = new Graph();
    sub.name = name;
    return sub;
  }

  /** A control-flow node over subgraphs, which computes `outputs`; what the subgraphs read of this graph is recorded. */
  control(opType: string, label: string, input: Value, branches: Readonly<Record<string, Graph>>, outputs: readonly Value[]): Node {
    const node = new Node(opType, '', this.unique(`${this.#prefix()}/${label}`), new Map(Object.entries(branches).map(([k, value]): [string, AttributeValue] => [k, { kind: 'graph', value }])));
    node.stamps = this.#stamps;
    this.attach(node, [input]);
    outputs.forEach((v, i) => {
      v.producer = node;
      v.outputIndex = i;
      this.graph.values.set(v.name, v);
      node.outputs.push(v);
    });
    const captured = new Set<Value>();
    for (const sub of Object.values(branches)) {
      sub.owner = node;
      for (const n of sub.nodes) {
        for (const v of n.captures) {
          if (sub.values.get(v.name) === v) continue;
          captured.add(v);
          removeCapture(v, n);
        }
        n.inputs.forEach((v, index) => {
          if (!v || sub.values.get(v.name) === v) return;
          captured.add(v);
          removeUse(v, n, index);
        });
      }
    }
    node.subgraphs = Object.values(branches);
    node.captures = [...captured];
    for (const v of captured) addCapture(v, node);
    this.created.push(node);
    return node;
  }

  /** Adds a node of one output to the end of a subgraph. */
  inside(sub: Graph, opType: string, label: string, inputs: readonly Value[], attributes: Record<string, AttributeValue> = {}): Value {
    const before = this.created.length;
    const value = this.op(opType, label, inputs, attributes);
    this.created.length = before;
    this.graph.values.delete(value.name);
    sub.values.set(value.name, value);
    sub.nodes.push(value.producer as Node);
    return value;
  }

  #constant(key: string, label: string, make: () => Tensor): Value {
    let value = this.#constants.get(key);
    if (!value) {
      value = this.newValue(`pdrop/const/${label}`);
      value.tensor = make();
      this.graph.initializers.push(value);
      this.#constants.set(key, value);
    } else if (!this.graph.values.has(value.name)) {
      // A pass took it out when nothing read it.
      this.graph.values.set(value.name, value);
      this.graph.initializers.push(value);
    }
    return value;
  }

  /** Constant of any numeric type; equal constants are shared. `dims` defaults to a vector. */
  constant(dataType: number, values: readonly number[], dims: readonly number[] = [values.length]): Value {
    const name = `${DTYPE_NAMES[dataType] ?? dataType}/${dims.length === 0 ? 'scalar/' : ''}${values.join('_').slice(0, 40)}`;
    return this.#constant(`${dataType}|${dims.join(',')}|${values.join(',')}`, name, () => {
      const data = encodeElements(dataType, values);
      return { dataType, dims, data, byteLength: data.length, external: undefined };
    });
  }

  /** Constant of given bytes; those of one type, size and label are shared. */
  tensor(label: string, tensor: Tensor): Value {
    const kind = `${DTYPE_NAMES[tensor.dataType] ?? tensor.dataType}/${tensor.dims.join('x')}`;
    return this.#constant(`${label}|${kind}`, `${label}/${kind}`, () => tensor);
  }

  ints(values: readonly number[]): Value {
    return this.constant(DataType.INT64, values);
  }

  int(value: number): Value {
    return this.constant(DataType.INT64, [value], []);
  }

  float(value: number): Value {
    return this.constant(DataType.FLOAT, [value], []);
  }

  cast(label: string, value: Value, to: number): Value {
    return this.op('Cast', label, [value], { to: { kind: 'int', value: to } });
  }

  unsqueeze(label: string, value: Value, axes: readonly number[]): Value {
    if (this.opset >= 13) return this.op('Unsqueeze', label, [value, this.ints(axes)]);
    return this.op('Unsqueeze', label, [value], { axes: { kind: 'ints', value: axes } });
  }

  /** Reductions took `axes` as an attribute until opset 13 (ReduceSum) or 18 (the others). */
  reduce(op: 'ReduceSum' | 'ReduceMin' | 'ReduceMax' | 'ReduceMean', label: string, value: Value, axes: readonly number[], keepdims: boolean): Value {
    const keep = { keepdims: { kind: 'int', value: keepdims ? 1 : 0 } } as const;
    if (this.opset >= (op === 'ReduceSum' ? 13 : 18)) return this.op(op, label, [value, this.ints(axes)], keep);
    return this.op(op, label, [value], { axes: { kind: 'ints', value: axes }, ...keep });
  }

  slice(label: string, value: Value, starts: Value, ends: Value, axis: number): Value {
    return this.op('Slice', label, [value, starts, ends, this.ints([axis])]);
  }

  concat(label: string, values: readonly Value[], axis: number): Value {
    if (values.length === 1) return values[0] as Value;
    return this.op('Concat', label, values, { axis: { kind: 'int', value: axis } });
  }

  gather(label: string, data: Value, indices: Value, axis: number): Value {
    return this.op('Gather', label, [data, indices], { axis: { kind: 'int', value: axis } });
  }

  gatherElements(label: string, data: Value, indices: Value, axis: number): Value {
    return this.op('GatherElements', label, [data, indices], { axis: { kind: 'int', value: axis } });
  }

  /** int64 [1]: size of one axis. */
  size(label: string, value: Value, axis: number): Value {
    if (this.opset >= 15) return this.op('Shape', label, [value], { start: { kind: 'int', value: axis }, end: { kind: 'int', value: axis + 1 } });
    return this.gather(label, this.op('Shape', `${label}_shape`, [value]), this.ints([axis]), 0);
  }

  /** A vector of one element as a scalar. */
  scalar(label: string, value: Value): Value {
    return this.op('Squeeze', label, this.opset >= 13 ? [value, this.ints([0])] : [value]);
  }

  /** `dropping` where the condition holds, else `whole`: a placeholder that the pass `branch` turns into an output of the boundary's If. */
  select(label: string, boundary: number, condition: Value, dropping: Value, whole: Value): Value {
    return this.op(SELECT.op, label, [condition, dropping, whole], { boundary: { kind: 'int', value: boundary } }, SELECT.domain);
  }

  reshape(label: string, value: Value, dims: readonly number[]): Value {
    return this.op('Reshape', label, [value, this.ints(dims)]);
  }

  transpose(label: string, value: Value, perm: readonly number[]): Value {
    return this.op('Transpose', label, [value], { perm: { kind: 'ints', value: perm } });
  }
}

const DTYPE_NAMES: Record<number, string> = {
  [DataType.FLOAT]: 'f32', [DataType.INT32]: 'i32', [DataType.INT64]: 'i64', [DataType.BOOL]: 'bool', [DataType.FLOAT16]: 'f16', [DataType.DOUBLE]: 'f64',
};

export function encodeElements(dataType: number, values: readonly number[]): Uint8Array {
  if ((dataType === DataType.INT64 || dataType === DataType.INT32) && !values.every(Number.isInteger)) {
    throw new Refusal({
      code: 'PD102',
      message: `the graph's sizes do not go together: one that is needed comes out as ${values.find((v) => !Number.isInteger(v))}`,
      hint: 'the graph is not valid ONNX; export it again or run onnx.checker on it with full_check',
    });
  }
  switch (dataType) {
    case DataType.FLOAT:
      return new Uint8Array(Float32Array.from(values).buffer);
    case DataType.DOUBLE:
      return new Uint8Array(Float64Array.from(values).buffer);
    case DataType.INT64:
      return new Uint8Array(BigInt64Array.from(values.map((v) => BigInt(v))).buffer);
    case DataType.INT32:
      return new Uint8Array(Int32Array.from(values).buffer);
    case DataType.BOOL:
      return Uint8Array.from(values.map((v) => (v ? 1 : 0)));
    case DataType.FLOAT16:
      return new Uint8Array(Uint16Array.from(values.map(toHalf)).buffer);
    default:
      throw new RangeError(`no constants of data type ${dataType}`);
  }
}
