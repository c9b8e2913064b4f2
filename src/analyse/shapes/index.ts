/**
 * Concrete abstract interpretation of a graph: sizes of every value, and contents of those that steer sizes.
 *
 * Given sizes for the graph's inputs, nodes are walked in topological order; each op has a handler that derives
 * dtype, shape and (for small values) contents of its outputs. What depends on data is null, an op without a handler
 * gives outputs of unknown rank: nothing throws. Facts that contradict each other are collected.
 */

import { extentOf, type Graph, type Node, type Tensor, type Value } from '../../ir/graph.js';
import { Call, ConstantFact, constantFact, countOf, type DataLimits, type HandlerTable, isSize, limitFor } from './call.js';
import { contrib, preview, standardAttentionOps } from './contrib.js';
import { convolution } from './convolution.js';
import { elementwise } from './elementwise.js';
import { generate } from './generate.js';
import { indexing } from './indexing.js';
import { linear } from './linear.js';
import { type Form, formOf, type Handler, Memo, MOST_ELEMENTS, type Step } from './memo.js';
import { movement } from './movement.js';
import { normalization } from './normalization.js';
import { recurrence } from './recurrent.js';
import { reduction } from './reduction.js';
import type { Dims, Fact, InputBinding, ShapeBindings, ShapeConflict, ShapeFacts } from './types.js';

export type { Dims, Fact, InputBinding, ShapeBindings, ShapeConflict, ShapeFacts } from './types.js';

const DEFAULT_DATA_LIMIT = 4096;
const DEFAULT_FLOAT_LIMIT = 256;
/** Contents of this size are always followed. */
const FEW_ELEMENTS = 256;
/** Elements of larger contents that an evaluation keeps. */
const MOST_HELD_ELEMENTS = 2 ** 25;

const HANDLERS: ReadonlyMap<string, ReadonlyMap<string, Handler>> = new Map([
  ['', table(elementwise, movement, indexing, generate, reduction, linear, convolution, normalization, recurrence, standardAttentionOps)],
  ['com.microsoft', table(contrib)],
  ['ai.onnx.preview', table(preview)],
  // Never in a file: what passes put one of two values for (src/rewrite/builder.ts), and what an inlined branch hands over (src/analyse/inline.ts).
  ['pdrop', table({ Select: (call) => call.input(1), HandOver: (call) => call.input(0) })],
]);

const STANDARD = HANDLERS.get('') as ReadonlyMap<string, Handler>;
const handlerOf = ({ domain, opType }: Node): Handler | undefined => (domain === '' ? STANDARD : HANDLERS.get(domain))?.get(opType);
/** Of a value that is read and that nothing evaluated makes. */
const UNREACHED: Fact = { dtype: 0, shape: null };
const CONTROL: ReadonlySet<string> = new Set(['If', 'Loop', 'Scan']);

function table(...parts: readonly HandlerTable[]): Map<string, Handler> {
  return new Map(parts.flatMap((part) => Object.entries(part)));
}

/**
 * Evaluates `graph` at the sizes (and contents) of `bindings`.
 *
 * Subgraphs: the branch an If takes is evaluated with the values it captures; when the condition is not known both
 * are, and what they agree on holds. Bodies of Loop and Scan are not entered; their outputs have unknown rank.
 */
export function evaluateShapes(graph: Graph, bindings: ShapeBindings): ShapeFacts {
  const evaluator = new Evaluator(bindings);
  evaluator.enter(graph, bindings);
  evaluator.walk(graph);
  evaluator.done();
  return evaluator;
}

class Evaluator implements ShapeFacts {
  readonly unknownOps = new Map<string, number>();
  readonly conflicts: ShapeConflict[] = [];
  readonly takenBranches = new Map<Node, Graph>();
  private readonly facts = new Map<Value, Fact>();
  private limits: DataLimits;
  /** Contents that are kept, each once, and how many more elements may be. */
  private readonly held = new Set<readonly number[]>();
  private room: number;
  private readonly given: ShapeBindings['inputs'];
  /** Whether something is said of values that nodes make. */
  private readonly givenInside: boolean;
  /** Whether limits are as wide as what forms hold fixed. */
  private readonly takesFixed: boolean;
  private memo = new Memo();

  constructor(bindings: ShapeBindings) {
    this.given = bindings.inputs;
    this.givenInside = [...bindings.inputs.keys()].some((v) => v.producer !== null);
    this.limits = { integers: bindings.dataLimit ?? DEFAULT_DATA_LIMIT, floats: bindings.floatLimit ?? DEFAULT_FLOAT_LIMIT };
    this.room = Math.max(MOST_HELD_ELEMENTS, 32 * this.limits.integers);
    this.takesFixed = Math.min(this.limits.integers, this.limits.floats) >= MOST_ELEMENTS;
  }

  /** Facts stay; how they were come by is forgotten. */
  done(): void {
    this.memo = new Memo();
    this.held.clear();
  }

  get(value: Value): Fact | undefined {
    return this.facts.get(value) ?? (value.tensor === undefined ? undefined : this.constant(value, value.tensor));
  }

  /** Facts of initializers are made when they are asked for: of a million, few are. */
  private constant(value: Value, tensor: Tensor): Fact {
    const fact = this.memo.one(constantFact(tensor, limitFor(this.limits, tensor.dataType)));
    this.facts.set(value, fact);
    return fact;
  }

  shape(value: Value): Dims | null {
    return this.get(value)?.shape ?? null;
  }

  scalar(value: Value): number | undefined {
    const data = this.get(value)?.data;
    return data?.length === 1 ? data[0] : undefined;
  }

  ints(value: Value): readonly number[] | undefined {
    return this.get(value)?.data;
  }

  /** Facts of graph inputs. */
  enter(graph: Graph, bindings: ShapeBindings | undefined): void {
    for (const value of graph.inputs) {
      const bound = bindings?.inputs.get(value);
      // An initializer that is also an input is its default.
      if (bound === undefined && value.tensor !== undefined) continue;
      this.facts.set(value, this.inputFact(value, bound));
    }
  }

  private inputFact(value: Value, bound: InputBinding | undefined): Fact {
    const dtype = value.type?.elemType ?? bound?.dtype ?? 0;
    const declared = value.type?.dims?.map((d) => extentOf(d) ?? null);
    if (bound === undefined) return { dtype, shape: declared ?? null };
    if (declared && (declared.length !== bound.shape.length || declared.some((d, i) => d !== null && d !== bound.shape[i]))) {
      this.conflicts.push({ node: null, reason: `input "${value.name}" is declared [${declared.map((d) => d ?? '?')}] and bound to [${bound.shape}]` });
    }
    const count = countOf(bound.shape);
    if (bound.data !== undefined && bound.data.length !== count) {
      this.conflicts.push({ node: null, reason: `input "${value.name}" is bound to ${count} elements and ${bound.data.length} are given` });
      return { dtype, shape: bound.shape };
    }
    return { dtype, shape: bound.shape, data: bound.data };
  }

  walk(graph: Graph): void {
    const { nodes } = graph;
    for (let i = 0; i < nodes.length; i++) this.evaluate(nodes[i] as Node);
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
    let results: readonly (Fact | undefined)[] | undefined;
    let step: Step | undefined;
    if (form.shared) {
      step = this.memo.start(form);
      for (let i = 0; i < inputs.length; i++) {
        const value = inputs[i] as Value | null;
        step = step.next(value === null ? null : (this.facts.get(value) ?? this.input(value)));
      }
      results = step.results;
    }
    results ??= this.work(form, node, step);
    for (let i = 0; i < outputs.length; i++) {
      const output = outputs[i];
      if (output) this.settle(output, results[i] ?? { dtype: output.type?.elemType ?? 0, shape: null });
    }
  }

  private settle(output: Value, fact: Fact): void {
    // What is said about a value from outside holds, as far as its size agrees.
    const given = this.givenInside ? this.given.get(output) : undefined;
    if (given && fact.shape?.every((d, axis) => d === null || d === given.shape[axis])) this.facts.set(output, { dtype: fact.dtype, shape: given.shape, data: given.data });
    else this.facts.set(output, fact);
  }

  private input(value: Value): Fact {
    return this.get(value) ?? UNREACHED;
  }

  private work(form: Form, node: Node, step: Step | undefined): readonly (Fact | undefined)[] {
    const complaints = this.conflicts.length;
    const inputs = node.inputs.map((v) => v && this.input(v));
    const result = form.handler(new Call(node, inputs, this.limits, (reason) => this.conflicts.push({ node, reason })));
    const results = (Array.isArray(result) ? (result as readonly (Fact | undefined)[]) : [result as Fact]).map((fact) => fact && this.memo.one(withSizes(fact)));
    for (const fact of results) if (fact !== undefined) this.hold(fact);
    // A contradiction is told of every node.
    if (step && this.conflicts.length === complaints) step.results = results;
    return results;
  }

  /** A graph may change a mask in as many nodes as it likes, and all that became of it is kept: from some size on, no more. */
  private hold(fact: Fact): void {
    const elements = fact instanceof ConstantFact ? undefined : (fact.data ?? fact.partial);
    if (elements === undefined || elements.length <= FEW_ELEMENTS || this.held.has(elements)) return;
    this.held.add(elements);
    this.room -= elements.length;
    if (this.room < 0) this.limits = { integers: Math.min(this.limits.integers, FEW_ELEMENTS), floats: Math.min(this.limits.floats, FEW_ELEMENTS) };
  }

  get exhausted(): boolean {
    return this.room < 0;
  }

  private unknown(node: Node): void {
    const op = node.domain ? `${node.domain}.${node.opType}` : node.opType;
    this.unknownOps.set(op, (this.unknownOps.get(op) ?? 0) + 1);
    for (const output of node.outputs) {
      if (output !== null) this.facts.set(output, { dtype: output.type?.elemType ?? 0, shape: null });
    }
  }

  private control(node: Node): void {
    if (!node.is('If')) {
      for (const output of node.outputs) {
        if (output !== null) this.facts.set(output, { dtype: output.type?.elemType ?? 0, shape: null });
      }
      return;
    }
    const branch = (name: string): Graph | undefined => {
      const attribute = node.attributes.get(name);
      return attribute?.kind === 'graph' ? attribute.value : undefined;
    };
    const condition = node.inputs[0] ? this.scalar(node.inputs[0]) : undefined;
    const names = condition === undefined ? ['then_branch', 'else_branch'] : [condition ? 'then_branch' : 'else_branch'];
    const branches = names.map(branch).filter((g) => g !== undefined);
    for (const graph of branches) {
      this.enter(graph, undefined);
      this.walk(graph);
      if (condition !== undefined) this.takenBranches.set(node, graph);
    }
    for (const [i, output] of node.outputs.entries()) {
      if (output === null) continue;
      const facts = branches.map((g) => (g.outputs[i] ? this.get(g.outputs[i]) : undefined));
      this.facts.set(output, agreed(facts) ?? { dtype: output.type?.elemType ?? 0, shape: null });
    }
  }
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
