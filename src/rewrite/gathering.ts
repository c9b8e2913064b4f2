/** Gathering the tokens a stage keeps, out of values of the previous stage or of the incoming chunk. */
import { Refusal } from '../diagnostics.js';
import type { Value } from '../ir/graph.js';
import type { Axis } from '../analyse/probes.js';
import type { Builder } from './builder.js';
import { tokenRowsAt, uncuttable } from './stages.js';
import type { ChunkTokens, StageTokens } from './tokens.js';

export class Gathering {
  readonly #builder: Builder;
  readonly #flat = new Map<Value, Value>();
  readonly #rows = new Map<number, Value>();
  readonly #source: { readonly chunk: ChunkTokens; tokens(stage: number): StageTokens };
  #rowOffset: Value | undefined;

  constructor(builder: Builder, source: { readonly chunk: ChunkTokens; tokens(stage: number): StageTokens }) {
    this.#builder = builder;
    this.#source = source;
  }

  /** [N…, B, S, X…] as [N…, B·S, X…], made once. */
  flatten(value: Value, axes: readonly Axis[] | null, original: Value): Value {
    let flat = this.#flat.get(value);
    if (!flat) {
      const at = tokenRowsAt(axes);
      if (!axes || at === undefined) throw uncuttable(original, `it crosses the boundary but is laid out ${describeAxes(axes)}, not [batch, sequence, …]`);
      flat = this.#builder.reshape(`${short(original)}_rows`, value, [...axes.slice(0, at), -1, ...axes.slice(at + 2)] as number[]);
      this.#flat.set(value, flat);
    }
    return flat;
  }

  /** The rows of `value` (of stage j − 1) that stage j keeps. */
  fromPrevious(value: Value, axes: readonly Axis[] | null, j: number, original: Value): Value {
    const rows = this.#source.tokens(j).rowsInPrevious;
    if (!rows) return value;
    return this.#builder.gather(`${short(original)}_s${j}`, this.flatten(value, axes, original), rows, tokenRowsAt(axes) ?? 0);
  }

  /** int64 [B, S_j]: row of each of stage j's tokens in the incoming chunk's [B·S, …]. */
  #rowsInChunk(j: number): Value {
    const tokens = this.#source.tokens(j);
    if (j === 1) return tokens.rowsInPrevious as Value;
    let rows = this.#rows.get(j);
    if (!rows) {
      const b = this.#builder;
      this.#rowOffset ??= b.op('Mul', 'row_offset', [this.#source.chunk.rows, this.#source.chunk.length]);
      rows = b.op('Add', `rows_in_chunk_s${j}`, [tokens.origin as Value, this.#rowOffset]);
      this.#rows.set(j, rows);
    }
    return rows;
  }

  /** The entries of stage j's tokens in a value of frame 0: [B, S], [n…, B, S, X…], or [1, S, X…] without a batch. */
  fromChunk(value: Value, axes: readonly Axis[] | null, j: number, original: Value): Value {
    if (!this.#source.tokens(j).rowsInPrevious) return value;
    const b = this.#builder;
    const at = axes?.indexOf('S') ?? -1;
    if (!axes || at < 0 || axes.lastIndexOf('S') !== at) throw uncuttable(original, `it is laid out ${describeAxes(axes)} and must be gathered by token`);
    const origin = this.#source.tokens(j).origin as Value;
    const label = `${short(original)}_s${j}`;
    if (axes.length === 2 && at === 1 && axes[0] === 'B') return b.gatherElements(label, value, origin, 1);
    const tail = axes.slice(at + 1);
    const lead = axes.slice(0, at - 1);
    if (at >= 1 && axes[at - 1] === 'B' && [...lead, ...tail].every((a) => typeof a === 'number')) {
      const rows = b.reshape(`${short(original)}_rows`, value, [...(lead as number[]), -1, ...(tail as number[])]);
      return b.gather(label, rows, this.#rowsInChunk(j), lead.length);
    }
    // No batch axis: every row keeps other tokens, so the batch takes the place of a leading 1.
    if (at >= 1 && axes.slice(0, at).every((a) => a === 1) && tail.every((a) => typeof a === 'number')) {
      const table = b.reshape(`${short(original)}_table`, value, [-1, ...(tail as number[])]);
      const gathered = b.gather(label, table, origin, 0);
      return at === 1 ? gathered : b.unsqueeze(`${label}_aligned`, gathered, Array.from({ length: at - 1 }, (_, i) => i + 1));
    }
    throw new Refusal({
      code: 'PD305',
      message: `positions laid out ${describeAxes(axes)} have no batch axis, so rows cannot keep different tokens`,
      culprit: original.name,
      hint: 'use --positions compact, or export with position_ids [batch, sequence] as an input',
    });
  }
}

export function describeAxes(axes: readonly Axis[] | null): string {
  const words: Record<string, string> = { B: 'batch', S: 'sequence', P: 'past', T: 'past+sequence', BS: 'batch·sequence' };
  return axes ? `[${axes.map((a) => words[a] ?? String(a)).join(', ')}]` : '(rank unknown)';
}

/** The last part of a name, for readable names of what is made from it. */
export function short(value: Value): string {
  return value.name.replace(/^.*\/(?=.*\/)/, '').replace(/[^\w./-]/g, '_').slice(-40);
}
