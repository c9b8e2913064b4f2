/** Files made to do harm, or damaged as if: names, nesting, numbers. Refused or compiled, in no time and little memory. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readModel } from '../../src/onnx/read.js';
import { MemorySource } from '../../src/onnx/bytes.js';
import { concat, encodeBytesField, encodeHeader, encodeStringField, encodeVarintField } from '../../src/onnx/wire.js';
import { cli } from '../support/cli.js';
import { folder, modelFile } from '../support/folder.js';
import { decodeModel, encodeModel, fixturePath, graphOf, loadModel } from '../support/proto.js';
import { expectBytesRefused } from '../support/refuse.js';
import { loads } from '../support/run.js';
import { mapField } from '../support/wire.js';

const LLAMA = 'llama-ts17-sdpa';
const BOM = '\ufeff';

describe('names', () => {
  it('that start with a byte order mark are written as they were read', async () => {
    const model = loadModel(LLAMA);
    const rename = (name: string): string => (/onnx::|Concat/.test(name) ? `${BOM}${name}` : name);
    for (const n of graphOf(model).node ?? []) {
      n.input = (n.input ?? []).map(rename);
      n.output = (n.output ?? []).map(rename);
    }
    for (const t of graphOf(model).initializer ?? []) t.name = rename(t.name as string);
    const marked = encodeModel(model);
    expect(Buffer.from(marked).toString()).toContain(BOM);
    const out = join(folder(), 'out.onnx');
    const { code, err } = await cli(modelFile(marked), '-o', out, '--quiet');
    expect([code, err]).toEqual([0, '']);
    const read = new Set(graphOf(decodeModel(readFileSync(out))).node?.flatMap((n) => n.input ?? []));
    expect([...read].filter((n) => n.startsWith(BOM)).length).toBeGreaterThan(50);
    await loads(out);
  });

  it('that are not UTF-8 are refused: no string stands for them', async () => {
    const broken = mapField(new Uint8Array(readFileSync(fixturePath(LLAMA))), 7, (g) => mapField(g, 1, (n, i) => (i === 3 ? mapField(n, 2, () => Uint8Array.of(0x61, 0xff, 0x62)) : n)));
    const error = await expectBytesRefused(broken, 'PD101');
    expect(error.message).toContain('not UTF-8');
  });
});

/** A graph whose only node holds a graph, and so on. */
function nested(levels: number, padding = 0): Uint8Array {
  const doc = encodeStringField(10, ' '.repeat(padding));
  const type = encodeVarintField(20, 5);
  const before: Uint8Array[] = [];
  let length = doc.length;
  // From the inside out, joined once: copying at every level would take longer than what is tested.
  for (let i = 0; i < levels; i++) {
    const attribute = concat([encodeStringField(1, 'then_branch'), encodeHeader(6, length)]);
    length += attribute.length + type.length;
    const node = concat([encodeStringField(4, 'If'), encodeHeader(5, length)]);
    length += node.length;
    const header = encodeHeader(1, length);
    length += header.length;
    before.push(attribute, node, header);
  }
  const graph = concat([...before.reverse(), doc, ...new Array<Uint8Array>(levels).fill(type)]);
  const opset = concat([encodeStringField(1, ''), encodeVarintField(2, 17)]);
  return concat([encodeVarintField(1, 8), encodeBytesField(7, graph), encodeBytesField(8, opset)]);
}

describe('nesting', () => {
  it('down to what protobuf itself reads is read', async () => {
    let graph = (await readModel(new MemorySource(nested(32, 200_000)))).graph;
    for (let i = 0; i < 32; i++) graph = graph.nodes[0]?.subgraphs[0] as typeof graph;
    expect(graph.nodes).toEqual([]);
  });

  it.each([
    [33, 0],
    [3000, 0],
    [12_000, 0],
    [3000, 200_000],
  ])('%i levels deep around %i bytes are refused at once', async (levels, padding) => {
    const bytes = nested(levels, padding);
    const started = performance.now();
    await expect(readModel(new MemorySource(bytes))).rejects.toMatchObject({ code: 'PD106' });
    expect(performance.now() - started).toBeLessThan(500);
  });
});
