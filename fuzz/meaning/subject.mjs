/**
 * A model under mutation, with what is known about its values. Types and shapes were observed by running the fixture
 * with every value as an output, on prompts of different batch, length and cache: independent of the compiler.
 */
import { fixtureNames, Fixture, open, values } from '../fixtures.mjs';
import { DATA_TYPES, decode, encode, is, makeNode, onnx, readsOf, tensor } from '../proto.mjs';

/** What a value looked like: its type, and its dims in each run; `low`, `high`, `special` (NaN or infinite) of its numbers. */
async function observe(fixture) {
  const model = decode(fixture.bytes);
  const outputs = new Set(model.graph.output.map((o) => o.name));
  for (const n of model.graph.node) {
    for (const o of n.output) {
      if (o === '' || outputs.has(o)) continue;
      outputs.add(o);
      model.graph.output.push(onnx.ValueInfoProto.create({ name: o }));
    }
  }
  const session = await open(encode(model));
  const facts = new Map();
  const note = (name, t) => {
    const v = t.size > 0 ? values(t) : [];
    const known = facts.get(name) ?? { type: t.type, shapes: [], low: Infinity, high: -Infinity, special: false };
    known.shapes.push([...t.dims]);
    for (let i = 0; i < v.length; i++) {
      if (!Number.isFinite(Number(v[i]))) known.special = true;
      else {
        if (v[i] < known.low) known.low = v[i];
        if (v[i] > known.high) known.high = v[i];
      }
    }
    facts.set(name, known);
  };
  const scenarios = fixture.info.scenarios.filter((s) => s.plan === 'default' && fixture.runsUncompiled(s));
  for (const scenario of [scenarios[0], scenarios.find((s) => s.kind === 'batch') ?? scenarios.at(-1)]) {
    for (const [i, out] of (await fixture.run(session, { runs: scenario.runs.slice(0, 2) })).entries()) {
      for (const [name, t] of Object.entries(out)) note(name, t);
      for (const [name, ref] of Object.entries(scenario.runs[i].feeds)) note(name, fixture.tensor(ref));
    }
  }
  await session.release();
  return facts;
}

const observed = new Map();
const fixtures = new Map();

/** `name` is a fixture, or `<fixture>/<layers>` for one with fewer layers. */
export async function fixtureOf(name) {
  let f = fixtures.get(name);
  if (f) return f;
  const [plain, layers] = name.split('/');
  f = new Fixture(plain);
  if (layers) f = (await f.sliced(Number(layers))) ?? f;
  fixtures.set(name, f);
  return f;
}

/** A fresh subject: the fixture as it is. */
export async function subjectOf(name) {
  const fixture = await fixtureOf(name);
  let facts = observed.get(name);
  if (!facts) {
    facts = await observe(fixture);
    observed.set(name, facts);
  }
  return new Subject(fixture, new Map(facts));
}

export { fixtureNames };

const FLOATS = ['float32', 'float16'];
export const isFloat = (type) => FLOATS.includes(type);
export const isInt = (type) => type === 'int64' || type === 'int32';

export class Subject {
  #next = 0;
  #names;
  /** Random numbers of the mutation that is being applied. */
  r;
  /** The unmutated model where a mutation needs another one than the fixture (weights that are exactly representable). */
  base;
  /** Graph inputs and outputs that are called otherwise now. */
  renamed = new Map();
  /** How tensors are stored when the model is written; undefined: embedded. */
  external;

  constructor(fixture, facts) {
    this.fixture = fixture;
    this.model = decode(fixture.bytes);
    this.facts = facts;
  }

  get graph() {
    return this.model.graph;
  }

  get nodes() {
    return this.model.graph.node;
  }

  opset(domain = '') {
    return Number(this.model.opsetImport.find((o) => o.domain === domain || (domain === '' && o.domain === 'ai.onnx'))?.version ?? 0);
  }

  fresh(label = 'v') {
    if (!this.#names) {
      this.#names = new Set();
      const visit = (g) => {
        for (const n of g.node) {
          for (const o of n.output) this.#names.add(o);
          for (const a of n.attribute) if (a.g) visit(a.g);
        }
        for (const v of [...g.input, ...g.output, ...g.initializer]) this.#names.add(v.name);
      };
      visit(this.graph);
    }
    for (;;) {
      const name = `${label}_${this.r.below(1000)}_${this.#next++}`;
      if (!this.#names.has(name)) {
        this.#names.add(name);
        return name;
      }
    }
  }

  /** Forgets names after a mutation that made its own. */
  renames() {
    this.#names = undefined;
  }

  info(name) {
    return this.facts.get(name);
  }

  type(name) {
    return this.facts.get(name)?.type ?? this.initializerType(name);
  }

  initializerType(name) {
    const t = this.initializer(name);
    return t && ['float32', 'int64', 'int32', 'bool', 'float16'].find((name) => DATA_TYPES[name] === t.dataType);
  }

  rank(name) {
    return this.facts.get(name)?.shapes[0]?.length ?? this.initializer(name)?.dims.length;
  }

  /** Size of an axis that was the same in every run and is not one: a constant of the model. */
  fixedDim(name, axis) {
    const t = this.initializer(name);
    if (t) return Number(t.dims.at(axis));
    const shapes = this.facts.get(name)?.shapes ?? [];
    const size = shapes[0]?.at(axis);
    return size !== undefined && size > 1 && shapes.every((s) => s.at(axis) === size) ? size : undefined;
  }

  initializer(name) {
    return this.graph.initializer.find((t) => t.name === name);
  }

  /** The tensor behind an initializer or the output of a Constant node. */
  constant(name) {
    const t = this.initializer(name);
    if (t) return t;
    const node = this.producer(name);
    return node && is(node, 'Constant') ? node.attribute.find((a) => a.name === 'value')?.t : undefined;
  }

  producer(name) {
    if (name === '') return undefined;
    for (const n of this.nodes) for (const o of n.output) if (o === name) return n;
    return undefined;
  }

  /** [node, input index] of every use by a node of the main graph. */
  uses(name) {
    const found = [];
    for (const n of this.nodes) for (let at = 0; at < n.input.length; at++) if (n.input[at] === name) found.push([n, at]);
    return found;
  }

  isOutput(name) {
    return this.graph.output.some((o) => o.name === name);
  }

  /** Read by a subgraph, where mutations do not follow. */
  isCaptured(name) {
    return this.nodes.some((n) => n.attribute.some((a) => a.g && readsOf({ input: [], attribute: [a] }).includes(name)));
  }

  know(name, type, shapes, like = {}) {
    this.facts.set(name, { low: -Infinity, high: Infinity, special: true, ...like, type, shapes });
    return name;
  }

  /** `to` is a value like `from`. */
  alike(to, from) {
    const f = this.facts.get(from);
    if (f) this.facts.set(to, f);
    return to;
  }

  /** A small constant as initializer or Constant node. */
  literal(type, list, dims = [list.length]) {
    const name = this.fresh('c');
    if (this.r.chance(0.5)) this.graph.initializer.push(tensor(name, type, list, dims));
    else this.nodes.unshift(makeNode('Constant', [], [name], { value: { tensor: tensor('', type, list, dims) } }));
    return name;
  }

  /** Puts nodes right behind the one that makes `name` (or first, for inputs). */
  placeAfter(name, nodes) {
    const at = name === '' ? -1 : this.nodes.findIndex((n) => n.output.includes(name));
    this.nodes.splice(at < 0 ? this.#constants() : at + 1, 0, ...nodes);
  }

  /** Constants made by `literal` stand first. */
  #constants() {
    let at = 0;
    while (at < this.nodes.length && is(this.nodes[at], 'Constant')) at++;
    return at;
  }

  /** Puts `nodes` in the place of `node`. */
  replace(node, nodes) {
    this.nodes.splice(this.nodes.indexOf(node), 1, ...nodes);
  }

  /** Some of the uses of a value, all of them or one. */
  someUses(name) {
    const uses = this.uses(name);
    return uses.length <= 1 || this.r.chance(0.5) ? uses : [this.r.pick(uses)];
  }

  /** A node of a random op first, then a random one of these: rare ops (Softmax, fused attention) get their share. */
  pickNode(accept) {
    const fit = new Map();
    for (const n of this.nodes) {
      const key = `${n.domain}.${n.opType}`;
      const list = fit.get(key) ?? [];
      list.push(n);
      fit.set(key, list);
    }
    for (const key of this.r.shuffle([...fit.keys()])) {
      const found = this.r.shuffle(fit.get(key)).find(accept);
      if (found) return found;
    }
    return undefined;
  }

  /** A computed value or graph input that is read by a node of the main graph and of which `accept` holds. */
  pickValue(accept = () => true) {
    const fits = (name) => name !== '' && this.facts.has(name) && !this.initializer(name) && accept(name, this.info(name));
    const node = this.pickNode((n) => n.domain !== 'com.microsoft.nchwc' && !is(n, 'Constant') && (n.output.some((o) => fits(o) && this.uses(o).length > 0) || n.input.some((i) => fits(i) && !is(this.producer(i) ?? n, 'Constant'))));
    if (!node) return undefined;
    const made = node.output.filter((o) => fits(o) && this.uses(o).length > 0);
    const read = node.input.filter((i) => fits(i) && !is(this.producer(i) ?? node, 'Constant'));
    return this.r.pick(made.length > 0 && (read.length === 0 || this.r.chance(0.6)) ? made : read);
  }

  /** Names of the values of a node for a log. */
  describe(node) {
    return `${node.opType} → ${node.output[0]}`;
  }

  /** The fixture as it was. */
  unmutated() {
    return decode(this.fixture.bytes);
  }
}
