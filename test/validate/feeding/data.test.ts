/** Every data format gives the same sample; what is wrong is named. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import onnxProto from 'onnx-proto';
import { describe, expect, it } from 'vitest';
import { openData } from '../../../src/validate/feeding/data/index.js';
import { parseNpy, parseNpz } from '../../../src/validate/feeding/data/npy.js';
import { parseTensorProto } from '../../../src/validate/feeding/data/tensor_pb.js';
import type { Sample } from '../../../src/validate/feeding/sample.js';
import { fromHalf, toHalf } from '../../../src/ir/half.js';
import { at, cast, fromNumbers, type HostTensor } from '../../../src/validate/running/tensor.js';
import { npy, npz, temporaryFolder, writeNpz } from '../support.js';

const folder = temporaryFolder();
const feeds = new Map<string, HostTensor>([
  ['input_ids', fromNumbers('int64', [1, 5], [3, 7, 7, 7, 1])],
  ['weights', fromNumbers('float32', [2, 3], [0.5, -1, 2, 3.25, 4, 5])],
  ['image_token_mask', fromNumbers('bool', [1, 5], [0, 1, 1, 1, 0])],
]);
const values = (t: HostTensor | undefined): number[] => (t ? Array.from({ length: t.data.length }, (_, i) => at(t, i)) : []);

async function read(path: string): Promise<Sample[]> {
  const out: Sample[] = [];
  for await (const s of openData([path]).samples()) {
    if ('fault' in s) throw s.fault;
    out.push(s);
  }
  return out;
}

async function faultOf(path: string): Promise<string> {
  for await (const s of openData([path]).samples()) if ('fault' in s) return s.fault.message;
  return '';
}

describe('half precision', () => {
  it('keeps every finite half through float and back', () => {
    for (let bits = 0; bits < 0x10000; bits++) if ((bits & 0x7c00) !== 0x7c00) expect(toHalf(fromHalf(bits))).toBe(bits === 0x8000 ? 0x8000 : bits);
  });
  it('rounds to even, overflows to infinity', () => {
    expect(fromHalf(toHalf(2049))).toBe(2048);
    expect(fromHalf(toHalf(2051))).toBe(2052);
    expect(fromHalf(toHalf(65520))).toBe(Number.POSITIVE_INFINITY);
    expect(fromHalf(toHalf(2 ** -25))).toBe(0);
    expect(Number.isNaN(fromHalf(toHalf(Number.NaN)))).toBe(true);
  });
  it('casts among types', () => {
    expect(values(cast(fromNumbers('float32', [3], [0, 1.5, -2]), 'float16'))).toEqual([0, 1.5, -2]);
    expect(values(cast(fromNumbers('int64', [3], [0, 5, -2]), 'bool'))).toEqual([0, 1, 1]);
  });
});

describe('npy and npz', () => {
  it('reads stored and deflated archives', () => {
    for (const deflate of [false, true]) {
      const back = parseNpz(npz(feeds, deflate));
      expect([...back.keys()]).toEqual([...feeds.keys()]);
      for (const [name, t] of feeds) expect(values(back.get(name))).toEqual(values(t));
    }
  });
  it('reads Fortran order', () => {
    const payload = new Uint8Array(Float32Array.from([1, 4, 2, 5, 3, 6]).buffer);
    expect(values(parseNpy(npy('<f4', [2, 3], payload, true)))).toEqual([1, 2, 3, 4, 5, 6]);
  });
  it('names what it cannot read', () => {
    expect(() => parseNpy(npy('<c8', [1], new Uint8Array(8)))).toThrow(/element type <c8/);
    expect(() => parseNpy(npy('<f4', [4], new Uint8Array(8)))).toThrow(/cut off: 8 of 16 bytes/);
    expect(() => parseNpz(new Uint8Array(100))).toThrow(/not a zip file/);
  });
});

describe('tensor protos', () => {
  it('reads raw and typed payloads, large ones too', async () => {
    const big = Array.from({ length: 3000 }, (_, i) => i / 8);
    const raw = onnxProto.onnx.TensorProto.encode({ name: 'x', dims: [3000], dataType: 1, rawData: new Uint8Array(Float32Array.from(big).buffer) }).finish();
    const typed = onnxProto.onnx.TensorProto.encode({ name: 'x', dims: [3000], dataType: 1, floatData: big }).finish();
    for (const bytes of [raw, typed]) {
      const { name, tensor } = await parseTensorProto(bytes);
      expect([name, tensor.dims, values(tensor)]).toEqual(['x', [3000], big]);
    }
  });
});

describe('data sets', () => {
  it('a folder of test_data_set_N, with annotations', async () => {
    const root = join(folder, 'onnx');
    for (const [i, n] of [0, 1, 10].entries()) {
      const set = join(root, `test_data_set_${n}`);
      mkdirSync(set, { recursive: true });
      let k = 0;
      for (const [name, t] of feeds) {
        const bytes = onnxProto.onnx.TensorProto.encode({ name, dims: [...t.dims], dataType: { int64: 7, float32: 1, bool: 9 }[t.dtype as 'int64'], rawData: new Uint8Array(t.data.buffer) }).finish();
        writeFileSync(join(set, `input_${k++}.pb`), bytes);
      }
      writeFileSync(join(set, 'sample.json'), JSON.stringify({ labels: [i, 2], inputs: {} }));
    }
    const samples = await read(root);
    expect(samples.map((s) => s.id)).toEqual(['test_data_set_0', 'test_data_set_1', 'test_data_set_10']);
    expect(samples[2]?.labels).toEqual([[2, 2]]);
    expect(values(samples[1]?.feeds.get('weights'))).toEqual(values(feeds.get('weights')));
  });

  it('.npz with an annotation beside it', async () => {
    const root = join(folder, 'npz');
    mkdirSync(root);
    writeNpz(join(root, 'a.npz'), feeds);
    writeFileSync(join(root, 'a.json'), JSON.stringify({ id: 'A', answers: [[4, 5]], images: [{ rows: 1, columns: 3 }], inputs: {} }));
    const [sample] = await read(root);
    expect(sample?.id).toBe('A');
    expect(sample?.answers).toEqual([[[4, 5]]]);
    expect(sample?.grids).toEqual([{ rows: 1, columns: 3, first: 0, row: 0, area: [0, 0, 1, 1] }]);
  });

  it('JSON, JSON lines, nested arrays, base64, files; the image mask from image spans', async () => {
    const root = join(folder, 'json');
    mkdirSync(root);
    writeFileSync(join(root, 'w.npy'), npy('<f4', [2, 3], new Uint8Array((feeds.get('weights')?.data as Float32Array).buffer)));
    const one = { inputs: { input_ids: [[3, 7, 7, 7, 1]], weights: { file: 'w.npy' } }, images: [{ rows: 1, columns: 3, start: 1 }] };
    const two = { id: 'two', inputs: { input_ids: { dtype: 'int64', shape: [1, 5], data: [3, 7, 7, 7, 1] }, weights: { dtype: 'float32', shape: [2, 3], base64: Buffer.from((feeds.get('weights')?.data as Float32Array).buffer).toString('base64') } } };
    writeFileSync(join(root, 'all.json'), JSON.stringify({ samples: [one, two] }));
    writeFileSync(join(root, 'lines.jsonl'), `${JSON.stringify(one)}\n\n${JSON.stringify(two)}\n`);
    const samples = await read(root);
    expect(samples.map((s) => s.id)).toEqual(['all.json#0', 'two', 'lines.jsonl#0', 'two']);
    for (const s of samples) expect(values(s.feeds.get('weights'))).toEqual(values(feeds.get('weights')));
    expect(values(samples[0]?.feeds.get('image_token_mask'))).toEqual([0, 1, 1, 1, 0]);
  });

  it('names the bad sample and goes on to the next', async () => {
    const path = join(folder, 'bad.jsonl');
    writeFileSync(path, ['{"inputs": {"input_ids": [[1, 2], [3]]}}', '{"labels": 3}', 'no json', '{"inputs": {"input_ids": [[1]]}}'].join('\n'));
    const seen: string[] = [];
    for await (const s of openData([path]).samples()) seen.push('fault' in s ? s.fault.message : 'good');
    expect(seen[0]).toMatch(/input "input_ids".*not rectangular/);
    expect(seen[1]).toMatch(/line 2: /);
    expect(seen[2]).toMatch(/line 3 is not JSON/);
    expect(seen[3]).toBe('good');
  });

  it('nesting may be as deep as the file is long', async () => {
    const path = join(folder, 'deep.json');
    const depth = 100_000;
    writeFileSync(path, `{"inputs": {"input_ids": ${'['.repeat(depth)}1${']'.repeat(depth)}}}`);
    expect(await faultOf(path)).toMatch(/input "input_ids": arrays are nested deeper than 64 levels/);
    writeFileSync(path, `{"inputs": {"input_ids": [${'{"a":'.repeat(depth)}1${'}'.repeat(depth)}]}}`);
    expect(await faultOf(path)).toMatch(/input "input_ids": an object is not a number/);
  });

  it('refuses what is not data', async () => {
    expect(() => openData([join(folder, 'nowhere')])).toThrow(/no data at/);
    mkdirSync(join(folder, 'empty'));
    expect(() => openData([join(folder, 'empty')])).toThrow(/no samples in/);
    writeFileSync(join(folder, 'broken.npz'), 'PK');
    expect(await faultOf(join(folder, 'broken.npz'))).toMatch(/sample broken.npz: not a zip file/);
  });
});
