/** Seeded mutations of a model: on the wire (any byte) and on the graph (what an exporter or a user could get wrong). */
import onnxProto from 'onnx-proto';

const { onnx } = onnxProto;

/** mulberry32: small, seeded, good enough to pick mutations. */
export function random(seed) {
  let a = seed >>> 0;
  const next = () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = a;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  const below = (n) => Math.floor(next() * n);
  return { next, below, pick: (items) => items[below(items.length)], chance: (p) => next() < p };
}

// ---- bytes ---------------------------------------------------------------------------------------------------

const WIRE = {
  truncate: (bytes, r) => bytes.slice(0, r.below(bytes.length)),
  'flip bits': (bytes, r) => {
    const out = bytes.slice();
    for (let i = 0, n = 1 + r.below(8); i < n; i++) out[r.below(out.length)] ^= 1 << r.below(8);
    return out;
  },
  // Structure sits between payloads: the start and the end of the file are dense with it.
  'flip bits near an end': (bytes, r) => {
    const out = bytes.slice();
    const window = Math.min(out.length, 20000);
    for (let i = 0, n = 1 + r.below(4); i < n; i++) {
      const at = r.below(window);
      out[r.chance(0.5) ? at : out.length - 1 - at] ^= 1 << r.below(8);
    }
    return out;
  },
  'overwrite a run': (bytes, r) => {
    const out = bytes.slice();
    const at = r.below(out.length);
    out.fill(r.below(256), at, at + 1 + r.below(64));
    return out;
  },
  'cut out a run': (bytes, r) => {
    const at = r.below(bytes.length);
    return Buffer.concat([bytes.slice(0, at), bytes.slice(at + 1 + r.below(256))]);
  },
  'repeat a run': (bytes, r) => {
    const at = r.below(bytes.length);
    const run = bytes.slice(at, at + 1 + r.below(256));
    return Buffer.concat([bytes.slice(0, at), run, run, bytes.slice(at + run.length)]);
  },
};

// ---- graphs --------------------------------------------------------------------------------------------------

const OPS = ['Add', 'Mul', 'MatMul', 'Identity', 'Cast', 'Softmax', 'Reshape', 'Transpose', 'Concat', 'Gather', 'Slice', 'Shape', 'CumSum', 'Where', 'Expand', 'Squeeze', 'TopK', 'If', 'Loop', 'Nonsense'];

const GRAPH = {
  'drop a node': (m, r) => {
    m.graph.node.splice(r.below(m.graph.node.length), 1);
  },
  'duplicate a node': (m, r) => {
    m.graph.node.splice(r.below(m.graph.node.length), 0, r.pick(m.graph.node));
  },
  'swap two nodes': (m, r) => {
    const { node } = m.graph;
    const [a, b] = [r.below(node.length), r.below(node.length)];
    [node[a], node[b]] = [node[b], node[a]];
  },
  'rename an input of a node': (m, r) => {
    const n = r.pick(m.graph.node);
    if (n.input.length > 0) n.input[r.below(n.input.length)] = r.chance(0.5) ? 'nowhere' : anyName(m, r);
  },
  'rename an output of a node': (m, r) => {
    const n = r.pick(m.graph.node);
    if (n.output.length > 0) n.output[r.below(n.output.length)] = r.chance(0.3) ? '' : r.chance(0.5) ? 'elsewhere' : anyName(m, r);
  },
  'swap two inputs': (m, r) => {
    const n = r.pick(m.graph.node);
    if (n.input.length > 1) n.input.reverse();
  },
  'drop an input': (m, r) => {
    const n = r.pick(m.graph.node);
    n.input.splice(r.below(n.input.length || 1), 1);
  },
  'add an input': (m, r) => {
    r.pick(m.graph.node).input.push(anyName(m, r));
  },
  'change an op': (m, r) => {
    r.pick(m.graph.node).opType = r.pick(OPS);
  },
  'change a domain': (m, r) => {
    r.pick(m.graph.node).domain = r.pick(['', 'ai.onnx', 'com.microsoft', 'com.example']);
  },
  'change an attribute': (m, r) => {
    const nodes = m.graph.node.filter((n) => n.attribute.length > 0);
    const a = r.pick(r.pick(nodes)?.attribute ?? [undefined]);
    if (!a) return;
    if (a.ints?.length > 0) a.ints[r.below(a.ints.length)] = r.pick([0, 1, -1, 2, 7, -(2 ** 31), 2 ** 40]);
    else if (a.type === 1) a.f = r.pick([0, -1, 1e30, Number.NaN, 0.3]);
    else if (a.t?.rawData?.length > 0) a.t.rawData = mangle(a.t.rawData, r);
    else a.i = r.pick([0, 1, -1, 2, 3, 7, 13, 2 ** 31, -(2 ** 31)]);
  },
  'drop an attribute': (m, r) => {
    const n = r.pick(m.graph.node.filter((x) => x.attribute.length > 0));
    n?.attribute.splice(r.below(n.attribute.length), 1);
  },
  'change an attribute type': (m, r) => {
    const n = r.pick(m.graph.node.filter((x) => x.attribute.length > 0));
    if (n) r.pick(n.attribute).type = r.below(15);
  },
  'change a small constant': (m, r) => {
    const small = m.graph.initializer.filter((t) => t.rawData?.length > 0 && t.rawData.length <= 64);
    const t = r.pick(small.length > 0 ? small : m.graph.initializer);
    if (t?.rawData?.length > 0) t.rawData = mangle(t.rawData, r);
  },
  'change dims of an initializer': (m, r) => {
    const t = r.pick(m.graph.initializer);
    if (t) t.dims = r.chance(0.3) ? [] : t.dims.map((d) => (r.chance(0.5) ? r.pick([0, 1, -1, 3, 2 ** 40]) : d));
  },
  'change the type of an initializer': (m, r) => {
    const t = r.pick(m.graph.initializer);
    if (t) t.dataType = r.below(28);
  },
  'drop an initializer': (m, r) => {
    m.graph.initializer.splice(r.below(m.graph.initializer.length), 1);
  },
  'drop a graph input': (m, r) => {
    m.graph.input.splice(r.below(m.graph.input.length), 1);
  },
  'drop a graph output': (m, r) => {
    m.graph.output.splice(r.below(m.graph.output.length), 1);
  },
  'make an inner value an output': (m, r) => {
    const name = anyName(m, r);
    m.graph.output.push(onnx.ValueInfoProto.create({ name, type: { tensorType: { elemType: 1 } } }));
  },
  'change a declared shape': (m, r) => {
    const v = r.pick([...m.graph.input, ...m.graph.output]);
    const dims = v?.type?.tensorType?.shape?.dim;
    if (!dims?.length) return;
    const at = r.below(dims.length);
    dims[at] = r.pick([{}, { dimValue: 1 }, { dimValue: 5 }, { dimParam: 'fuzzed' }, { dimParam: 'batch_size' }]);
    if (r.chance(0.2)) dims.splice(at, 1);
    if (r.chance(0.1)) v.type.tensorType.shape = undefined;
  },
  'change a declared type': (m, r) => {
    const v = r.pick([...m.graph.input, ...m.graph.output]);
    if (v?.type?.tensorType) v.type.tensorType.elemType = r.below(17);
  },
  'rename a graph input': (m, r) => {
    const v = r.pick(m.graph.input);
    rename(m, v.name, r.pick(['x', 'image_token_mask', 'mask', 'attention_mask', 'input_ids', 'position']));
  },
  'change the opset': (m, r) => {
    const o = r.pick(m.opsetImport);
    if (o) o.version = r.pick([1, 7, 11, 12, 13, 14, 18, 23, 99]);
  },
  'add metadata': (m, r) => {
    m.metadataProps.push({ key: r.pick(['pdrop.plan', 'pdrop.version', 'x']), value: r.pick(['', '{', '{}', '[]', 'null', '{"version":1}']) });
  },
  'feed a value back': (m, r) => {
    const n = r.pick(m.graph.node);
    const later = r.pick(m.graph.node);
    if (n.input.length > 0 && later.output.length > 0) n.input[r.below(n.input.length)] = later.output[0];
  },
};

function anyName(m, r) {
  const pools = [m.graph.node.flatMap((n) => n.output), m.graph.initializer.map((t) => t.name), m.graph.input.map((v) => v.name)].filter((p) => p.length > 0);
  return r.pick(r.pick(pools)) ?? 'x';
}

function rename(m, from, to) {
  for (const v of [...m.graph.input, ...m.graph.output]) if (v.name === from) v.name = to;
  for (const n of m.graph.node) {
    n.input = n.input.map((i) => (i === from ? to : i));
    n.output = n.output.map((o) => (o === from ? to : o));
  }
}

function mangle(raw, r) {
  const out = Uint8Array.from(raw);
  if (r.chance(0.2)) return out.subarray(0, r.below(out.length));
  if (r.chance(0.5) && out.length % 8 === 0) {
    new DataView(out.buffer).setBigInt64(8 * r.below(out.length / 8), BigInt(r.pick([0, 1, -1, 2, 5, 64, 2 ** 31, -(2 ** 40)])), true);
  } else out[r.below(out.length)] = r.below(256);
  return out;
}

/** A mutant of `bytes`, and what was done to it. */
export function mutate(bytes, seed) {
  const r = random(seed);
  const log = [];
  let out = bytes;
  // Now and then the model as it is: the other checks hold for it too.
  if (r.chance(0.08)) return { bytes, log: ['nothing'] };
  if (r.chance(0.35)) {
    const name = r.pick(Object.keys(WIRE));
    log.push(name);
    out = WIRE[name](out, r);
    return { bytes: out, log };
  }
  const model = onnx.ModelProto.decode(out);
  for (let i = 0, n = 1 + (r.chance(0.3) ? r.below(4) : 0); i < n; i++) {
    const name = r.pick(Object.keys(GRAPH));
    log.push(name);
    GRAPH[name](model, r);
  }
  return { bytes: onnx.ModelProto.encode(model).finish(), log };
}
