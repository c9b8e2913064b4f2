/**
 * What runtimes fuse: a product with the DequantizeLinear nodes in front of it. ONNX Runtime does so only where the
 * unpacked weight, and for 4 bits the packed one as well, is read by that product alone.
 */
import type { Node, Value } from '../ir/graph.js';

const LAYOUT = new Set(['Transpose', 'Reshape', 'Identity', 'Cast', 'Squeeze', 'Unsqueeze']);

function isConstant(v: Value | null): boolean {
  return v === null || (v.tensor !== undefined && !v.isInput) || v.producer?.is('Constant') === true;
}

/** True for a DequantizeLinear of constants, and for what only lays its result out anew. */
function isUnpackedWeight(value: Value): boolean {
  const node = value.producer;
  if (!node || node.captures.length > 0) return false;
  if (node.opType === 'DequantizeLinear') return node.inputs.every(isConstant);
  const [data, ...others] = node.inputs;
  return node.domain === '' && LAYOUT.has(node.opType) && !!data && isUnpackedWeight(data) && others.every(isConstant);
}

/** A node that a copy would cost its fusion: it reads a weight that is unpacked for it. */
export function unpacksWeight(node: Node): boolean {
  return node.opType !== 'DequantizeLinear' && node.inputs.some((v) => v !== null && isUnpackedWeight(v));
}

/** A DequantizeLinear of hidden states by constants. */
export function dequantizes(node: Node | null, content: ReadonlySet<Value>): boolean {
  if (node?.opType !== 'DequantizeLinear') return false;
  const [x, ...constants] = node.inputs;
  return !!x && content.has(x) && constants.every(isConstant);
}
