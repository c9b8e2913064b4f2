/** Many small records share few buffers: a million initializers must not be a million of them. */
import { expect, it } from 'vitest';
import { MemorySource, Shelf } from '../../src/onnx/bytes.js';
import { readModel } from '../../src/onnx/read.js';
import type { GraphRecord } from '../../src/onnx/records.js';
import { encodeModel, FLOAT, float32, modelOf, node, valueInfo } from '../support/proto.js';

it('what is kept is a copy, wherever it lies', () => {
  const shelf = new Shelf();
  const source = Uint8Array.from({ length: 100_000 }, (_, i) => i);
  const sizes = [0, 1, 100, 8192, 8193, 70_000, 3, ...Array.from({ length: 50 }, () => 5000)];
  const kept = sizes.map((size, i) => shelf.keep(source.subarray(i, i + size)));
  const expected = sizes.map((size, i) => source.slice(i, i + size));
  source.fill(0);
  expect(kept.map((k) => Buffer.from(k).toString('base64'))).toEqual(expected.map((e) => Buffer.from(e).toString('base64')));
});

it('records of a model share buffers', async () => {
  const many = Array.from({ length: 5000 }, (_, i) => float32(`w${i}`, [i]));
  const model = await readModel(new MemorySource(encodeModel(modelOf({ nodes: [node('Neg', ['x'], ['y'])], inputs: [valueInfo('x', FLOAT, [1])], outputs: [valueInfo('y', FLOAT, [1])], initializers: many }))));
  const pieces = (model.graph.record as GraphRecord).segments.flatMap((s) => (s.kind === 'value' && s.piece instanceof Uint8Array ? [s.piece] : []));
  expect(pieces.length).toBeGreaterThan(5000);
  const payloads = model.graph.initializers.map((v) => v.tensor?.data as Uint8Array);
  expect(new Set([...pieces, ...payloads].map((p) => p.buffer)).size).toBeLessThan(20);
  expect(payloads.map((p) => new DataView(p.buffer, p.byteOffset, p.byteLength).getFloat32(0, true))).toEqual(many.map((_, i) => i));
});
