/** Horizontal bars, a row each, with quartile whiskers; and dots on a common axis, a row each. */
import { type Cursor, dataOf, figure, known } from './cursor.js';
import { html, type Markup, type Piece } from './markup.js';
import { round } from './numbers.js';
import { type Mark, shape } from './parts.js';
import { fitting, linear, percent } from './scale.js';

export interface Bar {
  readonly name: string;
  /** Length: a figure of the report, or a number derived from several. */
  readonly value: Cursor<number> | number;
  readonly tone: string;
  readonly spread?: { readonly low: number; readonly high: number } | undefined;
  /** Right of the bar; by default the value. */
  readonly text?: Piece;
  readonly title: string;
}

/** Rows of bars on one scale from zero. */
export function barRows(bars: readonly Bar[], format: (v: number) => string, max?: number): Markup {
  const of = (b: Bar): number => (typeof b.value === 'number' ? b.value : known(b.value.value) ? b.value.value : 0);
  const top = max ?? Math.max(0, ...bars.map((b) => Math.max(of(b), b.spread?.high ?? 0)));
  const place = (v: number): number => (top > 0 ? v / top : 0);
  const rows = bars.map((b) => {
    const whisker = b.spread
      ? html`<line class="whisker" x1="${percent(place(b.spread.low))}" x2="${percent(place(b.spread.high))}" y1="9" y2="9"/>${[b.spread.low, b.spread.high].map((v) => html`<line class="whisker" x1="${percent(place(v))}" x2="${percent(place(v))}" y1="5" y2="13"/>`)}`
      : '';
    const data = typeof b.value === 'number' ? '' : dataOf(b.value);
    const text = b.text ?? (typeof b.value === 'number' ? format(b.value) : figure(b.value, format));
    return html`<div class="bar"><span class="name">${b.name}</span><svg role="img" height="18" aria-label="${b.title}"><title>${b.title}</title><rect class="${b.tone}" x="0" y="1" height="16" rx="2" width="${percent(place(of(b)))}" ${data}/>${whisker}</svg><span class="amount">${text}</span></div>`;
  });
  return html`<div class="bars">${rows}</div>`;
}

export interface DotRow {
  readonly name: string;
  readonly dots: readonly { readonly value: Cursor<number>; readonly mark: Mark; readonly tone: string; readonly of: string }[];
}

/** Rows of dots over one axis, logarithmic where the values ask for it. */
export function dotRows(label: string, rows: readonly DotRow[], format: (v: number) => string): Markup {
  const values = rows.flatMap((r) => r.dots.map((d) => d.value.value)).filter(known);
  if (values.length === 0) return html``;
  const top = Math.max(...values);
  const scale = top > 0 ? fitting(values) : linear(1);
  const [step, height] = [28, rows.length * 28];
  const grid = scale.ticks.map((t) => html`<line class="grid" x1="${percent(scale.place(t))}" x2="${percent(scale.place(t))}" y1="0" y2="${height}"/><text class="tick" x="${percent(scale.place(t))}" y="${height + 16}" text-anchor="middle">${round(format(t))}</text>`);
  const lines = rows.map((row, i) => {
    const y = (i + 0.5) * step;
    const shown = row.dots.filter((d) => known(d.value.value));
    // Later dots lie on earlier ones: the first, which is the model itself, must be seen.
    const dots = [...shown].reverse().map((d) => html`<svg x="${percent(scale.place(d.value.value))}" y="${y}" overflow="visible" ${dataOf(d.value)}>${shape(d.mark, d.tone, `${d.of}, ${row.name}: ${format(d.value.value)}`)}</svg>`);
    return html`<line class="rail" x1="0" x2="100%" y1="${y}" y2="${y}"/><text class="tick" x="-12" y="${y + 4}" text-anchor="end">${row.name}</text>${dots}`;
  });
  return html`<div class="plot wide"><svg role="img" height="${height + 22}" aria-label="${label}"><title>${label}</title>${grid}${lines}</svg></div>`;
}
