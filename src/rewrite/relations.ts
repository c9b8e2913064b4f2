/**
 * How a mask, a length or a position of a later stage can be had from the first stage's, instead of being computed
 * again. The part of the graph that knows no content is evaluated, contents and all, in pairs of sequence environments
 * that differ as two stages do; what holds in all pairs is a relation. A constant that indices are compared or added with
 * (a window, a table's length) could hold at small sizes and fail at large ones: nothing behind one is related.
 */
import { DataType, Graph, type Node, type Value } from '../ir/graph.js';
import type { DecoderFacts } from '../analyse/facts.js';
import type { Axis } from '../analyse/probes.js';
import { isFloat } from '../ir/data-type.js';
import { evaluateLanes, type InputBinding, type ShapeBindings, type ShapeFacts } from '../analyse/shapes/index.js';
import { isIntegral } from '../analyse/shapes/numbers.js';

/** One element of a vector of sizes: rows, the stage's own chunk, its cache, or both. */
export type SizeElement = number | 'B' | 'S' | 'P' | 'T';

/** S, P: tokens of the chunk and in the cache; 0 the first stage, j the later one. */
export type Relation =
  /** Integers that are sizes of the stage. */
  | { readonly kind: 'sizes'; readonly elements: readonly SizeElement[] }
  /** Integers v₀ − s·(S₀−S_j) − p·(P₀−P_j). */
  | { readonly kind: 'shifted'; readonly s: number; readonly p: number }
  /** v₀; only where the chunk loses nothing, as the ones below. */
  | { readonly kind: 'same' }
  /** v₀ − p·(P₀−P_j). */
  | { readonly kind: 'moved'; readonly p: number }
  /** v₀ without the cache's columns that are gone. `rows`: which ones depends on the row. */
  | { readonly kind: 'columns'; readonly axis: number; readonly rows: boolean }
  /** The first of v₀'s columns. */
  | { readonly kind: 'first'; readonly axis: number; readonly size: 'P' | 'T' };

/** Tokens of one row: contents of the attention mask over cache and chunk, and what the later stage has lost. */
interface Environment {
  readonly rows: number;
  readonly sequence: number;
  readonly past: number;
  /** By row: the attention mask. */
  readonly mask: readonly (readonly number[])[];
  /** By row: the chunk's tokens, by their index in the incoming chunk. */
  readonly tokens: readonly (readonly number[])[];
  readonly positions: readonly (readonly number[])[];
}

interface Pair {
  readonly first: Environment;
  readonly later: Environment;
  /** True when the chunk itself has lost nothing. */
  readonly whole: boolean;
}

/** In turn: so that a number of rows is not taken for a constant. */
const ROWS = [3, 2] as const;
/** More than the masks of the environments have. */
const CONTENTS_LIMIT = 1 << 14;

export class Relations {
  readonly #facts: DecoderFacts;
  readonly #pairs: readonly Pair[];
  /** By pair: of its first environment, and of the later one. */
  readonly #evaluated: readonly ShapeFacts[];
  /** What was evaluated. */
  readonly #known: ReadonlySet<Value>;
  readonly #bounded: ReadonlySet<Value>;
  readonly #memo = new Map<Value, readonly Relation[]>();
  /**
   * @param values what may be asked for
   * @param positions how positions of a later stage come about
   */
  constructor(facts: DecoderFacts, values: Iterable<Value>, positions: 'compact' | 'keep') {
    this.#facts = facts;
    const batch = facts.probes.axes(facts.roles.source)?.[0];
    const lengths: readonly (readonly [number, number, number, number])[] =
      facts.fixedSequence === undefined
        ? [[5, 9, 5, 6], [1, 9, 1, 7], [7, 0, 4, 0], [6, 8, 3, 5], [6, 0, 6, 0]]
        : [[facts.fixedSequence, 9, facts.fixedSequence, 6], [facts.fixedSequence, 11, facts.fixedSequence, 7]];
    this.#pairs = lengths.filter(([, past]) => past === 0 || facts.roles.pasts.length > 0).map((l, i) => this.#pair(l, typeof batch === 'number' ? batch : (ROWS[i % ROWS.length] as number), positions));
    const part = this.#partOf(values);
    this.#bounded = boundedBy(part.nodes, facts);
    const bindings = this.#pairs.flatMap(({ first, later }) => [first, later]).map((environment) => this.#bindings(part, environment));
    const some = part.nodes.length > 0 && bindings.every((b) => b.inputs.size > 0);
    this.#evaluated = some ? evaluateLanes(part, bindings) : [];
    this.#known = new Set(some ? [...part.inputs, ...part.nodes.flatMap((n) => n.outputs.filter((o) => o !== null))] : []);
  }

  /** A relation that holds whether the chunk loses tokens or not. */
  always(value: Value): Extract<Relation, { kind: 'sizes' | 'shifted' }> | undefined {
    return this.#of(value).find((r) => r.kind === 'sizes' || r.kind === 'shifted');
  }

  /** A relation that holds where the chunk loses nothing. */
  whole(value: Value): Exclude<Relation, { kind: 'sizes' | 'shifted' }> | undefined {
    return this.#of(value).find((r) => r.kind !== 'sizes' && r.kind !== 'shifted');
  }

  #of(value: Value): readonly Relation[] {
    let found = this.#memo.get(value);
    if (!found) {
      found = this.#find(value);
      this.#memo.set(value, found);
    }
    return found;
  }

  #find(value: Value): Relation[] {
    if (this.#bounded.has(value) || !this.#known.has(value)) return [];
    const pairs = this.#pairs.map((pair, i) => ({ a: this.#evaluated[2 * i]?.get(value), b: this.#evaluated[2 * i + 1]?.get(value), pair }));
    const facts: Compared[] = [];
    for (const { a, b, pair } of pairs) {
      if (!a?.data || !b?.data || a.data.some(Number.isNaN) || b.data.some(Number.isNaN)) return [];
      facts.push({ a: { shape: a.shape as number[], data: a.data }, b: { shape: b.shape as number[], data: b.data }, pair });
    }
    const axes = this.#facts.probes.axes(value);
    const dtype = this.#facts.probes.dtype(value);
    const found: Relation[] = [];
    const elements = dtype === DataType.INT64 || dtype === DataType.INT32 ? sizesOf(facts) : undefined;
    if (elements) found.push({ kind: 'sizes', elements });
    else if (isIntegral(dtype) && dtype !== DataType.BOOL) {
      const shift = shiftOf(facts);
      if (shift) found.push({ kind: 'shifted', ...shift });
    }
    const whole = facts.filter((f) => f.pair.whole);
    const relation = whole.length > 0 ? wholeRelation(whole, axes, isIntegral(dtype) && dtype !== DataType.BOOL) : undefined;
    if (relation) found.push(relation);
    return found;
  }

  // ---- environments ------------------------------------------------------------------------------------------

  #pair([s0, p0, sj, pj]: readonly [number, number, number, number], count: number, positions: 'compact' | 'keep'): Pair {
    const rows = Array.from({ length: count }, (_, r) => r);
    // Rows that start with padding, that end with it, and without any; what is lost is valid.
    const mask = rows.map((r) => {
      const row = new Array<number>(p0 + s0).fill(1);
      if (r % 3 === 0 && row.length > 3) row.fill(0, 0, 2);
      if (r % 3 === 1 && s0 > 1) row.fill(0, p0 > 0 ? p0 - 2 : s0 - 2, p0 > 0 ? p0 : s0);
      return row;
    });
    const all = Array.from({ length: s0 }, (_, t) => t);
    const place = (r: number, t: number): number => Math.max(0, p0 + t - (r % 3 === 0 ? 2 : 0));
    const first: Environment = { rows: count, sequence: s0, past: p0, mask, tokens: rows.map(() => all), positions: rows.map((r) => all.map((t) => place(r, t))) };
    const kept = rows.map((r) => {
      const valid = all.filter((t) => mask[r]?.[p0 + t] === 1);
      const gone = new Set(valid.filter((_, i) => (i + r) % 2 === 0).slice(0, s0 - sj));
      for (const t of valid) if (gone.size < s0 - sj) gone.add(t);
      return all.filter((t) => !gone.has(t));
    });
    const later: Environment = {
      rows: count,
      sequence: sj,
      past: pj,
      mask: rows.map((r) => [...keptPast(mask[r] as number[], p0, pj), ...(kept[r] as number[]).map((t) => (mask[r] as number[])[p0 + t] as number)]),
      tokens: kept,
      positions: rows.map((r) => (kept[r] as number[]).map((t, i) => (positions === 'keep' ? place(r, t) : Math.max(0, place(r, t) - (t - i) - (p0 - pj))))),
    };
    return { first, later, whole: s0 === sj };
  }

  /** The nodes without content that `values` are made of, and what they read from elsewhere. */
  #partOf(values: Iterable<Value>): Graph {
    const { content, graph } = this.#facts;
    const part = new Graph();
    const wanted = new Set<Node>();
    const outside = new Set<Value>();
    const queue: Value[] = [...values];
    const seen = new Set<Value>(queue);
    for (let v = queue.pop(); v; v = queue.pop()) {
      if (content.has(v) || !v.producer) {
        outside.add(v);
        continue;
      }
      if (wanted.has(v.producer) || v.producer.subgraphs.length > 0) continue;
      wanted.add(v.producer);
      for (const i of v.producer.inputs) {
        if (!i || seen.has(i)) continue;
        seen.add(i);
        queue.push(i);
      }
    }
    for (const n of graph.nodes) if (wanted.has(n)) part.nodes.push(n);
    for (const v of outside) (v.tensor ? part.initializers : part.inputs).push(v);
    return part;
  }

  #bindings(part: Graph, environment: Environment): ShapeBindings {
    const inputs = new Map<Value, InputBinding>();
    for (const v of part.inputs) {
      const binding = this.#bind(v, environment);
      if (binding) inputs.set(v, binding);
    }
    return { inputs, dataLimit: CONTENTS_LIMIT, floatLimit: CONTENTS_LIMIT };
  }

  #bind(value: Value, { rows, sequence, past, mask, tokens, positions }: Environment): InputBinding | undefined {
    const { roles, probes } = this.#facts;
    const size = (a: Axis): number | undefined => (typeof a === 'number' ? a : { B: rows, S: sequence, P: past, T: sequence + past, BS: rows * sequence, '?': undefined }[a]);
    const shape = probes.axes(value)?.map(size);
    if (!shape || shape.some((d) => d === undefined)) return undefined;
    const dims = shape as number[];
    const spread = (entries: readonly (readonly number[])[]): number[] => {
      const flat = entries.flat();
      const copies = dims.reduce((a, b) => a * b, 1) / Math.max(1, flat.length);
      return Number.isInteger(copies) ? Array.from({ length: copies }, () => flat).flat() : [];
    };
    const dtype = probes.dtype(value);
    let data: number[] | undefined;
    if (value === roles.attentionMask) data = mask.flat();
    else if (value === roles.positionIds) data = spread(positions);
    else if (value === roles.cachePosition) data = Array.from({ length: sequence }, (_, t) => past + t);
    else if ((value === roles.inputIds || roles.tokenInputs.includes(value)) && dims.length === 2) data = tokens.flatMap((row) => row.map((t) => (t >> 1) % 2));
    return data?.length === dims.reduce((a, b) => a * b, 1) ? { shape: dims, data, dtype } : { shape: dims, dtype };
  }
}

interface Known {
  readonly shape: readonly number[];
  readonly data: readonly number[];
}

interface Compared {
  readonly a: Known;
  readonly b: Known;
  readonly pair: Pair;
}

/** P_j entries of the mask's past part: the first ones where the row starts with padding, else the last ones. */
function keptPast(mask: readonly number[], past: number, left: number): number[] {
  return mask[0] === 0 ? mask.slice(0, left) : mask.slice(past - left, past);
}

function sizesOf(facts: readonly Compared[]): SizeElement[] | undefined {
  const count = facts[0]?.a.data.length ?? 0;
  if (count === 0 || count > 8) return undefined;
  if (facts.some((f) => f.a.shape.length > 1 || f.a.data.length !== count || f.b.data.length !== count)) return undefined;
  const all = facts.flatMap((f) => [
    { data: f.a.data, at: f.pair.first },
    { data: f.b.data, at: f.pair.later },
  ]);
  const elements: SizeElement[] = [];
  for (let i = 0; i < count; i++) {
    const is = (of: (e: Environment) => number): boolean => all.every(({ data, at }) => data[i] === of(at));
    const constant = all[0]?.data[i] as number;
    if (is(() => constant)) elements.push(constant);
    else if (is((e) => e.rows)) elements.push('B');
    else if (is((e) => e.sequence)) elements.push('S');
    else if (is((e) => e.past)) elements.push('P');
    else if (is((e) => e.sequence + e.past)) elements.push('T');
    else return undefined;
  }
  return elements.every((e) => typeof e === 'number') ? undefined : elements;
}

function shiftOf(facts: readonly Compared[]): { s: number; p: number } | undefined {
  const fits = (s: number, p: number): boolean =>
    facts.every(({ a, b, pair }) => {
      const by = s * (pair.first.sequence - pair.later.sequence) + p * (pair.first.past - pair.later.past);
      return a.data.length === b.data.length && a.shape.length === b.shape.length && a.shape.every((d, i) => d === b.shape[i]) && a.data.every((x, i) => x - by === b.data[i]);
    });
  // A tensor with a token axis would not keep its shape; lengths that do move with both.
  if (!facts.some((f) => !f.pair.whole)) return undefined;
  for (const [s, p] of [[1, 1], [0, 1], [1, 0], [0, 0]] as const) if (fits(s, p)) return { s, p };
  return undefined;
}

function wholeRelation(facts: readonly Compared[], axes: readonly Axis[] | null, integers: boolean): Exclude<Relation, { kind: 'sizes' | 'shifted' }> | undefined {
  const sameShape = facts.every(({ a, b }) => a.shape.length === b.shape.length && a.shape.every((d, i) => d === b.shape[i]));
  if (sameShape) {
    if (facts.every(({ a, b }) => a.data.every((x, i) => Object.is(x, b.data[i])))) return { kind: 'same' };
    if (integers && facts.every(({ a, b, pair }) => a.data.every((x, i) => x - (pair.first.past - pair.later.past) === b.data[i]))) return { kind: 'moved', p: 1 };
    return undefined;
  }
  if (!axes) return undefined;
  const long = axes.flatMap((a, i) => (a === 'T' || a === 'P' ? [i] : []));
  const axis = long[0];
  if (axis === undefined || long.length !== 1) return undefined;
  const size = axes[axis] as 'P' | 'T';
  if (facts.every((f) => taken(f, axis, (_, left) => Array.from({ length: left }, (_, i) => i)))) return { kind: 'first', axis, size };
  if (size !== 'T') return undefined;
  const gone = (f: Compared): number => f.pair.first.past - f.pair.later.past;
  if (facts.every((f) => taken(f, axis, (_, left) => Array.from({ length: left }, (_, i) => gone(f) + i)))) return { kind: 'columns', axis, rows: false };
  const byRow = (f: Compared) => (row: number, left: number): number[] => {
    const { first, later } = f.pair;
    if (first.mask[row]?.[0] !== 0) return Array.from({ length: left }, (_, i) => gone(f) + i);
    return Array.from({ length: left }, (_, i) => (i < later.past ? i : i + gone(f)));
  };
  if (axes[0] === 'B' && axis > 0 && facts.every((f) => taken(f, axis, byRow(f)))) return { kind: 'columns', axis, rows: true };
  return undefined;
}

/** True when b is a with these columns of `axis`, given by row of the first axis. */
function taken({ a, b }: Compared, axis: number, columns: (row: number, left: number) => readonly number[]): boolean {
  if (a.shape.length !== b.shape.length || a.shape.some((d, i) => i !== axis && d !== b.shape[i])) return false;
  const before = a.shape.slice(0, axis).reduce((x, y) => x * y, 1);
  const inner = a.shape.slice(axis + 1).reduce((x, y) => x * y, 1);
  const wide = a.shape[axis] as number;
  const left = b.shape[axis] as number;
  const rows = axis > 0 ? (a.shape[0] as number) : 1;
  for (let o = 0; o < before; o++) {
    const pick = columns(Math.floor(o / (before / rows)), left);
    for (let c = 0; c < left; c++) {
      for (let i = 0; i < inner; i++) {
        if (!Object.is(b.data[(o * left + c) * inner + i], a.data[(o * wide + (pick[c] as number)) * inner + i])) return false;
      }
    }
  }
  return true;
}

/** Slots that say which axes or what shape, and ops whose constants are places of a small vector. */
const HARMLESS: ReadonlySet<string> = new Set([
  'Shape', 'Gather', 'Concat', 'Reshape', 'Expand', 'Unsqueeze', 'Squeeze', 'Cast', 'Transpose', 'ConstantOfShape', 'Identity', 'Flatten', 'Split', 'Tile',
  'ReduceSum', 'ReduceMax', 'ReduceMin', 'ReduceMean', 'CumSum', 'And', 'Or', 'Not', 'Xor', 'Where', 'GatherND', 'GatherElements', 'MatMul', 'Cos', 'Sin', 'IsNaN',
]);
const COMPARES: ReadonlySet<string> = new Set(['Less', 'LessOrEqual', 'Greater', 'GreaterOrEqual', 'Equal', 'Min', 'Max', 'Clip']);

/** Values behind a node that sets an index against a constant other than −1, 0 or 1: they may change at a size that was not tried. */
function boundedBy(nodes: readonly Node[], { probes }: DecoderFacts): Set<Value> {
  const bounded = new Set<Value>();
  const limits = (v: Value | null): boolean => {
    const data = v && probes.constant(v);
    if (!data || (v.producer !== null && !v.producer.is('Constant'))) return false;
    return data.some((x) => Math.abs(x) > 1 && Math.abs(x) < 2 ** 31 - 1);
  };
  for (const n of nodes) {
    let bound = n.inputs.some((v) => v !== null && bounded.has(v));
    if (!bound && n.domain !== '') bound = true;
    if (!bound && !HARMLESS.has(n.opType)) {
      const floats = n.inputs.some((v) => v !== null && isFloat(probes.dtype(v)));
      if (!floats || COMPARES.has(n.opType)) bound = n.inputs.some(limits) || Math.abs(n.float('min', 0)) > 1 || Math.abs(n.float('max', 0)) > 1;
    }
    if (bound) for (const o of n.outputs) if (o) bounded.add(o);
  }
  return bounded;
}
