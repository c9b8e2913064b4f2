/** Tokens, MACs and cache bytes per layer before and after, and the three counts side by side. */
import type { CostReport, LayerCost, MacCount, ValidateReport } from '../../validate/result.js';
import { columnsChart } from './columns.js';
import { type Cursor, each, figure, known } from './cursor.js';
import { html, type Markup, type Piece } from './markup.js';
import { bytes, count, counted, share, si } from './numbers.js';
import { behind, legend, note, type Section, table } from './parts.js';

export function costSection(report: Cursor<ValidateReport>): Section | null {
  const cost = report.at('cost').some;
  if (!cost) return null;
  const { at } = cost.value;
  const boundaries = report.value.rewritten.plan.layers;
  const layers = each(cost.at('layers'));
  const body = html`
${note(`At sample ${at.sample}: ${at.rows > 1 ? `${at.rows} rows of ` : ''}${counted(at.tokens, 'token')}, ${count(at.imageTokens)} of them of the image. FLOPs are twice the MACs.`)}
${layers.length > 0 && html`${legend([{ mark: 'box', tone: 'original', text: 'original' }, { mark: 'box', tone: 'rewritten', text: 'rewritten' }, { mark: 'dash', tone: 'boundary', text: 'tokens are dropped here' }])}
<div class="three">
${perLayer('Tokens per layer', layers, boundaries, { of: (l) => l.at('tokens'), format: count })}
${perLayer('MACs of the prompt per layer', layers, boundaries, { of: (l) => l.at('macs'), format: si })}
${perLayer('KV cache per layer', layers, boundaries, { of: (l) => l.at('cacheBytes'), format: bytes, inBytes: true })}
</div>
${behind('Figures per layer', layerTable(layers))}`}
<h3>Whole model</h3>
${totals(cost)}
${note(...agreement(cost.value))}
<h3>Where the prompt’s MACs go</h3>
${parts(cost)}`;
  return { id: 'cost', title: 'Cost', body };
}

type Pair = { readonly original: number; readonly rewritten: number };

/** What is drawn of each layer. */
interface Drawn {
  readonly of: (l: Cursor<LayerCost>) => Cursor<Pair>;
  readonly format: (v: number) => string;
  readonly inBytes?: boolean;
}

function perLayer(title: string, layers: readonly Cursor<LayerCost>[], boundaries: readonly number[], { of, format, inBytes = false }: Drawn): Markup {
  const columns = layers.map((l) => {
    const pair = of(l);
    return { title: `Layer ${l.value.layer}: ${format(pair.value.original)} before, ${format(pair.value.rewritten)} after`, tick: String(l.value.layer), values: [pair.at('original'), pair.at('rewritten')] };
  });
  return html`<figure><figcaption>${title}</figcaption>${columnsChart({ label: `${title}, original and rewritten`, columns, tones: ['original', 'rewritten'], format, boundaries, bytes: inBytes })}</figure>`;
}

function layerTable(layers: readonly Cursor<LayerCost>[]): Markup {
  const two = (pair: Cursor<Pair>, format: (v: number) => string): Piece[] => [figure(pair.at('original'), format), figure(pair.at('rewritten'), format)];
  const right = (title: string): { title: string; right: true } => ({ title, right: true });
  return table(
    'Tokens, MACs and cache bytes per layer',
    [{ title: 'layer' }, right('stage'), right('tokens before'), right('after'), right('MACs before'), right('after'), right('cache before'), right('after')],
    layers.map((l) => [figure(l.at('layer'), count), figure(l.at('stage'), count), ...two(l.at('tokens'), count), ...two(l.at('macs'), si), ...two(l.at('cacheBytes'), bytes)]),
  );
}

function totals(cost: Cursor<CostReport>): Markup {
  const rows: Piece[][] = [];
  const cut = (o: number | null, r: number | null): string => (known(o) && known(r) && o > 0 ? share(1 - r / o) : '');
  const paper = cost.at('paper').some;
  if (paper) rows.push(['Image tokens only, the paper’s formula (MACs)', figure(paper.at('original'), si), figure(paper.at('rewritten'), si), figure(paper.at('cut'), share)]);
  const phase = (name: string, p: Cursor<CostReport['prefill']>): void => {
    rows.push([`${name}, whole graph (MACs)`, figure(p.at('original').at('graph'), si), figure(p.at('rewritten').at('graph'), si), figure(p.at('cut'), share)]);
    rows.push([`${name}, executed in the profile (MACs)`, figure(p.at('original').at('executed'), si), figure(p.at('rewritten').at('executed'), si), cut(p.value.original.executed, p.value.rewritten.executed)]);
    rows.push([`${name}, element-wise, norms, softmax (elements)`, figure(p.at('original').at('elementOps'), si), figure(p.at('rewritten').at('elementOps'), si), cut(p.value.original.elementOps, p.value.rewritten.elementOps)]);
  };
  phase('Prompt', cost.at('prefill'));
  const decode = cost.at('decode').some;
  if (decode) phase('Decode step', decode);
  const cache = cost.at('cacheBytes');
  rows.push(['KV cache after the prompt', figure(cache.at('original'), bytes), figure(cache.at('rewritten'), bytes), figure(cache.at('cut'), share)]);
  return table('Cost of the whole model', [{ title: '' }, { title: 'original', right: true }, { title: 'rewritten', right: true }, { title: 'cut', right: true }], rows);
}

function agreement(cost: CostReport): Piece[] {
  const uncounted = [...new Set([cost.prefill, ...(cost.decode ? [cost.decode] : [])].flatMap((p) => [...p.original.uncounted, ...p.rewritten.uncounted]))];
  const differ = cost.countsDiffer === null ? 'Nothing was profiled, so the graph’s count stands alone.' : cost.countsDiffer === 0 ? 'The graph’s count and the executed one are equal.' : `The graph’s count and the executed one differ by up to ${share(cost.countsDiffer)}.`;
  return [differ, uncounted.length > 0 ? ` Not counted: ${uncounted.join(', ')}.` : ''];
}

function parts(cost: Cursor<CostReport>): Markup {
  const prefill = cost.at('prefill');
  const names = { decoder: 'decoder layers', lmHead: 'LM head', rank: 'ranking image tokens', other: 'everything else (vision tower, embeddings)' } as const;
  const rows = (Object.keys(names) as (keyof MacCount['parts'])[])
    .filter((k) => k === 'rank' || prefill.value.original.parts[k] > 0 || prefill.value.rewritten.parts[k] > 0)
    .map((k) => [names[k], figure(prefill.at('original').at('parts').at(k), si), figure(prefill.at('rewritten').at('parts').at(k), si)]);
  return html`${table('MACs of the prompt by part', [{ title: '' }, { title: 'original', right: true }, { title: 'rewritten', right: true }], rows)}
<p class="note">Ranking takes ${figure(cost.at('rankShare'), share)} of the rewritten prompt’s MACs.</p>`;
}
