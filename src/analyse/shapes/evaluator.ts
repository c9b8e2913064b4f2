/**
 * The walk: nodes in topological order, each op's handler for the facts of its inputs. Facts that contradict each other are collected.
 */

import { extentOf, type Graph, type Node, type Tensor, type Value } from '../../ir/graph.js';
import { Call, type DataLimits, limitFor } from './call.js';
import { ConstantFact, constantFact } from './constant-fact.js';
import { countOf, isSize } from './dims.js';
import { handlerOf } from './handlers.js';
import { inLane, type Known, Lanes, Varying } from './lanes.js';
import { type Form, formOf, Memo, MOST_ELEMENTS, type Step, Steps } from './memo.js';
import type { Fact, InputBinding, ShapeBindings, ShapeConflict } from './types.js';

const DEFAULT_DATA_LIMIT = 4096;
const DEFAULT_FLOAT_LIMIT = 256;
/** Contents of this size are always followed. */
const FEW_ELEMENTS = 256;
/** Elements of larger contents that an evaluation keeps. */
const MOST_HELD_ELEMENTS = 2 ** 25;

/** Of a value that is read and that nothing evaluated makes. */
const UNREACHED: Fact = { dtype: 0, shape: null };
const CONTROL: ReadonlySet<string> = new Set(['If', 'Loop', 'Scan']);

class LaneMemory {
  /** What forms gave. */
  readonly steps = new Steps();
  /** Facts as they are where only these lanes know of them. */
  readonly partly = new Map<Known, Known>();
}

/** Evaluates a graph in one walk at bindings of the same limits: its lanes. */
export class Evaluator {
  readonly unknownOps: readonly Map<string, number>[];
  readonly conflicts: readonly ShapeConflict[][];
  readonly takenBranches: readonly Map<Node, Graph>[];
  private readonly facts = new Map<Value, Known>();
  private limits: DataLimits;
  /** Contents that are kept, each once, and how many more elements may be. */
  private readonly held = new Set<readonly number[]>();
  private room: number;
  private readonly given: readonly ShapeBindings['inputs'][];
  /** Whether something is said of values that nodes make. */
  private readonly givenInside: boolean;
  /** Whether limits are as wide as what forms hold fixed. */
  private readonly takesFixed: boolean;
  private lanes: Lanes;
  /** Lanes that run what is walked: in a branch those that take it. */
  private running: readonly number[];
  /** What is remembered for the lanes that run: for all of them, or (by which those are) for some, of whom nothing is known for the others. */
  private memory = new LaneMemory();
  private readonly byLanes = new Map<string, LaneMemory>();

  /** @param memo facts and what forms gave of them, of evaluations with the same limits */
  constructor(
    graph: Graph,
    bindings: readonly ShapeBindings[],
    private memo: Memo,
  ) {
    const [{ dataLimit, floatLimit }] = bindings as [ShapeBindings];
    this.given = bindings.map((b) => b.inputs);
    const inputs = new Set(graph.inputs);
    this.givenInside = this.given.some((given) => [...given.keys()].some((v) => v.producer !== null && !inputs.has(v)));
    this.limits = { integers: dataLimit ?? DEFAULT_DATA_LIMIT, floats: floatLimit ?? DEFAULT_FLOAT_LIMIT };
    this.room = Math.max(MOST_HELD_ELEMENTS, 32 * this.limits.integers);
    this.takesFixed = Math.min(this.limits.integers, this.limits.floats) >= MOST_ELEMENTS;
    this.unknownOps = bindings.map(() => new Map());
    this.conflicts = bindings.map(() => []);
    this.takenBranches = bindings.map(() => new Map());
    this.lanes = new Lanes(bindings.length);
    this.running = bindings.map((_, lane) => lane);
  }

  /** Facts stay; how they were come by is forgotten. */
  done(): void {
    this.memo = new Memo();
    this.memory = new LaneMemory();
    this.byLanes.clear();
    this.lanes = new Lanes(this.lanes.count);
    this.held.clear();
  }

  get exhausted(): boolean {
    return this.room < 0;
  }

  known(value: Value): Known | undefined {
    return this.facts.get(value) ?? (value.tensor === undefined ? undefined : this.constant(value, value.tensor));
  }

  /** Facts of initializers are made when they are asked for: of a million, few are. */
  private constant(value: Value, tensor: Tensor): Fact {
    const fact = this.memo.one(constantFact(tensor, limitFor(this.limits, tensor.dataType)));
    this.facts.set(value, fact);
    return fact;
  }

  private input(value: Value): Known {
    return this.known(value) ?? UNREACHED;
  }

  /** Facts of graph inputs, as they are bound where `bound`. */
  enter(graph: Graph, bound: boolean): void {
    for (const value of graph.inputs) {
      const facts = this.given.map((inputs, lane): Fact | undefined => {
        if (!this.running.includes(lane)) return undefined;
        const binding = bound ? inputs.get(value) : undefined;
        // An initializer that is also an input is its default.
        return binding === undefined && value.tensor !== undefined ? undefined : this.memo.one(this.inputFact(value, binding, lane));
      });
      if (facts.every((f) => f === undefined)) continue;
      const fallback = value.tensor && facts.includes(undefined) ? this.constant(value, value.tensor) : undefined;
      this.facts.set(value, this.lanes.of(facts.map((f) => f ?? fallback)));
    }
  }

  private inputFact(value: Value, bound: InputBinding | undefined, lane: number): Fact {
    const dtype = value.type?.elemType ?? bound?.dtype ?? 0;
    const declared = value.type?.dims?.map((d) => extentOf(d) ?? null);
    if (bound === undefined) return { dtype, shape: declared ?? null };
    const conflict = (reason: string): void => void this.conflicts[lane]?.push({ node: null, reason });
    if (declared && (declared.length !== bound.shape.length || declared.some((d, i) => d !== null && d !== bound.shape[i]))) {
      conflict(`input "${value.name}" is declared [${declared.map((d) => d ?? '?')}] and bound to [${bound.shape}]`);
    }
    const count = countOf(bound.shape);
    if (bound.data !== undefined && bound.data.length !== count) {
      conflict(`input "${value.name}" is bound to ${count} elements and ${bound.data.length} are given`);
      return { dtype, shape: bound.shape };
    }
    return { dtype, shape: bound.shape, data: bound.data };
  }

  walk(graph: Graph): void {
    const { nodes } = graph;
    // Where lanes hold too much together, what is found is not asked for.
    for (let i = 0; i < nodes.length && (this.room >= 0 || this.lanes.count === 1); i++) this.evaluate(nodes[i] as Node);
  }

  /** Runs for every node of every evaluation, in code that is not optimised yet: it makes nothing where the memo knows. */
  private evaluate(node: Node): void {
    const form = formOf(node, handlerOf);
    if (form === null) {
      if (node.domain === '' && CONTROL.has(node.opType)) this.control(node);
      else this.unknown(node);
      return;
    }
    const { inputs, outputs } = node;
    if (form.fixed !== undefined && this.takesFixed) {
      if (outputs[0]) this.settle(outputs[0], form.fixed);
      return;
    }
    let results: readonly (Known | undefined)[] | undefined;
    let step: Step | undefined;
    if (form.shared) {
      step = this.memory.steps.start(form);
      for (let i = 0; i < inputs.length; i++) {
        const value = inputs[i] as Value | null;
        step = step.next(value === null ? null : (this.facts.get(value) ?? this.input(value)));
      }
      results = step.results;
    }
    results ??= this.work(form, node, step);
    for (let i = 0; i < outputs.length; i++) {
      const output = outputs[i];
      if (output) this.settle(output, results[i] ?? unknownOf(output));
    }
  }

  private settle(output: Value, known: Known): void {
    if (this.givenInside) this.settleEach(output, known);
    else this.learn(output, known);
  }

  private learn(output: Value, known: Known): void {
    this.facts.set(output, this.running.length === this.lanes.count ? known : this.ofRunning(known));
  }

  /** In a branch that not all lanes take. */
  private ofRunning(known: Known): Known {
    const { partly } = this.memory;
    let found = partly.get(known);
    if (found === undefined) {
      const facts = new Array<Fact | undefined>(this.lanes.count).fill(undefined);
      for (const lane of this.running) facts[lane] = inLane(known, lane);
      found = this.lanes.of(facts);
      partly.set(known, found);
    }
    return found;
  }

  /** Where a lane is told what another works out. */
  private settleEach(output: Value, known: Known): void {
    const facts = new Array<Fact | undefined>(this.lanes.count);
    for (const lane of this.running) {
      const fact = inLane(known, lane);
      // What is said about a value from outside holds, as far as its size agrees.
      const given = this.given[lane]?.get(output);
      facts[lane] = given && fact?.shape?.every((d, axis) => d === null || d === given.shape[axis]) ? { dtype: fact.dtype, shape: given.shape, data: given.data } : fact;
    }
    this.facts.set(output, this.lanes.of(Array.from(facts)));
  }

  private work(form: Form, node: Node, step: Step | undefined): readonly (Known | undefined)[] {
    const inputs = node.inputs.map((v) => v && this.input(v));
    const lanes = this.running;
    let sound = true;
    const workIn = (lane: number): readonly (Fact | undefined)[] => {
      const facts = inputs.map((known) => known && (inLane(known, lane) ?? UNREACHED));
      // What another lane was given, or this one elsewhere.
      let alone = form.shared && this.lanes.count > 1 && this.room >= 0 ? this.memo.alone.start(form) : undefined;
      for (let i = 0; alone && i < facts.length; i++) alone = alone.next(facts[i] as Fact | null);
      if (alone?.results) return this.holding(alone.results as readonly (Fact | undefined)[]);
      let soundAlone = true;
      const complain = (reason: string): void => {
        soundAlone = false;
        this.conflicts[lane]?.push({ node, reason });
      };
      const result = form.handler(new Call(node, facts, this.limits, complain));
      const results = this.holding((Array.isArray(result) ? (result as readonly (Fact | undefined)[]) : [result as Fact]).map((fact) => fact && this.memo.one(withSizes(fact))));
      if (!soundAlone) sound = false;
      else if (alone) alone.results = results;
      return results;
    };
    let results: readonly (Known | undefined)[] = workIn(lanes[0] as number);
    if (lanes.length > 1 && !(sound && this.areAlike(inputs))) {
      const each = new Array<readonly (Fact | undefined)[]>(this.lanes.count).fill(NOTHING);
      each[lanes[0] as number] = results as readonly (Fact | undefined)[];
      for (const lane of lanes.slice(1)) each[lane] = workIn(lane);
      const known = node.outputs.map((output, i): Known | undefined => {
        if (each.every((facts) => facts[i] === undefined)) return undefined;
        return this.lanes.of(each.map((facts, lane) => facts[i] ?? (output && lanes.includes(lane) ? unknownOf(output) : undefined)));
      });
      // What nothing is known of is of the output's declared type: not what another node's would be.
      sound &&= each.every((facts) => facts === NOTHING || known.every((fact, i) => (fact === undefined) === (facts[i] === undefined)));
      results = known;
    }
    // A contradiction is told of every node.
    if (step && sound) step.results = results;
    return results;
  }

  /** Whether all lanes that run know the same of what a node reads. */
  private areAlike(inputs: readonly (Known | null)[]): boolean {
    const lanes = this.running;
    for (let i = 0; i < inputs.length; i++) {
      const known = inputs[i];
      if (!(known instanceof Varying)) continue;
      const first = known.facts[lanes[0] as number];
      for (let k = 1; k < lanes.length; k++) if (known.facts[lanes[k] as number] !== first) return false;
    }
    return true;
  }

  private holding(facts: readonly (Fact | undefined)[]): readonly (Fact | undefined)[] {
    for (let i = 0; i < facts.length; i++) if (facts[i] !== undefined) this.hold(facts[i] as Fact);
    return facts;
  }

  /** A graph may change a mask in as many nodes as it likes, and all that became of it is kept: from some size on, no more. */
  private hold(fact: Fact): void {
    const elements = fact instanceof ConstantFact ? undefined : (fact.data ?? fact.partial);
    if (elements === undefined || elements.length <= FEW_ELEMENTS || this.held.has(elements)) return;
    this.held.add(elements);
    this.room -= elements.length;
    if (this.room < 0) this.limits = { integers: Math.min(this.limits.integers, FEW_ELEMENTS), floats: Math.min(this.limits.floats, FEW_ELEMENTS) };
  }

  /** What is remembered for these lanes. */
  private memoryOf(lanes: string): LaneMemory {
    let memory = this.byLanes.get(lanes);
    if (memory === undefined) {
      memory = new LaneMemory();
      this.byLanes.set(lanes, memory);
    }
    return memory;
  }

  private unknown(node: Node): void {
    const op = node.domain ? `${node.domain}.${node.opType}` : node.opType;
    for (const lane of this.running) {
      const ops = this.unknownOps[lane] as Map<string, number>;
      ops.set(op, (ops.get(op) ?? 0) + 1);
    }
    this.nothingKnown(node);
  }

  private nothingKnown(node: Node): void {
    for (const output of node.outputs) {
      if (output !== null) this.learn(output, unknownOf(output));
    }
  }

  private control(node: Node): void {
    if (!node.is('If')) {
      this.nothingKnown(node);
      return;
    }
    const all = this.running;
    const known = node.inputs[0] && this.known(node.inputs[0]);
    const conditionOf = (lane: number): number | undefined => {
      const data = inLane(known ?? undefined, lane)?.data;
      return data?.length === 1 ? data[0] : undefined;
    };
    const taken = new Map<Graph, readonly number[]>();
    for (const name of ['then_branch', 'else_branch']) {
      const attribute = node.attributes.get(name);
      if (attribute?.kind !== 'graph') continue;
      const graph = attribute.value;
      const lanes = all.filter((lane) => {
        const condition = conditionOf(lane);
        return condition === undefined || (condition ? 'then_branch' : 'else_branch') === name;
      });
      if (lanes.length === 0) continue;
      taken.set(graph, lanes);
      this.run(lanes, () => {
        this.enter(graph, false);
        this.walk(graph);
      });
      for (const lane of lanes) if (conditionOf(lane) !== undefined) this.takenBranches[lane]?.set(node, graph);
    }
    for (const [i, output] of node.outputs.entries()) {
      if (output === null) continue;
      const facts = new Array<Fact | undefined>(this.lanes.count);
      for (const lane of all) {
        const ends = [...taken].filter(([, lanes]) => lanes.includes(lane)).map(([graph]) => graph.outputs[i] && inLane(this.known(graph.outputs[i]), lane));
        facts[lane] = agreed(ends) ?? unknownOf(output);
      }
      this.facts.set(output, this.lanes.of(Array.from(facts)));
    }
  }

  /** What only some of the lanes do. */
  private run(lanes: readonly number[], work: () => void): void {
    const { running, memory } = this;
    if (lanes.length < running.length) {
      this.running = lanes;
      this.memory = this.memoryOf(lanes.join());
    }
    work();
    this.running = running;
    this.memory = memory;
  }
}

const NOTHING: readonly undefined[] = [];

function unknownOf(output: Value): Fact {
  return { dtype: output.type?.elemType ?? 0, shape: null };
}

/** A fact as it is, but for sizes that are none (negative, fractions, beyond 2⁵³), as a broken graph may lead to: not known. */
function withSizes(fact: Fact): Fact {
  if (fact.shape === null || fact.shape.every((d) => d === null || isSize(d))) return fact;
  return { dtype: fact.dtype, shape: fact.shape.map((d) => (d === null || isSize(d) ? d : null)) };
}

/** What all of `facts` say. */
function agreed(facts: readonly (Fact | undefined)[]): Fact | undefined {
  const [first, ...others] = facts;
  if (first === undefined || others.length === 0) return first;
  let shape = first.shape;
  let data = first.data;
  for (const other of others) {
    const theirs = other?.shape ?? null;
    shape = shape === null || theirs === null || theirs.length !== shape.length ? null : shape.map((d, i) => (d === theirs[i] ? d : null));
    const same = data !== undefined && other?.data?.length === data.length && data.every((x, i) => x === other.data?.[i]);
    data = same && shape !== null && !shape.includes(null) ? data : undefined;
  }
  return { dtype: first.dtype, shape, data };
}
