/** Tries every provider with a tiny model, each in a process of its own, and says what is missing. */
import { existsSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { onnx } from 'onnx-proto';
import { drop, leaveSignalsToTheSystem, scratchFolder } from '../disk/temporaries.js';
import { DataType } from '../ir/data-type.js';
import { runInChild, writeFeeds } from './running/child.js';
import { PROVIDER_NEEDS, PROVIDERS, type Provider } from './running/providers.js';
import { runtimeInfo } from './running/session.js';
import { fromNumbers } from './running/tensor.js';

export interface ProviderHealth {
  readonly provider: Provider;
  readonly works: boolean;
  readonly milliseconds?: number | undefined;
  /** Why not. */
  readonly reason?: string | undefined;
  readonly needs: string;
}

export interface DoctorReport {
  readonly node: string;
  readonly platform: string;
  readonly onnxruntime: string;
  readonly providers: readonly ProviderHealth[];
  /** Environment that decides which driver is used. */
  readonly environment: Readonly<Record<string, string>>;
}

/** y = x·x for a square x, as the bytes of a model. */
export async function tinyModel(): Promise<Uint8Array> {
  const { onnx } = (await import('onnx-proto')).default;
  const square = (name: string): onnx.IValueInfoProto => ({ name, type: { tensorType: { elemType: DataType.FLOAT, shape: { dim: [{ dimValue: 4 }, { dimValue: 4 }] } } } });
  const node = { opType: 'MatMul', name: 'product', input: ['x', 'x'], output: ['y'] };
  return onnx.ModelProto.encode({ irVersion: 8, opsetImport: [{ domain: '', version: 17 }], graph: { name: 'tiny', node: [node], input: [square('x')], output: [square('y')] } }).finish();
}

export async function doctor(providers: readonly Provider[] = PROVIDERS): Promise<DoctorReport> {
  leaveSignalsToTheSystem();
  const folder = scratchFolder(tmpdir(), 'doctor');
  try {
    const model = join(folder, 'tiny.onnx');
    const feeds = join(folder, 'feeds.bin');
    writeFileSync(model, await tinyModel());
    // The identity doubled: the product must be 4 on the diagonal.
    writeFeeds(feeds, new Map([['x', fromNumbers('float32', [4, 4], Array.from({ length: 16 }, (_, i) => (i % 5 === 0 ? 2 : 0)))]]));
    const info = await runtimeInfo();
    const found: ProviderHealth[] = [];
    for (const provider of providers) {
      const answer = await runInChild({ model, provider, feeds }, 120_000);
      const right = answer.ok && answer.values?.[0] === 4 && answer.values[1] === 0;
      found.push({
        provider,
        works: right,
        milliseconds: answer.milliseconds,
        reason: right ? undefined : answer.ok ? `it computed ${answer.values?.join(', ')} where 4, 0, 0, 0 is right` : explain(provider, answer.error ?? 'unknown'),
        needs: PROVIDER_NEEDS[provider],
      });
    }
    const names = ['VK_DRIVER_FILES', 'VK_ICD_FILENAMES', 'CUDA_VISIBLE_DEVICES', 'LD_LIBRARY_PATH', 'ORT_TENSORRT_FP16_ENABLE'];
    const environment = Object.fromEntries(names.flatMap((n) => (process.env[n] === undefined ? [] : [[n, process.env[n] ?? '']])));
    return { node: process.version, platform: `${process.platform} ${process.arch}`, onnxruntime: info.version, providers: found, environment };
  } finally {
    drop(folder);
  }
}

/** The library's words, with what they usually mean. */
function explain(provider: Provider, error: string): string {
  const text = error.replace(/^no session for \S+ on \w+: /, '').replace(/\/\S*onnxruntime_src\/\S+ /g, '').replace(/\S*\/(libonnxruntime\S+)/g, '$1');
  if (/backend not found|no available backend/i.test(text)) return `this build of onnxruntime-node (${process.platform} ${process.arch}) does not have it`;
  if (/No supported adapters|Failed to get a WebGPU adapter/i.test(text)) {
    const set = process.env.VK_DRIVER_FILES ?? process.env.VK_ICD_FILENAMES;
    if (set && !existsSync(set.split(':')[0] ?? '')) return `no adapter: VK_DRIVER_FILES names ${set}, which does not exist`;
    return 'no WebGPU adapter: no Vulkan driver was found';
  }
  if (/providers_shared|Failed to load shared library/i.test(text)) return `its provider library is not beside libonnxruntime (${provider === 'cuda' ? 'libonnxruntime_providers_cuda.so' : 'libonnxruntime_providers_tensorrt.so'})`;
  return text;
}
