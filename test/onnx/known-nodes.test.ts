/** What is written is read again: only nodes whose bytes are those they were read from are taken as known. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { MemorySource } from '../../src/onnx/bytes.js';
import { KnownNodes } from '../../src/onnx/known-nodes.js';
import { readModel } from '../../src/onnx/read.js';
import type { NodeRecord } from '../../src/onnx/records.js';
import { FIXTURES } from '../support/fixtures.js';

const bytes = (): Uint8Array => readFileSync(join(FIXTURES, 'llama-ts17-sdpa', 'model.onnx'));

const said = (model: Awaited<ReturnType<typeof readModel>>): unknown =>
  model.graph.nodes.map((n) => [n.opType, n.domain, n.name, n.inputs.map((v) => v?.name), n.outputs.map((v) => v?.name), [...n.attributes]]);

it('reads the same model with and without what is known', async () => {
  const made = await readModel(new MemorySource(bytes()));
  const again = await readModel(new MemorySource(bytes()), made);
  expect(said(again)).toEqual(said(made));
  expect(again.graph.nodes.some((n) => made.graph.nodes.includes(n))).toBe(false);
});

it('a byte that differs is read, whatever is known', async () => {
  const made = await readModel(new MemorySource(bytes()));
  const changed = bytes().slice();
  const known = new KnownNodes(made.graph);
  const record = (made.graph.nodes[0]?.record as NodeRecord).full as Uint8Array;
  expect(known.take(record.slice())?.node.opType).toBe(made.graph.nodes[0]?.opType);
  const second = ((made.graph.nodes[1]?.record as NodeRecord).full as Uint8Array).slice();
  second[second.length - 1] = (second[second.length - 1] as number) ^ 1;
  expect(known.take(second)).toBeUndefined();
  // In the file as well: the op of some node becomes another.
  const at = Buffer.from(changed).indexOf('\x22\x07Softmax') + 2; // op_type
  changed.set(Buffer.from('Sigmoid'), at);
  const read = await readModel(new MemorySource(changed), made);
  const ops = (model: typeof made): number => model.graph.nodes.filter((n) => n.opType === 'Softmax').length;
  expect(ops(read)).toBe(ops(made) - 1);
});
