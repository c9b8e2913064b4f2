/** Hand-made graphs for evaluator and cost tests. */
import { evaluateShapes, type Fact, type InputBinding, type ShapeFacts } from '../../src/analyse/shapes/index.js';
import { type AttributeValue, DataType, Graph, Node, type Tensor, Value } from '../../src/ir/graph.js';

type Attributes = Readonly<Record<string, number | string | readonly number[] | { floats: readonly number[] } | { float: number } | Tensor | Graph>>;

export function int64(values: readonly number[], dims: readonly number[] = [values.length]): Tensor {
  const data = new Uint8Array(values.length * 8);
  const view = new DataView(data.buffer);
  values.forEach((v, i) => view.setBigInt64(i * 8, v >= 2 ** 63 ? 2n ** 63n - 1n : BigInt(v), true));
  return { dataType: DataType.INT64, dims, data, byteLength: data.length, external: undefined };
}

export function float32(values: readonly number[], dims: readonly number[] = [values.length]): Tensor {
  const data = new Uint8Array(new Float32Array(values).buffer);
  return { dataType: DataType.FLOAT, dims, data, byteLength: data.length, external: undefined };
}

/** A weight whose payload is not held. */
export function weight(dims: readonly number[], dataType: number = DataType.FLOAT): Tensor {
  return { dataType, dims, data: undefined, byteLength: dims.reduce((a, b) => a * b, 4), external: undefined };
}

function attribute(value: Attributes[string]): AttributeValue {
  if (typeof value === 'number') return { kind: 'int', value };
  if (typeof value === 'string') return { kind: 'string', value };
  if (Array.isArray(value)) return { kind: 'ints', value: value as readonly number[] };
  if (value instanceof Graph) return { kind: 'graph', value };
  if ('floats' in (value as object)) return { kind: 'floats', value: (value as { floats: readonly number[] }).floats };
  if ('float' in (value as object)) return { kind: 'float', value: (value as { float: number }).float };
  return { kind: 'tensor', value: value as Tensor };
}

export class Sketch {
  readonly graph = new Graph();
  readonly bindings = new Map<Value, InputBinding>();
  #next = 0;

  /** A graph input bound to `shape`; null leaves it unbound with unknown sizes. */
  input(shape: readonly number[] | null, dtype: number = DataType.FLOAT, data?: readonly number[], rank = 1): Value {
    const value = new Value(`in${this.#next++}`);
    value.isInput = true;
    value.type = { elemType: dtype, dims: shape === null ? new Array(rank).fill('n') : undefined };
    if (shape !== null) this.bindings.set(value, { shape, data });
    this.graph.inputs.push(value);
    return value;
  }

  constant(tensor: Tensor): Value {
    const value = new Value(`c${this.#next++}`);
    value.tensor = tensor;
    this.graph.initializers.push(value);
    return value;
  }

  ints(...values: number[]): Value {
    return this.constant(int64(values));
  }

  /** Adds a node; `op` is `Op` or `domain:Op`. Returns its outputs. */
  node(op: string, inputs: readonly (Value | null)[], attributes: Attributes = {}, outputs = 1): Value[] {
    const [domain, type] = op.includes(':') ? (op.split(':') as [string, string]) : ['', op];
    const node = new Node(type, domain, '', new Map(Object.entries(attributes).map(([k, v]) => [k, attribute(v)])));
    for (const a of Object.values(attributes)) if (a instanceof Graph) node.subgraphs = [...node.subgraphs, a];
    node.inputs.push(...inputs);
    for (let i = 0; i < outputs; i++) {
      const value = new Value(`v${this.#next++}`);
      value.producer = node;
      value.outputIndex = i;
      node.outputs.push(value);
    }
    this.graph.nodes.push(node);
    return node.outputs as Value[];
  }

  evaluate(dataLimit?: number): ShapeFacts {
    return evaluateShapes(this.graph, { inputs: this.bindings, dataLimit });
  }
}

/** Facts of the outputs of one op over inputs given as shapes, tensors or values. */
export function run(
  op: string,
  inputs: readonly (readonly number[] | Tensor | null)[],
  attributes: Attributes = {},
  outputs = 1,
): (Fact | undefined)[] & { conflicts: readonly { reason: string }[] } {
  const s = new Sketch();
  const values = inputs.map((i) => (i === null ? null : Array.isArray(i) ? s.input(i as number[]) : s.constant(i as Tensor)));
  const out = s.node(op, values, attributes, outputs);
  const facts = s.evaluate();
  return Object.assign(out.map((v) => facts.get(v)), { conflicts: facts.conflicts });
}
