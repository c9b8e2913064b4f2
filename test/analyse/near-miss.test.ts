/** `inspect` on what is refused: what came nearest to a layer, which node stopped it, what would help; as data by a schema. */
import { readFileSync } from 'node:fs';
import { Ajv } from 'ajv';
import { beforeAll, describe, expect, it } from 'vitest';
import { whatItIs } from '../../src/analyse/what-it-is.js';
import { MemorySource } from '../../src/onnx/bytes.js';
import { readModel } from '../../src/onnx/read.js';
import { cli, cliJson } from '../support/cli.js';
import { factsOf } from '../support/decoder.js';
import { modelFile } from '../support/folder.js';
import { encodeModel, fixturePath, graphOf, int64, loadModel, node } from '../support/proto.js';

const FIXTURE = 'llama-ts14-slim';
const schema = JSON.parse(readFileSync(new URL('../../schemas/inspect.schema.json', import.meta.url), 'utf8')) as object;
const valid = new Ajv({ strict: false }).compile(schema);

async function inspected(path: string): Promise<{ refusal: { code: string } | null; nearMisses: { node: string; looksLike: string; stoppedAt: string | null; reason: string; help: string; alike: number }[] }> {
  const { json } = await cliJson('inspect', path);
  expect(valid(json), JSON.stringify(valid.errors)).toBe(true);
  return json as never;
}

let softmax = '';
beforeAll(async () => {
  softmax = (await factsOf(fixturePath(FIXTURE))).layers[1]?.core.anchor.outputs[0]?.name as string;
});

/** The fixture with layer 1's softmax replaced. */
function withSoftmax(make: (x: string, y: string) => ReturnType<typeof node>[]): string {
  const model = loadModel(FIXTURE);
  const graph = graphOf(model);
  const nodes = graph.node ?? [];
  const at = nodes.findIndex((n) => n.output?.[0] === softmax);
  nodes.splice(at, 1, ...make(nodes[at]?.input?.[0] as string, softmax));
  graph.initializer?.push(int64('test/last', [-1]));
  return modelFile(encodeModel(model));
}

describe('the nearest miss', () => {
  it('a softmax whose logits go through an op that is not looked through: names that op', async () => {
    const path = withSoftmax((x, y) => [node('Elu', [x], ['test/elu']), node('Softmax', ['test/elu'], [y], { axis: -1 })]);
    const { refusal, nearMisses } = await inspected(path);
    expect(refusal?.code).toBe('PD319');
    expect(nearMisses).toHaveLength(1);
    expect(nearMisses[0]).toMatchObject({ looksLike: 'attention in a spelling that is not understood', stoppedAt: expect.stringContaining('Elu'), node: expect.stringContaining('Softmax') });
    expect((await cli('inspect', path)).out).toContain('nearest miss: Softmax');
  });

  it('a softmax whose logits get a bias made of the tokens themselves: says so', async () => {
    const residual = (await factsOf(fixturePath(FIXTURE))).layers[1]?.residual?.name as string;
    const path = withSoftmax((x, y) => [node('ReduceMax', [residual], ['test/most'], { keepdims: 0 }), node('Add', [x, 'test/most'], ['test/biased']), node('Softmax', ['test/biased'], [y], { axis: -1 })]);
    const { nearMisses } = await inspected(path);
    expect(nearMisses[0]?.reason).toContain('a bias that is made of the tokens themselves');
    expect(nearMisses[0]?.stoppedAt).toContain('Add');
  });

  it('a softmax that is spelled out: names the product that no layer accounts for', async () => {
    const { nearMisses } = await inspected(withSoftmax((x, y) => [node('Exp', [x], ['test/exp']), node('ReduceSum', ['test/exp', 'test/last'], ['test/total']), node('Div', ['test/exp', 'test/total'], [y])]));
    expect(nearMisses[0]?.node).toContain('MatMul');
  });

  it('cross-attention, once for all layers alike', async () => {
    const { refusal, nearMisses } = await inspected(fixturePath('refused/mllama-ts17'));
    expect(refusal?.code).toBe('PD318');
    expect(nearMisses[0]).toMatchObject({ looksLike: 'cross-attention', alike: 1 });
    expect(nearMisses[0]?.help).toContain('docs/cross-attention.md');
  });

  it('nothing where the graph would be compiled', async () => {
    expect(await inspected(fixturePath(FIXTURE))).toMatchObject({ refusal: null, nearMisses: [] });
  });
});

describe('a decoder that is not understood', () => {
  it('is not called a vision encoder for its caches', async () => {
    const { graph } = await readModel(new MemorySource(new Uint8Array(readFileSync(fixturePath(FIXTURE)))));
    expect(whatItIs(graph)).toBeUndefined();
  });
});
