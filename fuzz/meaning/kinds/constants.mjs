/** The same numbers kept otherwise: initializer or Constant, one or several, typed or raw, inside or outside the file, quantized. */
import { DATA_TYPES, is, makeNode, nameOfType, numbers, onnx, rawTensor, setAttribute, tensor } from '../../proto.mjs';
import { isFloat } from '../subject.mjs';

const sizeOf = (t) => t.dims.reduce((a, d) => a * Number(d), 1);
const isRaw = (t) => t.rawData?.length > 0;

/** Initializers that a node of the main graph reads. */
function pickInitializer(s, accept) {
  return s.r.pick(s.graph.initializer.filter((t) => accept(t) && s.uses(t.name).length > 0 && !s.isCaptured(t.name)));
}

function drop(s, name) {
  s.graph.initializer = s.graph.initializer.filter((t) => t.name !== name);
  // Optional inputs are initializers that are listed as inputs too.
  s.graph.input = s.graph.input.filter((v) => v.name !== name);
}

function toNode(s, t) {
  drop(s, t.name);
  s.nodes.unshift(makeNode('Constant', [], [t.name], { value: { tensor: onnx.TensorProto.create({ ...t, name: '' }) } }));
}

const isConstant = (n) => is(n, 'Constant') && n.attribute.some((a) => a.name === 'value' && a.t);

/** What weights look like from far: two dims, read by one MatMul. */
function pickWeight(s) {
  const node = s.pickNode((n) => is(n, 'MatMul') && n.input[1] && s.initializer(n.input[1])?.dataType === DATA_TYPES.float32 && isRaw(s.initializer(n.input[1])) && s.initializer(n.input[1]).dims.length === 2 && s.uses(n.input[1]).length === 1);
  return node && { node, weight: s.initializer(node.input[1]) };
}

/** Rounds a weight to int8 steps, in the model under test and in the one it is compared with, and returns the steps. */
function onGrid(s, weight) {
  const w = numbers(weight);
  const scale = 2 ** Math.ceil(Math.log2(Math.max(...w.map(Math.abs), 1e-3) / 127));
  const steps = w.map((v) => Math.max(-127, Math.min(127, Math.round(v / scale))));
  const rounded = steps.map((q) => q * scale);
  const base = s.base ?? s.unmutated();
  const target = base.graph.initializer.find((t) => sameBytes(t, weight));
  if (!target) return undefined;
  target.rawData = new Uint8Array(Float32Array.from(rounded).buffer);
  s.base = base;
  return { steps, scale };
}

/** A weight whose numbers were put on a grid, with the node that reads it. */
function pickOnGrid(s) {
  const found = pickWeight(s);
  const grid = found && onGrid(s, found.weight);
  return grid && { ...found, grid };
}

function sameBytes(a, b) {
  return a.dataType === b.dataType && a.dims.map(Number).join() === b.dims.map(Number).join() && isRaw(a) && Buffer.compare(Buffer.from(a.rawData), Buffer.from(b.rawData)) === 0;
}

export const CONSTANTS = [
  {
    name: 'constants: an initializer as a Constant node',
    exact: true,
    apply(s) {
      const t = pickInitializer(s, (x) => sizeOf(x) <= 64);
      if (!t) return undefined;
      toNode(s, t);
      return t.name;
    },
  },
  {
    name: 'constants: every small initializer as a Constant node',
    exact: true,
    apply(s) {
      const small = s.graph.initializer.filter((t) => sizeOf(t) <= 64 && !s.graph.input.some((i) => i.name === t.name));
      for (const t of small) toNode(s, t);
      return small.length > 0 ? `${small.length} of them` : undefined;
    },
  },
  {
    name: 'constants: Constant nodes as initializers',
    exact: true,
    apply(s) {
      const all = s.nodes.filter((n) => isConstant(n) && !s.isOutput(n.output[0]));
      const chosen = s.r.chance(0.5) ? all : all.slice(0, 1 + s.r.below(all.length || 1));
      for (const n of chosen) {
        s.graph.initializer.push(onnx.TensorProto.create({ ...n.attribute.find((a) => a.name === 'value').t, name: n.output[0] }));
      }
      s.model.graph.node = s.nodes.filter((n) => !chosen.includes(n));
      return chosen.length > 0 ? `${chosen.length} nodes` : undefined;
    },
  },
  {
    name: 'constants: Constant in its short attribute forms',
    exact: true,
    apply(s) {
      let count = 0;
      for (const n of s.nodes) {
        if (!isConstant(n)) continue;
        const t = n.attribute.find((a) => a.name === 'value').t;
        const list = (t.dataType === DATA_TYPES.float32 || t.dataType === DATA_TYPES.int64) && t.dims.length <= 1 && sizeOf(t) > 0 ? numbers(t) : undefined;
        if (!list?.every((v) => Number.isFinite(v) && (t.dataType === DATA_TYPES.float32 || Number.isSafeInteger(v)))) continue;
        n.attribute = [];
        const T = onnx.AttributeProto.AttributeType;
        if (t.dataType === DATA_TYPES.int64) setAttribute(n, t.dims.length === 0 ? 'value_int' : 'value_ints', t.dims.length === 0 ? list[0] : list);
        else if (t.dims.length === 0) setAttribute(n, 'value_float', { float: list[0] });
        else n.attribute.push(onnx.AttributeProto.create({ name: 'value_floats', type: T.FLOATS, floats: list }));
        count++;
      }
      return count > 0 ? `${count} nodes` : undefined;
    },
  },
  {
    name: 'constants: equal initializers merged',
    exact: true,
    apply(s) {
      const first = new Map();
      let count = 0;
      for (const t of [...s.graph.initializer]) {
        if (!isRaw(t) || s.isCaptured(t.name) || s.isOutput(t.name) || s.graph.input.some((i) => i.name === t.name)) continue;
        const key = `${t.dataType}:${t.dims.map(Number)}:${Buffer.from(t.rawData).toString('base64')}`;
        const known = first.get(key);
        if (known === undefined) {
          first.set(key, t.name);
          continue;
        }
        for (const [n, at] of s.uses(t.name)) n.input[at] = known;
        drop(s, t.name);
        count++;
      }
      return count > 0 ? `${count} of them` : undefined;
    },
  },
  {
    name: 'constants: an initializer for each reader',
    exact: true,
    apply(s) {
      const many = s.graph.initializer.filter((t) => s.uses(t.name).length > 1);
      for (const t of many) {
        for (const [n, at] of s.uses(t.name).slice(1)) {
          const name = s.fresh('w');
          s.graph.initializer.push(onnx.TensorProto.create({ ...t, name }));
          n.input[at] = name;
        }
      }
      return many.length > 0 ? `${many.length} of them` : undefined;
    },
  },
  {
    name: 'constants: typed fields instead of raw bytes',
    exact: true,
    apply(s) {
      let count = 0;
      const retype = (t) => {
        if (!isRaw(t) || sizeOf(t) > 4096) return;
        const list = numbers(t);
        if (!list || (t.dataType === DATA_TYPES.int64 && !list.every(Number.isSafeInteger))) return;
        t.rawData = new Uint8Array(0);
        Reflect.deleteProperty(t, 'rawData');
        if (t.dataType === DATA_TYPES.float32) t.floatData = list;
        else if (t.dataType === DATA_TYPES.int64) t.int64Data = list;
        else t.int32Data = list;
        count++;
      };
      for (const t of s.graph.initializer) retype(t);
      for (const n of s.nodes) for (const a of n.attribute) if (a.t) retype(a.t);
      return count > 0 ? `${count} tensors` : undefined;
    },
  },
  {
    name: 'constants: initializers listed as graph inputs',
    exact: true,
    apply(s) {
      const chosen = s.graph.initializer.filter((t) => [1, 7].includes(t.dataType) && !s.graph.input.some((i) => i.name === t.name) && s.r.chance(0.5));
      for (const t of chosen) {
        s.graph.input.push(onnx.ValueInfoProto.create({ name: t.name, type: { tensorType: { elemType: t.dataType, shape: { dim: t.dims.map((d) => ({ dimValue: Number(d) })) } } } }));
      }
      return chosen.length > 0 ? `${chosen.length} of them` : undefined;
    },
  },
  {
    name: 'constants: a scalar computed from others',
    exact: true,
    apply(s) {
      const t = pickInitializer(s, (x) => x.dataType === DATA_TYPES.int64 && sizeOf(x) <= 8 && x.dims.length === 1 && Number(x.dims[0]) > 0 && isRaw(x));
      const list = t && numbers(t);
      if (!list?.every((v) => Math.abs(v) < 1e9)) return undefined;
      const y = s.fresh();
      for (const [n, at] of s.uses(t.name)) n.input[at] = y;
      const part = s.r.below(100);
      s.placeAfter('', [makeNode('Add', [s.literal('int64', list.map((v) => v - part)), s.literal('int64', [part])], [y])]);
      s.know(y, 'int64', [[list.length]]);
      return t.name;
    },
  },
  {
    name: 'constants: Concat of scalars instead of a list',
    exact: true,
    apply(s) {
      const t = pickInitializer(s, (x) => x.dataType === DATA_TYPES.int64 && x.dims.length === 1 && Number(x.dims[0]) > 1 && Number(x.dims[0]) < 8 && isRaw(x));
      if (!t) return undefined;
      const y = s.fresh();
      const readers = s.uses(t.name);
      const parts = numbers(t).map((v) => s.literal('int64', [v]));
      s.placeAfter('', [makeNode('Concat', parts, [y], { axis: 0 })]);
      for (const [n, at] of readers) n.input[at] = y;
      s.know(y, 'int64', [[parts.length]]);
      return t.name;
    },
  },
  {
    name: 'constants: weights in files of their own',
    exact: true,
    apply(s) {
      s.external = s.r.pick(['one file', 'a file each', 'aligned', 'without lengths', 'shared bytes', 'in a folder']);
      return s.external;
    },
  },
  {
    name: 'constants: a weight as DequantizeLinear',
    exact: true,
    plain: true,
    apply(s) {
      const found = pickOnGrid(s);
      if (!found) return undefined;
      const { node, weight, grid } = found;
      const channels = Number(weight.dims[1]);
      const perChannel = s.r.chance(0.5);
      const y = s.fresh('dq');
      const q = s.fresh('q');
      drop(s, weight.name);
      s.graph.initializer.push(tensor(q, 'int8', grid.steps, weight.dims.map(Number)));
      const scale = perChannel ? s.literal('float32', new Array(channels).fill(grid.scale)) : s.literal('float32', [grid.scale], []);
      const zero = perChannel ? s.literal('int8', new Array(channels).fill(0)) : s.literal('int8', [0], []);
      const at = s.nodes.indexOf(node);
      s.nodes.splice(at, 0, makeNode('DequantizeLinear', [q, scale, zero], [y], perChannel ? { axis: 1 } : {}));
      node.input[1] = y;
      s.know(y, 'float32', [weight.dims.map(Number)]);
      return s.describe(node);
    },
  },
  {
    name: 'constants: QuantizeLinear and DequantizeLinear around a weight',
    exact: true,
    plain: true,
    apply(s) {
      const found = pickOnGrid(s);
      if (!found) return undefined;
      const { node, weight, grid } = found;
      weight.rawData = new Uint8Array(Float32Array.from(grid.steps, (q) => q * grid.scale).buffer);
      const [q, y] = [s.fresh('q'), s.fresh('dq')];
      const scale = s.literal('float32', [grid.scale], []);
      const zero = s.literal('int8', [0], []);
      const at = s.nodes.indexOf(node);
      s.nodes.splice(at, 0, makeNode('QuantizeLinear', [weight.name, scale, zero], [q]), makeNode('DequantizeLinear', [q, scale, zero], [y]));
      node.input[1] = y;
      s.know(y, 'float32', [weight.dims.map(Number)]);
      return s.describe(node);
    },
  },
  {
    name: 'constants: a weight through Reshape',
    exact: true,
    apply(s) {
      const found = pickWeight(s);
      if (!found) return undefined;
      const { node, weight } = found;
      const dims = weight.dims.map(Number);
      const y = s.know(s.fresh(), 'float32', [dims]);
      weight.dims = [sizeOf(weight)];
      s.nodes.splice(s.nodes.indexOf(node), 0, makeNode('Reshape', [weight.name, s.literal('int64', dims)], [y]));
      node.input[1] = y;
      return s.describe(node);
    },
  },
  {
    name: 'constants: a weight in half precision, cast where it is read',
    exact: true,
    apply(s) {
      const found = pickOnGrid(s);
      if (!found) return undefined;
      const { node, weight, grid } = found;
      const y = s.know(s.fresh(), 'float32', [weight.dims.map(Number)]);
      const half = grid.steps.map((q) => q * grid.scale);
      if (half.some((v) => v !== 0 && (Math.abs(v) < 2 ** -13 || Math.abs(v) > 1000))) return undefined;
      const name = s.fresh('half');
      drop(s, weight.name);
      s.graph.initializer.push(tensor(name, 'float16', half, weight.dims.map(Number)));
      s.nodes.splice(s.nodes.indexOf(node), 0, makeNode('Cast', [name], [y], { to: DATA_TYPES.float32 }));
      node.input[1] = y;
      return s.describe(node);
    },
  },
  {
    name: 'constants: initializers in another order',
    exact: true,
    apply(s) {
      s.graph.initializer = s.r.shuffle(s.graph.initializer);
      return `${s.graph.initializer.length} of them`;
    },
  },
  {
    name: 'constants: unused ones added',
    exact: true,
    apply(s) {
      const like = s.r.pick(s.graph.initializer.filter((t) => isRaw(t) && isFloat(nameOfType(t.dataType))));
      if (!like) return undefined;
      s.graph.initializer.unshift(rawTensor(s.fresh('unused'), like.dataType, like.rawData, like.dims));
      return like.name;
    },
  },
];
