/** Reads what `--rank` takes: a ranker, what it needs beside its name, and the grid beside it. */
import { formatRatio, parseRatio } from '../cost/keep.js';
import { UsageError } from '../diagnostics.js';
import type { DecoderFacts, Layer } from '../analyse/facts.js';
import { RANKS, type RankMethod } from './ranks.js';

/** By layer (as a string), a weight ≥ 0 for each attention head. */
export type HeadWeights = Readonly<Record<string, readonly number[]>>;

const RANK_WORDS = 'use attention, norope, change, transition, diverse, balanced[:<share>], heads:<file>, uniform or random[:<seed>], each with +grid:<share> if wanted';

export interface ParsedRank {
  readonly rank: RankMethod;
  readonly seed: number;
  readonly grid?: string;
  readonly balance?: string;
  /** Of `heads:<file>`: the file; reading it is the caller's. */
  readonly headsFile?: string;
}

/**
 * Reads what `--rank` takes.
 *
 * @param measured `heads` stands without a file, for its weights are measured
 */
export function parseRank(text: string, measured = false): ParsedRank {
  const wrong = (): UsageError => new UsageError({ code: 'PD014', message: `--rank ${text} is not understood`, culprit: '--rank', hint: RANK_WORDS });
  const [, method = '', grid] = /^(.*?)(?:\+grid:([^:+]*))?$/.exec(text) ?? [];
  const [, name = '', argument] = /^([a-z]+)(?::(.*))?$/.exec(method) ?? [];
  if (!Object.hasOwn(RANKS, name)) throw wrong();
  const rank = name as RankMethod;
  const share = (given: string): string => {
    if (!/^(0|1|0?\.\d{1,12})$/.test(given)) throw wrong();
    return formatRatio(parseRatio(given));
  };
  const rest = grid === undefined ? {} : { grid: share(grid) };
  if (rest.grid === '0' || rest.grid === '1') throw wrong();
  switch (rank) {
    case 'random':
      if (argument !== undefined && !/^\d{1,9}$/.test(argument)) throw wrong();
      return { rank, seed: Number(argument ?? 0), ...rest };
    case 'balanced':
      return { rank, seed: 0, ...rest, ...(argument === undefined ? {} : { balance: share(argument) }) };
    case 'heads':
      if (measured ? argument !== undefined : !argument) throw wrong();
      return { rank, seed: 0, ...rest, ...(argument === undefined ? {} : { headsFile: argument }) };
    default:
      if (argument !== undefined) throw wrong();
      return { rank, seed: 0, ...rest };
  }
}

/**
 * The weights of a heads file at the plan's layers.
 *
 * @throws {UsageError} PD040: weights are missing, or not one a head.
 */
export function headWeightsAt(facts: DecoderFacts, layers: readonly number[], byLayer: HeadWeights | undefined): number[][] {
  return layers.map((index) => {
    const weights = byLayer?.[String(index)];
    const heads = (facts.layers[index] as Layer).core?.heads ?? 0;
    if (weights?.length !== heads || !weights.some((w) => w > 0) || weights.some((w) => !(w >= 0 && Number.isFinite(w)))) {
      throw new UsageError({
        code: 'PD040',
        message: `there are no ${heads} head weights ≥ 0, one of them above 0, for layer ${index}`,
        culprit: '--rank heads',
        hint: 'the file must have the layers of this plan: see schemas/heads.schema.json',
      });
    }
    return [...weights];
  });
}
