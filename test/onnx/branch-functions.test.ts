/** Branches of models that have local functions are functions themselves: no node of such a graph has subgraphs, as onnxslim needs it. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { check, compile } from '../../src/index.js';
import { compileModel } from '../../src/compile.js';
import { printGraph } from '../../src/ir/print.js';
import { type ByteSource, MemorySink, MemorySource } from '../../src/onnx/bytes.js';
import { readModel } from '../../src/onnx/read.js';
import { layoutModel, writePieces } from '../../src/onnx/write.js';
import { folder } from '../support/folder.js';
import { FIXTURES } from '../support/fixtures.js';
import { decodeModel, encodeModel, graphOf, type ModelProto } from '../support/proto.js';

const original = (name: string): Uint8Array => readFileSync(join(FIXTURES, name, 'model.onnx'));
const source = (bytes: Uint8Array): ByteSource => new MemorySource(bytes);
const OPTIONS = { stages: 3, lambda: 0.5 } as const;

describe.each(['mobius-llava-decoder', 'mobius-qwen3-vl-decoder'])('%s', (name) => {
  let written: Uint8Array;
  let file: ModelProto;
  let made: Awaited<ReturnType<typeof compileModel>>;

  beforeAll(async () => {
    made = await compileModel(source(original(name)), OPTIONS);
    const sink = new MemorySink();
    await writePieces(made.model, made.pieces, sink);
    written = sink.bytes();
    file = decodeModel(written);
  });

  it('no node of the graph has a subgraph: each boundary is called', () => {
    const { node = [] } = graphOf(file);
    expect(node.filter((n) => n.attribute?.some((a) => a.g || a.graphs?.length))).toEqual([]);
    const calls = node.filter((n) => n.domain === 'pdrop');
    expect(calls.map((n) => n.opType)).toEqual(['Boundary1', 'Boundary2']);
    for (const call of calls) {
      const body = file.functions.find((f) => f.domain === 'pdrop' && f.name === call.opType);
      expect(body?.node?.map((n) => n.opType)).toEqual(['If']);
      expect([call.input, call.output]).toEqual([body?.input, body?.output]);
      // A function knows the opsets that it imports, and nothing of the graph's.
      expect(body?.opsetImport?.map((o) => [o.domain ?? '', Number(o.version)])).toEqual(file.opsetImport.filter((o) => o.domain !== 'pdrop').map((o) => [o.domain ?? '', Number(o.version)]));
    }
    expect(file.opsetImport.filter((o) => o.domain === 'pdrop').map((o) => Number(o.version))).toEqual([1]);
    // The model's own function is as it was.
    expect(file.functions.length).toBe(3);
    expect(file.functions[0]).toEqual(decodeModel(original(name)).functions[0]);
  });

  it('it is read as the graph that was made, with its branches in place, and written as it was read', async () => {
    const read = await readModel(source(written));
    expect(read.graph.nodes.filter((n) => n.subgraphs.length > 0).map((n) => n.opType)).toEqual(['If', 'If']);
    expect(printGraph(read.graph)).toBe(printGraph(made.model.graph));
    const { pieces } = layoutModel(read, { metadata: new Map() });
    const again = new MemorySink();
    await writePieces(read, pieces, again);
    expect(Buffer.compare(again.bytes(), written)).toBe(0);
  });

  it('laid out around the weights it is the same graph', async () => {
    const around = await compileModel(source(original(name)), { ...OPTIONS, aroundWeights: true });
    const sink = new MemorySink();
    await writePieces(around.model, around.pieces, sink);
    const read = await readModel(source(sink.bytes()));
    expect(read.graph.nodes.filter((n) => n.subgraphs.length > 0).length).toBe(2);
    expect(printGraph(read.graph)).toBe(printGraph((await readModel(source(written))).graph));
  });

  it('a function that reads what it is not given is refused: no runtime would load it', async () => {
    const broken = decodeModel(written);
    const call = graphOf(broken).node?.find((n) => n.domain === 'pdrop');
    const body = broken.functions.find((f) => f.name === call?.opType);
    const lost = call?.input?.pop();
    body?.input?.pop();
    await expect(readModel(source(encodeModel(broken)))).rejects.toMatchObject({ code: 'PD102', message: expect.stringContaining(`"${lost}"`) });
  });

  it('check --strict reads the same twice; a call whose names are not those of the function stays a call, and is no boundary', async () => {
    const output = join(folder(), 'compiled.onnx');
    await compile(join(FIXTURES, name, 'model.onnx'), { ...OPTIONS, output });
    const { checks } = await check(output, { strict: true });
    expect(checks.length).toBeGreaterThan(5);
    expect(checks.flatMap((c) => c.problems)).toEqual([]);
    const renamed = decodeModel(readFileSync(output));
    const body = renamed.functions.find((f) => f.domain === 'pdrop');
    if (body?.input) body.input[0] = 'renamed';
    writeFileSync(output, encodeModel(renamed));
    const problems = (await check(output)).checks.flatMap((c) => c.problems);
    expect(problems.join('\n')).toContain('Boundary1');
  });
});

it('a model without local functions has its branches in the graph', async () => {
  const made = await compileModel(source(original('llama-dynamo18-eager')), OPTIONS);
  const sink = new MemorySink();
  await writePieces(made.model, made.pieces, sink);
  const file = decodeModel(sink.bytes());
  expect(graphOf(file).node?.filter((n) => n.opType === 'If').length).toBe(2);
  expect(file.functions).toEqual([]);
});
