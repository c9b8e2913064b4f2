/** The ranker against dropping without looking, at equal cost. */
import type { Plan } from '../../plan/plan.js';
import type { BaselineReport } from '../result.js';
import type { SampleRecord } from './records.js';
import { mean, standardError } from './statistics.js';

/** Paired over samples: the baseline's mean KL on a sample minus the ranker's. null when no sample has both. */
export function klAdvantage(records: readonly SampleRecord[], rank: string): BaselineReport['klAdvantage'] {
  const differences = records.flatMap((r) => {
    const own = r.candidates.rewritten;
    const other = r.candidates[rank];
    return own && other ? [mean(other.kl) - mean(own.kl)] : [];
  });
  return differences.length === 0 ? null : { mean: mean(differences), standardError: standardError(differences) };
}

/** `random:3` → what a plan says of its rank; nothing of another ranker is left in it. */
export function rankOf(text: string): Pick<Plan, 'rank' | 'seed' | 'grid' | 'balance' | 'headWeights'> {
  const [rank, seed] = text.split(':');
  const none = { grid: undefined, balance: undefined, headWeights: undefined };
  return { ...none, rank: rank === 'uniform' ? 'uniform' : rank === 'random' ? 'random' : 'attention', seed: Number(seed ?? 1) };
}
