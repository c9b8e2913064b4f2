/**
 * Columns over an axis of layers or bins. Horizontal places are percentages and vertical ones pixels, so that the
 * chart is as wide as the page while its text keeps its size, on a phone as on a desk.
 *
 * ```
 *  640 ┬ ▒▒ ▒▒ ▒▒ ▒▒      ▒ original
 *      │ ██ ██ ▒▒ ▒▒      █ rewritten
 *    0 ┴ ██ ██ ██ ██
 *        0  1  2  3
 * ```
 */
import { type Cursor, dataOf, known } from './cursor.js';
import { html, type Markup } from './markup.js';
import { round } from './numbers.js';
import { binary, linear, percent, type Scale } from './scale.js';

export interface ColumnsChart {
  readonly label: string;
  /** One or two figures a column; with two, the second stands before the first. */
  readonly columns: readonly { readonly title: string; readonly tick: string; readonly values: readonly Cursor<number>[] }[];
  readonly tones: readonly string[];
  readonly format: (v: number) => string;
  /** Dashed lines before these columns. */
  readonly boundaries?: readonly number[];
  readonly height?: number;
  /** A dashed level, such as the mean. */
  readonly level?: number;
  /** Round ticks in powers of 1024. */
  readonly bytes?: boolean;
  /** Words under the left and the right end instead of ticks. */
  readonly ends?: readonly [string, string];
}

/** Horizontal lines and their labels, left of the plot. */
export function valueAxis(scale: Scale, height: number, format: (v: number) => string): Markup {
  return html`${scale.ticks.map((t) => {
    const y = Number((height * (1 - scale.place(t))).toFixed(1));
    return html`<line class="grid" x1="0" x2="100%" y1="${y}" y2="${y}"/><text class="tick" x="-8" y="${y + 4}" text-anchor="end">${round(format(t))}</text>`;
  })}`;
}

export function columnsChart(chart: ColumnsChart): Markup {
  const { columns, tones, format, height = 132 } = chart;
  const n = columns.length;
  const top = Math.max(0, ...columns.flatMap((c) => c.values.map((v) => (known(v.value) ? v.value : 0))));
  const scale = (chart.bytes ? binary : linear)(top, 3);
  const every = Math.ceil(n / 8);
  const bars = columns.map((column, i) => {
    const rects = column.values.map((v, k) => {
      const h = known(v.value) ? Number((height * scale.place(v.value)).toFixed(2)) : 0;
      const inset = (k === 0 && column.values.length > 1 ? 0.08 : 0.2) / n;
      return html`<rect class="${tones[k] ?? ''}" x="${percent(i / n + inset)}" width="${percent(1 / n - 2 * inset)}" y="${Number((height - h).toFixed(2))}" height="${h}" ${dataOf(v)}/>`;
    });
    const tick = chart.ends || i % every !== 0 ? '' : html`<text class="tick" x="${percent((i + 0.5) / n)}" y="${height + 16}" text-anchor="middle">${column.tick}</text>`;
    return html`<g>${rects}<rect class="hit" x="${percent(i / n)}" width="${percent(1 / n)}" y="0" height="${height}"><title>${column.title}</title></rect>${tick}</g>`;
  });
  const lines = (chart.boundaries ?? []).map((b) => html`<line class="boundary" x1="${percent(b / n)}" x2="${percent(b / n)}" y1="-6" y2="${height}"/>`);
  const level = chart.level === undefined ? '' : html`<line class="boundary" x1="0" x2="100%" y1="${Number((height * (1 - scale.place(chart.level))).toFixed(1))}" y2="${Number((height * (1 - scale.place(chart.level))).toFixed(1))}"/>`;
  const ends = chart.ends
    ? html`<text class="tick" x="0" y="${height + 16}">${chart.ends[0]}</text><text class="tick" x="100%" y="${height + 16}" text-anchor="end">${chart.ends[1]}</text>`
    : '';
  return html`<div class="plot"><svg role="img" height="${height + 22}" aria-label="${chart.label}"><title>${chart.label}</title>${valueAxis(scale, height, format)}${bars}${lines}${level}${ends}</svg></div>`;
}
