/** Facts of initializers are made for those that something reads, and once. */
import { expect, it } from 'vitest';
import { evaluateShapes } from '../../src/analyse/shapes/index.js';
import { DataType, Graph, Node, type Tensor, Value } from '../../src/ir/graph.js';

it('an evaluation touches the initializers that are read, not all there are, and decodes them once', () => {
  const graph = new Graph();
  let looked = 0;
  const initializer = (name: string): Value => {
    const value = new Value(name);
    const tensor: Tensor = { dataType: DataType.INT64, dims: [1], data: new Uint8Array([7, 0, 0, 0, 0, 0, 0, 0]), byteLength: 8, external: undefined };
    Object.defineProperty(value, 'tensor', {
      get: () => {
        looked++;
        return tensor;
      },
    });
    graph.initializers.push(value);
    graph.values.set(name, value);
    return value;
  };
  for (let i = 0; i < 1000; i++) initializer(`unread${i}`);
  const read = initializer('read');
  const node = new Node('Neg', '', 'negative');
  const out = new Value('out');
  node.inputs.push(read);
  node.outputs.push(out);
  out.producer = node;
  graph.nodes.push(node);
  const first = evaluateShapes(graph, { inputs: new Map() });
  expect(looked).toBeLessThan(10);
  expect(first.ints(out)).toEqual([-7]);
  expect(first.ints(graph.initializers[0] as Value)).toEqual([7]);
  const second = evaluateShapes(graph, { inputs: new Map() });
  expect(second.get(read)).toBe(first.get(read));
});
