import { describe, expect, test } from 'vitest';
import { sweepToHtml, toHtml } from '../../src/report/html/index.js';
import { escape, html, scriptJson } from '../../src/report/html/markup.js';
import { bytes, count, ms, plain, points, round, share, si, times } from '../../src/report/html/numbers.js';
import { cellsPath, panelsOf } from '../../src/report/html/grids.js';
import { binary, linear, logarithmic } from '../../src/report/html/scale.js';
import { at, figuresOf, parse } from './figures.js';
import { bareReport, fullReport, HOSTILE, PIXEL } from './html-sample.js';

const pictures = new Map([['pixel.png', PIXEL]]);

describe('figures', () => {
  const report = fullReport();
  const page = toHtml(report, { pictures });
  const shown = figuresOf(page);

  test('every figure equals the JSON at its place', () => {
    expect(shown.length).toBeGreaterThan(900);
    for (const f of shown) expect([f.path, at(report, f.path) ?? null]).toEqual([f.path, f.value]);
  });

  test('the text people read is that value, rounded', () => {
    for (const f of shown) {
      if (f.text === undefined || f.value === null) continue;
      const { value, half } = parse(f.text);
      const expected = f.path.endsWith('/microseconds') ? f.value / 1000 : f.value;
      expect([f.path, f.text, Math.abs(value - expected) <= half * 1.0001 + 1e-15]).toEqual([f.path, f.text, true]);
    }
  });

  test('nothing that is measured is left out', () => {
    const paths = new Set(shown.map((f) => f.path));
    for (const [p] of report.providers.entries()) {
      for (const rest of ['fidelity/all/kl/p99', 'fidelity/all/kl/max', 'fidelity/all/kl/median', 'fidelity/prompt/kl/mean', 'fidelity/all/sameTop1', 'fidelity/all/deltaP/rms', 'fidelity/all/deltaP/p05', 'fidelity/all/perplexity/ratio', 'fidelity/generation/medianFirstDivergent', 'fidelity/generation/meanDivergentShare', 'fidelity/answers/rewritten', 'baselines/0/klAdvantage/mean', 'baselines/1/fidelity/all/kl/mean', 'latency/prefill/original/median', 'latency/decode/rewritten/median', 'latency/achievedPrefill', 'latency/breakEven', 'placement/rewritten/prefill/timeShare', 'placement/rewritten/prefill/executed/kernels', 'placement/original/decode/executed/syncs', 'memory/original/peak']) expect(paths).toContain(`/providers/${p}/${rest}`);
    }
    for (const l of report.cost?.layers ?? []) for (const what of ['tokens', 'macs', 'cacheBytes']) for (const side of ['original', 'rewritten']) expect(paths).toContain(`/cost/layers/${l.layer}/${what}/${side}`);
    for (const path of ['/cost/paper/rewritten', '/cost/prefill/rewritten/executed', '/cost/prefill/rewritten/parts/rank', '/cost/rankShare', '/cost/decode/cut', '/cost/cacheBytes/cut', '/kept/histogram/boundaries/2/keptShare/23', '/curve/points/5/macsCut', '/thresholds/0/actual']) expect(paths).toContain(path);
  });

  test('maps show exactly the kept tokens', () => {
    const drawn = new Map<string, number>();
    for (const m of page.matchAll(/<path class="kept(?: clear)?" d="([^"]*)" data-kept="([^"]*)"/g)) {
      const cells = [...(m[1] ?? '').matchAll(/h(\d+)v1/g)].reduce((n, run) => n + Number(run[1]), 0);
      drawn.set(m[2] as string, (drawn.get(m[2] as string) ?? 0) + cells);
    }
    expect(drawn.size).toBe(15);
    for (const [path, cells] of drawn) expect([path, cells]).toEqual([path, (at(report, path) as number[]).length]);
  });

  test('the whole report is in the page for machines', () => {
    const text = /<script type="application\/json" id="report">(.*)<\/script>/.exec(page)?.[1] ?? '';
    expect(JSON.parse(text)).toEqual(JSON.parse(JSON.stringify(report)));
    const short = /<script type="application\/json" id="report">(.*)<\/script>/.exec(toHtml(report, { embedLimit: 1000 }))?.[1] ?? '';
    expect(JSON.parse(short)).toMatchObject({ samplesLeftOut: true, cost: JSON.parse(JSON.stringify(report.cost)) });
  });

  test('says what fell short, what lost and what warns', () => {
    expect(page).toContain('data-verdict="failed"');
    expect(page).toContain('What fell short');
    expect(page).toContain('The ranker LOSES to uniform');
    expect(page).toContain('ranker loses');
    expect(page).toContain('nothing to compare');
    expect(page).toContain('placement could not be measured on decode');
    expect(page).toContain('shard 1 of 4');
    expect(page).toContain('PD510');
  });
});

describe('page', () => {
  test('is one file that loads and runs nothing', () => {
    const page = toHtml(fullReport(), { pictures });
    expect(page).toContain("default-src 'none'; style-src 'unsafe-inline'; img-src data:");
    expect(page.replace(/<script type="application\/json".*<\/script>/, '')).not.toMatch(/<script|<link rel="stylesheet|https?:|@import|url\((?!#)| on\w+="/);
    expect([...page.matchAll(/(?:src|href)="([^"]*)"/g)].map((m) => m[1]).filter((u) => !u?.startsWith('#') && !u?.startsWith('data:'))).toEqual([]);
  });

  test('takes hostile names as text', () => {
    const page = toHtml(fullReport(), { pictures });
    expect(page).not.toContain('<img');
    expect(page).toContain(escape(HOSTILE));
    expect(page.match(/<\/script>/g)).toHaveLength(1);
  });

  test('takes no picture that is not an image in base64', () => {
    for (const uri of ['https://example.com/a.png', 'data:text/html;base64,AAAA', 'data:image/png;base64,"><b>']) expect(toHtml(fullReport(), { pictures: new Map([['pixel.png', uri]]) })).not.toContain('<image');
  });

  test('is the same for a report in memory and for its JSON', () => {
    const report = fullReport();
    expect(toHtml(JSON.parse(JSON.stringify(report)) as typeof report)).toBe(toHtml(report));
  });

  test('takes missing numbers', () => {
    const report = fullReport();
    const [p] = report.providers;
    const all = { ...p!.fidelity!.all!, positions: 1, kl: { ...p!.fidelity!.all!.kl, standardError: Number.NaN, mean: Number.POSITIVE_INFINITY } };
    const page = toHtml({ ...report, providers: [{ ...p!, fidelity: { ...p!.fidelity!, all }, latency: { ...p!.latency!, idealPrefill: Number.NaN, achievedPrefill: Number.NaN } }] });
    expect(page).not.toMatch(/NaN|Infinity|undefined/);
  });

  test('of a bare report has a verdict, its warning and no empty sections', () => {
    const page = toHtml(bareReport());
    expect(page).toContain('synthetic feeds');
    expect([...page.matchAll(/<section class="card" id="([^"]*)"/g)].map((m) => m[1])).toEqual(['setup']);
  });

  test('of a sweep shows its points', () => {
    const { curve } = fullReport();
    const sweep = { schema: 'pdrop-compile/sweep/1', original: 'model.onnx', provider: 'cpu', rank: 'attention', generate: 8, data: { kind: 'json', source: 'data', samples: 3, note: null }, points: curve?.points ?? [] } as const;
    const page = sweepToHtml(sweep);
    for (const f of figuresOf(page)) expect(at(sweep, f.path)).toBe(f.value);
    expect(figuresOf(page).length).toBeGreaterThan(30);
  });
});

describe('pieces', () => {
  test('numbers', () => {
    expect([si(68_600_832), si(999_999), si(12), si(0)]).toEqual(['68.6 M', '1.00 M', '12', '0']);
    expect([bytes(1023.9), bytes(1024), bytes(3 * 1024 ** 3)]).toEqual(['1.00 KiB', '1.00 KiB', '3.00 GiB']);
    expect([share(0.535), share(0.99972), share(1), share(0), share(0.00004), share(-0.0212)]).toEqual(['53.5%', '99.97%', '100%', '0%', '0.004%', '−2.1%']);
    expect([points(0.0212), points(-0.00044), count(-1348), ms(0.0456), ms(20.43), ms(1234), times(1.3073)]).toEqual(['+2.12 pp', '−0.044 pp', '−1,348', '45.6 µs', '20.4 ms', '1.23 s', '1.31×']);
    expect([plain(0.0309), plain(2.1e-6), round('0.0500'), round('50.0%'), round('5.00 M'), round('100%')]).toEqual(['0.0309', '2.10e-6', '0.05', '50%', '5 M', '100%']);
  });

  test('scales', () => {
    expect(linear(163, 3).ticks).toEqual([0, 100, 200]);
    expect(linear(0).ticks[0]).toBe(0);
    expect(binary(40 * 1024, 3).ticks.map((t) => t / 1024)).toEqual([0, 20, 40]);
    const log = logarithmic([0.003, 2]);
    expect([log.place(0.001), log.place(10)].map((v) => Math.round(v * 1e9) / 1e9)).toEqual([0, 1]);
  });

  test('markup escapes what is not markup', () => {
    expect(html`<a title="${'"><b>'}">${[1, null, html`<i>`, false]}</a>`.text).toBe('<a title="&#34;&#62;&#60;b&#62;">1<i></a>');
    expect(scriptJson({ a: '</script>' }).text).not.toContain('</script>');
  });

  test('tiles lie together, an overview apart, tokens without a grid in reading order', () => {
    const tile = (first: number, area: readonly [number, number, number, number]) => ({ rows: 2, columns: 2, first, row: 0, area });
    const panels = panelsOf([tile(0, [0, 0, 1, 1]), tile(4, [0, 0, 0.5, 1]), tile(8, [0.5, 0, 1, 1])], 15);
    expect(panels.map((p) => [p.grids.map((g) => [g.grid.first, g.x, g.y]), p.width, p.height])).toEqual([
      [[[0, 0, 0]], 2, 2],
      [[[4, 0, 0], [8, 2, 0]], 4, 2],
      [[[12, 0, 0]], 3, 1],
    ]);
    expect(cellsPath(panels[1]!, (t) => [4, 5, 8, 11].includes(t))).toBe('M0 0h2v1h-2zM2 0h1v1h-1zM3 1h1v1h-1z');
  });
});
