/** The top of the page: what was compared, the verdict and its reason, the figures people look for, warnings, findings. */
import type { ProviderReport, ValidateReport } from '../../validate/result.js';
import { type Cursor, each, figure, known } from './cursor.js';
import { html, type Markup, type Piece } from './markup.js';
import { bytes, count, counted, ms, plain, round, share, si, times } from './numbers.js';
import { table, verdict } from './parts.js';

const VERDICT = { passed: ['good', 'Passed'], failed: ['bad', 'Failed'], incomplete: ['doubt', 'Incomplete'] } as const;

export function header(report: Cursor<ValidateReport>, look: Markup | null = null): Markup {
  const r = report.value;
  const [state, word] = VERDICT[r.verdict];
  const { plan } = r.rewritten;
  return html`<header>
<p class="kicker">pdrop-compile validate</p>
<h1>${r.rewritten.file} <small>against ${r.original.file}</small></h1>
<p class="lead"><span class="badge ${state}" data-verdict="${r.verdict}">${verdict(state, word)}</span> ${reason(r)}</p>
<p class="note">Image tokens are dropped before ${plan.layers.length === 1 ? 'layer' : 'layers'} ${plan.layers.join(', ')}; ${plan.keep.map((k) => round(share(Number(k)))).join(', ')} of them stay. ${counted(r.data.samples, 'sample')} (${r.data.kind}), ${r.providers.map((p) => p.provider).join(', ')}${r.shard && `, shard ${r.shard.index} of ${r.shard.of}`}.</p>
${warnings(r)}
${tiles(report)}
${look}
${providers(report)}
${r.findings.length > 0 && html`<section id="findings" class="card"><h2>Findings</h2><ul class="findings">${r.findings.map((f) => html`<li>${f}</li>`)}</ul></section>`}
</header>`;
}

function reason(r: ValidateReport): string {
  const gates = r.providers.flatMap((p) => p.gates);
  const failedGates = gates.filter((g) => g.status === 'failed').length;
  const skipped = gates.filter((g) => g.status === 'skipped').length;
  const missed = r.thresholds.filter((t) => !t.met).length;
  const parts = [
    gates.length === 0 ? 'Gates were not run' : failedGates > 0 ? `${failedGates} of ${counted(gates.length, 'gate')} failed` : `${counted(gates.length - skipped, 'gate')} passed${skipped > 0 ? `, ${skipped} skipped` : ''}`,
    r.thresholds.length === 0 ? 'no thresholds were given' : missed > 0 ? `${missed} of ${counted(r.thresholds.length, 'threshold')} missed` : `${counted(r.thresholds.length, 'threshold')} met`,
    ...(r.data.failed > 0 ? [`${counted(r.data.failed, 'sample')} could not be used`] : []),
  ];
  return `${parts.join('; ')}.`;
}

function warnings(r: ValidateReport): Markup {
  const list = [
    ...(r.data.note ? [r.data.note] : []),
    ...(r.shard ? [`This is shard ${r.shard.index} of ${r.shard.of}: thresholds are judged on this part of the data only, until the shards are merged.`] : []),
    ...r.providers.flatMap((p) => p.notes.map((n) => `${p.provider}: ${n}`)),
  ];
  return html`${list.map((w) => html`<p class="callout doubt"><strong>Note</strong> ${w}</p>`)}`;
}

interface Tile {
  readonly name: string;
  readonly value: Piece;
  readonly detail: Piece;
  /** Thresholds that judge this figure, and the provider they are of; null: of all. */
  readonly limits?: readonly string[];
  readonly provider?: string;
  /** The figure is a cost that got worse. */
  readonly worse?: boolean;
}

function tiles(report: Cursor<ValidateReport>): Markup {
  const list: Tile[] = [];
  const cost = report.at('cost').some;
  if (cost) {
    const p = cost.at('prefill');
    list.push({ name: 'Prompt MACs cut', value: figure(p.at('cut'), share), detail: html`${figure(p.at('original').at('graph'), si)} → ${figure(p.at('rewritten').at('graph'), si)}`, limits: ['--min-flops-cut'], worse: p.value.cut < 0 });
    const c = cost.at('cacheBytes');
    list.push({ name: 'KV cache cut', value: figure(c.at('cut'), share), detail: html`${figure(c.at('original'), bytes)} → ${figure(c.at('rewritten'), bytes)}`, limits: ['--min-cache-cut'], worse: c.value.cut < 0 });
  }
  const first = each(report.at('providers'))[0];
  if (first) list.push(...providerTiles(first));
  return html`<div class="tiles">${list.map((t) => tile(t, report.value.thresholds))}</div>`;
}

/** A missed threshold, or a cost that got worse, shows in its tile, by a sign and words as well as by colour. */
function tile(t: Tile, thresholds: ValidateReport['thresholds']): Markup {
  const missed = thresholds.filter((x) => !x.met && t.limits?.includes(x.option) && (x.provider === null || t.provider === undefined || x.provider === t.provider));
  const state = missed.length > 0 ? 'bad' : t.worse ? 'doubt' : '';
  return html`<div class="tile${state && ` ${state}`}"><span class="name">${t.name}</span><span class="value">${t.value}</span><span class="detail">${t.detail}</span>${missed.map((x) => html`<span class="detail">${verdict('bad', `missed ${x.option} ${x.limit}`)}</span>`)}${state === 'doubt' && html`<span class="detail">${verdict('doubt', 'worse than the original')}</span>`}</div>`;
}

function providerTiles(p: Cursor<ProviderReport>): Tile[] {
  const out: Tile[] = [];
  const latency = p.at('latency').some;
  const { provider } = p.value;
  if (latency) out.push({ name: `Prefill speed, ${provider}`, value: figure(latency.at('prefill').at('speedup'), times), detail: known(latency.value.achievedPrefill) ? html`${figure(latency.at('achievedPrefill'), share)} of the ideal ${figure(latency.at('idealPrefill'), times)}` : '', limits: ['--min-speedup'], provider, worse: latency.value.prefill.speedup < 1 });
  const step = latency?.at('decode').some;
  if (step) out.push({ name: `Decode speed, ${provider}`, value: figure(step.at('speedup'), times), detail: html`${figure(step.at('original').at('median'), ms)} → ${figure(step.at('rewritten').at('median'), ms)} a step`, worse: step.value.speedup < 1 });
  const fidelity = p.at('fidelity').some;
  const all = fidelity?.at('all').some;
  if (all) {
    out.push({ name: 'Mean KL', value: html`${figure(all.at('kl').at('mean'), plain)} <small>nats</small>`, detail: html`99%: ${figure(all.at('kl').at('p99'), plain)}`, limits: ['--max-kl', '--max-kl-p99', '--beat-baselines'], provider });
    out.push({ name: 'Same top-1', value: figure(all.at('sameTop1'), share), detail: counted(all.value.positions, 'position'), limits: ['--min-top1'], provider });
  }
  const answers = fidelity?.at('answers').some;
  if (answers) out.push({ name: 'Task accuracy', value: figure(answers.at('rewritten'), share), detail: html`${figure(answers.at('original'), share)} before`, limits: ['--min-accuracy', '--max-accuracy-drop'], provider, worse: answers.value.rewritten < answers.value.original });
  return out;
}

/** Several providers side by side. */
function providers(report: Cursor<ValidateReport>): Markup | null {
  const list = each(report.at('providers'));
  if (list.length < 2) return null;
  const none = html`<span class="none">–</span>`;
  const rows = list.map((p): Piece[] => {
    const all = p.at('fidelity').some?.at('all').some;
    const l = p.at('latency').some;
    const placed = p.at('placement').some?.at('rewritten').at('prefill');
    const failed = p.value.gates.filter((g) => g.status === 'failed').length;
    return [
      p.value.provider,
      p.value.gates.length === 0 ? none : failed > 0 ? verdict('bad', `${count(failed)} failed`) : verdict('good', 'passed'),
      all ? figure(all.at('kl').at('mean'), plain) : none,
      all ? figure(all.at('sameTop1'), share) : none,
      l ? figure(l.at('prefill').at('speedup'), times) : none,
      l ? figure(l.at('achievedPrefill'), share) : none,
      placed ? figure(placed.at('macShare'), share) : none,
    ];
  });
  const right = (title: string): { title: string; right: true } => ({ title, right: true });
  return html`<section class="card"><h2>Providers</h2>${table('Providers side by side', [{ title: 'provider' }, { title: 'gates' }, right('mean KL'), right('same top-1'), right('prefill speed'), right('of the ideal'), right('MACs on it')], rows)}</section>`;
}
