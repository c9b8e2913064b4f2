/** ORT's profile: which provider ran each node, how long, at which shapes. The proof, not the promise. */
import { readFileSync } from 'node:fs';
import { RunFault } from '../running/faults.js';
import { PROFILE_NAMES, type Provider } from '../running/providers.js';
import { nameOfOriginal } from '../../cost/ranking.js';

export interface NodeEvent {
  readonly name: string;
  readonly op: string;
  readonly provider: string;
  /** Microseconds; on a GPU the time to submit, `gpu` kernels apart. */
  readonly duration: number;
  readonly inputs: readonly (readonly number[])[];
  readonly outputs: readonly (readonly number[])[];
  readonly inputTypes: readonly string[];
  readonly outputTypes: readonly string[];
}

/** What one `run` did. */
export interface ProfiledRun {
  readonly nodes: readonly NodeEvent[];
  /** Microseconds of the whole run. */
  readonly duration: number;
  /** Kernels on a device, where the provider reports them apart from the nodes (WebGPU). */
  readonly kernels: readonly { readonly name: string; readonly duration: number }[];
}

interface RawEvent {
  readonly cat: string;
  readonly name: string;
  readonly ts: number;
  readonly dur: number;
  readonly args?: { readonly op_name?: string; readonly provider?: string; readonly input_type_shape?: readonly Record<string, number[]>[]; readonly output_type_shape?: readonly Record<string, number[]>[] };
}

/** Reads a profile file: one entry per run, in order. */
export function readProfile(path: string): ProfiledRun[] {
  let events: RawEvent[];
  try {
    events = JSON.parse(readFileSync(path, 'utf8')) as RawEvent[];
  } catch (error) {
    throw new RunFault({ code: 'PD504', message: `ONNX Runtime's profile cannot be read: ${(error as Error).message}`, culprit: path, hint: 'is the disk full?' }, { cause: error });
  }
  return parseProfile(events);
}

export function parseProfile(events: readonly RawEvent[]): ProfiledRun[] {
  const runs = events.filter((e) => e.cat === 'Session' && e.name === 'model_run').sort((a, b) => a.ts - b.ts);
  const nodes = events.filter((e) => e.cat === 'Node' && e.name.endsWith('_kernel_time') && e.args?.op_name !== undefined);
  const kernels = events.filter((e) => e.cat === 'Api');
  return runs.map((run) => ({
    duration: run.dur,
    nodes: nodes.filter((n) => n.ts >= run.ts && n.ts <= run.ts + run.dur).map(toEvent),
    kernels: kernels.filter((k) => k.ts >= run.ts && k.ts <= run.ts + run.dur).map((k) => ({ name: k.name, duration: k.dur })),
  }));
}

function toEvent(e: RawEvent): NodeEvent {
  const shapes = (list: readonly Record<string, number[]>[] | undefined): number[][] => (list ?? []).map((o) => Object.values(o)[0] ?? []);
  const types = (list: readonly Record<string, number[]>[] | undefined): string[] => (list ?? []).map((o) => Object.keys(o)[0] ?? '');
  return {
    name: e.name.replace(/_kernel_time$/, ''),
    op: e.args?.op_name ?? '',
    provider: e.args?.provider ?? '',
    duration: e.dur,
    inputs: shapes(e.args?.input_type_shape),
    outputs: shapes(e.args?.output_type_shape),
    inputTypes: types(e.args?.input_type_shape),
    outputTypes: types(e.args?.output_type_shape),
  };
}

/** Microseconds by kind of work, and what is left of the run outside of it. */
export interface TimeBreakdown {
  /** Device kernels where they are reported, else nodes on the host. */
  readonly source: 'kernels' | 'nodes';
  readonly linear: number;
  readonly attention: number;
  /** Everything that passes of pdrop-compile made: ranking, selecting, gathering. */
  readonly dropping: number;
  readonly other: number;
  readonly outside: number;
}

/** Where the time of a run went: a speed-up below the MACs' is found here. */
export function breakdownOf(run: ProfiledRun): TimeBreakdown {
  const sums = { linear: 0, attention: 0, dropping: 0, other: 0 };
  const ops = new Map(run.nodes.map((n) => [n.name, n.op]));
  const useKernels = run.kernels.length > 0;
  const parts = useKernels ? run.kernels.map((k) => ({ name: k.name.split('&')[0] ?? '', op: ops.get(k.name.split('&')[0] ?? '') ?? k.name.split('&')[1] ?? '', duration: k.duration })) : run.nodes;
  for (const p of parts) {
    const kind = nameOfOriginal(p.name).startsWith('pdrop/') ? 'dropping' : /Attention/.test(p.op) ? 'attention' : /MatMul|Gemm/.test(p.op) ? 'linear' : 'other';
    sums[kind] += p.duration;
  }
  const inside = sums.linear + sums.attention + sums.dropping + sums.other;
  return { source: useKernels ? 'kernels' : 'nodes', ...sums, outside: Math.max(0, run.duration - inside) };
}

/** What a run executed. */
export interface Executed {
  /** Kernels of any provider: nodes that ran, those inside of the branch that was taken too, copies aside. */
  readonly kernels: number;
  /** Kernels that were launched on a device: as the provider reports them, else its nodes; 0 on the CPU. */
  readonly launches: number;
  /** Nodes that ONNX Runtime put in to copy a tensor between host and device. */
  readonly copies: number;
  /** Of these the ones to the host: each waits for the device. */
  readonly syncs: number;
}

const isCopy = (e: NodeEvent): boolean => /^Memcpy(From|To)Host$/.test(e.op);

export function executedBy(run: ProfiledRun, provider: Provider): Executed {
  const copies = run.nodes.filter(isCopy);
  const onDevice = provider === 'cpu' ? 0 : run.nodes.filter((e) => e.provider === PROFILE_NAMES[provider] && !isCopy(e)).length;
  return {
    kernels: run.nodes.length - copies.length,
    launches: run.kernels.length > 0 ? run.kernels.length : onDevice,
    copies: copies.length,
    syncs: copies.filter((e) => e.op === 'MemcpyToHost').length,
  };
}

/** Where a run's nodes were. Shares are of the provider that was asked for. */
export interface Placement {
  readonly nodes: number;
  readonly executed: Executed;
  readonly nodeShare: number;
  readonly timeShare: number;
  /** Share of the multiply-accumulates: shape arithmetic on the CPU is normal, products there are not. */
  readonly macShare: number;
  readonly breakdown?: TimeBreakdown | undefined;
  readonly fellBack: readonly { readonly op: string; readonly provider: string; readonly nodes: number; readonly microseconds: number; readonly floats: boolean }[];
}

export function placementOf(run: ProfiledRun, provider: Provider, macsOf: (e: NodeEvent) => number): Placement {
  const own = PROFILE_NAMES[provider];
  const fell = new Map<string, { op: string; provider: string; nodes: number; microseconds: number; floats: boolean }>();
  let [nodes, time, macs, allTime, allMacs] = [0, 0, 0, 0, 0];
  for (const e of run.nodes) {
    const m = macsOf(e);
    allTime += e.duration;
    allMacs += m;
    if (e.provider === own) {
      nodes++;
      time += e.duration;
      macs += m;
      continue;
    }
    const key = `${e.op}@${e.provider}`;
    const f = fell.get(key) ?? { op: e.op, provider: e.provider, nodes: 0, microseconds: 0, floats: false };
    f.nodes++;
    f.microseconds += e.duration;
    f.floats ||= e.outputTypes.some((t) => t.startsWith('float')) && e.outputs.some((d) => d.reduce((a, b) => a * b, 1) > 4096);
    fell.set(key, f);
  }
  const share = (part: number, whole: number): number => (whole === 0 ? 1 : part / whole);
  return {
    nodes: run.nodes.length,
    executed: executedBy(run, provider),
    nodeShare: share(nodes, run.nodes.length),
    timeShare: share(time, allTime),
    macShare: share(macs, allMacs),
    breakdown: breakdownOf(run),
    fellBack: [...fell.values()].sort((a, b) => b.microseconds - a.microseconds),
  };
}
