/** Where ONNX Runtime's own profile says that nodes ran. */
import type { Placement } from '../../validate/cost/profile.js';
import type { ProviderReport, ValidateReport } from '../../validate/result.js';
import { type Cursor, each, figure } from './cursor.js';
import { html, type Markup } from './markup.js';
import { count, ms, share } from './numbers.js';
import { behind, note, type Section, table, verdict } from './parts.js';

export function placementSection(report: Cursor<ValidateReport>): Section | null {
  const providers = each(report.at('providers')).filter((p) => p.value.placement);
  if (providers.length === 0) return null;
  const right = (title: string): { title: string; right: true } => ({ title, right: true });
  const rows = providers.flatMap((p) => runs(p).map(([name, x]) => [`${p.value.provider}: ${name}`, figure(x.at('nodes'), count), figure(x.at('nodeShare'), share), figure(x.at('timeShare'), share), figure(x.at('macShare'), share), state(x.value)]));
  const body = html`
${note('From the profile of a run, not from what was asked for. Shape arithmetic on the CPU is normal; products there are not.')}
${table('Share of nodes, time and MACs on the provider', [{ title: 'run' }, right('nodes'), right('nodes on it'), right('time on it'), right('MACs on it'), { title: '' }], rows, 'stack')}
${executed(providers)}
${providers.map(fallback)}`;
  return { id: 'placement', title: 'Where nodes ran', body };
}

function executed(providers: readonly Cursor<ProviderReport>[]): Markup {
  const columns = [['kernels', 'kernels'], ['launches', 'launched on a device'], ['copies', 'copies'], ['syncs', 'waits for the device']] as const;
  const rows = providers.flatMap((p) => runs(p).map(([name, x]) => [`${p.value.provider}: ${name}`, ...columns.map(([what]) => figure(x.at('executed').at(what), count))]));
  return html`<h3>What was executed</h3>
${note('Kernels that ran, copies aside; kernels launched on a device; copies between host and device; and those of them to the host, each of which waits for the device.')}
${table('Kernels, launches, copies and waits', [{ title: 'run' }, ...columns.map(([, title]) => ({ title, right: true as const }))], rows, 'stack')}`;
}

type Run = readonly [string, Cursor<Placement>];

function runs(p: Cursor<ProviderReport>): Run[] {
  const placement = p.at('placement').some;
  if (!placement) return [];
  return (['original', 'rewritten'] as const).flatMap((m) => (['prefill', 'decode'] as const).flatMap((phase): Run[] => {
    const x = placement.at(m).at(phase).some as Cursor<Placement> | null;
    return x ? [[`${m}, ${phase === 'prefill' ? 'prefill' : 'decode step'}`, x]] : [];
  }));
}

function state(p: Placement): Markup {
  if (p.macShare < 0.99) return verdict('bad', 'products fell back');
  if (p.macShare < 1) return verdict('doubt', 'a few products fell back');
  if (p.fellBack.some((f) => f.floats)) return verdict('doubt', 'large tensors moved');
  return p.fellBack.length > 0 ? verdict('good', 'only small work elsewhere') : verdict('good', 'all of it');
}

function fallback(p: Cursor<ProviderReport>): Markup | null {
  const rows = runs(p).flatMap(([name, x]) => each(x.at('fellBack')).map((f) => [html`${f.value.op}${f.value.floats && html` ${verdict('doubt', 'large floats')}`}`, f.value.provider.replace(/ExecutionProvider$/, ''), figure(f.at('nodes'), count), figure(f.at('microseconds'), (v) => ms(v / 1000)), name]));
  if (rows.length === 0) return null;
  return behind(`Ops that did not run on ${p.value.provider} (${count(rows.length)})`, table(`Ops that fell back from ${p.value.provider}`, [{ title: 'op' }, { title: 'ran on' }, { title: 'nodes', right: true }, { title: 'time', right: true }, { title: 'run' }], rows));
}
