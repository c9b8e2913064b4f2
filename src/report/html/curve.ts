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
  /** The original's own figure, where it has one. */
  readonly original?: (f: Fidelity) => number | null | undefined;
}

const MEASURES: readonly Measure[] = [
  { title: 'Mean KL divergence, nats', of: (f) => f.all?.kl.mean, format: plain, kind: 'divergence' },
  { title: 'Same top-1', of: (f) => f.all?.sameTop1, format: share, kind: 'share' },
  { title: 'Task accuracy', of: (f) => f.answers?.rewritten, format: share, kind: 'share', original: (f) => f.answers?.original },
];

export function curveSection(curve: Cursor<Curve | null>): Section | null {
  const c = curve.some;
  if (!c || c.value.points.length === 0) return null;
  const { points, chosen } = c.value;
  const series = seriesOf(points);
  const shown = MEASURES.filter((m) => points.some((p) => p.fidelity && known(m.of(p.fidelity))));
  const marks = series.map((s, i) => ({ ...lookOf(i), text: s.name }));
  const baselines = [...new Set(points.flatMap((p) => p.baselines.map((b) => b.rank)))];
  const body = html`
${note(`Each point is a schedule compiled from the original, with its λ; further right is cheaper.${baselines.length > 0 ? ' Dashed: the same schedule, its tokens chosen without looking; where that is no worse, ranking buys nothing.' : ''}`)}
${legend([...marks, ...baselines.map((text) => ({ mark: 'ring' as const, tone: 'baseline', text })), ...(chosen >= 0 ? [{ mark: 'ring' as const, tone: 'chosen', text: 'this model’s schedule' }] : [])])}
<div class="two">${shown.map((m) => html`<figure><figcaption>${m.title}</figcaption>${plot(points, chosen, series, m)}<p class="axis">cut in the prompt’s MACs</p></figure>`)}</div>
${behind('Figures of the curve', pointTable(c))}`;
  return { id: 'curve', title: 'Trade-off', body };
}

interface Series {
  readonly name: string;
  readonly has: (p: CurvePoint) => boolean;
}

/** A line for each number of stages and each position mode. */
function seriesOf(points: readonly CurvePoint[]): Series[] {
  const modes = [...new Set(points.map((p) => p.positions))];
  const stages = [...new Set(points.map((p) => p.stages))].sort((a, b) => a - b);
  return modes.flatMap((mode) => stages.map((s) => ({ name: `${s} stages${modes.length > 1 ? `, positions ${mode}` : ''}`, has: (p: CurvePoint) => p.stages === s && p.positions === mode })));
}

/** With more points than this, only every second one of a line has its λ written at it. */
const LABELLED = 24;

function plot(points: readonly CurvePoint[], chosen: number, series: readonly Series[], m: Measure): Markup {
  const height = 200;
  const value = (f: Fidelity | null): number | null => {
    const v = f && m.of(f);
    return known(v) ? v : null;
  };
  const original = points.flatMap((p) => (m.original && p.fidelity ? (m.original(p.fidelity) ?? []) : []))[0];
  const values = [...points.flatMap((p) => [value(p.fidelity), ...p.baselines.map((b) => value(b.fidelity))].flatMap((v) => v ?? [])), ...(original === undefined ? [] : [original])];
  const y: Scale = m.kind === 'divergence' ? fitting(values.length > 0 ? values : [0, 1]) : shareScale(Math.min(...values), Math.max(...values));
  const cuts = points.map((p) => p.macsCut);
  const x = linear(Math.max(...cuts), 4, Math.min(0, ...cuts));
  const down = (v: number): number => Number((height * (1 - y.place(v))).toFixed(1));
  const at = (p: CurvePoint, v: number): { x: string; y: number } => ({ x: percent(x.place(p.macsCut)), y: down(v) });
  /** Points of one line from left to right, with the line between them. */
  const line = (own: readonly { readonly p: CurvePoint; readonly v: number }[], tone: string): Markup[] =>
    own.slice(1).map((b, k) => {
      const [from, to] = [at((own[k] as typeof b).p, (own[k] as typeof b).v), at(b.p, b.v)];
      return html`<line class="${tone} series" x1="${from.x}" y1="${from.y}" x2="${to.x}" y2="${to.y}"/>`;
    });
  const drawn = series.map((s, i) => {
    const members = points.flatMap((p, index) => (s.has(p) ? [{ p, index }] : [])).sort((a, b) => a.p.macsCut - b.p.macsCut);
    const own = members.flatMap(({ p, index }) => {
      const v = value(p.fidelity);
      return v === null ? [] : [{ p, v, index }];
    });
    const look = lookOf(i);
    const dots = own.map(({ p, v, index }, k) => {
      const title = `${s.name}, λ ${p.lambda}: ${m.format(v)} at ${share(p.macsCut)} fewer MACs${index === chosen ? ' (this model)' : ''}`;
      // The chosen point has a label of its own; lines next to each other have theirs on different sides.
      const label = index === chosen || (points.length > LABELLED && k % 2 === 1) ? '' : html`<text class="lambda" y="${i % 2 === 0 ? -9 : 17}" text-anchor="middle">λ ${p.lambda}</text>`;
      return html`<svg x="${at(p, v).x}" y="${at(p, v).y}" overflow="visible">${shape(look.mark, look.tone, title)}${label}</svg>`;
    });
    const others = (members[0]?.p.baselines ?? []).map(({ rank }) => {
      const theirs = members.flatMap(({ p }) => {
        const v = value(p.baselines.find((b) => b.rank === rank)?.fidelity ?? null);
        return v === null ? [] : [{ p, v }];
      });
      return html`${line(theirs, 'baseline')}${theirs.map(({ p, v }) => html`<svg x="${at(p, v).x}" y="${at(p, v).y}" overflow="visible"><circle class="baseline" r="3"><title>${`${rank}, ${s.name}, λ ${p.lambda}: ${m.format(v)} at ${share(p.macsCut)} fewer MACs`}</title></circle></svg>`)}`;
    });
    return html`${others}${line(own, look.tone)}${dots}`;
  });
  const mine = points[chosen];
  const v = mine ? value(mine.fidelity) : null;
  const place = mine && v !== null ? at(mine, v) : null;
  const ring = place && html`<svg x="${place.x}" y="${place.y}" overflow="visible"><circle class="chosen" r="9"/><text class="tick strong" y="-15" text-anchor="middle">λ ${mine?.lambda}</text></svg>`;
  const level = original === undefined ? null : html`<line class="boundary" x1="0" x2="100%" y1="${down(original)}" y2="${down(original)}"/><text class="tick" x="100%" y="${down(original) + 14}" text-anchor="end">original ${m.format(original)}</text>`;
  const ticks = x.ticks.map((t) => html`<text class="tick" x="${percent(x.place(t))}" y="${height + 16}" text-anchor="middle">${`${Math.round(100 * t)}%`}</text>`);
  const label = `${m.title} against the cut in MACs, ${points.length} schedules`;
  return html`<div class="plot"><svg role="img" height="${height + 22}" aria-label="${label}"><title>${label}</title>${valueAxis(y, height, m.kind === 'share' ? share : plain)}${ticks}${level}${drawn}${ring}</svg></div>`;
}

/** Shares close to each other get an axis that shows their differences. */
function shareScale(low: number, high: number): Scale {
  if (high - low >= 0.25) return linear(1, 4);
  const from = Math.max(0, Math.min(0.75, Math.floor(low * 20) / 20));
  return linear(from + (high <= from + 0.25 ? 0.25 : 0.3), 5, from);
}

function pointTable(c: Cursor<Curve>): Markup {
  const answers = c.value.points.some((p) => p.fidelity?.answers);
  const baselines = c.value.points[0]?.baselines.map((b) => b.rank) ?? [];
  const none = html`<span class="none">–</span>`;
  const right = (title: string): { title: string; right: true } => ({ title, right: true });
  const rows = each(c.at('points')).map((p, i): Piece[] => {
    const f = p.at('fidelity').some;
    const all = f?.at('all').some;
    const a = f?.at('answers').some;
    return [
      html`${p.value.stages} stages, λ ${p.value.lambda} <small>positions ${p.value.positions}</small>`,
      p.value.layers.join(', '),
      p.value.keep.join(', '),
      figure(p.at('macs'), si),
      figure(p.at('macsCut'), share),
      figure(p.at('cacheCut'), share),
      all ? figure(all.at('kl').at('mean'), plain) : none,
      all ? figure(all.at('sameTop1'), share) : none,
      ...(answers ? [a ? figure(a.at('rewritten'), share) : none] : []),
      ...each(p.at('baselines')).flatMap((b) => {
        const other = b.at('fidelity').some;
        const [kl, right] = [other?.at('all').some, other?.at('answers').some];
        return [kl ? figure(kl.at('kl').at('mean'), plain) : none, ...(answers ? [right ? figure(right.at('rewritten'), share) : none] : [])];
      }),
      i === c.value.chosen ? verdict('good', 'this model') : '',
    ];
  });
  return table('Points of the curve', [{ title: 'schedule' }, { title: 'before layers' }, { title: 'kept' }, right('MACs'), right('MACs cut'), right('cache cut'), right('mean KL'), right('same top-1'), ...(answers ? [right('accuracy')] : []), ...baselines.flatMap((b) => [right(`${b}: mean KL`), ...(answers ? [right('accuracy')] : [])]), { title: '' }], rows);
}
