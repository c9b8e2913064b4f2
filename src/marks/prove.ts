/** Chooses the channels of marks and proves them: no embedding of any token id may look marked. */
import { Refusal } from '../diagnostics.js';
import { isMark, MARK_BITS, type MarkType, markChannels, SIGNIFICANT_BITS } from '../plan/marks.js';
import type { Marks } from '../plan/plan.js';
import type { EmbeddingTable } from './table.js';

/** What was proved. */
export interface MarksProof {
  readonly marks: Marks;
  readonly hidden: number;
  /** Rows that were looked at, all tables together. */
  readonly rows: number;
  /** Most channels in which some row looked marked; below the number of channels. */
  readonly closest: number;
}

/** Bytes of a table that are held at a time. */
const SLICE_BYTES = 4 * 1024 * 1024;

/** Sets of channels that are tried, each moved by one. */
const ATTEMPTS = 8;

/**
 * @param tables the embedding graphs whose rows may reach the decoder (one a precision)
 * @param wanted marks of a plan that is replayed: these, or a refusal
 * @throws {Refusal} PD605 when a token looks marked whatever channels are taken, or widths differ
 */
export async function proveMarks(tables: readonly EmbeddingTable[], wanted?: Marks): Promise<MarksProof> {
  const hidden = tables[0]?.hidden ?? 0;
  const other = tables.find((t) => t.hidden !== hidden);
  if (other || hidden === 0) {
    throw new Refusal({ code: 'PD605', message: `embedding tables are ${hidden} and ${other?.hidden ?? 0} wide: they belong to different models`, hint: 'keep the files of one model in a folder' });
  }
  const bits = wanted?.bits ?? MARK_BITS;
  const candidates = wanted ? [wanted.channels] : Array.from({ length: Math.min(ATTEMPTS, hidden) }, (_, shift) => markChannels(hidden, shift));
  let culprit = '';
  for (const channels of candidates) {
    let closest = 0;
    let rows = 0;
    let collides = false;
    for (const table of tables) {
      const found = await closestRow(table, channels, bits[table.type]);
      rows += table.rows;
      closest = Math.max(closest, found.count);
      if (found.count < channels.length) continue;
      collides = true;
      culprit = `token id ${found.row}`;
      break;
    }
    if (!collides) return { marks: { channels, bits }, hidden, rows, closest };
  }
  throw new Refusal({
    code: 'PD605',
    message: 'a text token’s embedding looks like a marked image token, whatever channels are taken',
    culprit,
    hint: 'use --image-mask input (the graph gains an input that says which tokens are image tokens)',
  });
}

/** The row that looks most like a marked one, and in how many channels it does. */
async function closestRow(table: EmbeddingTable, channels: readonly number[], bits: number): Promise<{ row: number; count: number }> {
  let best = { row: 0, count: 0 };
  const step = Math.max(1, Math.floor(SLICE_BYTES / (4 * table.hidden)));
  for (let first = 0; first < table.rows; first += step) {
    const count = Math.min(step, table.rows - first);
    const values = await table.read(first, count);
    for (let r = 0; r < count; r++) {
      let odd = 0;
      for (const c of channels) if (isMark(values[r * table.hidden + c] as number, bits)) odd++;
      if (odd > best.count) best = { row: first + r, count: odd };
      if (odd === channels.length) return best;
    }
  }
  return best;
}

/** Largest magnitude that can be marked without being clipped, and how far a value moves at most below it. */
export function markRange(marks: Marks, type: MarkType): { limit: number; move: number } {
  const bits = marks.bits[type];
  return { limit: 2 ** (SIGNIFICANT_BITS[type] - bits), move: 2 ** -bits };
}
