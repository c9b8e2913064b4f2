/** How far the rewritten model's distributions are from the original's: KL, same top-1, Δp, perplexity, greedy text. */
import type { DivergenceSummary, Percentiles } from '../../validate/fidelity/divergence.js';
import type { Fidelity } from '../../validate/fidelity/records.js';
import type { ProviderReport, ValidateReport } from '../../validate/result.js';
import { dotRows } from './bars.js';
import { type Cursor, each, figure } from './cursor.js';
import { html, type Markup, type Piece } from './markup.js';
import { count, counted, error, plain, points, share, size } from './numbers.js';
import { legend, type Mark, note, type Section, table } from './parts.js';

const KL: readonly (readonly [keyof Percentiles, string])[] = [
  ['mean', 'mean'], ['median', 'median'], ['p90', '90%'], ['p95', '95%'], ['p99', '99%'], ['p999', '99.9%'], ['max', 'max'],
];
const DELTA: readonly (readonly [keyof Percentiles, string])[] = [
  ['mean', 'mean'], ['max', 'maximum'], ['p99', '99%'], ['p95', '95%'], ['median', 'median'], ['p05', '5%'], ['p01', '1%'], ['min', 'minimum'],
];

/** Mark and colour of the rewritten model (first) and of the baselines after it. */
export const LOOKS: readonly { readonly mark: Mark; readonly tone: string }[] = [
  { mark: 'dot', tone: 'rewritten' },
  { mark: 'diamond', tone: 'second' },
  { mark: 'triangle', tone: 'third' },
  { mark: 'square', tone: 'original' },
];

export const lookOf = (i: number): (typeof LOOKS)[number] => LOOKS[Math.min(i, LOOKS.length - 1)] ?? { mark: 'square', tone: 'original' };

export function fidelitySection(report: Cursor<ValidateReport>): Section | null {
  const providers = each(report.at('providers')).filter((p) => p.value.fidelity?.all);
  if (providers.length === 0) return null;
  const synthetic = report.value.data.kind === 'synthetic';
  const body = html`
${note('KL(original ‖ rewritten) of the next-token distribution, in nats, at the prompt’s last position and along the same continuation fed to both. For scale: quantizing a model to 4 bits costs a mean KL of about 0.03.')}
${synthetic && html`<p class="callout doubt">These prompts are random: the figures of this section say little about real use.</p>`}
${providers.map((p) => one(p, providers.length > 1))}`;
  return { id: 'fidelity', title: 'Fidelity', body };
}

function one(p: Cursor<ProviderReport>, named: boolean): Markup {
  const f = p.at('fidelity').some;
  if (!f) return html``;
  return html`${named && html`<h3>On ${p.value.provider}</h3>`}
<div class="two"><div>${klChart(p)}</div><div>${generation(f)}</div></div>
<div class="two"><div>${klTable(f)}</div><div>${deltaTable(f)}</div></div>`;
}

/** Percentiles of the model's KL, and of the baselines' where there are some. */
function klChart(p: Cursor<ProviderReport>): Markup {
  const candidates = [{ of: 'rewritten', all: p.at('fidelity').some?.at('all').some }, ...each(p.at('baselines')).map((b) => ({ of: b.value.rank, all: b.at('fidelity').some?.at('all').some }))];
  const rows = KL.map(([key, name]) => ({
    name,
    dots: candidates.flatMap((c, i) => (c.all ? [{ value: c.all.at('kl').at(key), ...lookOf(i), of: c.of }] : [])),
  }));
  const entries = candidates.flatMap((c, i) => (c.all ? [{ ...lookOf(i), text: c.of }] : []));
  return html`<figure><figcaption>KL divergence by percentile, nats</figcaption>${entries.length > 1 && legend(entries)}${dotRows('KL divergence by percentile, in nats', rows, plain)}</figure>`;
}

type Head = readonly [string, Cursor<DivergenceSummary>];

function columnsOf(f: Cursor<Fidelity>): Head[] {
  const all = [['prompt end', f.at('prompt').some], ['continuation', f.at('continuation').some], ['all', f.at('all').some]] as const;
  const present = all.flatMap(([name, s]) => (s ? [[name, s] as const] : []));
  return present.length === 2 ? present.slice(0, 1) : present;
}

function heads(columns: readonly Head[]): { title: string; right?: true }[] {
  return [{ title: '' }, ...columns.map(([title]) => ({ title, right: true as const }))];
}

function klTable(f: Cursor<Fidelity>): Markup {
  const columns = columnsOf(f);
  const row = (name: string, cell: (s: Cursor<DivergenceSummary>) => Piece): Piece[] => [name, ...columns.map(([, s]) => cell(s))];
  const rows = [
    row('positions', (s) => figure(s.at('positions'), count)),
    ...KL.map(([key, name]) => row(name, (s) => html`${figure(s.at('kl').at(key), plain)}${key === 'mean' && html` <small>± ${figure(s.at('kl').at('standardError'), error)}</small>`}`)),
    row('same top-1', (s) => figure(s.at('sameTop1'), share)),
    ...(f.value.all?.perplexity ? (['original', 'rewritten', 'ratio'] as const).map((key) => row(`perplexity, ${key}`, (s) => {
      const p = s.at('perplexity').some;
      return p ? figure(p.at(key), plain) : html`<span class="none">–</span>`;
    })) : []),
  ];
  return html`<h4>KL divergence, nats</h4>${table('KL divergence', heads(columns), rows)}`;
}

function deltaTable(f: Cursor<Fidelity>): Markup {
  const columns = columnsOf(f);
  const rows: Piece[][] = [
    ['RMS', ...columns.map(([, s]) => figure(s.at('deltaP').at('rms'), size))],
    ...DELTA.map(([key, name]) => [name, ...columns.map(([, s]) => figure(s.at('deltaP').at(key), points))]),
  ];
  return html`<h4>Δp of the true token, percentage points</h4>${table('Change of the probability of the true or greedy token', heads(columns), rows)}`;
}

function generation(f: Cursor<Fidelity>): Markup {
  const all = f.at('all').some;
  const g = f.at('generation').some;
  const answers = f.at('answers').some;
  const rows: Piece[][] = [
    ['same most likely token', all && figure(all.at('sameTop1'), share), all && html`of ${counted(all.value.positions, 'position')}, ${counted(f.value.samples, 'sample')}`],
  ];
  if (g) {
    rows.push(['greedy texts that are identical', figure(g.at('identical'), count), html`of ${figure(g.at('texts'), count)}, ${figure(g.at('tokens'), count)} tokens`]);
    rows.push(['first divergent token', g.value.medianFirstDivergent === null ? 'never' : figure(g.at('medianFirstDivergent'), count), g.value.medianFirstDivergent === null ? '' : 'median of the texts that diverge, from 0']);
    rows.push(['divergent tokens', figure(g.at('meanDivergentShare'), share), 'mean over texts']);
  }
  if (answers) {
    rows.push(['task accuracy, original', figure(answers.at('original'), share), html`of ${counted(answers.value.samples, 'answer')}`]);
    rows.push(['task accuracy, rewritten', figure(answers.at('rewritten'), share), '']);
  }
  return html`<h4>Tokens, texts and answers</h4>${table('Agreement of tokens, texts and answers', [{ title: '' }, { title: '', right: true }, { title: '' }], rows)}`;
}
