/** The page of `tune`: the frontier, the damage map, the horizon, where text in images breaks, and the held-out check. */
import { describeRank } from '../../plan/plan.js';
import type { TuneReport } from '../../validate/tune/result.js';
import { html, type Markup, scriptJson } from './markup.js';
import { plain, share } from './numbers.js';
import { page } from './page.js';

export function tuneToHtml(r: TuneReport): string {
  const { chosen, baseline, target } = r;
  const head = html`<header><p class="kicker">pdrop-compile tune</p><h1>${r.original}</h1>
<p class="note">Target: ${target.kind} ${target.value}, ${target.met ? 'met' : 'missed'}. Chosen: before layers ${chosen.plan.layers.join(', ')}, keep ${chosen.plan.keep.join(', ')}, rank ${describeRank(chosen.plan)}, positions ${chosen.plan.positions}: ${share(chosen.macs)} of the MACs, ${share(chosen.cache)} of the cache.</p></header>`;
  const check = html`<table><thead><tr><th>held out, ${r.samples.heldOut} samples</th><th>MACs</th><th>mean KL</th><th>± standard error</th><th>same top-1</th><th>accuracy</th></tr></thead><tbody>
${[{ name: 'chosen', macs: chosen.macs, m: chosen.heldOut }, ...(baseline ? [{ name: 'default schedule at this cost', macs: baseline.macs, m: baseline.heldOut }] : [])].map((row) => html`<tr><td>${row.name}</td><td>${share(row.macs)}</td><td>${plain(row.m.meanKl)}</td><td>${plain(row.m.standardError)}</td><td>${share(row.m.sameTop1)}</td><td>${row.m.accuracy === null ? '–' : share(row.m.accuracy)}</td></tr>`)}
</tbody></table>${baseline && html`<p class="note">Paired over samples, default − chosen: ${plain(baseline.advantage.mean)} ± ${plain(baseline.advantage.standardError)} nats.</p>`}`;
  const frontier = html`<table><thead><tr><th>before layers</th><th>keep</th><th>rank</th><th>positions</th><th>MACs</th><th>cache</th><th>mean KL</th><th>accuracy</th></tr></thead><tbody>
${r.frontier.map((p) => html`<tr><td>${p.plan.layers.join(', ')}</td><td>${p.plan.keep.join(', ')}</td><td>${describeRank(p.plan)}</td><td>${p.plan.positions}</td><td>${share(p.macs)}</td><td>${share(p.cache)}</td><td>${plain(p.calibration.meanKl)}</td><td>${p.calibration.accuracy === null ? '–' : share(p.calibration.accuracy)}</td></tr>`)}
</tbody></table>`;
  const sections = [
    { id: 'held-out', title: 'Held-out samples', body: check },
    { id: 'frontier', title: 'Schedules measured', body: frontier },
    { id: 'damages', title: 'Damage of one boundary', body: damages(r) },
  ];
  return page(`${r.original}: tuned schedule (pdrop-compile tune)`, head, sections, scriptJson(r), 'pdrop-compile');
}

/** Layers down, ratios across; the darker the more damage, on a logarithmic scale. */
function damages(r: TuneReport): Markup {
  const ratios = [...new Set(r.damages.map((d) => d.keep))].sort((a, b) => Number(b) - Number(a));
  const layers = [...new Set(r.damages.map((d) => d.layer))].sort((a, b) => a - b);
  const alarmed = new Set(r.alarms.map((a) => `${a.layer}|${a.keep}`));
  const cell = (layer: number, keep: string): Markup => {
    const d = r.damages.find((x) => x.layer === layer && x.keep === keep);
    if (!d) return html`<td>–</td>`;
    const heat = Math.max(0, Math.min(1, (Math.log10(Math.max(d.meanKl, 1e-6)) + 4) / 4));
    return html`<td style="background:rgba(200,60,40,${(heat * 0.6).toFixed(2)})">${plain(d.meanKl)}${alarmed.has(`${layer}|${keep}`) && html` <strong title="text in the image breaks first">T</strong>`}</td>`;
  };
  return html`<p class="note">Mean KL in nats on ${r.samples.calibration} calibration samples when image tokens are dropped once, before this layer, to this share. ${r.horizon === null ? 'No measured layer is behind the horizon: dropping all image tokens still costs something there.' : `Horizon: from layer ${r.horizon} on, dropping all image tokens costs nothing to speak of.`}${r.alarms.length > 0 ? ' T: samples whose answer is text in the image break there while the others hold.' : ''}</p>
<table><thead><tr><th>layer</th>${ratios.map((k) => html`<th>keep ${k}</th>`)}</tr></thead><tbody>${layers.map((l) => html`<tr><th>${l}</th>${ratios.map((k) => cell(l, k))}</tr>`)}</tbody></table>`;
}
