/**
 * A Reshape that ends both sides of a boundary alike runs behind its If instead, where it takes axes together or apart (it has an
 * axis that is what remains). It costs nothing there either.
 *
 *   in:   Select(Reshape(m', [-1, 1, 0]), Reshape(m, [-1, 1, 0]))
 *   out:  Reshape(Select(m', m), [-1, 1, 0])
 *
 * ONNX Runtime's symbolic shape inference divides the extents to know what remains. In a branch the tokens are a sum (of the cache and the
 * chunk), which it does not cancel: the sides then seem to differ in batch · heads, and it fails where such an extent meets a number.
 * What an If gives out has extents of one symbol each.
 */
import type { Node, Value } from '../ir/graph.js';
import { type Builder, SELECT } from './builder.js';
import type { GraphEditor } from './editor.js';

/** @param isContent of a node: depends on hidden states; such stay with what they are fused with. */
export function runReshapesBehind(editor: GraphEditor, b: Builder, isContent: (node: Node) => boolean): void {
  const gone = new Set<Node>();
  for (const select of editor.graph.nodes.filter((n) => n.is(SELECT.op, SELECT.domain))) {
    const [condition, dropping, whole] = [0, SELECT.dropping, SELECT.whole].map((i) => select.inputs[i] as Value) as [Value, Value, Value];
    const ends = [dropping.producer, whole.producer];
    if (!ends.every((n): n is Node => n?.is('Reshape') === true && n.stamps.has('pdrop.pass')) || ends[0] === ends[1]) continue;
    const [then, other] = ends as [Node, Node];
    const shape = then.inputs[1];
    if (!shape || shape !== other.inputs[1] || !hasRest(shape) || isContent(other) || [...dropping.uses, ...whole.uses].some((u) => u.node !== select)) continue;
    b.scope('branch', select.int('boundary', 0));
    const joined = b.select('before_reshape', select.int('boundary', 0), condition, then.inputs[0] as Value, other.inputs[0] as Value);
    editor.replaceUses(select.outputs[0] as Value, b.op('Reshape', 'reshaped', [joined, shape]));
    for (const n of [select, then, other]) gone.add(n);
  }
  if (gone.size === 0) return;
  editor.remove(gone);
  editor.sort();
}

/** Whether an int64 constant says −1 somewhere. */
function hasRest({ tensor }: Value): boolean {
  const bytes = tensor?.data;
  if (!(bytes instanceof Uint8Array)) return false;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at + 8 <= bytes.byteLength; at += 8) if (view.getBigInt64(at, true) === -1n) return true;
  return false;
}
