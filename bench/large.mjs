/** How compiling grows with a graph: a small real decoder, padded with nodes and initializers that have nothing to do with it. */
import { readFileSync, writeFileSync } from 'node:fs';
import { DataType } from '../dist/src/ir/data-type.js';
import { concat, encodeBytesField, encodeHeader, encodeStringField, encodeVarintField, fieldsOf } from '../dist/src/onnx/wire.js';

const DECODER = new URL('../fixtures/llama-ts14-eager/model.onnx', import.meta.url);
const { FLOAT } = DataType;

/** What a graph can be padded with; each gives `count` things and has an output, so that nothing of it is dead. */
export const PADDINGS = {
  'initializers nobody reads': ({ initializer }, count) => {
    for (let i = 0; i < count; i++) initializer(`pad_${i}`);
  },
  'a chain that adds one initializer a node': ({ initializer, node, output }, count) => {
    let value = initializer('pad_root');
    for (let i = 0; i < count; i++) value = node('Add', [value, initializer(`pad_${i}`)], `pad_sum_${i}`);
    output(value);
  },
  'a chain of nodes': ({ initializer, node, output }, count) => {
    let value = initializer('pad_root');
    for (let i = 0; i < count; i++) value = node('Relu', [value], `pad_${i}`);
    output(value);
  },
  'nodes that read one value, each an output': ({ initializer, node, output }, count) => {
    const root = initializer('pad_root');
    for (let i = 0; i < count; i++) output(node('Relu', [root], `pad_${i}`));
  },
  'nodes that read one value, summed in one node': ({ initializer, node, output }, count) => {
    const root = initializer('pad_root');
    output(node('Sum', Array.from({ length: count }, (_, i) => node('Relu', [root], `pad_${i}`)), 'pad_sum'));
  },
};

/** Writes the decoder with `count` of a padding to `path`. */
export function writePadded(padding, count, path) {
  const model = readFileSync(DECODER);
  const fields = [...fieldsOf(model)];
  const graph = fields.find((f) => f.number === 7);
  const body = model.subarray(graph.dataStart, graph.end);
  const records = [...fieldsOf(body)].map((f) => ({ number: f.number, bytes: body.subarray(f.start, f.end) }));
  const nodes = [];
  const others = [];
  PADDINGS[padding](
    {
      initializer(name) {
        others.push(encodeBytesField(5, concat([encodeVarintField(1, 1), encodeVarintField(2, FLOAT), encodeStringField(8, name), encodeBytesField(9, new Uint8Array(4))])));
        return name;
      },
      node(op, inputs, name) {
        nodes.push(encodeBytesField(1, concat([...inputs.map((input) => encodeStringField(1, input)), encodeStringField(2, name), encodeStringField(3, `node_${name}`), encodeStringField(4, op)])));
        return name;
      },
      output(name) {
        const shape = encodeBytesField(1, encodeVarintField(1, 1));
        others.push(encodeBytesField(12, concat([encodeStringField(1, name), encodeBytesField(2, encodeBytesField(1, concat([encodeVarintField(1, FLOAT), encodeBytesField(2, shape)])))])));
      },
    },
    count,
  );
  const of = (isNode) => records.filter((r) => (r.number === 1) === isNode).map((r) => r.bytes);
  const padded = concat([...of(true), ...nodes, ...of(false), ...others]);
  writeFileSync(path, concat(fields.flatMap((f) => (f === graph ? [encodeHeader(7, padded.length), padded] : [model.subarray(f.start, f.end)]))));
}
