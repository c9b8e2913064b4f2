/** Seeded mutations of a model: on the wire (any byte) and on the graph (what an exporter or a user could get wrong). */
import { onnx } from '../proto.mjs';
import { random } from '../random.mjs';

// ---- bytes ---------------------------------------------------------------------------------------------------

/** `at` picks a place: mostly where structure is, since most of a model is weights. */
const WIRE = {
  truncate: (bytes, _r, at) => bytes.slice(0, at()),
  'flip bits': (bytes, r, at) => {
    const out = bytes.slice();
    for (let i = 0, n = 1 + r.below(8); i < n; i++) out[at()] ^= 1 << r.below(8);
    return out;
  },
  'set a byte to a telling value': (bytes, r, at) => {
    const out = bytes.slice();
    for (let i = 0, n = 1 + r.below(3); i < n; i++) out[at()] = r.pick([0, 1, 0x7f, 0x80, 0xff, 0x0a, 0x12, 0x22, 0x3a]);
    return out;
  },
  'overwrite a run': (bytes, r, at) => {
    const out = bytes.slice();
    const from = at();
    out.fill(r.below(256), from, from + 1 + r.below(64));
    return out;
  },
  'cut out a run': (bytes, r, at) => {
    const from = at();
    return Buffer.concat([bytes.slice(0, from), bytes.slice(from + 1 + r.below(256))]);
  },
  'repeat a run': (bytes, r, at) => {
    const from = at();
    const run = bytes.slice(from, from + 1 + r.below(256));
    return Buffer.concat([bytes.slice(0, from), run, run, bytes.slice(from + run.length)]);
  },
  'a long varint': (bytes, r, at) => {
    const from = at();
    return Buffer.concat([bytes.slice(0, from), Buffer.from(r.pick([[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], [0x80, 0x80, 0x80, 0x80, 0x10], [0xff, 0xff, 0xff, 0xff, 0x0f], new Array(12).fill(0x80)])), bytes.slice(from + r.below(3))]);
  },
};

/** Ranges without the payloads of larger weights. */
const structures = new WeakMap();
function structureOf(bytes) {
  let ranges = structures.get(bytes);
  if (ranges) return ranges;
  ranges = [];
  let from = 0;
  const whole = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  for (const t of onnx.ModelProto.decode(bytes).graph.initializer) {
    if (!(t.rawData?.length > 256)) continue;
    const start = whole.indexOf(t.rawData, from);
    if (start < 0) continue;
    ranges.push([from, start]);
    from = start + t.rawData.length;
  }
  ranges.push([from, bytes.length]);
  ranges = ranges.filter(([a, b]) => b > a);
  structures.set(bytes, ranges);
  return ranges;
}

function placeIn(bytes, r) {
  const ranges = structureOf(bytes);
  const total = ranges.reduce((n, [a, b]) => n + b - a, 0);
  return () => {
    if (r.chance(0.1)) return r.below(bytes.length);
    let at = r.below(total);
    for (const [a, b] of ranges) {
      if (at < b - a) return a + at;
      at -= b - a;
    }
    return 0;
  };
}

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
    m.graph.output.push(onnx.ValueInfoProto.create({ name, type: { tensorType: { elemType: onnx.TensorProto.DataType.FLOAT } } }));
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
  if (r.chance(0.02)) return { bytes, log: ['nothing'] };
  if (r.chance(0.75)) {
    const name = r.pick(Object.keys(WIRE));
    log.push(name);
    out = WIRE[name](out, r, placeIn(bytes, r));
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
