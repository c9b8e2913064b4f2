/** What was compared, on what, with what settings: all that is needed to run it again. */
import { formatImageMask } from '../../plan/plan.js';
import type { ModelSummary, ValidateReport } from '../../validate/result.js';
import { type Cursor, each, figure } from './cursor.js';
import { html, type Markup, type Piece } from './markup.js';
import { bytes, count, counted, round, share } from './numbers.js';
import { type Section, table } from './parts.js';

export function setupSection(report: Cursor<ValidateReport>): Section {
  return { id: 'setup', title: 'What was compared', body: html`${models(report)}<div class="two"><div>${schedule(report)}</div><div>${conditions(report.value)}</div></div>` };
}

function models(report: Cursor<ValidateReport>): Markup {
  const [o, r] = [report.at('original') as Cursor<ModelSummary>, report.at('rewritten') as Cursor<ModelSummary>];
  const row = (name: string, cell: (m: Cursor<ModelSummary>) => Piece): Piece[] => [name, cell(o), cell(r)];
  return table('Models', [{ title: '' }, { title: 'original' }, { title: 'rewritten' }], [
    row('file', (m) => m.value.file),
    row('size', (m) => figure(m.at('bytes'), bytes)),
    row('type of numbers', (m) => m.value.dtype),
    row('decoder layers', (m) => figure(m.at('layers'), count)),
    row('hidden size', (m) => figure(m.at('hidden'), count)),
    row('vocabulary', (m) => figure(m.at('vocab'), count)),
  ]);
}

function schedule(report: Cursor<ValidateReport>): Markup {
  const { plan } = report.value.rewritten;
  const layers = each(report.at('rewritten').at('plan').at('layers'));
  const rows = layers.map((l, i): Piece[] => {
    const keep = plan.keep[i];
    return [html`before layer ${figure(l, count)}`, keep === undefined ? '–' : html`${keep} <small>${round(share(Number(keep)))} of the image tokens</small>`];
  });
  return html`<h3>Plan</h3>${table('Plan', [{ title: 'boundary' }, { title: 'kept' }], rows)}
<dl><dt>rank</dt><dd>${plan.rank}${plan.rank === 'random' && `, seed ${plan.seed}`}</dd><dt>image tokens marked by</dt><dd><code>${formatImageMask(plan.imageMask)}</code></dd><dt>positions after dropping</dt><dd>${plan.positions}</dd></dl>`;
}

function conditions(r: ValidateReport): Markup {
  const entries: [string, Piece][] = [
    ['data', html`${r.data.kind}, ${r.data.source}: ${counted(r.data.samples, 'sample')}${r.data.failed > 0 && html`, ${count(r.data.failed)} failed`}${r.data.resumed > 0 && html` (${count(r.data.resumed)} from an interrupted run)`}`],
    ...(r.shard ? [['shard', `${r.shard.index} of ${r.shard.of}`] as [string, Piece]] : []),
    ['positions compared', `up to ${count(r.settings.positions)} a sample`],
    ['tokens generated', r.settings.generate > 0 ? `${count(r.settings.generate)} a sample` : 'none'],
    ...(r.settings.embeddings !== null ? [['embeddings of text', r.settings.embeddings] as [string, Piece]] : []),
    ['samples in gates', count(r.settings.gateSamples)],
    ['machine', html`${r.machine.cpu || 'unknown processor'}, ${counted(r.machine.cpus, 'core')}, ${r.machine.platform}`],
    ['software', html`Node ${r.machine.node}, ONNX Runtime ${r.machine.onnxruntime}, pdrop-compile ${r.tool.version}`],
  ];
  return html`<h3>Conditions</h3><dl>${entries.map(([k, v]) => html`<dt>${k}</dt><dd>${v}</dd>`)}</dl>`;
}
