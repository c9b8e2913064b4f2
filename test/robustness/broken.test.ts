/** Graphs that are no valid ONNX: refused with the culprit, whatever is wrong with them. What a fuzzer found stays here. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
// The fuzzer's own mutations (plain JavaScript: it runs without a build of the tests).
import { mutate } from '../../fuzz/bytes/mutate.mjs';
import { compileModel } from '../../src/compile.js';
import { Refusal, UsageError } from '../../src/diagnostics.js';
import { MemorySource } from '../../src/onnx/bytes.js';
import { concat, encodeBytesField, encodeVarintField } from '../../src/onnx/wire.js';
import { cliJson } from '../support/cli.js';
import { decoder } from '../support/graphs.js';
import { encodeModel, fixturePath, FLOAT, graphOf, INT64, type ModelProto, node, valueInfo } from '../support/proto.js';
import { expectBytesRefused } from '../support/refuse.js';
import { modelFile } from '../support/folder.js';
import { mapField } from '../support/wire.js';

const BROKEN: readonly [string, (m: ModelProto) => void, string][] = [
  ['a value that nothing computes', (m) => void graphOf(m).node?.splice(3, 1), 'PD102'],
  ['an output that nothing computes', (m) => void graphOf(m).output?.push(valueInfo('nowhere', FLOAT, [1])), 'PD102'],
  ['two inputs of one name', (m) => void graphOf(m).input?.push(valueInfo('attention_mask', FLOAT, ['batch', 'x'])), 'PD102'],
  ['two initializers of one name', (m) => void graphOf(m).initializer?.push((graphOf(m).initializer ?? [])[0] as never), 'PD102'],
  ['a node that computes an input', (m) => void graphOf(m).node?.push(node('Neg', ['l0/out'], ['attention_mask'])), 'PD102'],
  ['two nodes with one output', (m) => void graphOf(m).node?.push(node('Neg', ['l0/out'], ['l1/out'])), 'PD102'],
  [
    'a cycle',
    (m) => {
      for (const n of graphOf(m).node ?? []) if (n.output?.[0] === 'l0/q') n.input = ['l2/out', 'l0/wq'];
    },
    'PD102',
  ],
  [
    'a node that reads itself',
    (m) => {
      for (const n of graphOf(m).node ?? []) if (n.output?.[0] === 'l1/o') n.input = ['l1/o', 'l1/wo'];
    },
    'PD102',
  ],
  [
    'sizes that contradict each other',
    (m) => {
      for (const t of graphOf(m).initializer ?? []) if (t.name === 'mask_axes') t.rawData = new Uint8Array(new BigInt64Array([1n, 77n]).buffer);
    },
    'PD102',
  ],
  ['a missing opset import', (m) => void m.opsetImport?.splice(0, 1), 'PD102'],
];

describe('broken graphs', () => {
  it.each(BROKEN)('%s', async (_, edit, code) => {
    const model = decoder({ mask: true });
    edit(model);
    const error = await expectBytesRefused(encodeModel(model), code, ['--stages', '2']);
    expect(error.culprit).toBeTruthy();
  });

  it('an attribute, a declaration and a tensor that are no messages', async () => {
    const whole = encodeModel(decoder({ mask: true }));
    const inGraph = (edit: (g: Uint8Array) => Uint8Array): Uint8Array => mapField(whole, 7, edit);
    // Field 7 (floats, packed) says it has more bytes than there are.
    const attribute = inGraph((g) => mapField(g, 1, (n) => mapField(n, 5, (a) => concat([a, encodeBytesField(7, Uint8Array.of(1, 2, 3))]))));
    await expectBytesRefused(attribute, 'PD101');
    const declaration = inGraph((g) => mapField(g, 11, (v) => concat([v, encodeBytesField(2, Uint8Array.of(0x0a, 0x7f))])));
    await expectBytesRefused(declaration, 'PD101');
    const dims = inGraph((g) => mapField(g, 5, (t) => concat([encodeVarintField(1, 2n ** 60n), t])));
    await expectBytesRefused(dims, 'PD101');
  });

  it('an input that is handed through as an output of another declared type', async () => {
    const model = decoder({ mask: true });
    graphOf(model).output?.push(valueInfo('attention_mask', FLOAT, [1]));
    const { code, json } = await cliJson(modelFile(encodeModel(model)), '--stages', '2', '--dry-run');
    expect([code, json.error]).toEqual([0, undefined]);
    const shown = await cliJson('inspect', modelFile(encodeModel(model)));
    expect((shown.json.inputs as Record<string, string>).attention_mask).toBe('attention mask');
  });
});

describe('sizes read out of a broken graph', () => {
  it('an Expand to a shape of absurd rank is not followed', async () => {
    const model = decoder({ mask: true });
    const graph = graphOf(model);
    graph.input?.push(valueInfo('target', INT64, [2 ** 40]));
    graph.node?.push(node('Expand', ['unit', 'target'], ['wide']));
    graph.output?.push(valueInfo('wide', FLOAT, []));
    const { code } = await cliJson(modelFile(encodeModel(model)), '--stages', '2', '--dry-run');
    expect([0, 3]).toContain(code);
  });
});

describe('mutants', () => {
  it.each(['llama-dynamo18-eager', 'genai-llama-embeds-fp32', 'qwen3-dynamo23-sdpa'])('of %s compile or are refused, never anything else', { timeout: 60_000 }, async (name) => {
    const bytes = new Uint8Array(readFileSync(fixturePath(name)));
    const strange: string[] = [];
    for (let seed = 1; seed <= 25; seed++) {
      const mutant = mutate(bytes, seed * 31) as { bytes: Uint8Array; log: string[] };
      try {
        await compileModel(new MemorySource(mutant.bytes), { imageMask: 'input', stages: 3 });
      } catch (error) {
        if (!(error instanceof Refusal || error instanceof UsageError)) strange.push(`${seed * 31} (${mutant.log.join(', ')}): ${(error as Error).message}`);
      }
    }
    expect(strange).toEqual([]);
  });
});
