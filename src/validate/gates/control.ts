/**
 * The control for bounds: the original with a Gather of all tokens before each boundary's layer. It computes the same,
 * but other kernels and other memory layouts move half-precision results; no rewrite can be asked to be nearer than that.
 */
import { FileSink, FileSource } from '../../disk/files.js';
import { analyseDecoder } from '../../analyse/decoder.js';
import { DataType, type Graph, Node, type Value } from '../../ir/graph.js';
import { Value as GraphValue } from '../../ir/graph.js';
import { readModel } from '../../onnx/read.js';
import { layoutModel, writePieces } from '../../onnx/write.js';

/** Writes the control beside the original; the caller removes it. Returns how many Gathers it has. */
export async function writeControl(original: string, layers: readonly number[], target: string): Promise<number> {
  const source = new FileSource(original);
  try {
    const model = await readModel(source);
    const facts = analyseDecoder(model);
    let made = 0;
    for (const layer of layers) {
      for (const value of facts.layers[layer]?.cut.values ?? []) {
        insertGather(model.graph, value, `pdrop_control_${made++}`);
      }
    }
    const { pieces } = layoutModel(model, { metadata: new Map() });
    const sink = new FileSink(target);
    try {
      await writePieces(model, pieces, sink);
    } finally {
      sink.close();
    }
    return made;
  } finally {
    source.close();
  }
}

/** value → Gather(value, Range(0, length), axis 1), for everything that reads it. */
function insertGather(graph: Graph, value: Value, prefix: string): void {
  const readers = [...value.uses];
  const place = value.producer ? graph.nodes.indexOf(value.producer) + 1 : 0;
  const constant = (name: string, numbers: number[], dims: number[]): Value => {
    const v = new GraphValue(`${prefix}/${name}`);
    const data = new Uint8Array(BigInt64Array.from(numbers.map(BigInt)).buffer);
    v.tensor = { dataType: DataType.INT64, dims, data, byteLength: data.length, external: undefined };
    graph.values.set(v.name, v);
    graph.initializers.push(v);
    return v;
  };
  const nodes: Node[] = [];
  const add = (op: string, inputs: readonly Value[], attributes: Record<string, number> = {}): Value => {
    const node = new Node(op, '', `${prefix}/${op}${nodes.length}`, new Map(Object.entries(attributes).map(([k, v]) => [k, { kind: 'int' as const, value: v }])));
    const out = new GraphValue(`${node.name}:0`);
    out.producer = node;
    node.outputs.push(out);
    inputs.forEach((v, index) => {
      node.inputs.push(v);
      v.uses.push({ node, index });
    });
    graph.values.set(out.name, out);
    nodes.push(node);
    return out;
  };
  const shape = add('Shape', [value]);
  const length = add('Gather', [shape, constant('one', [1], [])], { axis: 0 });
  const indices = add('Range', [constant('zero', [0], []), length, constant('step', [1], [])]);
  const same = add('Gather', [value, indices], { axis: 1 });
  for (const use of readers) {
    use.node.inputs[use.index] = same;
    same.uses.push(use);
  }
  graph.nodes.splice(place, 0, ...nodes);
}
