/**
 * Values that only lay out anew what one other value holds. Interleaved mRoPE puts the angles of three rows of positions together by
 * scatters, 20 nodes a table, and a stage that makes its own tables would pay for them each time: it takes the same entries by one Gather.
 */
import type { DecoderFacts } from '../analyse/facts.js';
import type { Axis } from '../analyse/probes.js';
import { evaluateLanes, type ShapeBindings } from '../analyse/shapes/index.js';
import { isIntegral } from '../analyse/shapes/numbers.js';
import { isFloat } from '../ir/data-type.js';
import { Graph, type Node, type Value } from '../ir/graph.js';
import type { Builder } from './builder.js';

/** A value [B, 1…, S, C] whose every entry is one of the same token's entries in `from`. */
export interface Selection {
  readonly from: Value;
  /** Order of `from`'s axes with batch and sequence in front. */
  readonly order: readonly number[];
  /** Entries that `from` has for a token, and which of them the value has. */
  readonly entries: number;
  readonly places: readonly number[];
  /** Where the value has axes of size 1. */
  readonly ones: readonly number[];
}

const MOVES: ReadonlySet<string> = new Set(['Concat', 'Expand', 'Gather', 'Identity', 'Reshape', 'ScatterElements', 'ScatterND', 'Slice', 'Split', 'Squeeze', 'Transpose', 'Unsqueeze']);
/** Nodes that a selection takes the place of: fewer are not worth one. */
const WORTH = 8;
const LIMIT = 96;
/** Rows and lengths that the nodes are tried at. */
const TRIED = [[2, 5], [3, 4]] as const;

export class Selections {
  readonly #facts: DecoderFacts;
  readonly #memo = new Map<Value, Selection | undefined>();

  constructor(facts: DecoderFacts) {
    this.#facts = facts;
  }

  of(value: Value): Selection | undefined {
    if (!this.#memo.has(value)) this.#memo.set(value, this.#find(value));
    return this.#memo.get(value);
  }

  /** The value, out of an instance of what it is made from. */
  make(b: Builder, label: string, { order, entries, places, ones }: Selection, from: Value): Value {
    const inOrder = order.every((axis, i) => axis === i) ? from : b.op('Transpose', `${label}_by_token`, [from], { perm: { kind: 'ints', value: [...order] } });
    const picked = b.gather(`${label}_picked`, b.reshape(`${label}_entries`, inOrder, [0, 0, entries]), b.ints([...places]), 2);
    return ones.length > 0 ? b.unsqueeze(label, picked, [...ones]) : picked;
  }

  #find(value: Value): Selection | undefined {
    const { probes } = this.#facts;
    const to = probes.axes(value);
    if (!to || !isFloat(probes.dtype(value)) || !moves(value.producer)) return undefined;
    const part = this.#partOf(value);
    const from = part?.inputs[0];
    const axes = from && probes.axes(from);
    if (!part || !from || !axes || !isFloat(probes.dtype(from))) return undefined;
    const source = tokenAxes(axes);
    const target = tokenAxes(to);
    if (!source || !target || target.fixed.some((axis) => axis < to.length - 1 && to[axis] !== 1)) return undefined;
    // Batch and sequence in this order, and the entries last.
    if (target.batch > target.sequence || target.sequence === to.length - 1) return undefined;
    const places = this.#places(part, from, axes, value, to);
    const entries = source.fixed.reduce((n, axis) => n * (axes[axis] as number), 1);
    return places && { from, order: [source.batch, source.sequence, ...source.fixed], entries, places, ones: target.fixed.filter((axis) => axis < to.length - 1) };
  }

  /** What the value is made of, up to the one value that it is laid out from; undefined if that is not worth it. */
  #partOf(value: Value): Graph | undefined {
    const { content, graph, probes } = this.#facts;
    const nodes = new Set<Node>();
    const part = new Graph();
    const seen = new Set<Value>([value]);
    const queue = [value];
    for (let v = queue.pop(); v; v = queue.pop()) {
      const node = v.producer;
      if (v.tensor && !v.isInput) part.initializers.push(v);
      else if (node && !content.has(v) && node.captures.length === 0 && (moves(node) || node.is('Constant') || isIntegral(probes.dtype(v)))) {
        nodes.add(node);
        for (const i of node.inputs) if (i && !seen.has(i)) queue.push(i);
        for (const i of node.inputs) if (i) seen.add(i);
      } else part.inputs.push(v);
      if (part.inputs.length > 1 || nodes.size > LIMIT) return undefined;
    }
    if ([...nodes].filter(moves).length < WORTH) return undefined;
    for (const n of graph.nodes) if (nodes.has(n)) part.nodes.push(n);
    return part;
  }

  /** By entry of the value: which of the token's entries in `from` it is, at every place and all sizes that are tried. */
  #places(part: Graph, from: Value, axes: readonly Axis[], value: Value, to: readonly Axis[]): number[] | undefined {
    const bindings: ShapeBindings[] = TRIED.map(([rows, length]) => {
      const shape = sizes(axes, rows, length);
      const count = shape.reduce((a, b) => a * b, 1);
      // Numbers from 1 on: no filling is taken for an entry.
      const data = Array.from({ length: count }, (_, i) => i + 1);
      return { inputs: new Map([[from, { shape, data, dtype: this.#facts.probes.dtype(from) }]]), dataLimit: 1 << 14, floatLimit: 1 << 14 };
    });
    let places: number[] | undefined;
    for (const [lane, facts] of evaluateLanes(part, bindings).entries()) {
      const [rows, length] = TRIED[lane] as readonly [number, number];
      const found = facts.get(value);
      const shape = sizes(to, rows, length);
      if (!found?.data || found.shape?.length !== shape.length || shape.some((d, i) => d !== found.shape?.[i])) return undefined;
      const source = new Map(eachEntry(axes, rows, length).map((at, i) => [i + 1, at]));
      for (const [i, at] of eachEntry(to, rows, length).entries()) {
        const taken = source.get(found.data[i] as number);
        if (!taken || taken.row !== at.row || taken.token !== at.token) return undefined;
        places ??= [];
        places[at.entry] ??= taken.entry;
        if (places[at.entry] !== taken.entry) return undefined;
      }
    }
    return places;
  }
}

function moves(node: Node | null): boolean {
  return node !== null && node.domain === '' && MOVES.has(node.opType);
}

function tokenAxes(axes: readonly Axis[]): { batch: number; sequence: number; fixed: number[] } | undefined {
  const fixed = axes.flatMap((a, i) => (typeof a === 'number' ? [i] : []));
  const [batch, sequence] = [axes.indexOf('B'), axes.indexOf('S')];
  return batch >= 0 && sequence >= 0 && fixed.length === axes.length - 2 ? { batch, sequence, fixed } : undefined;
}

function sizes(axes: readonly Axis[], rows: number, length: number): number[] {
  return axes.map((a) => (typeof a === 'number' ? a : a === 'B' ? rows : length));
}

/** Row, token and entry of each element, in order. */
function eachEntry(axes: readonly Axis[], rows: number, length: number): { row: number; token: number; entry: number }[] {
  let out = [{ row: 0, token: 0, entry: 0 }];
  for (const a of axes) {
    if (a === 'B') out = out.flatMap((e) => Array.from({ length: rows }, (_, row) => ({ ...e, row })));
    else if (a === 'S') out = out.flatMap((e) => Array.from({ length }, (_, token) => ({ ...e, token })));
    else out = out.flatMap((e) => Array.from({ length: a as number }, (_, i) => ({ ...e, entry: e.entry * (a as number) + i })));
  }
  return out;
}
