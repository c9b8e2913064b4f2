/**
 * Lengths of each stage, as values of the graph that are right whether the chunk loses tokens or not: they are read off
 * shapes, which are on the host.
 */
import { DataType, type Value } from '../ir/graph.js';
import { type DiagnosticDetail, Refusal } from '../diagnostics.js';
import type { DecoderFacts } from '../analyse/facts.js';
import type { Axis } from '../analyse/probes.js';
import type { Builder } from './builder.js';
import type { Relation } from './relations.js';
import type { Stages } from './stages.js';

export class Lengths {
  readonly #facts: DecoderFacts;
  readonly #stages: Stages;
  readonly #builder: Builder;
  readonly #cache = new Map<string, Value>();
  #carried: Value | undefined;
  /** Sizes of the incoming chunk, and of what stage j > 0 sees. */
  readonly #sizes: { batch(): Value; chunk(stage: number): Value };

  constructor(facts: DecoderFacts, stages: Stages, builder: Builder, sizes: { batch(): Value; chunk(stage: number): Value }) {
    this.#facts = facts;
    this.#stages = stages;
    this.#builder = builder;
    this.#sizes = sizes;
  }

  #once(key: string, make: (b: Builder) => Value): Value {
    let v = this.#cache.get(key);
    if (!v) {
      v = make(this.#builder);
      this.#cache.set(key, v);
    }
    return v;
  }

  /** Lengths do not show in caches: `row` int64 [m], what stages 1 … m have dropped before the chunk. */
  setCarried(row: Value): void {
    this.#carried = row;
  }

  get hasCache(): boolean {
    return this.#facts.roles.pasts.length > 0;
  }

  /** int64 [1]: S_j. */
  chunk(j: number): Value {
    return this.#once(`chunk${j}`, () => this.#sizes.chunk(j));
  }

  /** int64 [1]: P_j, tokens in the cache of stage j's layers before the chunk. */
  past(j: number): Value {
    return this.#once(`past${j}`, (b) => {
      if (!this.hasCache) return b.ints([0]);
      const mask = this.#facts.roles.attentionMask;
      if (this.#carried && mask) {
        if (j > 0) return b.op('Sub', `past_length_s${j}`, [this.past(0), b.gather(`carried_s${j}`, this.#carried, b.ints([j - 1]), 0)]);
        return b.op('Sub', 'past_length_s0', [b.size('total_length', mask, 1), this.chunk(0)]);
      }
      const layer = this.#facts.attention.find((l) => l.core.past && !l.core.croppedCache && this.#stages.stageOfLayer(l.index) === j);
      const key = layer?.core.past?.key;
      // The layers before the first boundary may all be without a cache (a hybrid's convolutions): the mask spans it.
      if (!key && j === 0 && mask) return b.op('Sub', 'past_length_s0', [b.size('mask_width', mask, 1), this.chunk(0)]);
      if (!key) throw noCache(j, this.#facts.roles.pasts[0]?.value);
      return b.size(`past_length_s${j}`, key.value, key.tokenAxis);
    });
  }

  /** int64 [1]: P_j + S_j. */
  total(j: number): Value {
    if (!this.hasCache) return this.chunk(j);
    const mask = this.#facts.roles.attentionMask;
    // The incoming mask is as wide as cache and chunk.
    if (j === 0 && mask) return this.#once('total0', (b) => b.size('total_length_s0', mask, 1));
    return this.#once(`total${j}`, (b) => b.op('Add', `total_length_s${j}`, [this.past(j), this.chunk(j)]));
  }

  /** int64 [1]: P_0 − P_j. */
  pastShift(j: number): Value {
    return this.#once(`shift${j}`, (b) => b.op('Sub', `past_shift_s${j}`, [this.past(0), this.past(j)]));
  }

  scalar(key: 'past' | 'chunk', j: number): Value {
    return this.#once(`${key}${j}|scalar`, (b) => b.scalar(`${key}_scalar_s${j}`, key === 'past' ? this.past(j) : this.chunk(j)));
  }

  /** int64 [S_j]: 0, 1, …, S_j − 1. */
  range(j: number): Value {
    return this.#once(`range${j}`, (b) => b.op('Range', `range_s${j}`, [b.int(0), this.scalar('chunk', j), b.int(1)]));
  }

  /**
   * `value` − s·(S_0 − S_j) − p·(P_0 − P_j) for s, p of 0 and 1, in an integer type. The first stage's part is subtracted
   * once for all stages.
   */
  shifted(label: string, value: Value, by: { readonly s: number; readonly p: number }, j: number, { dtype, rank }: { readonly dtype: number; readonly rank: number }): Value {
    if (by.s === 0 && by.p === 0) return value;
    const measure = by.s === 0 ? 'past' : by.p === 0 ? 'chunk' : 'total';
    // A scalar fits every rank, and a fused op's total length is one.
    const at = dtype === DataType.INT64 ? rank : 0;
    const without = this.#once(`without|${measure}|${value.name}`, (b) => b.op('Sub', `${label}_base`, [value, this.#typed(measure, 0, dtype, at)]));
    return this.#builder.op('Add', `${label}_s${j}`, [without, this.#typed(measure, j, dtype, at)]);
  }

  #typed(measure: 'past' | 'chunk' | 'total', j: number, dtype: number, rank: number): Value {
    const size = this[measure](j);
    const cast = (value: Value, key: string): Value => (dtype === DataType.INT64 ? value : this.#once(`${key}|${dtype}`, (b) => b.cast(`${measure}_cast_s${j}`, value, dtype)));
    if (rank > 0) return cast(size, `${measure}${j}`);
    // Scalars of int64 first: providers of devices have a Squeeze of int32, which would fetch the size to the device and back.
    return cast(this.#once(`${measure}${j}|scalar`, (b) => b.scalar(`${measure}_scalar_s${j}`, size)), `${measure}${j}|scalar`);
  }

  /** A value of the first stage as stage j has it. */
  related(relation: Extract<Relation, { kind: 'sizes' | 'shifted' }>, first: () => Value, original: Value, j: number): Value {
    const dtype = this.#facts.probes.dtype(original);
    const rank = this.#facts.probes.axes(original)?.length ?? 1;
    if (relation.kind === 'shifted') return this.shifted('shifted', first(), relation, j, { dtype, rank });
    if (relation.elements.length === 1 && relation.elements[0] === 'T') return this.#typed('total', j, dtype, rank);
    const key = `sizes|${j}|${relation.elements.join()}|${dtype}`;
    const vector = this.#once(key, (b) => {
      const parts = relation.elements.map((e) => this.axis(e, j));
      const joined = b.concat(`sizes_s${j}`, parts, 0);
      return dtype === DataType.INT64 ? joined : b.cast(`sizes_cast_s${j}`, joined, dtype);
    });
    return rank > 0 ? vector : this.#once(`${key}|scalar`, (b) => b.scalar(`size_s${j}`, vector));
  }

  /** int64 [1] for one axis of a value in stage j; undefined where its size is not known. */
  axis(axis: Exclude<Axis, '?'>, j: number): Value {
    switch (axis) {
      case 'B':
        return this.#sizes.batch();
      case 'S':
        return this.chunk(j);
      case 'P':
        return this.past(j);
      case 'T':
        return this.total(j);
      case 'BS':
        return this.#once(`count${j}`, (b) => b.op('Mul', `token_count_s${j}`, [this.#sizes.batch(), this.chunk(j)]));
      default:
        return this.#builder.ints([axis]);
    }
  }

  /** Where a chunk is as long in stage j as it came in: int64 [1] for an axis of a value over stage j's cache. */
  wholeAxis(axis: Exclude<Axis, '?'>, j: number): Value {
    if (axis === 'T') return this.#once(`whole${j}`, (b) => (this.hasCache ? b.op('Add', `whole_length_s${j}`, [this.past(j), this.chunk(0)]) : this.chunk(0)));
    return axis === 'P' ? this.past(j) : this.axis(axis, 0);
  }
}

export function noCache(stage: number, culprit: Value | undefined): Refusal {
  const detail: DiagnosticDetail = {
    code: 'PD309',
    message: `no layer of stage ${stage} has a full-length cache: how many tokens the stage has seen cannot be read`,
    culprit: culprit?.name,
    hint: 'move the boundaries with --layers so that every stage has a full-attention layer; see `pdrop-compile inspect`',
  };
  return new Refusal(detail);
}
