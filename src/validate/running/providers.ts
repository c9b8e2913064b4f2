/** Execution providers: their names in onnxruntime-node, in ORT's profile, and what each needs. */
import { UsageError } from '../../diagnostics.js';

export const PROVIDERS = ['cpu', 'webgpu', 'cuda', 'tensorrt', 'coreml', 'dml'] as const;
export type Provider = (typeof PROVIDERS)[number];

/** How the profile calls the provider that ran a node. */
export const PROFILE_NAMES: Readonly<Record<Provider, string>> = {
  cpu: 'CPUExecutionProvider',
  webgpu: 'WebGpuExecutionProvider',
  cuda: 'CUDAExecutionProvider',
  tensorrt: 'TensorrtExecutionProvider',
  coreml: 'CoreMLExecutionProvider',
  dml: 'DmlExecutionProvider',
};

/** What to install or set where a provider does not work. */
export const PROVIDER_NEEDS: Readonly<Record<Provider, string>> = {
  cpu: 'nothing: it is part of onnxruntime-node',
  webgpu:
    'a Vulkan driver and the loader on Linux (Debian: libvulkan1 and mesa-vulkan-drivers, or the vendor driver; without a GPU point VK_DRIVER_FILES at a software driver such as the vk_swiftshader_icd.json of the chromium package), D3D12 on Windows, Metal on macOS',
  cuda: 'Linux x64 with an NVIDIA driver, the CUDA runtime, cuDNN 9 and cuBLAS on LD_LIBRARY_PATH, and the provider libraries beside libonnxruntime: reinstall onnxruntime-node with --onnxruntime-node-install=cuda12, or copy libonnxruntime_providers_shared.so and libonnxruntime_providers_cuda.so of the same version from the onnxruntime-gpu wheel',
  tensorrt: 'what cuda needs, libonnxruntime_providers_tensorrt.so beside libonnxruntime, and the TensorRT 10 libraries on LD_LIBRARY_PATH',
  coreml: 'macOS on arm64',
  dml: 'Windows with a DirectX 12 GPU',
};

/** Parses `--ep`: names separated by commas, `cpu` by default. */
export function parseProviders(text: string | readonly string[] | undefined): Provider[] {
  const names = (typeof text === 'string' ? text.split(',') : (text ?? ['cpu']).flatMap((t) => t.split(','))).map((n) => n.trim()).filter(Boolean);
  const out: Provider[] = [];
  for (const name of names) {
    if (!(PROVIDERS as readonly string[]).includes(name)) {
      throw new UsageError({ code: 'PD032', message: `unknown execution provider "${name}"`, culprit: '--ep', hint: `choose from ${PROVIDERS.join(', ')}` });
    }
    if (!out.includes(name as Provider)) out.push(name as Provider);
  }
  return out.length > 0 ? out : ['cpu'];
}
