/** What people look for on the page: pictures and answers first, what fell short in red and with a next step, labels on curves. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { outlinePath, panelsOf } from '../../src/report/html/grids.js';
import { sweepToHtml, toHtml } from '../../src/report/html/index.js';
import { spoken, wordsOf } from '../../src/validate/feeding/words.js';
import { nextSteps } from '../../src/validate/next-steps.js';
import { fullReport, PIXEL } from './html-sample.js';

const report = fullReport();
const page = toHtml(report, { pictures: new Map([['pixel.png', PIXEL]]) });
const tiles = [...page.matchAll(/<div class="(tile[^"]*)"><span class="name">([^<]*)<[\s\S]*?<\/div>/g)].map((m) => ({ state: m[1]?.replace(/^tile ?/, ''), name: m[2], text: m[0] }));

describe('the page', () => {
  it('shows kept tokens before all tables', () => {
    const order = [...page.matchAll(/<section class="card" id="([^"]*)"/g)].map((m) => m[1]);
    expect(order.indexOf('kept')).toBeLessThan(order.indexOf('checks'));
    expect(order.indexOf('flips')).toBe(order.indexOf('kept') + 1);
    // And those of the first picture, with what was said about it, before the findings.
    const look = page.slice(page.indexOf('<section class="card look"'), page.indexOf('id="findings"'));
    expect(look.match(/<svg role="img" class="patches pictured"/g)?.length).toBe(3);
    expect(toHtml(report)).not.toContain('class="card look"');
  });

  it('has both answers, right or wrong, beside a picture, in words', () => {
    expect(page).toMatch(/<dl class="said"><dt>original<\/dt><dd><q>two dogs cats<\/q> <span class="state good">/);
    expect(page).toContain('<dt>answer</dt><dd>two dogs</dd>');
  });

  it('lists answers that changed sides', () => {
    const wrong = report.providers[0]!.samples.map((s) => ({ ...s, candidates: { ...s.candidates, rewritten: { ...s.candidates.rewritten!, generated: s.index % 2 === 0 ? [[4, 2]] : [[1, 2]] } } }));
    const flipped = toHtml({ ...report, providers: [{ ...report.providers[0]!, samples: wrong }] });
    const section = flipped.slice(flipped.indexOf('id="flips"'), flipped.indexOf('id="checks"'));
    expect(section).toContain('7 were right and became wrong; 0 were wrong and became right');
    expect(section).toContain('<q>cats dogs</q> <span class="state bad">');
    expect([...section.matchAll(/<tr>/g)]).toHaveLength(8);
  });

  it('reddens the tile of a missed threshold, and names it; a cost that got worse is marked as well', () => {
    const missed = report.thresholds.filter((t) => !t.met).map((t) => t.option);
    expect(missed).toContain('--max-kl');
    const kl = tiles.find((t) => t.name === 'Mean KL');
    expect([kl?.state, kl?.text]).toEqual(['bad', expect.stringContaining('missed --max-kl')]);
    expect(tiles.find((t) => t.name === 'KV cache cut')?.state).toBe('');
    const slow = { ...report.providers[0]!, latency: { ...report.providers[0]!.latency!, decode: { ...report.providers[0]!.latency!.decode!, speedup: 0.79 } } };
    expect(toHtml({ ...report, providers: [slow] })).toMatch(/class="tile doubt"><span class="name">Decode speed, cpu<[\s\S]*?0\.79×[\s\S]*?worse than the original/);
  });

  it('says what to do next on a failed page, and nothing of it on another', () => {
    expect(page).toContain('What to do next');
    expect(page).toContain('compile with --positions keep');
    const good = { ...report, thresholds: [], providers: report.providers.map((p) => ({ ...p, faults: [], gates: p.gates.filter((g) => g.status !== 'failed') })) };
    expect(nextSteps(good)).toEqual([]);
    expect(toHtml(good)).not.toContain('What to do next');
  });

  it.each([
    ['--min-flops-cut', /smaller --lambda/], ['--min-speedup', /--repeats/], ['--require-ep', /doctor/], ['--beat-baselines', /--rank uniform/], ['--min-accuracy', /--positions keep/],
  ])('%s has a way forward', (option, words) => {
    const bare = { ...report, providers: [], thresholds: [{ name: 'x', option, provider: null, limit: 1, actual: 0.5, met: false }] };
    expect(nextSteps(bare).join(' ')).toMatch(words);
    expect(nextSteps({ ...bare, thresholds: [{ ...bare.thresholds[0]!, actual: null }] }).join(' ')).toMatch(/nothing could be compared/);
  });

  it('outlines regions, not patches, and hatches what is dropped', () => {
    const [panel] = panelsOf([{ rows: 3, columns: 3, first: 0, row: 0, area: [0, 0, 1, 1] }], 9);
    expect(outlinePath(panel!, (t) => [0, 1, 3, 4].includes(t))).toBe('M0 0h2M0 2h2M0 0v2M2 0v2');
    expect(page).toContain('<pattern id="hatch"');
    expect([...page.matchAll(/fill="url\(#hatch\)"/g)].length).toBeGreaterThan(10);
  });

  it('of a sweep has λ at its points, baselines and the original’s accuracy', () => {
    const { points } = report.curve!;
    const sweep = { schema: 'pdrop-compile/sweep/1', original: 'model.onnx', provider: 'cpu', rank: 'attention', generate: 8, data: { kind: 'json', source: 'data', samples: 3, note: null }, points: [...points, ...points.map((p) => ({ ...p, positions: 'keep' as const }))] } as const;
    const html = sweepToHtml(sweep);
    for (const text of ['λ 0.3</text>', 'λ 0.9</text>', '4 stages, positions keep', 'original 100%', 'class="baseline"', 'uniform: mean KL']) expect(html).toContain(text);
  });
});

describe('words', () => {
  const folder = mkdtempSync(join(tmpdir(), 'pdrop-words-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  const written = (tokenizer: unknown): string => {
    writeFileSync(join(folder, 'tokenizer.json'), JSON.stringify(tokenizer));
    return join(folder, 'model.onnx');
  };

  it('of byte-level, sentencepiece and word vocabularies', () => {
    const bytes = wordsOf(written({ model: { type: 'BPE', vocab: { 'ĠcafÃ': 0, '©': 1, '</s>': 2, unused: 3 } }, added_tokens: [{ id: 2, content: '</s>', special: true }] }), new Set([0, 1, 2]));
    expect(Object.keys(bytes!.pieces)).toEqual(['0', '1', '2']);
    expect(spoken(bytes, [0, 1, 2])).toBe('café');
    expect(spoken(wordsOf(written({ model: { type: 'Unigram', vocab: [['▁a', 0], ['▁dog', -1], ['s', -2]] } }), new Set([0, 1, 2])), [0, 1, 2])).toBe('a dogs');
    expect(spoken(wordsOf(written({ model: { type: 'WordLevel', vocab: { left: 0, of: 1 } } }), new Set([0, 1])), [0, 1])).toBe('left of');
  });

  it('are ids where nothing says what they mean', () => {
    expect(wordsOf(written('no object'), new Set([1]))).toBeNull();
    expect(spoken(null, [5, 6])).toBe('5 6');
    expect(spoken({ join: 'none', pieces: { 5: 'a' } }, [5, 6])).toBe('5 6');
  });
});
