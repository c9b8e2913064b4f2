/** The tables of docs/accuracy.md and the plots beside it, from docs/accuracy.json. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { flagsOf, wilson } from './accuracy-lvlm.mjs';

const HALF = 64;
const RANKS = ['attention', 'uniform', 'random'];
export const percent = (x, digits = 1) => `${(100 * x).toFixed(digits)}%`;

/** Right answers of each schedule over the questions all schedules were asked (or, for `both`, over all questions). */
function reader(root) {
  const { results, sweeps } = JSON.parse(readFileSync(join(root, 'docs', 'accuracy.json'), 'utf8'));
  const { questions } = JSON.parse(readFileSync(join(root, 'fixtures', 'lvlm', 'eval', 'questions.json'), 'utf8'));
  const halves = [0, 1].map((h) => questions.filter((q) => Math.floor(q.picture / HALF) === h));
  const everywhere = Object.values(results).every((r) => r.right[0] && r.right[1]);
  const flags = (id, which) => {
    const r = results[id];
    if (!r || which.some((h) => !r.right[h])) return undefined;
    return which.flatMap((h) => flagsOf(r.right[h], halves[h].length));
  };
  const of = (id, { all = false, kind } = {}) => {
    const which = all || everywhere ? [0, 1] : [0];
    const got = flags(id, which);
    if (!got) return undefined;
    const asked = which.flatMap((h) => halves[h]);
    const own = got.filter((_, i) => kind === undefined || asked[i].kind === kind);
    const right = own.reduce((a, b) => a + b, 0);
    return { flags: own, right, n: own.length, share: right / own.length, interval: wilson(right, own.length) };
  };
  return { results, sweeps, of, questions, common: everywhere ? questions.length : halves[0].length, kinds: [...new Set(questions.map((q) => q.kind))] };
}

const macsShare = (r) => (r?.macs ? r.macs / r.originalMacs : 1);
const cell = (c) => (c ? percent(c.share) : '');
export const withInterval = (c) => (c ? `${percent(c.share)} (${(100 * c.interval[0]).toFixed(1)}–${(100 * c.interval[1]).toFixed(1)})` : '');
export const markdown = (head, rows) => [`| ${head.join(' | ')} |`, `|${head.map((_, i) => (i === 0 ? ' --- ' : ' ---: ')).join('|')}|`, ...rows.map((r) => `| ${r.join(' | ')} |`)].join('\n');

/** Paired difference a − b in points with its 95% interval (normal, from the discordant pairs). */
function difference(a, b) {
  let [only, other] = [0, 0];
  a.flags.forEach((f, i) => {
    if (f && !b.flags[i]) only++;
    if (!f && b.flags[i]) other++;
  });
  const n = a.flags.length;
  const d = (only - other) / n;
  const half = (1.96 * Math.sqrt(only + other - (only - other) ** 2 / n)) / n;
  return { d, half, only, other, clear: Math.abs(d) > half };
}
const signed = (x) => `${x < 0 ? '−' : '+'}${Math.abs(100 * x).toFixed(1)}`;

/** A paired difference as a table says it: bold where its interval leaves out zero. */
export function differenceText(a, b) {
  const d = difference(a, b);
  const text = `${signed(d.d)} ± ${(100 * d.half).toFixed(1)}`;
  return d.clear ? `**${text}**` : text;
}

const NAMES = new Map([
  ['original', 'original'],
  ['s4-l0.5-attention', 'λ 0.5, 4 stages, attention, compact (`--preset paper`)'],
  ['s4-l0.5-uniform', 'the same, uniform'],
  ['s4-l0.5-random', 'the same, random'],
  ['s4-l0.5-attention-keep', 'λ 0.5, 4 stages, attention, kept positions (the defaults)'],
  ['s4-l0.5-uniform-keep', 'the same, uniform'],
  ['s4-l0.5-random-keep', 'the same, random'],
  ['late-4,6-k0.5,0.25-attention-keep', '`--layers 4,6 --keep 0.5,0.25`, attention, kept positions'],
]);

function tables(r) {
  const { results, of, kinds } = r;
  const out = {};
  out.main = markdown(['schedule', 'MACs', 'right', 'accuracy (95%)', 'to the original'], [...NAMES].flatMap(([id, name]) => {
    const c = of(id, { all: true });
    if (!c) return [];
    const d = difference(c, of('original', { all: true }));
    return [[name, percent(macsShare(results[id])), `${c.right} of ${c.n}`, withInterval(c), id === 'original' ? '' : `${signed(d.d)} ± ${(100 * d.half).toFixed(1)}`]];
  }));
  const lambdas = ['0.3', '0.4', '0.5', '0.6', '0.7', '0.8', '0.9'];
  const grid = (suffix) => markdown(['λ', ...[2, 4, 6].flatMap((s) => [`${s} stages: MACs`, ...RANKS])], lambdas.flatMap((l) => {
    const row = [2, 4, 6].flatMap((s) => [results[`s${s}-l${l}-attention${suffix}`] ? percent(macsShare(results[`s${s}-l${l}-attention${suffix}`])) : '', ...RANKS.map((k) => cell(of(`s${s}-l${l}-${k}${suffix}`)))]);
    return row.some((x) => x) ? [[l, ...row]] : [];
  }));
  out.keep = grid('-keep');
  out.compact = grid('');
  out.positions = markdown(['λ, 4 stages', 'compact', 'kept', 'kept − compact'], lambdas.flatMap((l) => {
    const [a, b] = [of(`s4-l${l}-attention`), of(`s4-l${l}-attention-keep`)];
    if (!a || !b) return [];
    const d = difference(b, a);
    return [[l, cell(a), cell(b), `${signed(d.d)} ± ${(100 * d.half).toFixed(1)}`]];
  }));
  out.ranks = markdown(['λ', 'stages', 'positions', 'attention − uniform', 'attention − random'], ['-keep', ''].flatMap((suffix) => [2, 4, 6].flatMap((s) => lambdas.flatMap((l) => {
    const a = of(`s${s}-l${l}-attention${suffix}`);
    const cells = ['uniform', 'random'].map((k) => {
      const b = of(`s${s}-l${l}-${k}${suffix}`);
      if (!a || !b) return '';
      return differenceText(a, b);
    });
    return cells[0] || cells[1] ? [[l, String(s), suffix ? 'kept' : 'compact', ...cells]] : [];
  }))));
  const ours = of('s4-l0.5-attention-keep');
  out.rankers = markdown(['`--rank`', 'MACs', 'ranking', 'right', 'accuracy (95%)', 'to `attention`'], Object.entries(results).filter(([id, x]) => /^s4-l0\.5-.*-keep$/.test(id) && x.rank).flatMap(([id, x]) => {
    const c = of(id, { all: true });
    if (!c || !ours) return [];
    return [{ share: c.right / c.n, cells: [`\`${x.rank}\``, percent(macsShare(x)), percent(x.rankMacs / x.macs), `${c.right} of ${c.n}`, withInterval(c), x.rank === 'attention' ? '' : differenceText(c, ours)] }];
  }).sort((a, b) => b.share - a.share).map((r) => r.cells));
  const cutRow = (layer, keep) => {
    const id = (rank, suffix) => `cut${layer}-k${keep}-${rank}${suffix}`;
    const any = results[id('attention', '-keep')] ?? results[id('attention', '')];
    return any ? [[String(layer), keep, percent(macsShare(any)), cell(of(id('attention', '-keep'))), cell(of(id('uniform', '-keep'))), cell(of(id('attention', ''))), cell(of(id('uniform', '')))]] : [];
  };
  const head = ['before layer', 'kept', 'MACs', 'attention, kept positions', 'uniform, kept positions', 'attention, compact', 'uniform, compact'];
  out.fastv = markdown(head, ['0.1', '0.25', '0.5', '0.75'].flatMap((k) => cutRow(2, k)));
  out.cuts = markdown(head, [1, 2, 3, 4, 5, 6, 7].flatMap((l) => cutRow(l, '0.25')));
  const late = Object.entries(results).filter(([, x]) => x.late);
  out.late = markdown(['layers', 'kept', 'MACs', 'positions', ...RANKS], [...new Map(late.map(([, x]) => [`${x.late}|${x.keep}|${x.positions}`, x])).values()].flatMap((x) => {
    const id = (rank) => `late-${x.late}-k${x.keep}-${rank}${x.positions === 'keep' ? '-keep' : ''}`;
    const cells = RANKS.map((k) => cell(of(id(k))));
    return cells.some((c) => c) ? [[x.late.join(', '), [x.keep].flat().join(', '), percent(macsShare(x)), x.positions === 'keep' ? 'kept' : 'compact', ...cells]] : [];
  }));
  const shown = [['original', 'original'], ['s4-l0.5-attention', 'compact, attention'], ['s4-l0.5-attention-keep', 'kept, attention'], ['s4-l0.5-uniform-keep', 'kept, uniform'], ['s4-l0.5-random-keep', 'kept, random'], ['late-4,6-k0.5,0.25-attention-keep', 'layers 4, 6, kept, attention']].filter(([id]) => of(id, { all: true }));
  if (r.sweeps) {
    const point = (mode, stages, lambda) => r.sweeps[mode].points.find((p) => p.stages === stages && p.lambda === lambda);
    out.sweep = markdown(['λ', ...[2, 4, 6].flatMap((s) => [`${s} stages: kept`, 'compact'])], lambdas.map((l) => [l, ...[2, 4, 6].flatMap((s) => ['keep', 'compact'].map((mode) => {
      const p = point(mode, s, l);
      return p ? `${p.meanKl.toPrecision(2)} (${percent(p.sameTop1)})` : '';
    }))]));
  }
  const needs = JSON.parse(readFileSync(join(r.root, 'fixtures', 'lvlm', 'eval', 'questions.json'), 'utf8')).needs;
  out.kinds = markdown(['kind', 'needs', 'questions', ...shown.map(([, name]) => name)], [...kinds].sort((a, b) => Object.keys(needs).indexOf(a) - Object.keys(needs).indexOf(b)).map((kind) => [`\`${kind}\``, needs[kind], String(of('original', { all: true, kind }).n), ...shown.map(([id]) => withInterval(of(id, { all: true, kind })))]));
  out.kindranks = markdown(['kind', 'attention − uniform, kept', 'attention − random, kept', 'attention − uniform, compact', 'attention − random, compact'], [...Object.keys(needs)].map((kind) => [`\`${kind}\``, ...['-keep', ''].flatMap((suffix) => ['uniform', 'random'].map((k) => {
    const [a, b] = [of(`s4-l0.5-attention${suffix}`, { all: true, kind }), of(`s4-l0.5-${k}${suffix}`, { all: true, kind })];
    if (!a || !b) return '';
    return differenceText(a, b);
  }))]));
  return out;
}

const COLOURS = { 2: '#7a4fb5', 4: '#0b6bcb', 6: '#0a8754', cut: '#c2410c', uniform: '#6b7280', random: '#a16207' };

/** Accuracy against MACs: kept positions on the left, compact on the right. */
function plot(r) {
  const { results, of, common } = r;
  const [W, H, L, T, PW, PH, GAP] = [1000, 440, 52, 64, 412, 300, 80];
  const [low, high] = [0.4, 1];
  const [xl, xh] = [0.2, 1];
  const panel = (suffix, title, k) => {
    const x0 = L + k * (PW + GAP);
    const X = (v) => (x0 + (PW * (v - xl)) / (xh - xl)).toFixed(1);
    const Y = (v) => (T + PH * (1 - (v - low) / (high - low))).toFixed(1);
    const parts = [`<text x="${x0}" y="${T - 14}" class="title">${title}</text>`];
    for (let v = low; v <= high + 1e-9; v += 0.1) parts.push(`<line x1="${x0}" x2="${x0 + PW}" y1="${Y(v)}" y2="${Y(v)}" class="grid"/><text x="${x0 - 6}" y="${Number(Y(v)) + 4}" text-anchor="end">${Math.round(100 * v)}%</text>`);
    for (let v = xl; v <= xh + 1e-9; v += 0.2) parts.push(`<text x="${X(v)}" y="${T + PH + 18}" text-anchor="middle">${Math.round(100 * v)}%</text>`);
    const whole = of('original');
    parts.push(`<line x1="${x0}" x2="${x0 + PW}" y1="${Y(whole.share)}" y2="${Y(whole.share)}" class="whole"/>`);
    const series = (test, colour, style, mark) => {
      const own = Object.entries(results).filter(([id, x]) => (x.positions === 'keep') === (suffix === '-keep') && test(id, x) && of(id)).map(([id, x]) => ({ x: macsShare(x), y: of(id).share, i: of(id).interval, id })).sort((a, b) => a.x - b.x);
      if (own.length === 0) return;
      parts.push(`<polyline fill="none" stroke="${colour}" stroke-width="1.8" ${style} points="${own.map((p) => `${X(p.x)},${Y(p.y)}`).join(' ')}"/>`);
      for (const p of own) {
        const title = `<title>${p.id}: ${percent(p.y)} (${(100 * p.i[0]).toFixed(1)}–${(100 * p.i[1]).toFixed(1)}) at ${percent(p.x)} of the MACs</title>`;
        parts.push(mark === 'square' ? `<rect x="${Number(X(p.x)) - 3.5}" y="${Number(Y(p.y)) - 3.5}" width="7" height="7" fill="${colour}">${title}</rect>` : `<circle cx="${X(p.x)}" cy="${Y(p.y)}" r="${mark === 'small' ? 2.6 : 4}" fill="${colour}">${title}</circle>`);
      }
    };
    series((id) => /^s4-.*-random/.test(id), COLOURS.random, 'stroke-dasharray="2 3"', 'small');
    series((id) => /^s4-.*-uniform/.test(id), COLOURS.uniform, 'stroke-dasharray="6 3"', 'small');
    series((id) => /^cut2-.*-attention/.test(id), COLOURS.cut, 'stroke-dasharray="9 3 2 3"', 'square');
    for (const s of [2, 6, 4]) series((id) => id.startsWith(`s${s}-`) && /-attention/.test(id), COLOURS[s], '', 'circle');
    return parts.join('\n');
  };
  const items = [[COLOURS[2], '', '2 stages, attention'], [COLOURS[4], '', '4 stages, attention'], [COLOURS[6], '', '6 stages, attention'], [COLOURS.uniform, '6 3', '4 stages, uniform'], [COLOURS.random, '2 3', '4 stages, random'], [COLOURS.cut, '9 3 2 3', 'one cut before layer 2']];
  const legend = items.map(([c, dash, text], i) => `<line x1="${L + i * 156}" x2="${L + i * 156 + 22}" y1="${H - 18}" y2="${H - 18}" stroke="${c}" stroke-width="2" stroke-dasharray="${dash}"/><text x="${L + i * 156 + 28}" y="${H - 14}">${text}</text>`).join('\n');
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${W} ${H}" width="${W}" height="${H}" role="img" aria-label="Accuracy against MACs">
<style>text{font:12px system-ui,sans-serif;fill:#374151}.title{font-weight:600;font-size:14px}.grid{stroke:#e5e7eb}.whole{stroke:#111827;stroke-dasharray:1 3}</style>
<rect width="${W}" height="${H}" fill="#fff"/>
<text x="${L}" y="22" class="title">Right answers of the shipped LVLM against prefill MACs of its decoder (${common.toLocaleString('en')} questions; dotted: the original)</text>
${panel('-keep', 'Kept positions (the default)', 0)}
${panel('', 'Compact positions (the paper’s)', 1)}
<text x="${W / 2}" y="${T + PH + 40}" text-anchor="middle">MACs, share of the original’s</text>
${legend}
</svg>
`;
}

export function writeReport(root) {
  const r = { ...reader(root), root };
  const made = tables(r);
  writeFileSync(join(root, 'docs', 'accuracy.svg'), plot(r));
  const path = join(root, 'docs', 'accuracy.md');
  if (!existsSync(path)) return made;
  let text = readFileSync(path, 'utf8');
  for (const [name, table] of Object.entries({ ...made, common: undefined })) {
    if (table) text = text.replace(new RegExp(`(<!-- table:${name} -->\n)[\\s\\S]*?(<!-- /table -->)`), (_, a, b) => `${a}\n${table}\n\n${b}`);
  }
  writeFileSync(path, text);
  return made;
}
