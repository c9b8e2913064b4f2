/**
 * Editing fixtures as protobuf messages, through onnx-proto: independent of the compiler's own reader and writer.
 * It drops fields newer than ONNX 1.10; tests about bytes work on the wire instead (wire.ts).
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import onnxProto from 'onnx-proto';

const { onnx } = onnxProto;

export type ModelProto = InstanceType<typeof onnx.ModelProto>;
export type GraphProto = InstanceType<typeof onnx.GraphProto>;
export type NodeProto = InstanceType<typeof onnx.NodeProto>;
export type TensorProto = InstanceType<typeof onnx.TensorProto>;
export type ValueInfoProto = InstanceType<typeof onnx.ValueInfoProto>;

export const { FLOAT, INT32, INT64, BOOL } = onnx.TensorProto.DataType;

export function fixturePath(name: string, file = 'model.onnx'): string {
  return fileURLToPath(new URL(`../../fixtures/${name}/${file}`, import.meta.url));
}

export function decodeModel(bytes: Uint8Array): ModelProto {
  return onnx.ModelProto.decode(bytes) as ModelProto;
}

export function encodeModel(model: ModelProto): Uint8Array {
  return onnx.ModelProto.encode(model).finish();
}

export function loadModel(fixture: string): ModelProto {
  return decodeModel(readFileSync(fixturePath(fixture)));
}

export function graphOf(model: ModelProto): GraphProto {
  return model.graph as GraphProto;
}

type Attribute = number | string | readonly number[] | { float: number } | { graph: GraphProto } | { tensor: TensorProto };

function attribute(name: string, value: Attribute): object {
  const T = onnx.AttributeProto.AttributeType;
  if (typeof value === 'number') return { name, type: T.INT, i: value };
  if (typeof value === 'string') return { name, type: T.STRING, s: new TextEncoder().encode(value) };
  if (Array.isArray(value)) return { name, type: T.INTS, ints: value };
  if ('float' in value) return { name, type: T.FLOAT, f: value.float };
  if ('graph' in value) return { name, type: T.GRAPH, g: value.graph };
  return { name, type: T.TENSOR, t: (value as { tensor: TensorProto }).tensor };
}

export function node(opType: string, input: readonly string[], output: readonly string[], attributes: Record<string, Attribute> = {}, domain = ''): NodeProto {
  return onnx.NodeProto.create({
    name: `test/${output[0]}`,
    opType,
    domain,
    input: [...input],
    output: [...output],
    attribute: Object.entries(attributes).map(([k, v]) => attribute(k, v)),
  }) as NodeProto;
}

function tensor(name: string, dataType: number, data: ArrayBufferLike, dims: readonly number[]): TensorProto {
  return onnx.TensorProto.create({ name, dataType, dims: [...dims], rawData: new Uint8Array(data) }) as TensorProto;
}

export function int64(name: string, values: readonly number[], dims: readonly number[] = [values.length]): TensorProto {
  return tensor(name, INT64, BigInt64Array.from(values.map(BigInt)).buffer, dims);
}

export function float32(name: string, values: readonly number[], dims: readonly number[] = [values.length]): TensorProto {
  return tensor(name, FLOAT, Float32Array.from(values).buffer, dims);
}

/** A float weight of small equal numbers. */
export function weight(name: string, dims: readonly number[], value = 0.01): TensorProto {
  return float32(name, new Array<number>(dims.reduce((a, b) => a * b, 1)).fill(value), dims);
}

export function valueInfo(name: string, elemType: number, dims: readonly (number | string)[]): ValueInfoProto {
  return onnx.ValueInfoProto.create({
    name,
    type: { tensorType: { elemType, shape: { dim: dims.map((d) => (typeof d === 'number' ? { dimValue: d } : { dimParam: d })) } } },
  }) as ValueInfoProto;
}

export function modelOf(parts: { nodes: NodeProto[]; inputs: ValueInfoProto[]; outputs: ValueInfoProto[]; initializers?: TensorProto[]; opset?: number }): ModelProto {
  return onnx.ModelProto.create({
    irVersion: 8,
    opsetImport: [{ domain: '', version: parts.opset ?? 17 }, { domain: 'com.microsoft', version: 1 }],
    graph: { name: 'g', node: parts.nodes, input: parts.inputs, output: parts.outputs, initializer: parts.initializers ?? [] },
  }) as ModelProto;
}

/** Puts what `make` returns between `value` and everything that read it. `made` is the last output's name. */
export function insertAfter(graph: GraphProto, value: string, nodes: readonly NodeProto[], made: string): void {
  const own = new Set(nodes);
  for (const n of graph.node ?? []) n.input = (n.input ?? []).map((i) => (i === value ? made : i));
  const at = (graph.node ?? []).findIndex((n) => n.output?.includes(value));
  graph.node?.splice(at + 1, 0, ...own);
}

/** The graph and all graphs within its nodes. */
export function everyGraph(graph: GraphProto): GraphProto[] {
  const inner = (graph.node ?? []).flatMap((n) => (n.attribute ?? []).flatMap((a) => (a.g ? [a.g as GraphProto] : [])));
  return [graph, ...inner.flatMap(everyGraph)];
}

/** Its nodes and those of all graphs within, for editing in place. */
export function everyNode(graph: GraphProto): NodeProto[] {
  return everyGraph(graph).flatMap((g) => (g.node ?? []) as NodeProto[]);
}
