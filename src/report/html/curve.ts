/** The trade-off curve of `sweep`: what schedules cost and how far they move the original. */
import type { Fidelity } from '../../validate/fidelity/records.js';
import type { CurvePoint } from '../../validate/result.js';
import { valueAxis } from './columns.js';
import { type Cursor, each, figure, known } from './cursor.js';
import { lookOf } from './fidelity.js';
import { html, type Markup, type Piece } from './markup.js';
import { plain, share, si } from './numbers.js';
import { behind, legend, note, type Section, shape, table, verdict } from './parts.js';
import { fitting, linear, percent, type Scale } from './scale.js';

/** Points of a curve and which of them is the model at hand (−1: none). */
export interface Curve {
  readonly points: readonly CurvePoint[];
  readonly chosen: number;
}

interface Measure {
  readonly title: string;
  readonly of: (f: Fidelity) => number | null | undefined;
  readonly format: (v: number) => string;
  /** Best at the bottom, on a scale that may be logarithmic; or a share. */
  readonly kind: 'divergence' | 'share';
}

const MEASURES: readonly Measure[] = [
  { title: 'Mean KL divergence, nats', of: (f) => f.all?.kl.mean, format: plain, kind: 'divergence' },
  { title: 'Same top-1', of: (f) => f.all?.sameTop1, format: share, kind: 'share' },
  { title: 'Task accuracy', of: (f) => f.answers?.rewritten, format: share, kind: 'share' },
];

export function curveSection(curve: Cursor<Curve | null>): Section | null {
  const c = curve.some;
  if (!c || c.value.points.length === 0) return null;
  const { points, chosen } = c.value;
  const stages = [...new Set(points.map((p) => p.stages))].sort((a, b) => a - b);
  const shown = MEASURES.filter((m) => points.some((p) => p.fidelity && known(m.of(p.fidelity))));
  const marks = stages.map((s, i) => ({ ...lookOf(i), text: `${s} stages` }));
  const body = html`
${note('Each point is a schedule compiled from the original; further right is cheaper.')}
${legend([...marks, ...(chosen >= 0 ? [{ mark: 'ring' as const, tone: 'chosen', text: 'this model’s schedule' }] : [])])}
<div class="two">${shown.map((m) => html`<figure><figcaption>${m.title}</figcaption>${plot(points, chosen, stages, m)}<p class="axis">cut in the prompt’s MACs</p></figure>`)}</div>
${behind('Figures of the curve', pointTable(c))}`;
  return { id: 'curve', title: 'Trade-off', body };
}

function plot(points: readonly CurvePoint[], chosen: number, stages: readonly number[], m: Measure): Markup {
  const height = 200;
  const value = (p: CurvePoint): number | null => {
    const v = p.fidelity && m.of(p.fidelity);
    return known(v) ? v : null;
  };
  const values = points.flatMap((p) => value(p) ?? []);
  const low = Math.min(...values);
  const y: Scale = m.kind === 'divergence' ? fitting(values.length > 0 ? values : [0, 1]) : shareScale(low, Math.max(...values));
  const cuts = points.map((p) => p.macsCut);
  const x = linear(Math.max(...cuts), 4, Math.min(0, ...cuts));
  const at = (p: CurvePoint, v: number): { x: string; y: number } => ({ x: percent(x.place(p.macsCut)), y: Number((height * (1 - y.place(v))).toFixed(1)) });
  const series = stages.map((s, i) => {
    const own = points.flatMap((p, index) => {
      const v = value(p);
      return p.stages === s && v !== null ? [{ p, v, index }] : [];
    }).sort((a, b) => a.p.macsCut - b.p.macsCut);
    const look = lookOf(i);
    const lines = own.slice(1).map((b, k) => {
      const [from, to] = [at((own[k] as typeof b).p, (own[k] as typeof b).v), at(b.p, b.v)];
      return html`<line class="${look.tone} series" x1="${from.x}" y1="${from.y}" x2="${to.x}" y2="${to.y}"/>`;
    });
    const dots = own.map(({ p, v, index }) => {
      const place = at(p, v);
      const title = `${p.stages} stages, λ ${p.lambda}: ${m.format(v)} at ${share(p.macsCut)} fewer MACs${index === chosen ? ' (this model)' : ''}`;
      return html`<svg x="${place.x}" y="${place.y}" overflow="visible">${shape(look.mark, look.tone, title)}</svg>`;
    });
    return html`${lines}${dots}`;
  });
  const mine = points[chosen];
  const v = mine ? value(mine) : null;
  const place = mine && v !== null ? at(mine, v) : null;
  const ring = place && html`<svg x="${place.x}" y="${place.y}" overflow="visible"><circle class="chosen" r="9"/><text class="tick strong" y="-15" text-anchor="middle">λ ${mine?.lambda}</text></svg>`;
  const ticks = x.ticks.map((t) => html`<text class="tick" x="${percent(x.place(t))}" y="${height + 16}" text-anchor="middle">${`${Math.round(100 * t)}%`}</text>`);
  const label = `${m.title} against the cut in MACs, ${points.length} schedules`;
  return html`<div class="plot"><svg role="img" height="${height + 22}" aria-label="${label}"><title>${label}</title>${valueAxis(y, height, m.kind === 'share' ? share : plain)}${ticks}${series}${ring}</svg></div>`;
}

/** Shares close to each other get an axis that shows their differences. */
function shareScale(low: number, high: number): Scale {
  if (high - low >= 0.25) return linear(1, 4);
  const from = Math.max(0, Math.min(0.75, Math.floor(low * 20) / 20));
  return linear(from + (high <= from + 0.25 ? 0.25 : 0.3), 5, from);
}

function pointTable(c: Cursor<Curve>): Markup {
  const answers = c.value.points.some((p) => p.fidelity?.answers);
  const none = html`<span class="none">–</span>`;
  const right = (title: string): { title: string; right: true } => ({ title, right: true });
  const rows = each(c.at('points')).map((p, i): Piece[] => {
    const f = p.at('fidelity').some;
    const all = f?.at('all').some;
    const a = f?.at('answers').some;
    return [
      html`${p.value.stages} stages, λ ${p.value.lambda}`,
      p.value.layers.join(', '),
      p.value.keep.join(', '),
      figure(p.at('macs'), si),
      figure(p.at('macsCut'), share),
      figure(p.at('cacheCut'), share),
      all ? figure(all.at('kl').at('mean'), plain) : none,
      all ? figure(all.at('sameTop1'), share) : none,
      ...(answers ? [a ? figure(a.at('rewritten'), share) : none] : []),
      i === c.value.chosen ? verdict('good', 'this model') : '',
    ];
  });
  return table('Points of the curve', [{ title: 'schedule' }, { title: 'before layers' }, { title: 'kept' }, right('MACs'), right('MACs cut'), right('cache cut'), right('mean KL'), right('same top-1'), ...(answers ? [right('accuracy')] : []), { title: '' }], rows);
}
