/** What is kept of each sample: scalars and token ids, so that thousands of samples stay small; and their sums. */
import { answersMatch, type DivergenceSummary, type PositionDivergence, summarize } from './divergence.js';
import { mean, quantile, sorted } from './statistics.js';

/** One model's run over one sample, against the original's. Lists run over positions, then rows of the batch. */
export interface CandidateRecord {
  readonly rows: number;
  readonly kl: readonly number[];
  readonly top1: readonly (0 | 1)[];
  readonly dp: readonly number[];
  readonly nll?: readonly (readonly [number, number])[] | undefined;
  readonly generated?: readonly (readonly number[])[] | undefined;
  /** First divergent token of each row, null where none; share of divergent tokens. */
  readonly firstDivergent?: readonly (number | null)[] | undefined;
  readonly divergentShare?: readonly number[] | undefined;
}

export interface SampleRecord {
  readonly id: string;
  readonly index: number;
  readonly title?: string | undefined;
  readonly tokens: { readonly length: number; readonly rows: number; readonly image: readonly number[] };
  /** The original's greedy text. */
  readonly generated?: readonly (readonly number[])[] | undefined;
  readonly answers?: readonly (readonly (readonly number[])[])[] | undefined;
  readonly candidates: Readonly<Record<string, CandidateRecord>>;
}

export interface FaultRecord {
  readonly id: string;
  readonly index: number;
  readonly code: string;
  readonly message: string;
  readonly culprit?: string | undefined;
  readonly hint: string;
}

export interface GenerationSummary {
  readonly texts: number;
  readonly tokens: number;
  readonly identical: number;
  /** Median first divergent token over the texts that diverge; null when none does. */
  readonly medianFirstDivergent: number | null;
  readonly meanDivergentShare: number;
}

export interface Fidelity {
  readonly samples: number;
  readonly prompt: DivergenceSummary | null;
  readonly continuation: DivergenceSummary | null;
  readonly all: DivergenceSummary | null;
  readonly generation: GenerationSummary | null;
  readonly answers: { readonly samples: number; readonly original: number; readonly rewritten: number } | null;
}

const round = (v: number): number => (Number.isFinite(v) ? Number(v.toPrecision(7)) : v);

export function toRecord(positions: readonly (readonly PositionDivergence[])[], rows: number): Pick<CandidateRecord, 'rows' | 'kl' | 'top1' | 'dp' | 'nll'> {
  const flat = positions.flat();
  return {
    rows,
    kl: flat.map((p) => round(p.kl)),
    top1: flat.map((p) => p.top1),
    dp: flat.map((p) => round(p.dp)),
    ...(flat.length > 0 && flat.every((p) => p.nll) ? { nll: flat.map((p) => [round(p.nll?.[0] ?? 0), round(p.nll?.[1] ?? 0)] as const) } : {}),
  };
}

function positionsOf(r: CandidateRecord, from: number, to: number): PositionDivergence[] {
  return r.kl.slice(from, to).map((kl, i) => {
    const nll = r.nll?.[from + i];
    return { kl, top1: r.top1[from + i] ?? 0, dp: r.dp[from + i] ?? 0, ...(nll ? { nll } : {}) };
  });
}

/** Sums up one candidate over the samples that have it; null when none has. */
export function fidelityOf(records: readonly SampleRecord[], candidate: string): Fidelity | null {
  const having = records.flatMap((s) => {
    const c = s.candidates[candidate];
    return c ? [{ s, c }] : [];
  });
  if (having.length === 0) return null;
  const prompt = having.flatMap(({ c }) => positionsOf(c, 0, c.rows));
  const continuation = having.flatMap(({ c }) => positionsOf(c, c.rows, c.kl.length));
  const texts = having.flatMap(({ c }) => (c.generated ?? []).map((g, r) => ({ n: g.length, first: c.firstDivergent?.[r] ?? null, share: c.divergentShare?.[r] ?? 0 })));
  const first = sorted(texts.flatMap((t) => (t.first === null ? [] : [t.first])));
  const answered = having.flatMap(({ s, c }) => (s.answers ?? []).map((a, r) => [answersMatch(s.generated?.[r] ?? [], a), answersMatch(c.generated?.[r] ?? [], a)] as const));
  const share = (pick: 0 | 1): number => answered.filter((a) => a[pick]).length / answered.length;
  return {
    samples: having.length,
    prompt: summarize(prompt),
    continuation: summarize(continuation),
    all: summarize([...prompt, ...continuation]),
    generation: texts.length === 0 || texts.every((t) => t.n === 0) ? null : {
      texts: texts.length,
      tokens: texts.reduce((a, t) => a + t.n, 0),
      identical: texts.filter((t) => t.first === null).length,
      medianFirstDivergent: first.length === 0 ? null : quantile(first, 0.5),
      meanDivergentShare: mean(texts.map((t) => t.share)),
    },
    answers: answered.length === 0 || having.every(({ c }) => !c.generated?.[0]?.length) ? null : { samples: answered.length, original: share(0), rewritten: share(1) },
  };
}

/** Joins records of the same sample made by different passes or shards, in the data's order. */
export function joinRecords(records: Iterable<SampleRecord>): SampleRecord[] {
  const byId = new Map<string, SampleRecord>();
  for (const r of records) {
    const had = byId.get(r.id);
    byId.set(r.id, had ? { ...had, ...r, generated: r.generated ?? had.generated, candidates: { ...had.candidates, ...r.candidates } } : r);
  }
  return [...byId.values()].sort((a, b) => a.index - b.index);
}
