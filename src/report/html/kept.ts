/** Which image tokens stay: maps on the image's patch grid, a boundary each, and where in the image they lie on average. */
import type { KeptReport, KeptSample, ValidateReport } from '../../validate/result.js';
import { columnsChart } from './columns.js';
import { Cursor, each } from './cursor.js';
import { saidMarkup, saidOf } from './answers.js';
import { cellsPath, outlinePath, type Panel, panelsOf } from './grids.js';
import { html, type Markup } from './markup.js';
import { count, counted, share } from './numbers.js';
import { behind, legend, note, type Section, table } from './parts.js';

/** Data URIs of pictures by the path that the report has. */
export type Pictures = ReadonlyMap<string, string>;

export function keptSection(report: Cursor<ValidateReport>, pictures: Pictures): Section | null {
  const kept = report.at('kept').some;
  if (!kept || (kept.value.samples.length === 0 && kept.value.histogram.samples === 0)) return null;
  const samples = each(kept.at('samples'));
  const anyPicture = samples.some((s) => s.value.picture !== undefined && pictures.has(s.value.picture));
  const body = html`
${samples.length > 0 && html`${note(`Patches that enter the layer at each boundary${anyPicture ? ', over the picture' : ''}, outlined; dropped ones are ${anyPicture ? 'grey and hatched' : 'hatched'}. Tiles of one picture lie at their places; an overview of the whole picture stands apart.`)}
${legend([{ mark: 'box', tone: 'kept', text: anyPicture ? 'kept (clear where there is a picture)' : 'kept' }, { mark: 'box', tone: 'dropped', text: 'dropped' }])}
${HATCH}
<div class="gallery">${samples.map((s, i) => sampleMaps(s, report.value, pictures, `picture-${i}`))}</div>`}
${histogram(kept)}`;
  return { id: 'kept', title: 'Kept tokens', body };
}

/** A diagonal through every patch that is dropped, so that colour is never the only difference. */
const HATCH = html`<svg class="store" width="0" height="0" aria-hidden="true"><defs><pattern id="hatch" width="1" height="1" patternUnits="userSpaceOnUse"><path class="hatch" d="M0 1 1 0"/></pattern></defs></svg>`;

/** The first sample with a picture, for the top of the page: the picture's place in the gallery is where its bytes are. */
export function firstLook(report: ValidateReport, pictures: Pictures): Markup | null {
  const samples = report.kept?.samples ?? [];
  const index = samples.findIndex((s) => s.picture !== undefined && IS_PICTURE.test(pictures.get(s.picture) ?? '') && s.rows[0]?.imageTokens);
  const sample = samples[index];
  const row = sample?.rows[0];
  if (!sample || !row) return null;
  const panels = panelsOf(row.grids, row.imageTokens).slice(0, 1);
  return html`<section class="card look" aria-label="Kept tokens of the first picture"><div><h2><a href="#kept">${sample.title ?? sample.id}</a></h2>${saidMarkup(saidOf(report, report.providers[0]?.samples.find((r) => r.id === sample.id)).slice(0, 1))}</div>
<div class="boundaries">${row.kept.map((kept, b) => boundaryMaps(new Cursor(kept), report.rewritten.plan.layers[b], row.imageTokens, panels, `picture-${index}`))}</div></section>`;
}

const IS_PICTURE = /^data:image\/[a-z0-9.+-]+;base64,[A-Za-z0-9+/=]+$/;

function sampleMaps(s: Cursor<KeptSample>, report: ValidateReport, pictures: Pictures, id: string): Markup {
  const { layers } = report.rewritten.plan;
  const uri = s.value.picture === undefined ? undefined : pictures.get(s.value.picture);
  const safe = uri && IS_PICTURE.test(uri) ? uri : undefined;
  const rows = each(s.at('rows'));
  return html`<article class="maps"><h3>${s.value.title ?? s.value.id}${s.value.title !== undefined && html` <small>${s.value.id}</small>`}</h3>
${saidMarkup(saidOf(report, report.providers[0]?.samples.find((r) => r.id === s.value.id)))}
${safe && html`<svg class="store" width="0" height="0" aria-hidden="true"><defs><image id="${id}" href="${safe}" width="1" height="1" preserveAspectRatio="none"/></defs></svg>`}
${rows.map((row, r) => {
  const panels = panelsOf(row.value.grids, row.value.imageTokens);
  if (panels.length === 0) return note('This prompt has no image tokens.');
  return html`${rows.length > 1 && html`<h4>Row ${r} of the batch</h4>`}<div class="boundaries">${each(row.at('kept')).map((k, b) => boundaryMaps(k, layers[b], row.value.imageTokens, panels, safe ? id : undefined))}</div>`;
})}</article>`;
}

function boundaryMaps(kept: Cursor<readonly number[]>, layer: number | undefined, imageTokens: number, panels: readonly Panel[], picture: string | undefined): Markup {
  const has = new Set(kept.value);
  const words = `${count(kept.value.length)} of ${count(imageTokens)} kept`;
  const label = `Before layer ${layer ?? '?'}: ${words}`;
  return html`<figure class="map"><figcaption>at layer ${layer ?? '?'}<br><small${kept.pointer !== '' && html` data-path="${kept.pointer}" data-length="${kept.value.length}"`}>${words}</small></figcaption>
<div class="panels">${panels.map((p) => panelSvg(p, has, label, picture, kept.pointer))}</div></figure>`;
}

function panelSvg(p: Panel, has: ReadonlySet<number>, label: string, picture: string | undefined, pointer: string): Markup {
  const many = p.grids.length > 1;
  const over = picture !== undefined && p.picture.width > 0;
  const covers = p.grids.map((g) => g.grid.first).join(',');
  // Lines between tiles only: lines between patches would be most of the ink.
  const borders = many ? html`<path class="tiles" d="${p.grids.map(({ grid, x, y }) => `M${x} ${y}h${grid.columns}v${grid.rows}h${-grid.columns}z`).join('')}"/>` : '';
  const title = `${label}${many ? ` (${p.grids.length} tiles of ${p.grids[0]?.grid.rows} × ${p.grids[0]?.grid.columns})` : ` (grid of ${p.height} × ${p.width})`}`;
  return html`<svg role="img" class="patches${over && ' pictured'}" viewBox="0 0 ${p.width} ${p.height}" aria-label="${title}" data-grids="${covers}"><title>${title}</title>
${over ? html`<use href="#${picture}" transform="translate(${p.picture.x} ${p.picture.y}) scale(${p.picture.width} ${p.picture.height})"/><path class="veil" d="${cellsPath(p, (t) => !has.has(t))}"/>` : html`<rect class="dropped" width="${p.width}" height="${p.height}"/>`}
<path class="kept${over && ' clear'}" d="${cellsPath(p, (t) => has.has(t))}"${pointer !== '' && html` data-kept="${pointer}"`}/><path fill="url(#hatch)" d="${cellsPath(p, (t) => !has.has(t))}"/><path class="outline" d="${outlinePath(p, (t) => has.has(t))}"/>${borders}</svg>`;
}

const mean = (list: readonly number[]): number => list.reduce((a, b) => a + b, 0) / Math.max(1, list.length);

function histogram(kept: Cursor<KeptReport>): Markup | null {
  const h = kept.at('histogram');
  const boundaries = each(h.at('boundaries'));
  if (h.value.samples === 0 || boundaries.length === 0) return null;
  const bins = h.value.bins;
  const range = (i: number): string => `${((100 * i) / bins).toFixed(0)}–${((100 * (i + 1)) / bins).toFixed(0)}%`;
  return html`<h3>Where in the image tokens are kept</h3>
${note(`Share kept by place in the order of image tokens (the top of a picture comes first), over ${counted(h.value.samples, 'sample')}. Attention ranks are known to favour late tokens; the dashed line is the mean.`)}
<div class="three">${boundaries.map((b) => html`<figure><figcaption>at layer ${b.value.layer}</figcaption>${columnsChart({
    label: `Share of image tokens kept before layer ${b.value.layer}, by place in the image`,
    columns: each(b.at('keptShare')).map((v, i) => ({ title: `${range(i)} of the image tokens: ${share(v.value)} kept`, tick: '', values: [v] })),
    tones: ['rewritten'],
    format: share,
    height: 96,
    level: mean(b.value.keptShare),
    ends: ['first token', 'last'],
  })}</figure>`)}</div>
${behind('Figures of the histogram', table('Share kept by place', [{ title: 'place' }, ...boundaries.map((b) => ({ title: `at layer ${b.value.layer}`, right: true }))], Array.from({ length: bins }, (_, i) => [range(i), ...boundaries.map((b) => share(b.value.keptShare[i] ?? 0))])))}`;
}
