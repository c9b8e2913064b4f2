/**
 * The only file that imports onnxruntime-node, and only when a model is to be run: the library is large, and compiling
 * must not need it. Models are opened by path, so weights never pass through JavaScript memory.
 */
import { readdirSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import type { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-node';
import { RunFault, runtimeFault } from './faults.js';
import { type IoInfo, readDim } from './io.js';
import type { Provider } from './providers.js';
import { leaveSignalsToTheSystem } from '../../disk/temporaries.js';
import { type Dtype, elementCount, type Feeds, type HostTensor, isDtype, type TensorData } from './tensor.js';

export interface SessionOptions {
  readonly provider?: Provider;
  readonly optimize?: 'disabled' | 'basic' | 'extended' | 'all' | undefined;
  /** Writes ORT's profile to a file of this prefix; `finishProfile` returns its path. */
  readonly profilePrefix?: string;
  readonly threads?: number;
  /** Outputs (caches) that stay on the device between runs, where the provider can: latency without needless copies. */
  readonly keepOnDevice?: readonly string[];
}

/** Providers whose outputs onnxruntime-node can leave on the device. */
const DEVICE_BUFFERS: ReadonlySet<Provider> = new Set(['webgpu']);

/** Tensors that live on a device: their host side has dims but no data. */
const onDevice = new WeakMap<HostTensor, OrtTensor>();

/** Frees a tensor that was kept on the device; nothing to do for others. */
export function release(tensors: Iterable<HostTensor>): void {
  for (const t of tensors) onDevice.get(t)?.dispose();
}

type Runtime = typeof import('onnxruntime-node');
let runtime: Promise<Runtime> | undefined;

/** Loads onnxruntime-node once. */
async function load(): Promise<Runtime> {
  // Else it tells Microsoft that and on what it runs (from 1.30 on Linux as well), and leaves logs in the temporary folder. Who wants that sets 0.
  process.env.ORT_DISABLE_TELEMETRY ??= '1';
  runtime ??= import('onnxruntime-node').then((m) => (m as unknown as { default?: Runtime }).default ?? m);
  try {
    return await runtime;
  } catch (error) {
    runtime = undefined;
    throw new RunFault(
      { code: 'PD500', message: `onnxruntime-node cannot be loaded: ${(error as Error).message}`, culprit: 'onnxruntime-node', hint: 'run `npm install onnxruntime-node`, and where its script cannot download (it fetches CUDA libraries) `ONNXRUNTIME_NODE_INSTALL=skip npm install onnxruntime-node`' },
      { cause: error },
    );
  }
}

/** Version of the library and the providers it was built with. */
export async function runtimeInfo(): Promise<{ version: string; backends: { name: string; bundled: boolean }[] }> {
  const ort = await load();
  const listed = (ort as unknown as { listSupportedBackends?: () => { name: string; bundled: boolean }[] }).listSupportedBackends?.() ?? [];
  return { version: (ort.env.versions as { node?: string }).node ?? ort.env.versions.common, backends: listed };
}

export interface Session {
  readonly path: string;
  readonly label: string;
  readonly provider: Provider;
  readonly inputs: readonly IoInfo[];
  readonly outputs: readonly IoInfo[];
  /** Runs the model; feeds the model does not declare are ignored. `sample` names the culprit in errors. */
  run(feeds: Feeds, options?: { readonly outputs?: readonly string[] | undefined; readonly sample?: string | undefined }): Promise<Map<string, HostTensor>>;
  /** Flushes the profile and returns the path of its file. */
  finishProfile(): string;
  close(): Promise<void>;
}

/**
 * Opens a model.
 * @throws {RunFault} PD501 when the session cannot be created, PD503 when memory runs out.
 */
export async function openSession(path: string, options: SessionOptions = {}): Promise<Session> {
  const provider = options.provider ?? 'cpu';
  const label = basename(path);
  leaveSignalsToTheSystem();
  const ort = await load();
  let session: InferenceSession;
  try {
    session = await ort.InferenceSession.create(path, {
      // ORT itself adds the CPU for nodes the provider does not have, and the profile tells which. A list with 'cpu'
      // would let onnxruntime-node fall back silently when the provider cannot be had at all.
      executionProviders: [provider],
      graphOptimizationLevel: options.optimize ?? 'all',
      logSeverityLevel: 4,
      // Idle sessions' threads would spin and slow down the one that is measured.
      extra: { session: { intra_op: { allow_spinning: '0' }, inter_op: { allow_spinning: '0' } } },
      ...(options.threads ? { intraOpNumThreads: options.threads } : {}),
      ...(options.keepOnDevice && DEVICE_BUFFERS.has(provider) ? { preferredOutputLocation: Object.fromEntries(options.keepOnDevice.map((n) => [n, 'gpu-buffer' as const])) } : {}),
      ...(options.profilePrefix ? { enableProfiling: true, profileFilePrefix: options.profilePrefix } : {}),
    });
  } catch (error) {
    throw runtimeFault(error, { model: label, provider, creating: true });
  }
  const inputs = session.inputMetadata.map(describe);
  const outputs = session.outputMetadata.map(describe);
  let open = true;
  return {
    path,
    label,
    provider,
    inputs,
    outputs,
    async run(feeds, { outputs: wanted, sample } = {}) {
      const given: Record<string, OrtTensor> = {};
      try {
        for (const { name } of inputs) {
          const t = feeds.get(name);
          if (t) given[name] = toOrt(ort, t);
        }
        const results = await session.run(given, (wanted ?? session.outputNames) as string[], { logSeverityLevel: 4 });
        const out = new Map<string, HostTensor>();
        for (const [name, t] of Object.entries(results)) out.set(name, fromOrt(t as OrtTensor));
        return out;
      } catch (error) {
        throw runtimeFault(error, { model: label, provider, sample });
      }
    },
    finishProfile() {
      session.endProfiling();
      const prefix = options.profilePrefix ?? '';
      const file = readdirSync(dirname(prefix)).find((f) => f.startsWith(basename(prefix)) && f.endsWith('.json'));
      if (!file) throw new RunFault({ code: 'PD504', message: `ONNX Runtime wrote no profile for ${label}`, culprit: label, hint: 'check that the temporary folder is writable' });
      return join(dirname(prefix), file);
    },
    async close() {
      if (!open) return;
      open = false;
      await session.release();
    },
  };
}

function describe(m: { readonly name: string; readonly isTensor: boolean; readonly type?: string; readonly shape?: readonly (number | string)[] }): IoInfo {
  return { name: m.name, dtype: m.type !== undefined && isDtype(m.type) ? m.type : 'unknown', dims: (m.shape ?? []).map(readDim) };
}

function toOrt(ort: Runtime, t: HostTensor): OrtTensor {
  const held = onDevice.get(t);
  if (held) return held;
  let data: unknown = t.data;
  // Newer Node versions have Float16Array, and onnxruntime-common then wants it.
  const Half = (globalThis as { Float16Array?: new (b: ArrayBufferLike, o: number, n: number) => unknown }).Float16Array;
  const halves = t.dtype === 'float16' && Half !== undefined;
  if (halves) data = new Half(t.data.buffer, t.data.byteOffset, t.data.length);
  const tensor = new ort.Tensor(t.dtype as 'float32', data as Float32Array, t.dims as number[]);
  // Its native side (onnxruntime-node 1.30) knows none and takes it for empty: it is given the bits.
  if (halves) Object.assign(tensor, { cpuData: t.data });
  return tensor;
}

function fromOrt(t: OrtTensor): HostTensor {
  if (t.location !== 'cpu' && t.location !== 'none') {
    const tensor: HostTensor = { dtype: t.type as Dtype, dims: t.dims, data: new Uint8Array(0) };
    onDevice.set(tensor, t);
    return tensor;
  }
  const raw = t.data as unknown as TensorData;
  const dtype = t.type as Dtype;
  const data = dtype === 'float16' && !(raw instanceof Uint16Array) ? new Uint16Array(raw.buffer, raw.byteOffset, elementCount(t.dims)) : raw;
  return { dtype, dims: t.dims, data };
}
