/** What passed and what did not: thresholds and gates. */
import { nextSteps } from '../../validate/next-steps.js';
import { GATE_MEANING } from '../../validate/gates/types.js';
import type { ThresholdResult, ValidateReport } from '../../validate/result.js';
import { type Cursor, each, figure } from './cursor.js';
import { html, type Markup, type Piece } from './markup.js';
import { plain, round, share, times } from './numbers.js';
import { note, type Section, table, verdict } from './parts.js';

/** Options whose figures are shares. */
const SHARES = new Set(['--min-top1', '--max-divergent', '--min-accuracy', '--max-accuracy-drop', '--min-flops-cut', '--min-cache-cut', '--require-ep']);

function formatOf(option: string): (v: number) => string {
  return SHARES.has(option) ? share : option === '--min-speedup' || option === '--max-ppl-ratio' ? times : plain;
}

/** A table of thresholds; null when there are none. */
export function thresholdTable(list: readonly Cursor<ThresholdResult>[], label: string): Markup | null {
  if (list.length === 0) return null;
  const rows = list.map((t): Piece[] => {
    const format = formatOf(t.value.option);
    const sign = t.value.option.startsWith('--max') ? '≤' : '≥';
    return [
      html`${t.value.name} <small><code>${t.value.option}</code></small>`,
      t.value.provider ?? 'all',
      html`${sign} ${figure(t.at('limit'), (v) => round(format(v)))}`,
      t.value.actual === null ? 'nothing to compare' : figure(t.at('actual'), format),
      t.value.met ? verdict('good', 'met') : verdict('bad', 'missed'),
    ];
  });
  return table(label, [{ title: 'threshold' }, { title: 'provider' }, { title: 'limit', right: true }, { title: 'measured', right: true }, { title: '' }], rows, 'stack');
}

/** Text with what stands between backquotes as code. */
function codes(text: string): Piece {
  return text.split('`').map((t, i) => (i % 2 === 1 ? html`<code>${t}</code>` : t));
}

/** Thresholds that were missed and gates that failed; null when nothing fell short. */
export function fellShort(report: Cursor<ValidateReport>): Markup | null {
  const missed = each(report.at('thresholds')).filter((t) => !t.value.met);
  const failed = report.value.providers.flatMap((p) => p.gates.filter((g) => g.status === 'failed').map((g) => ({ p, g })));
  const faults = report.value.providers.flatMap((p) => p.faults.map((f) => ({ p, f })));
  if (missed.length + failed.length + faults.length === 0) return null;
  const next = nextSteps(report.value);
  return html`<section id="fell-short" class="card"><h2>What fell short</h2>
${failed.length > 0 && table('Gates that failed', [{ title: 'gate' }, { title: 'provider' }, { title: 'what was seen' }], failed.map(({ p, g }) => [html`${verdict('bad', g.gate)}`, p.provider, g.detail]), 'stack')}
${thresholdTable(missed, 'Thresholds that were missed')}
${faults.length > 0 && table('Samples that failed', [{ title: 'sample' }, { title: 'provider' }, { title: 'why' }, { title: 'what to do' }], faults.map(({ p, f }) => [f.id, p.provider, html`<code>${f.code}</code> ${f.message}`, f.hint]), 'stack')}
${next.length > 0 && html`<h3>What to do next</h3><ul class="findings next">${next.map((n) => html`<li>${codes(n)}</li>`)}</ul>`}
</section>`;
}

export function checksSection(report: Cursor<ValidateReport>): Section | null {
  const thresholds = thresholdTable(each(report.at('thresholds')), 'Thresholds');
  const providers = each(report.at('providers')).filter((p) => p.value.gates.length > 0);
  if (!thresholds && providers.length === 0) return null;
  const gates = providers.map((p) => {
    const rows = each(p.at('gates')).map((g): Piece[] => {
      const { status, gate, detail, difference, bound } = g.value;
      const state = status === 'passed' ? verdict('good', 'passed') : status === 'failed' ? verdict('bad', 'failed') : verdict('doubt', 'skipped');
      return [
        html`<span class="nowrap">${gate}</span>`,
        state,
        difference === undefined ? '' : figure(g.at('difference'), plain),
        bound === undefined ? '' : figure(g.at('bound'), plain),
        html`${detail}<br><small>${GATE_MEANING[gate]}</small>`,
      ];
    });
    const control = p.at('control').some;
    return html`<h3>Gates on ${p.value.provider}</h3>
${table(`Gates on ${p.value.provider}`, [{ title: 'gate' }, { title: '' }, { title: 'difference', right: true }, { title: 'bound', right: true }, { title: 'what was seen' }], rows, 'stack')}
${control && html`<p class="note">Gathers that move nothing change the original’s outputs by ${figure(control, plain)} here; bounds come from that.</p>`}`;
  });
  const body = html`
${thresholds ? html`<h3>Thresholds</h3>${thresholds}` : note('No thresholds were given.')}
${providers.length > 0 ? html`${note('Gates tell a rewrite that is wrong from tokens that were worth keeping: each proves one thing exactly.')}${gates}` : note('Gates were not run.')}`;
  return { id: 'checks', title: 'Thresholds and gates', body };
}
