/** Every cost that the rewrite made worse, in one sentence each: nobody should have to find them in a table. */
import type { CostReport, ProviderReport } from './result.js';
import type { PhaseLatency } from './speed/latency.js';

/** Growth that is not worth a sentence: counts of elements and bytes of memory differ by a little between any two graphs. */
const SLIGHT = 0.01;

export function worseCosts(providers: readonly ProviderReport[], cost: CostReport | null): string[] {
  return [...providers.flatMap(slower), ...(cost ? more(cost) : []), ...providers.flatMap(larger)];
}

function slower(p: ProviderReport): string[] {
  const phases = [['Prefill', p.latency?.prefill] as const, ['A decode step', p.latency?.decode] as const];
  return phases.flatMap(([name, l]) => (l && l.speedup < 1 ? [`${name} is ${isSure(l) ? 'SLOWER' : 'a little slower'} on ${p.provider}: ${l.speedup.toFixed(2)}× as fast (± ${l.uncertainty.toFixed(2)}, half the distance of the quartiles${isSure(l) ? '' : ': within it'}), ${ms(l.original.median)} → ${ms(l.rewritten.median)} (medians).`] : []));
}

/** Whether a loss of speed is beyond the spread of the repeats. */
export function isSure(l: PhaseLatency): boolean {
  return 1 - l.speedup > l.uncertainty;
}

function more({ prefill, decode, cacheBytes }: CostReport): string[] {
  const grew = (what: string, before: number, after: number): string[] => (after > before * (1 + SLIGHT) ? [`${what} GREW by ${percent(after / before - 1)}: ${after} instead of ${before}.`] : []);
  return [
    ...grew('MACs of prefill', prefill.original.graph, prefill.rewritten.graph),
    ...(decode ? grew('MACs of a decode step', decode.original.graph, decode.rewritten.graph) : []),
    ...grew('Element-wise work of prefill', prefill.original.elementOps, prefill.rewritten.elementOps),
    ...(decode ? grew('Element-wise work of a decode step', decode.original.elementOps, decode.rewritten.elementOps) : []),
    ...grew('The KV cache', cacheBytes.original, cacheBytes.rewritten),
  ];
}

function larger(p: ProviderReport): string[] {
  const m = p.memory;
  if (!m?.original || !m.rewritten) return [];
  const grew = (what: string, before: number, after: number): string[] => (after > before * (1 + SLIGHT) ? [`${what} GREW on ${p.provider}: ${mib(before)} → ${mib(after)}.`] : []);
  return [...grew('Peak memory of a process that runs one prompt', m.original.peak, m.rewritten.peak), ...grew('Memory of a loaded model', m.original.loaded, m.rewritten.loaded)];
}

const percent = (v: number): string => `${(100 * v).toFixed(1)}%`;
const ms = (v: number): string => `${v.toPrecision(3)} ms`;
const mib = (v: number): string => `${(v / 2 ** 20).toFixed(1)} MiB`;
