/** What a branch gives out: subgraphs of nodes that moved there, with the types and shapes that their outputs declare. */
import { InternalError } from '../diagnostics.js';
import { DataType, type Dim, Graph, type Node, type Value } from '../ir/graph.js';
import type { Builder } from './builder.js';
import type { GraphEditor } from './editor.js';

/** A shape operand that says what is known of declared extents, undefined where nothing is. */
export type Declaring = (dims: readonly Dim[]) => Value | undefined;

/**
 * Shapes for a Reshape that leaves everything as it is and says numbers and the batch: undefined where there is nothing to say. The batch is
 * read once for all boundaries, outside of their branches.
 */
export function declaring(b: Builder, source: Value): Declaring {
  const batch = source.type?.dims?.[0];
  const made = new Map<string, Value>();
  return (dims) => {
    const known = dims.map((d) => (typeof d === 'number' ? d : d !== null && d === batch ? 'B' : 0));
    if (known.every((d) => d === 0)) return undefined;
    const rest = known.filter((d): d is number => d !== 'B');
    // A batch that is declared as a number is one of the numbers.
    if (rest.length === known.length) return b.ints(rest);
    const key = known.join(' ');
    let shape = made.get(key);
    if (!shape) {
      const size = made.get('B') ?? b.size('batch', source, 0);
      made.set('B', size);
      shape = b.concat('declared', known.map((d) => (d === 'B' ? size : b.ints([d]))), 0);
      made.set(key, shape);
    }
    return shape;
  };
}

export interface DeclaredType {
  readonly dtype: number;
  readonly rank: number | undefined;
  readonly dims: Dim[] | undefined;
}

interface BranchContents {
  readonly name: string;
  readonly nodes: readonly Node[];
  readonly wanted: readonly (Value | undefined)[];
  readonly types: readonly DeclaredType[];
}

/** A subgraph of `nodes` with these outputs; where an output is not there, anything of its type stands in. */
export function makeBranch(editor: GraphEditor, says: Declaring, { name, nodes, wanted, types }: BranchContents): Graph {
  const b = editor.builder;
  const sub = new Graph();
  sub.name = name;
  for (const n of nodes) sub.nodes.push(n);
  for (const n of nodes) {
    for (const o of n.outputs) {
      if (!o) continue;
      editor.graph.values.delete(o.name);
      sub.values.set(o.name, o);
    }
  }
  const taken = new Set<Value>();
  wanted.forEach((v, i) => {
    const type = types[i] as DeclaredType;
    let out = v;
    // Not a Constant node: optimizers downstream take out those that no node reads.
    if (!v) out = b.inside(sub, 'Identity', 'never_read', [b.tensor('never_read', placeholder(type))]);
    else if (sub.values.get(v.name) !== v || taken.has(v)) out = b.inside(sub, 'Identity', 'as_it_was', [v]);
    else if (type.dims && isOfFlagsChosen(sub, v)) out = sayShape(sub, v, says(type.dims), b);
    const made = out as Value;
    taken.add(made);
    made.type = { elemType: type.dtype, dims: type.dims };
    sub.outputs.push(made);
  });
  // ONNX Runtime's transformers optimizer does not know what a branch gives out: it fuses a sum into the norm that reads it, unless something else reads it too.
  for (const v of taken) if (v.producer?.is('Add') && v.uses.length > 0) b.inside(sub, 'Shape', 'read_twice', [v]);
  return sub;
}

function sayShape(sub: Graph, v: Value, shape: Value | undefined, b: Builder): Value {
  return shape ? b.inside(sub, 'Reshape', 'as_declared', [v, shape]) : v;
}

/**
 * Whether `v` is made of And over what an If of this branch gives: ONNX Runtime's symbolic inference then knows no extent of it, takes a
 * broadcast axis for as many as there are heads, and fails when that meets the number again; or the batch for none that it knows, and fails where a
 * tool puts a number in its place (the transformers optimizer does). Reshape says both.
 */
function isOfFlagsChosen(sub: Graph, v: Value): boolean {
  const above = [v];
  const seen = new Set<Value>(above);
  let [flags, chosen] = [false, false];
  for (let at = above.pop(); at && !(flags && chosen); at = above.pop()) {
    const node = at.producer;
    if (!node || sub.values.get(at.name) !== at) continue;
    chosen ||= node.subgraphs.length > 0 && at !== v;
    flags ||= node.is('And');
    for (const i of node.reads) {
      if (!i || seen.has(i)) continue;
      seen.add(i);
      above.push(i);
    }
  }
  return flags && chosen;
}

const BYTES: Readonly<Record<number, number>> = { [DataType.FLOAT]: 4, [DataType.INT32]: 4, [DataType.INT64]: 8, [DataType.BOOL]: 1, [DataType.FLOAT16]: 2, [DataType.BFLOAT16]: 2, [DataType.DOUBLE]: 8 };

function placeholder({ dtype: dataType, rank = 0 }: DeclaredType): { dataType: number; dims: number[]; data: Uint8Array; byteLength: number; external: undefined } {
  const byteLength = BYTES[dataType];
  if (byteLength === undefined) throw new InternalError(`no placeholder of data type ${dataType}`);
  return { dataType, dims: Array.from({ length: rank }, () => 1), data: new Uint8Array(byteLength), byteLength, external: undefined };
}
