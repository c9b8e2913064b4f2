/** check --strict: another reader of ONNX says the same of every fixture, and a difference is found wherever it is. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { compareWithSecondReading } from '../../src/check/second-reading.js';
import { FileSource } from '../../src/disk/files.js';
import type { AttributeValue, Model, Node, Tensor, TensorType, Value } from '../../src/ir/graph.js';
import { MemorySource } from '../../src/onnx/bytes.js';
import { readModel } from '../../src/onnx/read.js';
import { concat, encodeBytesField } from '../../src/onnx/wire.js';
import { cli } from '../support/cli.js';
import { files, folder } from '../support/folder.js';
import { FIXTURES } from '../support/fixtures.js';
import { encodeModel, fixturePath, float32, graphOf, int64, modelOf, node, type TensorProto, valueInfo } from '../support/proto.js';
import { hugeModel } from '../support/sparse.js';
import { mapField, payloads } from '../support/wire.js';

const models = files(FIXTURES).filter((f) => f.endsWith('.onnx'));

async function compared(path: string): Promise<string[]> {
  const source = new FileSource(path);
  try {
    return await compareWithSecondReading(source, await readModel(source));
  } finally {
    source.close();
  }
}

/** One of everything the comparison looks at. */
function small(): Uint8Array {
  const half = { ...float32('typed', [1, 2]), rawData: undefined, floatData: [1, -0] } as unknown as TensorProto;
  const branch = (op: string): never => ({ name: op, node: [node(op, ['x'], ['inner'])], input: [], output: [valueInfo('inner', 1, [2])], initializer: [] }) as never;
  const model = modelOf({
    nodes: [
      node('Add', ['x', 'raw'], ['sum'], {}),
      node('If', ['yes'], ['chosen'], { then_branch: { graph: branch('Neg') }, else_branch: { graph: branch('Abs') } }),
      node('Odd', ['sum', '', 'typed', 'chosen', 'whole'], ['y'], { i: 7, s: 'text', is: [1, -(2 ** 40)], f: { float: Number.NaN }, t: { tensor: int64('', [3]) } }, 'com.microsoft'),
    ],
    inputs: [valueInfo('x', 1, ['n']), valueInfo('yes', 9, [])],
    outputs: [valueInfo('y', 1, ['n'])],
    initializers: [float32('raw', [0.5]), half, int64('whole', [1, 2])],
  });
  graphOf(model).valueInfo = [valueInfo('sum', 1, ['n'])];
  model.producerName = 'test';
  model.metadataProps = [{ key: 'k', value: 'v' }] as never;
  return encodeModel(model);
}

type Writable<T> = { -readonly [K in keyof T]: T[K] };

const nodeOf = (m: Model, op: string): Writable<Node> => m.graph.nodes.find((n) => n.opType === op) as Writable<Node>;
const tensorOf = (m: Model, name: string): Writable<Tensor> => m.graph.values.get(name)?.tensor as Writable<Tensor>;
const typeOf = (m: Model, name: string): TensorType => m.graph.values.get(name)?.type as TensorType;
const attribute = (m: Model, name: string, value: AttributeValue): unknown => nodeOf(m, 'Odd').setAttribute(name, value);

const MISREADINGS: readonly [string, (m: Writable<Model>) => unknown][] = [
  ['IR version', (m) => (m.irVersion = 7)],
  ['producer', (m) => (m.producer = 'other')],
  ['opset imports', (m) => m.opsets.set('', 13)],
  ['metadata', (m) => m.metadata.delete('k')],
  ['name of the graph', (m) => (m.graph.name = 'h')],
  ['number of nodes', (m) => m.graph.nodes.pop()],
  ['name of node', (m) => (nodeOf(m, 'Add').name = 'x')],
  ['op of node', (m) => (nodeOf(m, 'Odd').domain = '')],
  ['inputs of node', (m) => nodeOf(m, 'Odd').inputs.splice(1, 1)],
  ['outputs of node', (m) => (m.graph.nodes[0]?.outputs as (Value | null)[]).push(null)],
  ['number of attributes', (m) => nodeOf(m, 'Odd').attributes.delete('i')],
  ['attribute "i"', (m) => attribute(m, 'i', { kind: 'int', value: 8 })],
  ['attribute "i"', (m) => attribute(m, 'i', { kind: 'float', value: 7 })],
  ['attribute "s"', (m) => attribute(m, 's', { kind: 'string', value: 'Text' })],
  ['attribute "is"', (m) => attribute(m, 'is', { kind: 'ints', value: [1, 2 ** 40] })],
  ['attribute "f"', (m) => attribute(m, 'f', { kind: 'float', value: 0 })],
  ['payload of attribute "t"', (m) => attribute(m, 't', { kind: 'tensor', value: { ...(nodeOf(m, 'Odd').attributes.get('t')?.value as Tensor), data: new Uint8Array(8) } })],
  ['op of node "test/inner" of attribute "then_branch"', (m) => ((m.graph.nodes[1]?.subgraphs[0]?.nodes[0] as Writable<Node>).opType = 'Abs')],
  ['payload of initializer "raw"', (m) => (tensorOf(m, 'raw').data = new Uint8Array(4))],
  ['payload of initializer "typed"', (m) => (tensorOf(m, 'typed').data = new Uint8Array(8))],
  ['dimensions of initializer "whole"', (m) => (tensorOf(m, 'whole').dims = [2, 1])],
  ['type of initializer "whole"', (m) => (tensorOf(m, 'whole').dataType = 13)],
  ['external data of initializer "raw"', (m) => (tensorOf(m, 'raw').external = { location: 'w', offset: 0, length: 4 })],
  ['name of an input', (m) => m.graph.inputs.reverse()],
  ['type of input "x"', (m) => ((m.graph.values.get('x') as Value).type = { ...typeOf(m, 'x'), elemType: 10 })],
  ['type of value "sum"', (m) => ((m.graph.values.get('sum') as Value).type = { ...typeOf(m, 'sum'), dims: ['m'] })],
  ['type of output "y"', (m) => ((m.graph.values.get('y') as Value).type = undefined)],
  ['number of outputs', (m) => m.graph.outputs.pop()],
];

describe('a second reading', () => {
  it('says the same of every fixture', async () => {
    expect(models.length).toBeGreaterThan(40);
    const found = new Map<string, string[]>();
    for (const path of models) {
      const problems = await compared(join(FIXTURES, path));
      if (problems.length > 0) found.set(path, problems);
    }
    expect(Object.fromEntries(found)).toEqual({});
  });

  it('leaves large payloads where they are', async () => {
    const path = await hugeModel('genai-llama-embeds-fp32', 300 * 2 ** 20);
    const before = process.memoryUsage().arrayBuffers;
    expect(await compared(path)).toEqual([]);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(100 * 2 ** 20);
  });

  it.each(MISREADINGS)('finds another %s', async (what, misread) => {
    const source = new MemorySource(small());
    const model = await readModel(source);
    expect(await compareWithSecondReading(source, model)).toEqual([]);
    misread(model);
    expect((await compareWithSecondReading(source, model)).join('\n')).toContain(what);
  });

  it('is asked for by check --strict', async () => {
    const out = join(folder(), 'out.onnx');
    expect((await cli(fixturePath('llama-ts14-eager'), '-o', out, '--quiet')).code).toBe(0);
    const sound = await cli('check', out, '--strict');
    expect([sound.code, sound.out]).toEqual([0, expect.stringContaining('ok    a second reading, by onnx-proto, agrees')]);
    // An attribute that stands twice: which of the two counts, readers decide differently.
    let done = false;
    const twice = mapField(new Uint8Array(readFileSync(out)), 7, (g) =>
      mapField(g, 1, (n) => {
        const [first] = done ? [] : payloads(n, 5);
        if (!first) return n;
        done = true;
        return concat([n, encodeBytesField(5, first)]);
      }),
    );
    writeFileSync(out, twice);
    expect((await cli('check', out)).code).toBe(0);
    const bad = await cli('check', out, '--strict');
    expect([bad.code, bad.out]).toEqual([1, expect.stringContaining('number of attributes of node')]);
  });
});
