/** Inputs that hold what a convolution or a recurrence has seen so far: of fixed size a row, and handed on renewed. */
import { isFloat } from '../ir/data-type.js';
import { extentOf, type Graph, type Node, type Value } from '../ir/graph.js';

/** How a state is renewed: what it held moves on, decays, and is added to. Products with weights are what features of a picture go through. */
const RENEWS = new Set(['Add', 'Cast', 'Concat', 'Expand', 'Gather', 'Identity', 'Mul', 'Pad', 'Reshape', 'ScatterElements', 'ScatterND', 'Slice', 'Squeeze', 'Transpose', 'Unsqueeze', 'Where']);

/** [batch, fixed …], and an output of the same type that depends on it. The TorchScript exporter leaves the sizes of such outputs open. */
export function isState(graph: Graph, value: Value): boolean {
  const sizes = (v: Value): (number | undefined)[] | undefined => {
    const dims = v.type?.dims;
    return dims && dims.length >= 3 && isFloat(v.type?.elemType) ? dims.slice(1).map(extentOf) : undefined;
  };
  const own = sizes(value);
  if (!own || own.includes(undefined)) return false;
  const told = new Set(graph.inputs.flatMap((i) => i.type?.dims ?? []));
  const alike = graph.outputs.filter((o) => {
    const theirs = sizes(o);
    return theirs?.length === own.length && theirs.every((d, i) => d === own[i] || (d === undefined && !told.has(o.type?.dims?.[i + 1] ?? null)));
  });
  const open = (o: Value): boolean => sizes(o)?.includes(undefined) === true;
  return reaches(value, new Set(alike.filter((o) => !open(o))), () => true) || reaches(value, new Set(alike.filter(open)), (n) => RENEWS.has(n.opType));
}

function reaches(value: Value, outputs: ReadonlySet<Value>, through: (node: Node) => boolean): boolean {
  if (outputs.size === 0) return false;
  const seen = new Set<Value>([value]);
  const queue = [value];
  for (let v = queue.pop(); v; v = queue.pop()) {
    if (outputs.has(v)) return true;
    for (const node of [...v.uses.map((u) => u.node), ...v.capturedBy]) {
      if (node.is('Shape') || node.is('Size') || !through(node)) continue;
      for (const o of node.outputs) {
        if (!o || seen.has(o)) continue;
        seen.add(o);
        queue.push(o);
      }
    }
  }
  return false;
}
