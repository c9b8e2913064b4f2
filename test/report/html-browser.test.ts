/** The page in a real browser: nothing complains, nothing is loaded, nothing overflows, everything can be read. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { toHtml } from '../../src/report/html/index.js';
import { findChromium, Page } from './chromium.js';
import { at } from './figures.js';
import { bareReport, fullReport, PIXEL } from './html-sample.js';

const chromium = findChromium();
const WHY = 'no Chromium on this machine (install the Debian package chromium, or set CHROMIUM)';

/** Elements that reach beyond the window and are not inside something that scrolls. */
const OVERFLOW = `[...document.querySelectorAll('body *')].filter((e) => {
  const r = e.getBoundingClientRect();
  return r.width > 0 && (r.right > document.documentElement.clientWidth + 1 || r.left < -1) && !e.closest('.scroll, .store, svg.patches, thead');
}).map((e) => e.outerHTML.slice(0, 120))`;

/** Text whose contrast with what lies behind it is below WCAG AA. */
const FAINT = `(() => {
  const rgb = (c) => { const m = c.match(/[\\d.]+/g).map(Number); return { c: m.slice(0, 3), a: m[3] ?? 1 }; };
  const light = (c) => { const [r, g, b] = c.map((v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = (e) => { for (; e; e = e.parentElement) { const b = rgb(getComputedStyle(e).backgroundColor); if (b.a > 0.99) return b.c; } return [255, 255, 255]; };
  const out = new Set();
  for (const e of document.querySelectorAll('body *')) {
    if (e.closest('script') || e.tagName === 'title' || ![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) continue;
    const s = getComputedStyle(e);
    const [x, y] = [light(rgb(e instanceof SVGElement ? s.fill : s.color).c), light(behind(e))].sort((p, q) => q - p);
    if ((x + 0.05) / (y + 0.05) < 4.5) out.add(e.tagName + '.' + (e.className.baseVal ?? e.className) + ' ' + ((x + 0.05) / (y + 0.05)).toFixed(2) + ' ' + e.textContent.slice(0, 30));
  }
  return [...out];
})()`;

/** What the browser made of the figures: places, values, and the drawn height or width of bars. */
const FIGURES = `[...document.querySelectorAll('[data-path][data-value]')].map((e) => ({ path: e.dataset.path, value: e.dataset.value, svg: e.tagName === 'rect' ? [e.getBBox().width, e.getBBox().height, e.closest('.plot') ? 'column' : 'bar', [...document.querySelectorAll('svg')].indexOf(e.ownerSVGElement)] : null, text: e.tagName === 'DATA' ? e.textContent : null, attribute: e.tagName === 'DATA' ? e.getAttribute('value') : null }))`;

interface Seen {
  readonly path: string;
  readonly value: string;
  readonly svg: readonly [number, number, 'column' | 'bar', number] | null;
  readonly text: string | null;
  readonly attribute: string | null;
}

describe.skipIf(chromium === undefined)(`the HTML report in Chromium${chromium ? '' : `: skipped, ${WHY}`}`, () => {
  const report = fullReport();
  let folder: string;
  let page: Page;
  let urls: Record<'full' | 'bare', string>;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'pdrop-html-'));
    const write = (name: string, text: string): string => {
      writeFileSync(join(folder, name), text);
      return pathToFileURL(join(folder, name)).href;
    };
    urls = { full: write('full.html', toHtml(report, { pictures: new Map([['pixel.png', PIXEL]]) })), bare: write('bare.html', toHtml(bareReport())) };
    page = await Page.open(chromium as string);
  }, 120_000);

  afterAll(async () => {
    await page?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  for (const name of ['full', 'bare'] as const) {
    for (const width of [375, 1280]) {
      for (const scheme of ['light', 'dark'] as const) {
        test(`${name} report, ${width} px, ${scheme}`, async () => {
          page.complaints.length = 0;
          page.requests.length = 0;
          await page.show(urls[name], { width, scheme });
          expect(await page.evaluate('matchMedia("(prefers-color-scheme: dark)").matches')).toBe(scheme === 'dark');
          expect(await page.evaluate('document.documentElement.scrollWidth')).toBeLessThanOrEqual(width);
          expect(await page.evaluate(OVERFLOW)).toEqual([]);
          expect(await page.evaluate(FAINT)).toEqual([]);
          expect(page.complaints).toEqual([]);
          expect(page.requests).toEqual([urls[name]]);
        }, 60_000);
      }
    }
  }

  test('figures of the rendered page equal the JSON, and bars are drawn in proportion', async () => {
    await page.show(urls.full, { width: 1280, scheme: 'light' });
    const json = JSON.parse(await page.evaluate<string>('document.getElementById("report").textContent')) as unknown;
    expect(json).toEqual(JSON.parse(JSON.stringify(report)));
    const seen = await page.evaluate<Seen[]>(FIGURES);
    expect(seen.length).toBeGreaterThan(900);
    const charts = new Map<number, { value: number; length: number }[]>();
    for (const f of seen) {
      expect([f.path, String(at(json, f.path))]).toEqual([f.path, f.value]);
      if (f.attribute !== null) expect(f.attribute).toBe(f.value);
      if (f.svg) {
        const [w, h, kind, chart] = f.svg;
        // Bars of one figure share a scale: those of a phase of latency lie in one list of svgs, columns in one svg.
        if (kind === 'column') charts.set(chart, [...(charts.get(chart) ?? []), { value: Number(f.value), length: h }]);
        else expect(w).toBeGreaterThan(0);
      }
    }
    expect(charts.size).toBe(6);
    for (const bars of charts.values()) {
      const top = bars.reduce((a, b) => (b.value > a.value ? b : a));
      for (const b of bars) expect(Math.abs(b.length - (top.length * b.value) / top.value)).toBeLessThan(0.1);
    }
    const phases = await page.evaluate<{ value: number; width: number }[][]>('[...document.querySelectorAll(".bars")].map((g) => [...g.querySelectorAll("rect[data-value]")].map((r) => ({ value: Number(r.dataset.value), width: r.getBBox().width })))');
    expect(phases).toHaveLength(4);
    for (const [o, r] of phases) expect((r?.width ?? 0) / (o?.width ?? 1)).toBeCloseTo((r?.value ?? 0) / (o?.value ?? 1), 3);
  }, 60_000);
});
