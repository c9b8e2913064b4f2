/**
 * Fewer layers of a real export, so that a campaign gets through many more cases: the hidden states that enter layer
 * `from` go on to layer `to`, what only the layers between them needed is gone. Every line that is left was exported.
 */
import { analyseDecoder } from '../dist/src/analyse/decoder.js';
import { MemorySource } from '../dist/src/onnx/bytes.js';
import { readModel } from '../dist/src/onnx/read.js';
import { decode, encode, readsOf } from './proto.mjs';

/** Keeps the first layers and the last one. @returns undefined when the layers cannot be taken apart. */
export async function slice(bytes, keep = 4) {
  const facts = await analyseDecoder(await readModel(new MemorySource(bytes)));
  const count = facts.layers.length;
  // Layers without attention have no cache to take away.
  if (count <= keep || facts.layers.some((l) => !l.core)) return undefined;
  // Caches of other sizes would stand in for those that are gone.
  if (new Set(facts.layers.map((l) => `${l.core.kvHeads} × ${l.core.headDim}`)).size > 1) return undefined;
  const [from, to] = [keep - 1, count - 1];
  const entry = facts.layers[from].cut.values.map((v) => v.name);
  const later = facts.layers[to].cut.values.map((v) => v.name);
  if (entry.length !== later.length) return undefined;
  const model = decode(bytes);
  const { graph } = model;
  const gone = new Set(facts.layers.slice(from, to).flatMap(({ core }) => [core.present?.key.name, core.present?.value?.name]));
  // Lengths and batch sizes are read from whichever cache the exporter picked: the first layer's will do.
  const first = facts.layers[0].core.past;
  const pasts = new Map(facts.layers.slice(from, to).flatMap(({ core: { past } }) => (past ? [[past.key.value.name, first?.key.value.name], [past.value?.value.name, first?.value?.value.name]] : [])));
  const renamed = new Map([...later.map((v, i) => [v, entry[i]]), ...pasts]);
  for (const n of graph.node) n.input = n.input.map((i) => renamed.get(i) ?? i);
  graph.output = graph.output.filter((o) => !gone.has(o.name));
  const needed = new Set(graph.output.map((o) => o.name));
  const kept = [];
  for (const n of [...graph.node].reverse()) {
    if (!n.output.some((o) => o !== '' && needed.has(o))) continue;
    for (const i of readsOf(n)) needed.add(i);
    kept.push(n);
  }
  graph.node = kept.reverse();
  graph.initializer = graph.initializer.filter((t) => needed.has(t.name));
  graph.input = graph.input.filter((i) => needed.has(i.name) || !pasts.has(i.name));
  const made = new Set(graph.node.flatMap((n) => n.output));
  graph.valueInfo = graph.valueInfo.filter((v) => made.has(v.name));
  // A copy: what the encoder returns is a view, and slices of it share memory.
  return { bytes: new Uint8Array(encode(model)), gone };
}
