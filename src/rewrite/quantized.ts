/**
 * What runtimes fuse: a product with the DequantizeLinear nodes in front of it. ONNX Runtime does so only where the
 * unpacked weight, and for 4 bits the packed one as well, is read by that product alone.
 */
import { DataType, type Node, type Value } from '../ir/graph.js';

const LAYOUT = new Set(['Transpose', 'Reshape', 'Identity', 'Cast', 'Squeeze', 'Unsqueeze']);

function isConstant(v: Value | null): boolean {
  return v === null || (v.tensor !== undefined && !v.isInput) || v.producer?.is('Constant') === true;
}

/**
 * True for a DequantizeLinear of constants, and for what only lays its result out anew.
 *
 * @param passed values that are neither; a walk ends at one, and adds its own
 */
function isUnpackedWeight(value: Value, passed: Set<Value>): boolean {
  for (let v: Value | null = value; v && !passed.has(v); v = v.producer?.inputs[0] ?? null) {
    const node = v.producer;
    if (!node || node.captures.length > 0) break;
    if (node.opType === 'DequantizeLinear') return node.inputs.every(isConstant);
    passed.add(v);
    if (node.domain !== '' || !LAYOUT.has(node.opType) || !node.inputs.slice(1).every(isConstant)) break;
  }
  return false;
}

/** True when there are nodes that a copy would cost their fusion: they read a weight that is unpacked for them. */
export function unpackWeights(nodes: Iterable<Node>): boolean {
  const passed = new Set<Value>();
  for (const n of nodes) if (n.opType !== 'DequantizeLinear' && n.inputs.some((v) => v !== null && isUnpackedWeight(v, passed))) return true;
  return false;
}

/** What a Gather takes: ONNX has none of eight-bit floats, nor of anything smaller. */
const GATHERED: readonly number[] = [DataType.INT8, DataType.UINT8, DataType.INT16, DataType.UINT16, DataType.INT32];

/**
 * True for a node that stages have each for themselves, on rows of what it reads: a DequantizeLinear of hidden states by constants, and a
 * QuantizeLinear to a type that cannot be gathered.
 */
export function roundsByItself(node: Node | null, content: ReadonlySet<Value>, dtype: (v: Value) => number): boolean {
  if (node?.opType !== 'DequantizeLinear' && node?.opType !== 'QuantizeLinear') return false;
  const [x, ...constants] = node.inputs;
  if (!x || !content.has(x) || !constants.every(isConstant)) return false;
  return node.opType === 'DequantizeLinear' || !GATHERED.includes(dtype(node.outputs[0] as Value));
}
