/** The ranker against dropping as many tokens without looking: evenly spaced, or at random. */
import type { Fidelity } from '../../validate/fidelity/records.js';
import type { BaselineReport, ProviderReport, ValidateReport } from '../../validate/result.js';
import { verdictOf } from '../../validate/findings.js';
import { type Cursor, each, figure, known } from './cursor.js';
import { html, type Markup, type Piece } from './markup.js';
import { plain, share, size } from './numbers.js';
import { note, type Section, table, verdict } from './parts.js';

export function baselinesSection(report: Cursor<ValidateReport>): Section | null {
  const providers = each(report.at('providers')).filter((p) => p.value.baselines.length > 0);
  if (providers.length === 0) return null;
  const rank = report.value.rewritten.plan.rank;
  const body = html`
${note(`The same schedule and cost, other choices of tokens: what ranking by ${rank === 'attention' ? 'the last instruction token’s attention' : `“${rank}”`} is worth. The advantage is paired over samples: the baseline’s mean KL of a sample minus this model’s, with its 95% interval (Student’s t); where that holds zero, there is no difference to speak of. KL columns are means over positions.`)}
${providers.map((p) => html`${providers.length > 1 && html`<h3>On ${p.value.provider}</h3>`}${one(p, rank)}`)}`;
  return { id: 'baselines', title: 'Ranking against baselines', body };
}

function one(p: Cursor<ProviderReport>, rank: string): Markup {
  const answers = p.value.fidelity?.answers != null;
  const generated = p.value.fidelity?.generation != null;
  const cells = (f: Cursor<Fidelity> | null): Piece[] => {
    const none = html`<span class="none">–</span>`;
    const all = f?.at('all').some;
    const g = f?.at('generation').some;
    const a = f?.at('answers').some;
    return [
      all ? figure(all.at('kl').at('mean'), plain) : none,
      all ? figure(all.at('kl').at('p99'), plain) : none,
      all ? figure(all.at('sameTop1'), share) : none,
      all ? figure(all.at('deltaP').at('rms'), size) : none,
      ...(generated ? [g ? figure(g.at('meanDivergentShare'), share) : none] : []),
      ...(answers ? [a ? figure(a.at('rewritten'), share) : none] : []),
    ];
  };
  const right = (title: string): { title: string; right: true } => ({ title, right: true });
  const heads = [{ title: 'choice' }, right('mean KL'), right('99% KL'), right('same top-1'), right('Δp RMS'), ...(generated ? [right('divergent tokens')] : []), ...(answers ? [right('accuracy')] : []), right('advantage in KL'), { title: '' }];
  const rows: Piece[][] = [
    [html`<strong>this model</strong> <small>${rank}</small>`, ...cells(p.at('fidelity').some), '', ''],
    ...each(p.at('baselines')).map((b) => [b.value.rank, ...cells(b.at('fidelity').some), ...advantage(b)]),
  ];
  return table('This model and dropping at equal cost', heads, rows, 'stack');
}

function advantage(b: Cursor<BaselineReport>): [Piece, Piece] {
  const a = b.at('klAdvantage').some;
  if (!a || !known(a.value.mean)) return [html`<span class="none">–</span>`, ''];
  const words = { even: verdict('doubt', 'no difference'), better: verdict('good', 'ranker is better'), worse: verdict('bad', 'ranker loses') }[verdictOf(a.value)];
  return [html`${figure(a.at('mean'), plain)} <small>${figure(a.at('low'), plain)} to ${figure(a.at('high'), plain)}</small>`, words];
}
