/** Latency of prefill and of one decode step, against the ideal that the MACs allow; and memory. */
import { breakEvenWords } from '../../validate/findings.js';
import type { PhaseLatency } from '../../validate/speed/latency.js';
import type { LatencyReport, ProviderReport, ValidateReport } from '../../validate/result.js';
import { barRows } from './bars.js';
import { type Cursor, each, figure, known } from './cursor.js';
import { html, type Markup, type Piece } from './markup.js';
import { bytes, counted, ms, share, times } from './numbers.js';
import { legend, note, type Section, table } from './parts.js';

export function speedSection(report: Cursor<ValidateReport>): Section | null {
  const providers = each(report.at('providers')).filter((p) => p.value.latency || p.value.memory);
  if (providers.length === 0) return null;
  const timed = providers.some((p) => p.value.latency);
  const body = html`
${timed && html`${legend([{ mark: 'box', tone: 'original', text: 'original' }, { mark: 'box', tone: 'rewritten', text: 'rewritten' }, { mark: 'outline', tone: 'ideal', text: 'ideal: the original’s time over the ratio of MACs' }])}
${note('Medians; whiskers from the first to the third quartile. Both models alternate in one run, on one prompt.')}`}
${providers.map((p) => {
  const latency = p.at('latency').some;
  return latency && html`<div class="two">${phase(`Prefill on ${p.value.provider}`, latency.at('prefill'), latency.at('idealPrefill'), latency.at('achievedPrefill'), latency.value)}${decodePhase(p.value.provider, latency)}</div>${breakEven(p, latency)}`;
})}
${memory(providers)}`;
  return { id: 'speed', title: 'Speed and memory', body };
}

function breakEven(p: Cursor<ProviderReport>, latency: Cursor<LatencyReport>): Markup | null {
  const at = latency.at('breakEven');
  if (!known(at.value)) return null;
  return note(html`${(breakEvenWords(p.value) ?? '').replace(/^b/, 'B')} (${figure(at, (v) => v.toFixed(1))} image tokens).`);
}

function decodePhase(provider: string, latency: Cursor<LatencyReport>): Markup | null {
  const decode = latency.at('decode').some;
  return decode && phase(`One decode step on ${provider}`, decode, latency.at('idealDecode'), latency.at('achievedDecode'), latency.value);
}

function phase(title: string, p: Cursor<PhaseLatency>, ideal: Cursor<number | null>, achieved: Cursor<number | null>, latency: LatencyReport): Markup {
  const { original, rewritten } = p.value;
  const words = (s: PhaseLatency['original']): string => `median ${ms(s.median)}, quartiles ${ms(s.p25)} to ${ms(s.p75)}, ${counted(s.n, 'repeat')}`;
  const row = (name: 'original' | 'rewritten'): Parameters<typeof barRows>[0][number] => {
    const s = p.at(name);
    return { name, value: s.at('median'), tone: name, spread: { low: s.value.p25, high: s.value.p75 }, title: `${name}: ${words(s.value)}` };
  };
  const goal = known(ideal.value) && ideal.value > 0 ? original.median / ideal.value : null;
  const bars = barRows([row('original'), row('rewritten'), ...(goal === null ? [] : [{ name: 'ideal', value: goal, tone: 'ideal', title: `ideal: ${ms(goal)}` }])], ms);
  return html`<figure><figcaption>${title}</figcaption>${bars}
<p class="note"><strong>${figure(p.at('speedup'), times)}</strong> as fast, ± ${figure(p.at('uncertainty'), (v) => v.toFixed(2))}; the MACs allow ${figure(ideal, times)}, so ${figure(achieved, share)} of the ideal. Quartiles: ${figure(p.at('original').at('p25'), ms)} to ${figure(p.at('original').at('p75'), ms)} before, ${figure(p.at('rewritten').at('p25'), ms)} to ${figure(p.at('rewritten').at('p75'), ms)} after; ${figure(p.at('rewritten').at('n'), String)} repeats after ${counted(latency.warmups, 'warm-up')}${original.n !== rewritten.n && ` (${original.n} of the original)`}.</p></figure>`;
}

function memory(providers: readonly Cursor<ProviderReport>[]): Markup | null {
  const rows = providers.flatMap((p) => {
    const m = p.at('memory').some;
    if (!m) return [];
    const of = (side: 'original' | 'rewritten', what: 'loaded' | 'peak'): Piece => {
      const s = m.at(side).some;
      return s ? figure(s.at(what), bytes) : html`<span class="none">–</span>`;
    };
    return [[p.value.provider, of('original', 'loaded'), of('rewritten', 'loaded'), of('original', 'peak'), of('rewritten', 'peak'), m.value.note ?? '']];
  });
  if (rows.length === 0) return null;
  const right = (title: string): { title: string; right: true } => ({ title, right: true });
  return html`<h3>Host memory of a process that runs one prompt</h3>${table('Host memory', [{ title: 'provider' }, right('original, loaded'), right('rewritten, loaded'), right('original, peak'), right('rewritten, peak'), ...(rows.some((r) => r.at(-1) !== '') ? [{ title: '' }] : [])], rows, 'stack')}`;
}
