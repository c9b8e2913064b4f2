/**
 * Graphs that were exported for one length: the length stands in shape parameters, in masks of tokens by tokens and in
 * tables by token. Each is made to follow the input's, which changes nothing at the length of the export; then the graph is
 * analysed and rewritten as any other, and fixed again at the end (src/rewrite/fixed.ts).
 *
 *   in:   Reshape(h, [1, 40, 4, 8])                    Add(scores, mask [1, 1, 40, 40])
 *   out:  Reshape(h, Concat(1, Shape(x)[1], 4, 8))     Add(scores, Slice(mask, to Shape(x)[1] on both axes))
 */
import { findRoles } from '../analyse/roles.js';
import { shapesAt } from '../analyse/input-sizes.js';
import type { InputRoles } from '../analyse/facts.js';
import type { ProbeSizes } from '../analyse/probes.js';
import { evaluateShapes, type ShapeFacts } from '../analyse/shapes/index.js';
import { tensorElements } from '../analyse/shapes/numbers.js';
import { describeNode, Refusal } from '../diagnostics.js';
import { constantTensorOf, DataType, type Graph, type Model, type Node, type Tensor, type Value } from '../ir/graph.js';
import type { FixedSizes } from '../plan/plan.js';
import { Builder } from './builder.js';
import { GraphEditor } from './editor.js';

export interface Unfixed extends FixedSizes {
  /** Sizes to probe at: no longer than the export's, because its tables end there. */
  readonly sizes: readonly [ProbeSizes, ProbeSizes];
}

/** Reads the elements of a constant that is too large to be held. */
export type ReadConstant = (value: Value) => Promise<Uint8Array | undefined>;

/** Shorter prompts leave no two lengths to tell axes by. */
const SHORTEST = 16;

/** A shape parameter has no more elements than a value has axes. */
const MOST_AXES = 8;

const LENGTH_SYMBOL = 'sequence_length';

/**
 * Makes a graph of a fixed length one of any length, in place.
 *
 * @returns undefined where the length is not fixed, or the graph takes a cache, whose length would be fixed as well
 * @throws {Refusal} PD307 where the length cannot be told from other sizes, or what stands for it cannot be shortened
 */
export async function unfixSequence(model: Model, read: ReadConstant): Promise<Unfixed | undefined> {
  const { graph } = model;
  let roles: InputRoles;
  try {
    roles = findRoles(graph);
  } catch (error) {
    if (error instanceof Refusal) return undefined;
    throw error;
  }
  const anchor = roles.sourceKind === 'inputs_embeds' ? roles.source : roles.inputIds;
  const [batch, sequence] = anchor?.type?.dims ?? [];
  if (!anchor || typeof sequence !== 'number' || sequence < SHORTEST || roles.pasts.length > 0) return undefined;
  const rows = typeof batch === 'number' ? batch : 1;
  const before = evaluateShapes(graph, { inputs: new Map() });
  const builder = new Builder(model);
  builder.scope('unfix');
  const editor = new GraphEditor(graph, builder);
  const parts = new Parts(builder, anchor, { sequence, rows });
  for (const node of [...graph.nodes]) {
    for (const [index, v] of [...node.inputs.entries()]) {
      const tensor = v && constantTensorOf(v);
      if (!v || !tensor || (node.is('Constant') && v === node.outputs[0])) continue;
      const follows = parts.parameter(v, tensor) ?? (await parts.table(node, v, tensor, read));
      if (follows) editor.setInput(node, index, follows);
    }
  }
  editor.sort();
  const sizes = probeSizes(sequence, rows, graph);
  symbolic(graph, sequence);
  requireConsistent(graph, roles, before, sequence, sizes);
  return { batch: rows, sequence, sizes };
}

/** What follows the length instead of a constant, made once for each. */
class Parts {
  readonly #b: Builder;
  readonly #anchor: Value;
  readonly #sequence: number;
  readonly #rows: number;
  readonly #made = new Map<Value, Value>();
  readonly #checked = new Set<Value>();
  #length: Value | undefined;

  constructor(builder: Builder, anchor: Value, { sequence, rows }: { sequence: number; rows: number }) {
    this.#b = builder;
    this.#anchor = anchor;
    this.#sequence = sequence;
    this.#rows = rows;
  }

  /** int64 [1]: the length of the input. */
  #lengthOf(): Value {
    this.#length ??= this.#b.size('length', this.#anchor, 1);
    return this.#length;
  }

  /** A scalar, or a vector of few elements, one of which is the length, or that times the rows. */
  parameter(v: Value, tensor: Tensor): Value | undefined {
    if (tensor.dataType !== DataType.INT64 || tensor.dims.length > 1 || (tensor.dims[0] ?? 1) > MOST_AXES || !tensor.data) return undefined;
    const known = this.#made.get(v);
    if (known) return known;
    const elements = tensorElements(tensor, MOST_AXES);
    if (!elements) return undefined;
    const lengths = new Set([this.#sequence, this.#sequence * this.#rows]);
    if (!elements.some((e) => lengths.has(e))) return undefined;
    const b = this.#b;
    const element = (e: number): Value => (e === this.#sequence ? this.#lengthOf() : b.op('Mul', 'tokens', [this.#lengthOf(), b.ints([this.#rows])]));
    const pieces: Value[] = [];
    let plain: number[] = [];
    const flush = (): void => {
      if (plain.length > 0) pieces.push(b.ints(plain));
      plain = [];
    };
    for (const e of elements) {
      if (!lengths.has(e)) plain.push(e);
      else {
        flush();
        pieces.push(element(e));
      }
    }
    flush();
    const vector = b.concat('parameter', pieces, 0);
    const made = tensor.dims.length === 0 ? b.scalar('parameter_scalar', vector) : vector;
    this.#made.set(v, made);
    return made;
  }

  /** A table with an entry for each token, or for each pair: without the last tokens' entries. */
  async table(node: Node, v: Value, tensor: Tensor, read: ReadConstant): Promise<Value | undefined> {
    const axes = tensor.dims.flatMap((d, i) => (d === this.#sequence ? [i] : []));
    if (axes.length === 0) return undefined;
    const known = this.#made.get(v);
    if (known) return known;
    if (axes.length > 2) throw notTold(node, v, this.#sequence);
    if (axes.length === 2 && !this.#checked.has(v)) {
      this.#checked.add(v);
      const bytes = tensor.data ?? (await read(v));
      if (!bytes || !isBand(bytes, tensor.dims, axes as [number, number])) {
        throw new Refusal({
          code: 'PD307',
          message: `the sequence length is fixed to ${this.#sequence}, and a constant of tokens by tokens is no mask that depends on their distance alone: it cannot be shortened`,
          culprit: v.name,
          hint: 'export with a dynamic sequence axis (dynamic_axes / dynamic_shapes)',
        });
      }
    }
    const b = this.#b;
    let made = v;
    for (const axis of axes) made = b.slice('of_tokens', made, b.ints([0]), this.#lengthOf(), axis);
    this.#made.set(v, made);
    return made;
  }
}

/** Whether entry (i, j) is that of (i − 1, j − 1), all along: the first n rows and columns are then the mask of n tokens. */
function isBand(bytes: Uint8Array, dims: readonly number[], [rows, columns]: readonly [number, number]): boolean {
  const count = dims.reduce((a, b) => a * b, 1);
  const size = bytes.length / count;
  if (!Number.isInteger(size) || size < 1) return false;
  const strides = dims.map((_, i) => dims.slice(i + 1).reduce((a, b) => a * b, 1));
  const step = ((strides[rows] as number) + (strides[columns] as number)) * size;
  for (let at = 0; at < count; at++) {
    const row = Math.floor(at / (strides[rows] as number)) % (dims[rows] as number);
    const column = Math.floor(at / (strides[columns] as number)) % (dims[columns] as number);
    if (row === 0 || column === 0) continue;
    for (let k = 0; k < size; k++) if (bytes[at * size + k] !== bytes[at * size + k - step]) return false;
  }
  return true;
}

function notTold(node: Node, v: Value, sequence: number): Refusal {
  return new Refusal({
    code: 'PD307',
    message: `the sequence length is fixed to ${sequence}, which is the size of something else as well: "${v.name}" of ${describeNode(node)}`,
    culprit: v.name,
    hint: 'export with a dynamic sequence axis, or with a length that no other size of the model has',
  });
}

/** Two lengths below the export's that no other size is. */
function probeSizes(sequence: number, batch: number, graph: Graph): [ProbeSizes, ProbeSizes] {
  const taken = new Set<number>();
  for (const v of graph.values.values()) for (const d of v.tensor?.dims ?? v.type?.dims ?? []) if (typeof d === 'number') taken.add(d);
  const found: number[] = [];
  for (let n = sequence - 1; n > 4 && found.length < 2; n--) if (n % 2 === 1 && !taken.has(n) && !found.some((f) => f === n * batch)) found.push(n);
  const [long, short] = found;
  if (long === undefined || short === undefined) throw new Refusal({ code: 'PD307', message: `the sequence length is fixed to ${sequence}: too short to tell the tokens’ axes by`, hint: 'export with a dynamic sequence axis' });
  return [
    { batch, sequence: long, past: 0 },
    { batch, sequence: short, past: 0 },
  ];
}

/** Inputs and outputs of the length get a symbol; what was declared in between is found anew. */
function symbolic(graph: Graph, sequence: number): void {
  for (const v of graph.values.values()) {
    const { type } = v;
    if (!type?.dims?.includes(sequence) || v.tensor) continue;
    v.type = { elemType: type.elemType, dims: type.dims.map((d) => (d === sequence ? LENGTH_SYMBOL : d)) };
    v.typeState = v.isInput || v.isOutput ? 'changed' : 'dropped';
  }
}

/**
 * Everything that was as long as the prompt must move with it, and nothing else may: then each place where the length
 * stood was one that meant it.
 */
function requireConsistent(graph: Graph, roles: InputRoles, before: ShapeFacts, sequence: number, sizes: readonly [ProbeSizes, ProbeSizes]): void {
  for (const size of sizes) {
    const inputs = new Map([...shapesAt(graph, roles, size, () => undefined)].map(([v, shape]) => [v, { shape: shape as number[] }]));
    const after = evaluateShapes(graph, { inputs });
    const conflict = after.conflicts[0];
    if (conflict) throw cannotFollow(sequence, conflict.node ?? undefined, conflict.reason);
    for (const node of graph.nodes) {
      for (const o of node.outputs) {
        const was = o && before.shape(o);
        const is = o && after.shape(o);
        if (!o || !was || !is) continue;
        const fits = was.length === is.length && was.every((d, i) => d === null || is[i] === d || (d % sequence === 0 && is[i] === (d / sequence) * size.sequence));
        if (!fits) throw cannotFollow(sequence, node, `[${was.join(', ')}] becomes [${is.join(', ')}] at ${size.sequence} tokens`);
      }
    }
  }
}

function cannotFollow(sequence: number, node: Node | undefined, why: string): Refusal {
  return new Refusal({
    code: 'PD307',
    message: `the sequence length is fixed to ${sequence}, and the graph cannot be made to follow a shorter one: ${why}`,
    culprit: node && describeNode(node),
    hint: 'export with a dynamic sequence axis (dynamic_axes / dynamic_shapes), or with a length that no other size of the model has',
  });
}
