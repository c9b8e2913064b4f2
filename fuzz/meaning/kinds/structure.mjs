/** The same graph in another spelling: names, order, duplicated or merged nodes, functions, branches, dead ends. */
import { DATA_TYPES, is, makeNode, onnx, readsOf, valueInfo } from '../../proto.mjs';

/** Names that have meant something to somebody: to this compiler, to exporters, to text encodings. */
const STRANGE = ['pdrop_kept.1', 'image_token_mask', 'pdrop', 'logits', '/model/layers.0/self_attn/q_proj/MatMul', 'past_key_values.0.key', '\ufeffx', 'x\ufeff', 'é', '層', '\u200b', ' ', 'a b', '0', 'constructor', '__proto__', 'x'.repeat(300), '\u001b[31m', 'a\nb', '::x', '<b>', "'\"`", '💥'];

function pureInner(s) {
  const fixed = new Set([...s.graph.input, ...s.graph.output].map((v) => v.name));
  return (name) => name !== '' && !fixed.has(name);
}

/** Renames values everywhere, subgraphs included. */
function renameAll(s, to) {
  const visit = (g) => {
    for (const n of g.node) {
      n.input = n.input.map(to);
      n.output = n.output.map(to);
      for (const a of n.attribute) if (a.g) visit(a.g);
    }
    for (const v of [...g.initializer, ...g.input, ...g.output, ...g.valueInfo]) v.name = to(v.name);
  };
  visit(s.graph);
  const facts = [...s.facts];
  s.facts.clear();
  for (const [name, info] of facts) s.facts.set(to(name), info);
  s.renames();
}

/** A random topological order; constants and weights-only nodes wherever they fall. */
function shuffled(s) {
  const maker = new Map(s.nodes.flatMap((n) => n.output.filter((o) => o !== '').map((o) => [o, n])));
  const waiting = new Map();
  const readers = new Map();
  for (const n of s.nodes) {
    const needs = new Set(readsOf(n).flatMap((i) => (maker.has(i) ? [maker.get(i)] : [])));
    waiting.set(n, needs.size);
    for (const d of needs) readers.set(d, [...(readers.get(d) ?? []), n]);
  }
  const ready = s.nodes.filter((n) => waiting.get(n) === 0);
  const order = [];
  while (ready.length > 0) {
    const [n] = ready.splice(s.r.below(ready.length), 1);
    order.push(n);
    for (const next of readers.get(n) ?? []) {
      waiting.set(next, waiting.get(next) - 1);
      if (waiting.get(next) === 0) ready.push(next);
    }
  }
  return order;
}

const keyOf = (n) => JSON.stringify([n.domain, n.opType, [...n.input], n.attribute.map((a) => Buffer.from(onnx.AttributeProto.encode(a).finish()).toString('base64')).sort()]);
const hasSubgraph = (n) => n.attribute.some((a) => a.g);

function duplicate(s, node, [reader, at]) {
  const made = onnx.NodeProto.create({ ...node, name: '', input: [...node.input], output: node.output.map((o) => (o === '' ? '' : s.alike(s.fresh(), o))) });
  reader.input[at] = made.output[node.output.indexOf(reader.input[at])];
  s.nodes.splice(s.nodes.indexOf(node) + 1, 0, made);
}

/** Value types in a graph are optional but for inputs and outputs. */
const wrapped = (s, nodes, kind) => {
  const made = new Set(nodes.flatMap((n) => n.output).filter((o) => o !== ''));
  const inputs = [...new Set(nodes.flatMap(readsOf))].filter((i) => !made.has(i));
  const outside = [...made].filter((o) => s.isOutput(o) || s.isCaptured(o) || s.uses(o).some(([n]) => !nodes.includes(n)));
  return outside.length > 0 && outside.every((o) => s.type(o) !== undefined) && nodes.every((n) => !hasSubgraph(n)) ? { inputs, outputs: outside, kind } : undefined;
};

/** A node and the ones behind it that read nothing else that comes later. */
function runOf(s, length) {
  const first = s.pickNode((n) => !is(n, 'Constant') && !hasSubgraph(n));
  if (!first) return undefined;
  const run = [first];
  while (run.length < length) {
    const last = run.at(-1);
    const next = last.output.flatMap((o) => s.uses(o)).map(([n]) => n).find((n) => !run.includes(n) && !hasSubgraph(n));
    if (!next) break;
    const before = new Set(s.nodes.slice(0, s.nodes.indexOf(first)).flatMap((n) => n.output));
    const known = (i) => i === '' || before.has(i) || s.initializer(i) || s.graph.input.some((v) => v.name === i) || run.some((n) => n.output.includes(i));
    if (!next.input.every(known)) break;
    run.push(next);
  }
  return run;
}

export const STRUCTURE = [
  {
    name: 'structure: every inner value and node renamed',
    exact: true,
    apply(s) {
      const inner = pureInner(s);
      const names = new Map();
      const taken = new Set([...s.graph.input, ...s.graph.output].map((v) => v.name));
      let next = 0;
      renameAll(s, (name) => {
        if (!inner(name)) return name;
        let to = names.get(name);
        if (to === undefined) {
          do to = `${s.r.pick(['x', 'layers.0', 'lm_head', 'mask', 'past', '/vision', 'v'])}${s.r.below(1e6)}_${next++}`;
          while (taken.has(to));
          names.set(name, to);
        }
        return to;
      });
      for (const n of s.nodes) n.name = s.r.chance(0.3) ? '' : `n${next++}`;
      return `${names.size} values`;
    },
  },
  {
    name: 'structure: a strange name',
    exact: true,
    apply(s) {
      const inner = pureInner(s);
      const all = new Set([...s.nodes.flatMap((n) => [...n.input, ...n.output]), ...s.graph.initializer.map((t) => t.name), ...s.graph.input.map((v) => v.name), ...s.graph.output.map((v) => v.name)]);
      const value = s.pickValue(inner) ?? s.r.pick(s.graph.initializer.map((t) => t.name).filter(inner));
      const name = s.r.pick(STRANGE.filter((n) => !all.has(n)));
      if (!value || !inner(value)) return undefined;
      renameAll(s, (v) => (v === value ? name : v));
      return `${value} → ${JSON.stringify(name.slice(0, 40))}`;
    },
  },
  {
    name: 'structure: graph inputs and outputs renamed',
    exact: true,
    apply(s) {
      const chosen = [...s.graph.input, ...s.graph.output].map((v) => v.name).filter((n) => !s.initializer(n) && s.r.chance(0.4));
      const names = new Map(chosen.map((name, i) => [name, s.r.chance(0.3) ? `${s.r.pick(['\ufeff', 'é', 'input ', '#'])}${i}` : `${s.r.pick(['x', 'arg', 'onnx::Foo_', 'out'])}${s.r.below(1000)}_${i}`]));
      if (names.size === 0) return undefined;
      // A name of an earlier step may be drawn again.
      const taken = new Set([...s.nodes.flatMap((n) => n.output), ...[...s.graph.input, ...s.graph.output, ...s.graph.initializer].map((v) => v.name)]);
      for (const [from, to] of names) for (let free = to; free !== from && taken.has(free); free += "'") names.set(from, `${free}'`);
      const original = (name) => [...s.renamed].find(([, now]) => now === name)?.[0] ?? name;
      for (const [from, to] of names) s.renamed.set(original(from), to);
      renameAll(s, (v) => names.get(v) ?? v);
      return [...names].map(([a, b]) => `${a} → ${b}`).slice(0, 4).join(', ');
    },
  },
  {
    name: 'structure: nodes in another order',
    exact: true,
    apply(s) {
      s.model.graph.node = shuffled(s);
      return `${s.nodes.length} nodes`;
    },
  },
  {
    name: 'structure: inputs and outputs in another order',
    exact: true,
    apply(s) {
      s.graph.input = s.r.shuffle(s.graph.input);
      s.graph.output = s.r.shuffle(s.graph.output);
      return 'all';
    },
  },
  {
    name: 'structure: declared inner types left out',
    exact: true,
    apply(s) {
      if (s.graph.valueInfo.length === 0) return undefined;
      s.graph.valueInfo = s.r.chance(0.5) ? [] : s.graph.valueInfo.filter(() => s.r.chance(0.5));
      return `${s.graph.valueInfo.length} left`;
    },
  },
  {
    name: 'structure: inner types declared',
    exact: true,
    apply(s) {
      const declared = new Set([...s.graph.valueInfo, ...s.graph.input, ...s.graph.output].map((v) => v.name));
      let count = 0;
      for (const n of s.nodes) {
        for (const o of n.output) {
          const info = o === '' || declared.has(o) ? undefined : s.info(o);
          if (!info || !(info.type in DATA_TYPES)) continue;
          const dims = info.shapes[0].map((_, i) => s.fixedDim(o, i));
          s.graph.valueInfo.push(valueInfo(o, DATA_TYPES[info.type], dims));
          count++;
        }
      }
      return count > 0 ? `${count} values` : undefined;
    },
  },
  {
    name: 'structure: dim symbols renamed',
    exact: true,
    apply(s) {
      const names = new Map();
      for (const v of [...s.graph.input, ...s.graph.output, ...s.graph.valueInfo]) {
        for (const d of v.type?.tensorType?.shape?.dim ?? []) {
          // Exporters write sizes as symbols too: "64".
          if (!d.dimParam || /^\d+$/.test(d.dimParam)) continue;
          if (!names.has(d.dimParam)) names.set(d.dimParam, s.r.pick([`d${names.size}`, `sequence_${names.size}`, `batch ${names.size}`]));
          d.dimParam = names.get(d.dimParam);
        }
      }
      return names.size > 0 ? `${names.size} symbols` : undefined;
    },
  },
  {
    name: 'structure: a node for each reader',
    exact: true,
    apply(s) {
      const node = s.pickNode((n) => !hasSubgraph(n) && !is(n, 'Constant') && n.output.reduce((a, o) => a + (o === '' ? 0 : s.uses(o).length), 0) > 1);
      if (!node) return undefined;
      const uses = node.output.filter((o) => o !== '').flatMap((o) => s.uses(o));
      for (const use of uses.slice(1)) duplicate(s, node, use);
      return `${s.describe(node)}, ${uses.length} readers`;
    },
  },
  {
    name: 'structure: many nodes for each reader',
    exact: true,
    apply(s) {
      let count = 0;
      for (const node of s.r.shuffle(s.nodes.filter((n) => !hasSubgraph(n) && !is(n, 'MatMul', 'Gemm'))).slice(0, 40)) {
        const uses = node.output.filter((o) => o !== '').flatMap((o) => s.uses(o));
        if (uses.length < 2 || uses.length > 20) continue;
        for (const use of uses.slice(1)) duplicate(s, node, use);
        count++;
      }
      return count > 0 ? `${count} nodes` : undefined;
    },
  },
  {
    name: 'structure: equal nodes merged',
    exact: true,
    apply(s) {
      const seen = new Map();
      const gone = new Set();
      for (const n of s.nodes) {
        if (hasSubgraph(n) || n.opType.startsWith('Random') || n.output.some((o) => s.isOutput(o) || s.isCaptured(o))) continue;
        const key = keyOf(n);
        const first = seen.get(key);
        if (!first || first.output.length !== n.output.length || first.output.some((o, i) => (o === '') !== (n.output[i] === ''))) {
          seen.set(key, n);
          continue;
        }
        n.output.forEach((o, i) => {
          if (o !== '') for (const [m, at] of s.uses(o)) m.input[at] = first.output[i];
        });
        gone.add(n);
      }
      s.model.graph.node = s.nodes.filter((n) => !gone.has(n));
      return gone.size > 0 ? `${gone.size} nodes` : undefined;
    },
  },
  {
    name: 'structure: dead ends added',
    exact: true,
    apply(s) {
      const x = s.pickValue();
      if (!x) return undefined;
      const [a, b] = [s.fresh('dead'), s.fresh('dead')];
      s.placeAfter(x, [makeNode('Identity', [x], [a]), makeNode('Shape', [a], [b])]);
      return x;
    },
  },
  {
    name: 'structure: an inner value as one more output',
    exact: true,
    apply(s) {
      const x = s.pickValue((name, info) => info.type in DATA_TYPES && !s.isOutput(name) && s.producer(name) && !is(s.producer(name), 'Constant'));
      if (!x) return undefined;
      s.graph.output.push(onnx.ValueInfoProto.create({ name: x, type: { tensorType: { elemType: DATA_TYPES[s.type(x)], shape: { dim: s.info(x).shapes[0].map(() => ({})) } } } }));
      return x;
    },
  },
  {
    name: 'structure: an unused operator set imported, documentation and metadata',
    exact: true,
    apply(s) {
      if (!s.model.opsetImport.some((o) => o.domain === 'com.example')) s.model.opsetImport.push(onnx.OperatorSetIdProto.create({ domain: 'com.example', version: 3 }));
      s.model.metadataProps.push(onnx.StringStringEntryProto.create({ key: `k${s.r.below(1e6)}`, value: '{}' }));
      s.model.docString = 'a model';
      for (const n of s.nodes) n.docString = s.r.chance(0.1) ? 'a node' : n.docString;
      return 'done';
    },
  },
  {
    name: 'structure: the default domain spelled ai.onnx',
    exact: true,
    apply(s) {
      const some = s.r.chance(0.5);
      let count = 0;
      for (const n of s.nodes) {
        if (n.domain !== '' || !some || s.r.chance(0.5) || ['SimplifiedLayerNormalization'].includes(n.opType)) continue;
        n.domain = 'ai.onnx';
        count++;
      }
      return count > 0 ? `${count} nodes` : undefined;
    },
  },
  {
    name: 'structure: nodes in a model-local function',
    exact: true,
    apply(s) {
      const run = runOf(s, s.r.pick([1, 1, 2, 3, 6]));
      const fit = run && wrapped(s, run, 'function');
      if (!fit) return undefined;
      const name = s.fresh('Fn');
      const inner = new Map();
      const rename = (v) => {
        if (v === '') return '';
        if (!inner.has(v)) inner.set(v, `i${inner.size}`);
        return inner.get(v);
      };
      const body = run.map((n) => onnx.NodeProto.create({ ...n, input: n.input.map(rename), output: n.output.map(rename) }));
      s.model.functions.push(
        onnx.FunctionProto.create({
          name,
          domain: 'fuzz.functions',
          input: fit.inputs.map(rename),
          output: fit.outputs.map(rename),
          node: body,
          opsetImport: s.model.opsetImport.filter((o) => o.domain !== 'fuzz.functions'),
        }),
      );
      if (!s.model.opsetImport.some((o) => o.domain === 'fuzz.functions')) s.model.opsetImport.push(onnx.OperatorSetIdProto.create({ domain: 'fuzz.functions', version: 1 }));
      s.nodes.splice(s.nodes.indexOf(run.at(-1)), 1, makeNode(name, fit.inputs, fit.outputs, {}, 'fuzz.functions'));
      s.model.graph.node = s.nodes.filter((n) => !run.includes(n));
      if (Number(s.model.irVersion) < 8) s.model.irVersion = 8;
      return run.map((n) => n.opType).join(', ');
    },
  },
  {
    name: 'structure: nodes in an If with a constant condition',
    exact: true,
    apply(s) {
      const run = runOf(s, s.r.pick([1, 1, 2, 3]));
      const fit = run && wrapped(s, run, 'branch');
      if (!fit) return undefined;
      const branch = (label) => {
        const rename = new Map(run.flatMap((n) => n.output).filter((o) => o !== '').map((o) => [o, s.fresh(label)]));
        const to = (v) => rename.get(v) ?? v;
        return onnx.GraphProto.create({
          name: label,
          node: run.map((n) => onnx.NodeProto.create({ ...n, input: n.input.map(to), output: n.output.map(to) })),
          input: [],
          output: fit.outputs.map((o) => valueInfo(to(o), DATA_TYPES[s.type(o)])),
          initializer: [],
        });
      };
      const node = makeNode('If', [s.literal('bool', [s.r.below(2)], [])], fit.outputs, { then_branch: { graph: branch('t') }, else_branch: { graph: branch('e') } });
      s.nodes.splice(s.nodes.indexOf(run.at(-1)), 1, node);
      s.model.graph.node = s.nodes.filter((n) => !run.includes(n));
      return run.map((n) => n.opType).join(', ');
    },
  },
];
