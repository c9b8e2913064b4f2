/** Reports of shards → one report: samples are joined, and everything that sums over samples is summed anew. */
import { UsageError } from '../diagnostics.js';
import { findings, judgeThresholds, type Thresholds } from '../validate/findings.js';
import { fidelityOf, joinRecords } from '../validate/fidelity/records.js';
import { baselineReport } from '../validate/fidelity/baselines.js';
import type { KeptReport, ProviderReport, ValidateReport } from '../validate/result.js';

/** @throws {UsageError} PD018 when the reports are not shards of one validation. */
export function mergeReports(reports: readonly ValidateReport[], thresholds: Thresholds, allowMissing: boolean): ValidateReport {
  const [first] = reports;
  if (!first) throw new UsageError({ code: 'PD034', message: 'there is nothing to merge', culprit: 'merge', hint: 'give the reports of the shards' });
  check(reports, first, allowMissing);
  const names = [...new Set(reports.flatMap((r) => r.providers.map((p) => p.provider)))];
  const providers = names.map((name) => mergeProvider(reports.flatMap((r) => r.providers.filter((p) => p.provider === name))));
  const cost = reports.find((r) => r.cost)?.cost ?? null;
  const kept = mergeKept(reports.flatMap((r) => r.kept ?? []));
  // Without new ones, the limits the shards were given are judged on the whole.
  const limits = Object.keys(thresholds).length > 0 ? thresholds : givenThresholds(first);
  const results = judgeThresholds(limits, providers, cost);
  const faults = providers.flatMap((p) => p.faults);
  const failed = results.some((t) => !t.met) || providers.some((p) => p.gates.some((g) => g.status === 'failed'));
  return {
    ...first,
    data: { ...first.data, samples: new Set(providers.flatMap((p) => p.samples.map((s) => s.id))).size, failed: new Set(faults.map((f) => f.id)).size, resumed: reports.reduce((a, r) => a + r.data.resumed, 0) },
    shard: null,
    providers,
    cost,
    kept,
    words: mergeWords(reports),
    curve: reports.find((r) => r.curve)?.curve ?? null,
    thresholds: results,
    findings: findings(providers, cost, kept, first.data.kind === 'synthetic'),
    verdict: failed ? 'failed' : faults.length > 0 ? 'incomplete' : 'passed',
  };
}

function check(reports: readonly ValidateReport[], first: ValidateReport, allowMissing: boolean): void {
  const wrong = (message: string, hint: string): UsageError => new UsageError({ code: 'PD034', message, culprit: 'merge', hint });
  const key = (r: ValidateReport): string => JSON.stringify([r.original, r.rewritten, r.settings, r.data.kind, r.data.source]);
  for (const r of reports) if (key(r) !== key(first)) throw wrong('the reports are of different models, data or settings', 'merge only shards of one validation');
  const of = first.shard?.of;
  const seen = reports.map((r) => r.shard?.index ?? 0);
  if (reports.length > 1 && (of === undefined || reports.some((r) => r.shard?.of !== of))) throw wrong('the reports are not shards', 'run validate with --shard i/n');
  if (new Set(seen).size !== seen.length) throw wrong(`shard ${seen.find((s, i) => seen.indexOf(s) !== i)} is there twice`, 'give each shard once');
  const missing = Array.from({ length: of ?? 1 }, (_, i) => i + 1).filter((i) => of !== undefined && !seen.includes(i));
  if (missing.length > 0 && !allowMissing) throw wrong(`shard ${missing.join(', ')} of ${of} is missing`, 'wait for all shards, or pass --allow-missing');
}

function mergeProvider(parts: readonly ProviderReport[]): ProviderReport {
  const [first] = parts;
  if (!first) throw new UsageError({ code: 'PD034', message: 'a provider without reports', culprit: 'merge', hint: 'give the reports of the shards' });
  const samples = joinRecords(parts.flatMap((p) => p.samples));
  const gates = first.gates.map((g) => parts.flatMap((p) => p.gates.filter((x) => x.gate === g.gate && x.status === 'failed'))[0] ?? g);
  return {
    ...first,
    gates,
    control: parts.reduce<number | null>((a, p) => (p.control === null ? a : Math.max(a ?? 0, p.control)), null),
    fidelity: fidelityOf(samples, 'rewritten'),
    baselines: first.baselines.map((b) => baselineReport(samples, b.rank)),
    samples,
    faults: parts.flatMap((p) => p.faults),
    notes: [...new Set(parts.flatMap((p) => p.notes))],
  };
}

function mergeWords(reports: readonly ValidateReport[]): ValidateReport['words'] {
  const known = reports.flatMap((r) => r.words ?? []);
  return known[0] ? { join: known[0].join, pieces: Object.assign({}, ...known.map((w) => w.pieces)) as Record<string, string> } : null;
}

function mergeKept(parts: readonly KeptReport[]): KeptReport | null {
  const [first] = parts;
  if (!first) return null;
  const samples = parts.reduce((a, p) => a + p.histogram.samples, 0);
  return {
    samples: parts.flatMap((p) => p.samples).slice(0, Math.max(...parts.map((p) => p.samples.length))),
    histogram: {
      ...first.histogram,
      samples,
      boundaries: first.histogram.boundaries.map((b, i) => ({
        layer: b.layer,
        // Weighted by samples: exact when they have equally many image tokens.
        keptShare: b.keptShare.map((_, bin) => parts.reduce((a, p) => a + (p.histogram.boundaries[i]?.keptShare[bin] ?? 0) * p.histogram.samples, 0) / Math.max(1, samples)),
      })),
    },
  };
}

const OPTIONS: Readonly<Record<string, keyof Thresholds>> = {
  '--max-kl': 'maxKl', '--max-kl-p99': 'maxKlP99', '--min-top1': 'minTop1', '--max-ppl-ratio': 'maxPplRatio', '--max-divergent': 'maxDivergent', '--min-accuracy': 'minAccuracy',
  '--max-accuracy-drop': 'maxAccuracyDrop', '--min-flops-cut': 'minFlopsCut', '--min-cache-cut': 'minCacheCut', '--min-speedup': 'minSpeedup', '--require-ep': 'requireEp',
};

function givenThresholds(r: ValidateReport): Thresholds {
  const out: Record<string, number | boolean> = {};
  for (const t of r.thresholds) {
    const key = OPTIONS[t.option];
    if (key) out[key] = t.limit;
    else if (t.option === '--beat-baselines') out.beatBaselines = true;
  }
  return out as Thresholds;
}
