/** The ranker against dropping without looking, at equal cost: means over samples, and their paired difference. */
import type { Plan } from '../../plan/plan.js';
import type { Advantage, BaselineReport } from '../result.js';
import { answersMatch } from './divergence.js';
import { type CandidateRecord, fidelityOf, type SampleRecord } from './records.js';
import { estimate, mean } from './statistics.js';

export function baselineReport(records: readonly SampleRecord[], rank: string): BaselineReport {
  return { rank, fidelity: fidelityOf(records, rank), klAdvantage: klAdvantage(records, rank), answerAdvantage: answerAdvantage(records, rank) };
}

/** The baseline's mean KL of a sample minus the ranker's; null when no sample has both. */
function klAdvantage(records: readonly SampleRecord[], rank: string): Advantage | null {
  return paired(records, rank, (_, c) => mean(c.kl), (own, baseline) => baseline - own);
}

/** The ranker's share of right answers minus the baseline's; null when no sample has answers and both. */
function answerAdvantage(records: readonly SampleRecord[], rank: string): Advantage | null {
  const right = (s: SampleRecord, c: CandidateRecord): number | null => (s.answers && c.generated?.[0]?.length ? mean(s.answers.map((a, r) => Number(answersMatch(c.generated?.[r] ?? [], a)))) : null);
  return paired(records, rank, right, (own, baseline) => own - baseline);
}

function paired(records: readonly SampleRecord[], rank: string, of: (s: SampleRecord, c: CandidateRecord) => number | null, minus: (own: number, baseline: number) => number): Advantage | null {
  const pairs = records.flatMap((s) => {
    const [own, other] = ['rewritten', rank].map((name) => (s.candidates[name] ? of(s, s.candidates[name] as CandidateRecord) : null));
    return own === null || own === undefined || other === null || other === undefined ? [] : [[own, other] as const];
  });
  if (pairs.length === 0) return null;
  return { own: mean(pairs.map((p) => p[0])), baseline: mean(pairs.map((p) => p[1])), ...estimate(pairs.map(([own, other]) => minus(own, other))) };
}

/** `random:3` → what a plan says of its rank; nothing of another ranker is left in it. */
export function rankOf(text: string): Pick<Plan, 'rank' | 'seed' | 'grid' | 'balance' | 'headWeights'> {
  const [rank, seed] = text.split(':');
  const none = { grid: undefined, balance: undefined, headWeights: undefined };
  return { ...none, rank: rank === 'uniform' ? 'uniform' : rank === 'random' ? 'random' : 'attention', seed: Number(seed ?? 1) };
}
