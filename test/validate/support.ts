/** What the tests of validate share: samples from fixtures, compiled models, damaged ones, temporary folders. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { deflateRawSync } from 'node:zlib';
import { afterAll } from 'vitest';
import { compileModel, writeCompiled } from '../../src/compile.js';
import { FileSink, FileSource } from '../../src/disk/files.js';
import { DataType, type Graph, type Value } from '../../src/ir/graph.js';
import { readModel } from '../../src/onnx/read.js';
import { layoutModel, writePieces } from '../../src/onnx/write.js';
import { parseImageMask } from '../../src/plan/image-mask.js';
import { Builder } from '../../src/rewrite/builder.js';
import type { Sample } from '../../src/validate/feeding/sample.js';
import { type Dtype, fromBytes, type HostTensor } from '../../src/validate/running/tensor.js';
import type { FixtureRun, LoadedFixture } from '../support/fixtures.js';

export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'pdrop-test-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** The plan of a fixture, compiled to `target`. */
export async function compileFixture(fixture: LoadedFixture, target: string, options: { probe?: boolean; rank?: 'attention' | 'uniform' | 'random'; controlFlow?: false } = {}): Promise<string> {
  const plan = fixture.info.plans.default;
  if (!plan) throw new Error(`${fixture.info.name} has no default plan`);
  const source = new FileSource(fixture.model);
  try {
    const compiled = await compileModel(source, {
      planToReplay: { version: 1, layers: plan.layers, keep: plan.keep, imageMask: parseImageMask(plan.imageMask), positions: plan.positions, rank: options.rank ?? 'attention', seed: 0, probe: options.probe ?? false, ...(options.controlFlow === false ? { controlFlow: false } : {}) },
    });
    const sink = new FileSink(target);
    await writeCompiled(compiled, sink);
    sink.close();
  } finally {
    source.close();
  }
  return target;
}

export function feedsOf(fixture: LoadedFixture, run: FixtureRun): Map<string, HostTensor> {
  return new Map(Object.entries(run.feeds).map(([name, ref]) => {
    const t = fixture.tensor(ref);
    const data = t.data as unknown as { buffer: ArrayBuffer; byteOffset: number; byteLength: number };
    return [name, fromBytes(ref.dtype as Dtype, ref.shape, new Uint8Array(data.buffer, data.byteOffset, data.byteLength))];
  }));
}

/** The first prompt of a scenario as a sample. */
export function fixtureSample(fixture: LoadedFixture, scenario = 'prefill-decode'): Sample {
  const run = fixture.info.scenarios.find((s) => s.name === scenario)?.runs[0];
  if (!run) throw new Error(`${fixture.info.name} has no scenario ${scenario}`);
  return { id: `${fixture.info.name}/${scenario}`, index: 0, source: 'fixture', feeds: feedsOf(fixture, run) };
}

export type Damage = 'swap-kept' | 'drop-text' | 'shift-decode';

/** Breaks a compiled model on purpose and writes it to `target`. */
export async function damage(path: string, target: string, kind: Damage): Promise<string> {
  const source = new FileSource(path);
  try {
    const model = await readModel(source);
    const b = new Builder(model);
    b.scope('damage');
    const find = (name: RegExp): Value[] => [...model.graph.values.values()].filter((v) => name.test(v.name));
    if (kind === 'swap-kept') for (const v of find(/^pdrop\/b1\/select\/ordered:0$/)) replaceUses(model.graph, b, v, (x) => swapNeighbours(b, x, 5));
    if (kind === 'drop-text') for (const v of find(/^pdrop\/b1\/select\/key:0$/)) replaceUses(model.graph, b, v, (x) => loseToken(b, x, 1));
    // Wrong by one only where something has been dropped before: prompts and text-only runs stay right.
    if (kind === 'shift-decode') for (const v of find(/past_shift_s\d+:0$/)) replaceUses(model.graph, b, v, (x) => b.op('Add', 'shifted', [x, b.op('Min', 'one', [x, b.int(1)])]));
    if (b.created.length === 0) throw new Error(`nothing to damage for ${kind}`);
    const { pieces } = layoutModel(model, { metadata: new Map() });
    const sink = new FileSink(target);
    await writePieces(model, pieces, sink);
    sink.close();
  } finally {
    source.close();
  }
  return target;
}

/** Everything that read `value` reads what `make` gives; the new nodes stand right after its producer. */
function replaceUses(graph: Graph, b: Builder, value: Value, make: (v: Value) => Value): void {
  const uses = [...value.uses];
  const before = b.created.length;
  const made = make(value);
  for (const { node, index } of uses) {
    node.inputs[index] = made;
    made.uses.push({ node, index });
  }
  const at = value.producer ? graph.nodes.indexOf(value.producer) + 1 : 0;
  graph.nodes.splice(at, 0, ...b.created.slice(before));
}

function lengthRange(b: Builder, value: Value): { range: Value; last: Value } {
  const length = b.gather('length', b.op('Shape', 'shape', [value]), b.int(1), 0);
  return { range: b.op('Range', 'range', [b.int(0), length, b.int(1)]), last: b.op('Sub', 'last', [length, b.int(1)]) };
}

/** Kept indices with entries `at` and `at + 1` exchanged; one-token chunks stay as they are. */
function swapNeighbours(b: Builder, index: Value, at: number): Value {
  const { range, last } = lengthRange(b, index);
  const first = b.op('Min', 'first', [b.int(at), last]);
  const second = b.op('Min', 'second', [b.int(at + 1), last]);
  const isFirst = b.op('Equal', 'is_first', [range, first]);
  const isSecond = b.op('Equal', 'is_second', [range, second]);
  const order = b.op('Where', 'order', [isFirst, second, b.op('Where', 'order', [isSecond, first, range])]);
  return b.gather('swapped', index, order, 1);
}

/** Ranks with token `at` made the worst of all; one-token chunks stay as they are. */
function loseToken(b: Builder, key: Value, at: number): Value {
  const { range } = lengthRange(b, key);
  const is = b.cast('is_lost', b.op('Equal', 'at', [range, b.int(at)]), DataType.FLOAT);
  return b.op('Sub', 'lost', [key, b.op('Mul', 'penalty', [is, b.float(100)])]);
}

/** One .npy file. */
export function npy(descr: string, shape: readonly number[], payload: Uint8Array, fortran = false): Uint8Array {
  let header = `{'descr': '${descr}', 'fortran_order': ${fortran ? 'True' : 'False'}, 'shape': (${shape.join(', ')}${shape.length === 1 ? ',' : ''}), }`;
  header = `${header.padEnd(Math.ceil((header.length + 11) / 64) * 64 - 11)}\n`;
  const head = Buffer.alloc(10);
  head.write('\x93NUMPY', 'latin1');
  head[6] = 1;
  head.writeUInt16LE(header.length, 8);
  return Buffer.concat([head, Buffer.from(header, 'latin1'), payload]);
}

const NPY: Partial<Record<Dtype, string>> = { float32: '<f4', float16: '<f2', float64: '<f8', int64: '<i8', int32: '<i4', bool: '|b1', uint8: '|u1' };

/** A .npz file; `deflate` as numpy.savez_compressed. */
export function npz(arrays: ReadonlyMap<string, HostTensor>, deflate: boolean): Uint8Array {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const [name, t] of arrays) {
    const raw = npy(NPY[t.dtype] ?? '?', t.dims, new Uint8Array(t.data.buffer, t.data.byteOffset, t.data.byteLength));
    const packed = deflate ? deflateRawSync(raw) : Buffer.from(raw);
    const file = Buffer.from(`${name}.npy`);
    const local = Buffer.alloc(30);
    local.writeUInt32LE(0x04034b50, 0);
    local.writeUInt16LE(deflate ? 8 : 0, 8);
    local.writeUInt32LE(packed.length, 18);
    local.writeUInt32LE(raw.length, 22);
    local.writeUInt16LE(file.length, 26);
    const central = Buffer.alloc(46);
    central.writeUInt32LE(0x02014b50, 0);
    central.writeUInt16LE(deflate ? 8 : 0, 10);
    central.writeUInt32LE(packed.length, 20);
    central.writeUInt32LE(raw.length, 24);
    central.writeUInt16LE(file.length, 28);
    central.writeUInt32LE(offset, 42);
    parts.push(local, file, packed);
    directory.push(central, file);
    offset += local.length + file.length + packed.length;
  }
  const list = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(arrays.size, 8);
  end.writeUInt16LE(arrays.size, 10);
  end.writeUInt32LE(list.length, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...parts, list, end]);
}

export function writeNpz(path: string, arrays: ReadonlyMap<string, HostTensor>): void {
  writeFileSync(path, npz(arrays, true));
}
