/** The report of `validate` as tables of text: the terminal and the Markdown summary show the same figures. */
import type { DivergenceSummary, Percentiles } from '../validate/fidelity/divergence.js';
import { breakEvenWords } from '../validate/findings.js';
import type { ProviderReport, ValidateReport } from '../validate/result.js';

export interface TextTable {
  readonly title: string;
  readonly columns: readonly { readonly title: string; readonly right?: boolean }[];
  readonly rows: readonly (readonly string[])[];
  /** One sentence under the table. */
  readonly note?: string | undefined;
}

export function figure(v: number | null | undefined): string {
  if (v === null || v === undefined || Number.isNaN(v)) return '–';
  if (v === 0) return '0';
  const a = Math.abs(v);
  return a < 1e-4 || a >= 1e6 ? v.toExponential(2) : v.toPrecision(4).replace(/(\.\d*?)0+$/, '$1').replace(/\.$/, '');
}

export const share = (v: number | null | undefined): string => (v === null || v === undefined || Number.isNaN(v) ? '–' : `${(100 * v).toFixed(1)}%`);

export function si(v: number): string {
  const units = ['', 'k', 'M', 'G', 'T', 'P'];
  let u = 0;
  let x = v;
  while (Math.abs(x) >= 1000 && u < units.length - 1) {
    x /= 1000;
    u++;
  }
  return `${u === 0 ? x : x.toPrecision(3)} ${units[u]}`.trim();
}

export function mib(v: number): string {
  return v >= 2 ** 30 ? `${(v / 2 ** 30).toFixed(2)} GiB` : v >= 2 ** 20 ? `${(v / 2 ** 20).toFixed(1)} MiB` : `${(v / 1024).toFixed(1)} KiB`;
}

const ms = (v: number): string => (v >= 100 ? v.toFixed(0) : v.toPrecision(3));

export function gatesTable(p: ProviderReport): TextTable {
  return {
    title: `Gates on ${p.provider}`,
    columns: [{ title: 'gate' }, { title: 'result' }, { title: 'what was seen' }],
    rows: p.gates.map((g) => [g.gate, g.status, g.detail]),
    note: p.control === null ? undefined : `no-op Gathers alone move the original by ${figure(p.control)}`,
  };
}

const PERCENTILES: readonly [keyof Percentiles, string][] = [
  ['mean', 'mean'], ['max', 'maximum'], ['p999', '99.9%'], ['p99', '99.0%'], ['p95', '95.0%'], ['median', 'median'],
];
const SPREAD: readonly [keyof Percentiles, string][] = [
  ['mean', 'mean'], ['max', 'maximum'], ['p99', '99.0%'], ['p95', '95.0%'], ['median', 'median'], ['p05', '5.0%'], ['p01', '1.0%'], ['min', 'minimum'],
];

/** The table llama.cpp's --kl-divergence prints; a column at the prompt's end and one along the continuation. */
export function fidelityTable(p: ProviderReport): TextTable | null {
  const f = p.fidelity;
  if (!f?.all) return null;
  const columns: [string, DivergenceSummary][] = [];
  if (f.prompt) columns.push(['prompt end', f.prompt]);
  if (f.continuation) columns.push(['continuation', f.continuation], ['all', f.all]);
  const rows: string[][] = [['positions', ...columns.map(([, s]) => String(s.positions))]];
  for (const [key, name] of PERCENTILES) rows.push([`KL divergence, ${name}`, ...columns.map(([, s]) => figure(s.kl[key]))]);
  rows.push(['same top-1', ...columns.map(([, s]) => share(s.sameTop1))]);
  rows.push(['Δp, RMS', ...columns.map(([, s]) => share(s.deltaP.rms))]);
  for (const [key, name] of SPREAD) rows.push([`Δp, ${name}`, ...columns.map(([, s]) => share(s.deltaP[key]))]);
  if (columns.some(([, s]) => s.perplexity)) {
    rows.push(['perplexity, original', ...columns.map(([, s]) => figure(s.perplexity?.original))]);
    rows.push(['perplexity, rewritten', ...columns.map(([, s]) => figure(s.perplexity?.rewritten))]);
    rows.push(['perplexity ratio', ...columns.map(([, s]) => figure(s.perplexity?.ratio))]);
  }
  const notes: string[] = [];
  if (f.generation) {
    const g = f.generation;
    notes.push(`greedy text: ${g.identical} of ${g.texts} identical; first divergent token ${g.medianFirstDivergent === null ? 'never' : `at ${figure(g.medianFirstDivergent)} (median)`}; ${share(g.meanDivergentShare)} of ${g.tokens} tokens divergent`);
  }
  if (f.answers) notes.push(`task accuracy ${share(f.answers.original)} → ${share(f.answers.rewritten)} over ${f.answers.samples} answers`);
  return {
    title: `Fidelity on ${p.provider}, ${f.samples} sample${f.samples === 1 ? '' : 's'}`,
    columns: [{ title: '' }, ...columns.map(([title]) => ({ title, right: true }))],
    rows,
    note: notes.length > 0 ? notes.join('; ') : undefined,
  };
}

export function baselinesTable(p: ProviderReport): TextTable | null {
  if (p.baselines.length === 0 || !p.fidelity?.all) return null;
  const accuracy = p.fidelity.answers !== null;
  const line = (name: string, f: ProviderReport['fidelity'], advantage: string): string[] => [name, figure(f?.all?.kl.mean), share(f?.all?.sameTop1), ...(accuracy ? [share(f?.answers?.rewritten)] : []), advantage];
  return {
    title: `Ranking against dropping at equal cost, ${p.provider}`,
    columns: [{ title: 'rank' }, { title: 'KL a position', right: true }, { title: 'same top-1', right: true }, ...(accuracy ? [{ title: 'accuracy', right: true }] : []), { title: 'ranker’s advantage in KL a sample (95%)', right: true }],
    rows: [line('this model', p.fidelity, ''), ...p.baselines.map((b) => line(b.rank, b.fidelity, b.klAdvantage ? `${figure(b.klAdvantage.mean)} (${figure(b.klAdvantage.low)} to ${figure(b.klAdvantage.high)})` : '–'))],
  };
}

export function costTable(r: ValidateReport): TextTable | null {
  const c = r.cost;
  if (!c) return null;
  const rows: string[][] = [];
  const add = (name: string, o: number, n: number, how: (v: number) => string = si): void => {
    rows.push([name, how(o), how(n), share(o === 0 ? 0 : 1 - n / o)]);
  };
  add('prefill MACs, graph', c.prefill.original.graph, c.prefill.rewritten.graph);
  if (c.prefill.original.executed !== null && c.prefill.rewritten.executed !== null) add('prefill MACs, executed', c.prefill.original.executed, c.prefill.rewritten.executed);
  if (c.paper) add('image-token MACs, paper’s formula', c.paper.original, c.paper.rewritten);
  add('prefill FLOPs (2 a MAC)', 2 * c.prefill.original.graph, 2 * c.prefill.rewritten.graph);
  if (c.decode) add('decode step MACs', c.decode.original.graph, c.decode.rewritten.graph);
  add('KV cache after the prompt', c.cacheBytes.original, c.cacheBytes.rewritten, mib);
  const agree = c.countsDiffer === null ? 'nothing was profiled' : c.countsDiffer === 0 ? 'graph and executed counts are equal' : `graph and executed counts differ by ${figure(c.countsDiffer)}`;
  return {
    title: `Cost of sample ${c.at.sample}: ${c.at.rows > 1 ? `${c.at.rows} rows of ` : ''}${c.at.tokens} tokens, ${c.at.imageTokens} of the image`,
    columns: [{ title: '' }, { title: 'original', right: true }, { title: 'rewritten', right: true }, { title: 'cut', right: true }],
    rows,
    note: `ranking takes ${share(c.rankShare)} of the rewritten prefill; ${agree}`,
  };
}

export function speedTable(p: ProviderReport): TextTable | null {
  const l = p.latency;
  if (!l) return null;
  const notes = [breakEvenWords(p), p.memory?.original && p.memory.rewritten ? `peak memory of a process that runs the prompt: ${mib(p.memory.original.peak)} → ${mib(p.memory.rewritten.peak)}${p.memory.note ? ` (${p.memory.note})` : ''}` : null].filter((n) => n !== null);
  const rows = [['prefill', l.prefill, l.idealPrefill, l.achievedPrefill] as const, ...(l.decode ? [['decode step', l.decode, l.idealDecode, l.achievedDecode] as const] : [])];
  return {
    title: `Latency on ${p.provider}, median (quartiles) in ms, interleaved`,
    columns: [{ title: '' }, { title: 'original', right: true }, { title: 'rewritten', right: true }, { title: 'speed-up', right: true }, { title: 'MACs allow', right: true }, { title: 'achieved', right: true }],
    rows: rows.map(([name, x, ideal, achieved]) => [name, `${ms(x.original.median)} (${ms(x.original.p25)}–${ms(x.original.p75)})`, `${ms(x.rewritten.median)} (${ms(x.rewritten.p25)}–${ms(x.rewritten.p75)})`, `${x.speedup.toFixed(2)}×`, ideal === null ? '–' : `${ideal.toFixed(2)}×`, share(achieved)]),
    note: notes.length > 0 ? notes.join('; ') : undefined,
  };
}

export function placementTable(p: ProviderReport): TextTable | null {
  if (!p.placement) return null;
  const rows = (['original', 'rewritten'] as const).flatMap((m) => (['prefill', 'decode'] as const).flatMap((phase) => {
    const x = p.placement?.[m][phase];
    if (!x) return [];
    const fell = x.fellBack.slice(0, 6).map((f) => `${f.op}×${f.nodes}${f.floats ? '!' : ''}`).join(' ');
    return [[`${m}, ${phase}`, String(x.nodes), share(x.nodeShare), share(x.timeShare), share(x.macShare), fell + (x.fellBack.length > 6 ? ` and ${x.fellBack.length - 6} more` : '')]];
  }));
  const loud = rows.some((r) => r[5]?.includes('!'));
  return {
    title: `Where nodes ran, from ONNX Runtime’s profile: asked for ${p.provider}`,
    columns: [{ title: '' }, { title: 'nodes', right: true }, { title: 'on it', right: true }, { title: 'of time', right: true }, { title: 'of MACs', right: true }, { title: 'fell back' }],
    rows,
    note: loud ? '! moved large float tensors to another provider' : undefined,
  };
}

export function executedTable(p: ProviderReport): TextTable | null {
  const { placement } = p;
  if (!placement) return null;
  const rows = ([['prefill', 'prefill'], ['decode', 'decode step']] as const).flatMap(([phase, name]) => {
    const [o, r] = [placement.original[phase]?.executed, placement.rewritten[phase]?.executed];
    if (!o || !r) return [];
    return [[name, ...(['kernels', 'launches', 'copies', 'syncs'] as const).map((what) => `${o[what]} → ${r[what]}`)]];
  });
  return {
    title: `What was executed on ${p.provider}, original → rewritten`,
    columns: [{ title: '' }, { title: 'kernels', right: true }, { title: 'launched on a device', right: true }, { title: 'copies', right: true }, { title: 'waits for the device', right: true }],
    rows,
  };
}

export function thresholdsTable(r: ValidateReport, missedOnly: boolean): TextTable | null {
  const rows = r.thresholds.filter((t) => !missedOnly || !t.met);
  if (rows.length === 0) return null;
  return {
    title: missedOnly ? 'What fell short' : 'Thresholds',
    columns: [{ title: 'threshold' }, { title: 'provider' }, { title: 'option' }, { title: 'limit', right: true }, { title: 'measured', right: true }, ...(missedOnly ? [] : [{ title: 'met' }])],
    rows: rows.map((t) => [t.name, t.provider ?? 'all', t.option, figure(t.limit), t.actual === null ? 'nothing to compare' : figure(t.actual), ...(missedOnly ? [] : [t.met ? 'yes' : 'NO'])]),
  };
}

/** Everything in reading order. */
export function allTables(r: ValidateReport): TextTable[] {
  const perProvider = r.providers.flatMap((p) => [p.gates.length > 0 ? gatesTable(p) : null, fidelityTable(p), baselinesTable(p), speedTable(p), executedTable(p), placementTable(p)]);
  return [...perProvider, costTable(r), thresholdsTable(r, false)].flatMap((t) => t ?? []);
}

