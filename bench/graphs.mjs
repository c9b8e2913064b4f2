/** The benchmark's models, unpacked from bench/data: graphs with the shapes of Llama, whose weights are made here. */
import { closeSync, ftruncateSync, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { concat, encodeHeader, fieldsOf } from '../dist/src/onnx/wire.js';

const DATA = new URL('data/', import.meta.url);
const MODEL_GRAPH = 7;
const GRAPH_INITIALIZER = 5;
const TENSOR = { rawData: 9, externalData: 13, dataLocation: 14 };

function graphBytes(name) {
  return gunzipSync(readFileSync(new URL(`${name}.onnx.gz`, DATA)));
}

/** Writes `model.onnx` beside `weights.bin`, a sparse file of the size its weights would have. */
export function unpackWithExternalData(name, folder) {
  const bytes = graphBytes(name);
  let size = 0;
  for (const initializer of initializersOf(bytes)) {
    const external = externalOf(initializer);
    if (external) size = Math.max(size, external.offset + external.length);
  }
  const model = join(folder, `${name}.onnx`);
  writeFileSync(model, bytes);
  const fd = openSync(join(folder, 'weights.bin'), 'w');
  ftruncateSync(fd, size);
  closeSync(fd);
  return { model, weightBytes: size };
}

/** Writes the same graph with its weights inside, as a real file of noise: neither holes nor zeros to profit from. */
export function unpackWithEmbeddedWeights(name, folder) {
  const bytes = graphBytes(name);
  const model = join(folder, `${name}-embedded.onnx`);
  const fd = openSync(model, 'w');
  let at = 0;
  const put = (chunk) => {
    at += writeSync(fd, chunk);
  };
  // The graph's length comes first: lay out, then write.
  const graph = [...fieldsOf(bytes)].find((f) => f.number === MODEL_GRAPH);
  const parts = [];
  let graphLength = 0;
  for (const f of fieldsOf(bytes.subarray(graph.dataStart, graph.end))) {
    const record = bytes.subarray(graph.dataStart + f.start, graph.dataStart + f.end);
    const body = bytes.subarray(graph.dataStart + f.dataStart, graph.dataStart + f.end);
    const external = f.number === GRAPH_INITIALIZER ? externalOf(body) : undefined;
    if (!external) {
      parts.push({ head: record, payload: 0 });
      graphLength += record.length;
      continue;
    }
    const kept = [...fieldsOf(body)].filter((t) => t.number !== TENSOR.externalData && t.number !== TENSOR.dataLocation).map((t) => body.subarray(t.start, t.end));
    const inner = concat([...kept, encodeHeader(TENSOR.rawData, external.length)]);
    const head = concat([encodeHeader(GRAPH_INITIALIZER, inner.length + external.length), inner]);
    parts.push({ head, payload: external.length });
    graphLength += head.length + external.length;
  }
  put(bytes.subarray(0, graph.start));
  put(encodeHeader(MODEL_GRAPH, graphLength));
  const noise = new Uint32Array(1024 * 1024);
  for (let i = 0, x = 1; i < noise.length; i++) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    noise[i] = x;
  }
  const block = new Uint8Array(noise.buffer);
  for (const { head, payload } of parts) {
    put(head);
    for (let left = payload; left > 0; left -= block.length) put(block.subarray(0, Math.min(left, block.length)));
  }
  put(bytes.subarray(graph.end));
  closeSync(fd);
  return { model, bytes: at };
}

function* initializersOf(bytes) {
  for (const g of fieldsOf(bytes)) {
    if (g.number !== MODEL_GRAPH) continue;
    const graph = bytes.subarray(g.dataStart, g.end);
    for (const f of fieldsOf(graph)) if (f.number === GRAPH_INITIALIZER) yield graph.subarray(f.dataStart, f.end);
  }
}

function externalOf(tensor) {
  const entries = {};
  for (const f of fieldsOf(tensor)) {
    if (f.number !== TENSOR.externalData) continue;
    const [key, value] = [...fieldsOf(tensor.subarray(f.dataStart, f.end))].map((e) => Buffer.from(tensor.subarray(f.dataStart + e.dataStart, f.dataStart + e.end)).toString());
    entries[key] = value;
  }
  return entries.location === undefined ? undefined : { offset: Number(entries.offset), length: Number(entries.length) };
}
