/** transformers.js, an optional peer dependency: what is used of it, loaded when a sample needs it, without network. */
import { UsageError } from '../../../diagnostics.js';
import { runtimeInfo } from '../../running/session.js';
import { type HostTensor, isDtype, type TensorData } from '../../running/tensor.js';
import type { Message } from '../data/json.js';

export interface Tensor {
  readonly type: string;
  readonly dims: readonly number[];
  readonly data: TensorData;
}

export type Inputs = Readonly<Record<string, unknown>>;
type TemplateOptions = { readonly tokenize: false; readonly add_generation_prompt: true; readonly chat_template?: string };

export interface Tokenizer {
  (text: string): { readonly input_ids: Tensor };
  readonly chat_template: unknown;
  readonly bos_token: string | null;
  readonly bos_token_id: number | null | undefined;
  apply_chat_template(messages: readonly Message[], options: TemplateOptions): string;
}

export interface Processor {
  (first: unknown, second: unknown): Promise<Inputs>;
  readonly constructor: { readonly name: string };
  readonly tokenizer: Tokenizer | undefined;
  readonly image_processor: ((images: readonly unknown[]) => Promise<Inputs>) & { readonly config?: { readonly merge_size?: unknown } };
  readonly chat_template: unknown;
  /** Begins a picture, where a text says so by this token (Gemma 3). */
  readonly boi_token?: string;
}

export interface Loader<T> {
  from_pretrained(folder: string, options: { readonly local_files_only: true }): Promise<T>;
}

/** What is used of the library. */
export interface Library {
  readonly env: { version: string; allowRemoteModels: boolean; useFSCache: boolean; logLevel: number };
  readonly LogLevel: { readonly ERROR: number };
  readonly AutoProcessor: Loader<Processor>;
  readonly AutoTokenizer: Loader<Tokenizer>;
  readonly Processor: new () => unknown;
  readonly RawImage: new (data: Uint8Array, width: number, height: number, channels: number) => unknown;
  readonly Tensor: new (type: string, data: TensorData, dims: readonly number[]) => Tensor;
}

/** @throws {UsageError} PD524 when it is not there, or cannot be loaded */
export async function loadLibrary(): Promise<Library> {
  // Ours first: of two versions of onnxruntime-node in a process the second cannot be loaded, and it is the original and the compiled model that must run.
  await runtimeInfo();
  try {
    return (await import('@huggingface/transformers')) as unknown as Library;
  } catch (cause) {
    const { code, message } = cause as { code?: string; message: string };
    const clash = code === 'ERR_DLOPEN_FAILED';
    throw new UsageError(
      {
        code: 'PD524',
        message: `chat templates, and processors that cut pictures into pieces, are done by transformers.js, which ${code === 'ERR_MODULE_NOT_FOUND' ? 'is not installed' : `cannot be loaded: ${(message.split('\n')[0] as string)}`}`,
        culprit: '@huggingface/transformers',
        hint: clash
          ? 'it asks for one version of onnxruntime-node, and another is in use: `npm ls onnxruntime-node` shows them; install the one that it asks for'
          : 'npm install @huggingface/transformers (an optional peer dependency), or give samples with inputs of their own',
      },
      { cause },
    );
  }
}

/** Runs `work` without network and caches, and leaves the library's settings as they were: who validates may use it too. */
export async function locally<T>(library: Library, work: () => Promise<T>): Promise<T> {
  const { env, LogLevel } = library;
  const { allowRemoteModels, useFSCache, logLevel } = env;
  Object.assign(env, { allowRemoteModels: false, useFSCache: false, logLevel: LogLevel.ERROR });
  try {
    return await work();
  } finally {
    Object.assign(env, { allowRemoteModels, useFSCache, logLevel });
  }
}

export function isTensor(value: unknown): value is Tensor {
  const { type, dims, data } = (value ?? {}) as Partial<Tensor>;
  return typeof type === 'string' && isDtype(type) && Array.isArray(dims) && ArrayBuffer.isView(data);
}

export function hostTensor({ type, dims, data }: Tensor): HostTensor {
  return { dtype: type as HostTensor['dtype'], dims: [...dims], data };
}
