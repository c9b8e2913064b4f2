/** Models as messages, through onnx-proto: independent of the compiler's own reader and writer. */
import onnxProto from 'onnx-proto';

export const { onnx } = onnxProto;

const { DataType } = onnx.TensorProto;

/** TensorProto.DataType by the names onnxruntime-node uses. */
export const DATA_TYPES = { float32: DataType.FLOAT, uint8: DataType.UINT8, int8: DataType.INT8, int32: DataType.INT32, int64: DataType.INT64, bool: DataType.BOOL, float16: DataType.FLOAT16, float64: DataType.DOUBLE };

/** The name of a number; undefined for types nobody needs here. */
export function nameOfType(dataType) {
  return Object.keys(DATA_TYPES).find((name) => DATA_TYPES[name] === dataType);
}

export function decode(bytes) {
  return onnx.ModelProto.decode(bytes);
}

export function encode(model) {
  return onnx.ModelProto.encode(model).finish();
}

export function copy(model) {
  return decode(encode(model));
}

function attribute(name, value) {
  const T = onnx.AttributeProto.AttributeType;
  if (typeof value === 'number') return { name, type: T.INT, i: value };
  if (typeof value === 'string') return { name, type: T.STRING, s: new TextEncoder().encode(value) };
  if (Array.isArray(value)) return { name, type: T.INTS, ints: value };
  if ('float' in value) return { name, type: T.FLOAT, f: value.float };
  if ('graph' in value) return { name, type: T.GRAPH, g: value.graph };
  return { name, type: T.TENSOR, t: value.tensor };
}

/** `attributes`: number (int), string, array (ints), `{ float }`, `{ graph }` or `{ tensor }`. */
export function makeNode(opType, input, output, attributes = {}, domain = '') {
  return onnx.NodeProto.create({ name: '', opType, domain, input: [...input], output: [...output], attribute: Object.entries(attributes).map(([k, v]) => attribute(k, v)) });
}

export function setAttribute(node, name, value) {
  node.attribute = node.attribute.filter((a) => a.name !== name);
  if (value !== undefined) node.attribute.push(onnx.AttributeProto.create(attribute(name, value)));
}

/** An int, or the ints, of a node's attribute. */
export function intOf(node, name, otherwise) {
  const a = node.attribute.find((x) => x.name === name);
  return a ? Number(a.i) : otherwise;
}

export function intsOf(node, name) {
  return node.attribute.find((x) => x.name === name)?.ints.map(Number);
}

export function is(node, ...ops) {
  return (node.domain === '' || node.domain === 'ai.onnx') && ops.includes(node.opType);
}

function halfBits(x) {
  const [bits] = new Uint32Array(Float32Array.of(x).buffer);
  if (x === 0) return bits >>> 16;
  const exponent = ((bits >>> 23) & 255) - 112;
  if (exponent <= 0 || exponent >= 31) throw new RangeError(`${x} is no plain half`);
  return ((bits >>> 16) & 0x8000) | (exponent << 10) | ((bits >>> 13) & 1023);
}

const ARRAYS = {
  float32: (v) => Float32Array.from(v),
  float64: (v) => Float64Array.from(v),
  float16: (v) => Uint16Array.from(v, halfBits),
  int64: (v) => BigInt64Array.from(v, BigInt),
  int32: (v) => Int32Array.from(v),
  uint8: (v) => Uint8Array.from(v),
  int8: (v) => Int8Array.from(v),
  bool: (v) => Uint8Array.from(v, Number),
};

export function tensor(name, type, values, dims) {
  const data = ARRAYS[type](values);
  return rawTensor(name, DATA_TYPES[type], new Uint8Array(data.buffer), dims);
}

export function rawTensor(name, dataType, rawData, dims) {
  return onnx.TensorProto.create({ name, dataType, dims: [...dims], rawData });
}

/** Values of a small tensor as numbers; undefined for types nobody needs here. */
export function numbers(t) {
  if (t.rawData?.length > 0) {
    const bytes = Uint8Array.from(t.rawData);
    if (t.dataType === DataType.FLOAT) return Array.from(new Float32Array(bytes.buffer));
    if (t.dataType === DataType.INT64) return Array.from(new BigInt64Array(bytes.buffer), Number);
    if (t.dataType === DataType.INT32) return Array.from(new Int32Array(bytes.buffer));
    return undefined;
  }
  if (t.dataType === DataType.FLOAT && t.floatData?.length > 0) return [...t.floatData];
  if (t.dataType === DataType.INT64 && t.int64Data?.length > 0) return t.int64Data.map(Number);
  if (t.dataType === DataType.INT32 && t.int32Data?.length > 0) return [...t.int32Data];
  return undefined;
}

/** Names a node reads, those its subgraphs capture among them. */
export function readsOf(node) {
  const inner = node.attribute.flatMap((a) => (a.g ? [...a.g.node.flatMap(readsOf), ...a.g.output.map((o) => o.name)] : []));
  return [...node.input, ...inner].filter((i) => i !== '');
}

export function valueInfo(name, elemType, dims) {
  const shape = dims && { dim: dims.map((d) => (typeof d === 'number' ? { dimValue: d } : d === undefined ? {} : { dimParam: d })) };
  return onnx.ValueInfoProto.create({ name, type: elemType ? { tensorType: { elemType, ...(shape ? { shape } : {}) } } : undefined });
}
