/** What every section is made of: headings, tables that scroll sideways by themselves, legends, notes. */
import { html, type Markup, type Piece } from './markup.js';

/** A section of the page; null when it has nothing to show. */
export interface Section {
  readonly id: string;
  readonly title: string;
  readonly body: Markup;
}

export interface Column {
  readonly title: Piece;
  /** Numbers stand on the right. */
  readonly right?: boolean;
}

/**
 * A table with its heads; the first column heads its row. On a phone a wide table scrolls sideways by itself; `stack`
 * sets each row as a block of labelled lines there instead, which suits rows with sentences in them.
 */
export function table(label: string, columns: readonly Column[], rows: readonly (readonly Piece[])[], narrow: 'scroll' | 'stack' = 'scroll'): Markup {
  const head = columns.map((c) => html`<th scope="col"${c.right ? html` class="num"` : ''}>${c.title}</th>`);
  const line = (cells: readonly Piece[]): Markup =>
    html`<tr>${cells.map((cell, i) => (i === 0 ? html`<th scope="row">${cell}</th>` : html`<td${columns[i]?.right ? html` class="num"` : ''}${narrow === 'stack' && columns[i]?.title ? html` data-label="${columns[i]?.title}"` : ''}>${cell}</td>`))}</tr>`;
  const heads = columns.some((c) => c.title) && html`<thead><tr>${head}</tr></thead>`;
  return html`<div class="scroll${narrow === 'stack' && ' stack'}" role="region" aria-label="${label}" tabindex="0"><table>${heads}<tbody>${rows.map(line)}</tbody></table></div>`;
}

/** The numbers behind a chart, folded away. */
export function behind(summary: string, content: Markup): Markup {
  return html`<details><summary>${summary}</summary>${content}</details>`;
}

export function note(...text: readonly Piece[]): Markup {
  return html`<p class="note">${text}</p>`;
}

export type Mark = 'box' | 'outline' | 'dot' | 'diamond' | 'triangle' | 'square' | 'dash' | 'ring';

/** A legend: a mark, a colour (class of style.ts) and a word each. */
export function legend(entries: readonly { readonly mark: Mark; readonly tone: string; readonly text: string }[]): Markup {
  return html`<p class="legend">${entries.map((e) => html`<span><svg width="14" height="14" viewBox="-7 -7 14 14" aria-hidden="true">${shape(e.mark, e.tone)}</svg>${e.text}</span>`)}</p>`;
}

/** A mark around the origin. */
export function shape(mark: Mark, tone: string, title?: string): Markup {
  const named = title === undefined ? '' : html`<title>${title}</title>`;
  switch (mark) {
    case 'box':
      return html`<rect class="${tone}" x="-6" y="-6" width="12" height="12" rx="2">${named}</rect>`;
    case 'outline':
      return html`<rect class="${tone}" x="-5.5" y="-5.5" width="11" height="11" rx="2">${named}</rect>`;
    case 'dot':
      return html`<circle class="${tone}" r="4.5">${named}</circle>`;
    case 'diamond':
      return html`<path class="${tone}" d="M0-6 6 0 0 6-6 0z">${named}</path>`;
    case 'triangle':
      return html`<path class="${tone}" d="M0-5.5 5.5 4.5H-5.5z">${named}</path>`;
    case 'square':
      return html`<rect class="${tone}" x="-4" y="-4" width="8" height="8">${named}</rect>`;
    case 'dash':
      return html`<path class="${tone}" d="M-7 0H7">${named}</path>`;
    case 'ring':
      return html`<circle class="${tone}" r="6">${named}</circle>`;
  }
}

/** A word with a sign before it, so that colour is never the only difference. */
export function verdict(state: 'good' | 'bad' | 'doubt', text: string): Markup {
  const sign = { good: '✓', bad: '✕', doubt: '!' }[state];
  return html`<span class="state ${state}"><span aria-hidden="true">${sign}</span> ${text}</span>`;
}
