/**
 * The report of `validate` as one HTML file: JSON in, text out. No network, no fonts, no scripts (a content security
 * policy in the page forbids them), light and dark, from a phone's width up. Every figure carries its JSON pointer.
 */
import type { SweepReport } from '../../validate/sweep/curve.js';
import type { ValidateReport } from '../../validate/result.js';
import { baselinesSection } from './baselines.js';
import { checksSection, fellShort } from './checks.js';
import { costSection } from './cost.js';
import { curveSection } from './curve.js';
import { Cursor } from './cursor.js';
import { fidelitySection } from './fidelity.js';
import { header } from './header.js';
import { flipsSection } from './answers.js';
import { firstLook, keptSection, type Pictures } from './kept.js';
import { html, type Markup, scriptJson } from './markup.js';
import { page } from './page.js';
import type { Section } from './parts.js';
import { placementSection } from './placement.js';
import { samplesSection } from './samples.js';
import { setupSection } from './setup.js';
import { speedSection } from './speed.js';

export interface HtmlOptions {
  /** Pictures of samples as `data:image/…;base64,…`, by the path that the report has; see `readPictures`. */
  readonly pictures?: Pictures | undefined;
  /** The records of samples are left out of the embedded JSON when they are longer than this many characters. Default 16 Mi. */
  readonly embedLimit?: number | undefined;
}

const EMBED_LIMIT = 16 * 2 ** 20;

/**
 * The page of one report.
 * @param report as `validate` returns it, or as parsed from its JSON
 * @returns a complete HTML document, the same for the same input
 */
export function toHtml(report: ValidateReport, options: HtmlOptions = {}): string {
  const c = new Cursor(report);
  // Pictures first: what is kept of them says more than any figure.
  const sections = [
    keptSection(c, options.pictures ?? new Map()),
    flipsSection(report),
    checksSection(c),
    costSection(c),
    speedSection(c),
    fidelitySection(c),
    baselinesSection(c),
    curveSection(c.at('curve')),
    placementSection(c),
    samplesSection(c),
    setupSection(c),
  ].flatMap((s) => s ?? []);
  const title = `${report.rewritten.file}: ${report.verdict} (pdrop-compile validate)`;
  return page(title, html`${header(c, firstLook(report, options.pictures ?? new Map()))}${fellShort(c)}${contents(sections)}`, sections, embedded(report, options.embedLimit ?? EMBED_LIMIT), `pdrop-compile ${report.tool.version}`);
}

/** The page of a `sweep`: its curve and the data it stands on. */
export function sweepToHtml(sweep: SweepReport): string {
  const curve = curveSection(new Cursor({ points: sweep.points, chosen: -1 }));
  const { data } = sweep;
  const head = html`<header><p class="kicker">pdrop-compile sweep</p><h1>${sweep.original}</h1><p class="note">${sweep.points.length} schedules on ${sweep.provider}, rank ${sweep.rank}; ${data.kind} data, ${data.source}, ${data.samples} samples${sweep.generate > 0 ? `, ${sweep.generate} tokens generated for answers` : ''}.</p>${data.note && html`<p class="callout doubt"><strong>Note</strong> ${data.note}</p>`}</header>`;
  return page(`${sweep.original}: trade-off of schedules (pdrop-compile sweep)`, head, curve ? [curve] : [], scriptJson(sweep), 'pdrop-compile');
}

function contents(sections: readonly Section[]): Markup {
  return html`<nav aria-label="Contents">${sections.map((s) => html`<a href="#${s.id}">${s.title}</a>`)}</nav>`;
}

/** The report, without the records of samples when these would make the page too heavy. */
function embedded(report: ValidateReport, limit: number): Markup {
  const whole = scriptJson(report);
  if (whole.text.length <= limit) return whole;
  return scriptJson({ ...report, providers: report.providers.map((p) => ({ ...p, samples: [] })), samplesLeftOut: true });
}
