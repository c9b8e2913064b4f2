/** Thresholds, and statements in plain words: among them those nobody likes to read. */
import type { Advantage, BaselineReport, CostReport, KeptReport, ProviderReport, ThresholdResult } from './result.js';
import { worseCosts } from './worse.js';

export interface Thresholds {
  readonly maxKl?: number | undefined;
  readonly maxKlP99?: number | undefined;
  readonly minTop1?: number | undefined;
  readonly maxPplRatio?: number | undefined;
  readonly maxDivergent?: number | undefined;
  readonly minAccuracy?: number | undefined;
  readonly maxAccuracyDrop?: number | undefined;
  readonly minFlopsCut?: number | undefined;
  readonly minCacheCut?: number | undefined;
  readonly minSpeedup?: number | undefined;
  /** Share of the MACs that must have run on the provider asked for. */
  readonly requireEp?: number | undefined;
  readonly beatBaselines?: boolean | undefined;
}

type Check = { readonly option: string; readonly name: string; readonly limit: number | undefined; readonly atMost: boolean; readonly of: (p: ProviderReport) => number | null | undefined };

function checks(t: Thresholds): Check[] {
  return [
    { option: '--max-kl', name: 'mean KL divergence', limit: t.maxKl, atMost: true, of: (p) => p.fidelity?.all?.kl.mean },
    { option: '--max-kl-p99', name: '99th percentile of the KL divergence', limit: t.maxKlP99, atMost: true, of: (p) => p.fidelity?.all?.kl.p99 },
    { option: '--min-top1', name: 'same top-1 share', limit: t.minTop1, atMost: false, of: (p) => p.fidelity?.all?.sameTop1 },
    { option: '--max-ppl-ratio', name: 'perplexity ratio', limit: t.maxPplRatio, atMost: true, of: (p) => p.fidelity?.all?.perplexity?.ratio },
    { option: '--max-divergent', name: 'share of divergent tokens', limit: t.maxDivergent, atMost: true, of: (p) => p.fidelity?.generation?.meanDivergentShare },
    { option: '--min-accuracy', name: 'task accuracy', limit: t.minAccuracy, atMost: false, of: (p) => p.fidelity?.answers?.rewritten },
    { option: '--max-accuracy-drop', name: 'drop in task accuracy', limit: t.maxAccuracyDrop, atMost: true, of: (p) => (p.fidelity?.answers ? p.fidelity.answers.original - p.fidelity.answers.rewritten : null) },
    { option: '--min-speedup', name: 'prefill speed-up', limit: t.minSpeedup, atMost: false, of: (p) => p.latency?.prefill.speedup },
    {
      option: '--require-ep',
      name: 'share of MACs on the provider',
      limit: t.requireEp,
      atMost: false,
      of: (p) => (p.placement ? Math.min(...[p.placement.original.prefill, p.placement.original.decode, p.placement.rewritten.prefill, p.placement.rewritten.decode].flatMap((x) => (x ? [x.macShare] : []))) : null),
    },
  ];
}

const within = (actual: number | null, limit: number, atMost: boolean): boolean => actual !== null && Number.isFinite(actual) && (atMost ? actual <= limit + 1e-12 : actual >= limit - 1e-12);

export function judgeThresholds(t: Thresholds, providers: readonly ProviderReport[], cost: CostReport | null): ThresholdResult[] {
  const out: ThresholdResult[] = [];
  const common = [
    { option: '--min-flops-cut', name: 'cut in prefill FLOPs', limit: t.minFlopsCut, actual: cost?.prefill.cut ?? null },
    { option: '--min-cache-cut', name: 'cut in KV-cache bytes', limit: t.minCacheCut, actual: cost?.cacheBytes.cut ?? null },
  ];
  for (const c of common) if (c.limit !== undefined) out.push({ name: c.name, option: c.option, provider: null, limit: c.limit, actual: c.actual, met: within(c.actual, c.limit, false) });
  for (const p of providers) {
    for (const c of checks(t)) {
      if (c.limit === undefined) continue;
      const actual = c.of(p) ?? null;
      out.push({ name: c.name, option: c.option, provider: p.provider, limit: c.limit, actual, met: within(actual, c.limit, c.atMost) });
    }
    if (t.beatBaselines) {
      for (const b of p.baselines) {
        const actual = b.klAdvantage?.mean ?? null;
        out.push({ name: `mean KL advantage over ${b.rank}`, option: '--beat-baselines', provider: p.provider, limit: 0, actual, met: within(actual, 0, false) });
      }
    }
  }
  return out;
}

const percent = (v: number): string => `${(100 * v).toFixed(1)}%`;
const figure = (v: number): string => (v !== 0 && Math.abs(v) < 0.001 ? v.toExponential(2) : v.toFixed(4));

/** Differences of shares are in points: 2% more than 50% could be 51% or 52%. */
const points = (v: number): string => `${(100 * v).toFixed(1)} points`;
const signed = (v: number, how: (v: number) => string): string => `${v > 0 ? '+' : v < 0 ? '−' : ''}${how(Math.abs(v))}`;

/** Whether an advantage can be told from chance: its 95% interval leaves zero out. */
export function verdictOf(a: Advantage): 'better' | 'worse' | 'even' {
  return a.low > 0 ? 'better' : a.high < 0 ? 'worse' : 'even';
}

function inWords(a: Advantage, how: (v: number) => string, difference: (v: number) => string = how): string {
  const interval = Number.isFinite(a.low) ? `95% interval ${signed(a.low, difference)} to ${signed(a.high, difference)}` : 'one sample, no interval';
  return `${how(a.own)} against ${how(a.baseline)}, the ranker’s advantage ${signed(a.mean, difference)} (${interval})`;
}

/**
 * How the ranker stands to one baseline, said plainly. Both measures are means over the same samples, so that figures add up; each has a
 * verdict of its own, by its interval.
 */
export function baselineFinding(p: ProviderReport, b: BaselineReport): string | null {
  const kl = b.klAdvantage;
  if (!kl || !p.fidelity?.all || !b.fidelity?.all) return null;
  const answers = b.answerAdvantage;
  const [byKl, byAnswers] = [verdictOf(kl), answers ? verdictOf(answers) : null];
  const verdicts = { better: 'beats', worse: 'LOSES to', even: 'is no better than' } as const;
  const klWords = `mean KL a sample ${inWords(kl, figure)}`;
  const answerWords = answers ? `; right answers ${inWords(answers, percent, points)}` : '';
  const head = `The ranker ${verdicts[byKl]} ${b.rank} dropping at equal cost on ${p.provider}`;
  const apart = byAnswers !== null && byAnswers !== byKl ? `; by right answers it ${{ better: 'beats it', worse: 'LOSES', even: 'neither wins nor loses' }[byAnswers]}` : '';
  const end = byKl === 'worse' && byAnswers !== 'better' ? ' Ranking buys nothing on this data.' : '';
  return `${head}, by KL over ${counted(kl.samples, 'sample')}${apart}: ${klWords}${answerWords}.${end}`;
}

/** From which prompt on the rewritten model wins, and what a token that is generated then adds to it. */
export function breakEvenWords(p: ProviderReport): string | null {
  const l = p.latency;
  if (!l || l.breakEven === null) return null;
  const from = l.breakEven === 0 ? 'at any length of the prompt' : `from about ${Math.ceil(l.breakEven)} image tokens on`;
  const step = l.decode && l.decode.original.median - l.decode.rewritten.median;
  const then = step === null ? '' : `; every token generated after it takes ${Math.abs(step).toPrecision(2)} ms ${step >= 0 ? 'less' : 'more'}`;
  return `break-even on ${p.provider}: prefill is the faster one ${from}, worked out from this prompt’s times${then}`;
}

const counted = (n: number, what: string): string => `${n} ${what}${n === 1 ? '' : 's'}`;

/** What got worse comes first, whatever else there is to say; failed gates alone stand before it, for they make all figures void. */
export function findings(providers: readonly ProviderReport[], cost: CostReport | null, kept: KeptReport | null, synthetic: boolean): string[] {
  const out: string[] = [];
  for (const p of providers) {
    for (const g of p.gates) if (g.status === 'failed') out.push(`Gate ${g.gate} failed on ${p.provider}: ${g.detail}.`);
    if (p.gates.some((g) => g.gate === 'identity' && g.status === 'passed') && p.gates.some((g) => g.gate !== 'identity' && g.status === 'failed')) {
      out.push(`The compiler is right for this model on ${p.provider} (identity at λ = 1 holds); this rewritten file is not what it writes today.`);
    }
  }
  out.push(...worseCosts(providers, cost));
  for (const p of providers) {
    const answers = p.fidelity?.answers;
    const fell = answers && answers.rewritten < answers.original;
    if (answers) out.push(`Right answers ${fell ? 'FELL' : 'did not fall'} on ${p.provider}: ${percent(answers.original)} before, ${percent(answers.rewritten)} after, ${counted(answers.samples, 'answer')}.`);
    if (p.faults.length > 0) out.push(`${counted(p.faults.length, 'sample')} failed on ${p.provider}: ${p.faults[0]?.message}`);
    for (const b of p.baselines) {
      const text = synthetic ? null : baselineFinding(p, b);
      if (text) out.push(text);
    }
    if (p.latency) {
      const { speedup, uncertainty } = p.latency.prefill;
      if (speedup >= 1) out.push(`Prefill on ${p.provider} is ${speedup.toFixed(2)}× as fast (± ${uncertainty.toFixed(2)}, half the distance of the quartiles), ${percent(p.latency.achievedPrefill)} of the ${p.latency.idealPrefill.toFixed(2)}× that the MACs allow.`);
    }
    const even = breakEvenWords(p);
    if (even) out.push(`${even.charAt(0).toUpperCase()}${even.slice(1)}.`);
    const placed = p.placement?.rewritten.prefill;
    if (placed && p.provider !== 'cpu' && placed.macShare < 1) out.push(`Only ${percent(placed.macShare)} of the MACs ran on ${p.provider}; the rest fell back to the CPU.`);
  }
  if (cost) {
    if (cost.countsDiffer !== null && cost.countsDiffer > 1e-3) out.push(`The MACs counted on the graph and those executed differ by ${percent(cost.countsDiffer)}: one of the counts is wrong, or ONNX Runtime folded work away.`);
    const uncounted = [...new Set([...cost.prefill.original.uncounted, ...cost.prefill.rewritten.uncounted])];
    if (uncounted.length > 0) out.push(`Not counted: ${uncounted.join(', ')}.`);
  }
  const skew = kept && skewOf(kept);
  if (skew) out.push(skew);
  return out;
}

/** Attention ranks are known to favour late tokens, the bottom of the image (RoPE's recency). */
function skewOf(kept: KeptReport): string | null {
  const last = kept.histogram.boundaries.at(-1);
  if (!last || kept.histogram.samples === 0) return null;
  const half = Math.floor(last.keptShare.length / 2);
  const mean = (list: readonly number[]): number => list.reduce((a, b) => a + b, 0) / Math.max(1, list.length);
  const [first, second] = [mean(last.keptShare.slice(0, half)), mean(last.keptShare.slice(half))];
  const all = (first + second) / 2;
  if (all === 0 || Math.abs(second - first) < 0.25 * all) return null;
  const [more, less, where] = second > first ? [second, first, 'second half of the image tokens (the bottom of a picture)'] : [first, second, 'first half of the image tokens (the top of a picture)'];
  return `Kept tokens crowd in the ${where}: ${percent(more)} of them stay to the end, of the others ${percent(less)}.`;
}
