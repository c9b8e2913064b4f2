/** Token ids → embeddings, for decoders that take embeddings: an embed_tokens model, a .npy table, or a seeded stand-in. */
import { closeSync, existsSync, openSync, readSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { UsageError } from '../../diagnostics.js';
import { Random } from './random.js';
import { isFloat, isInteger } from '../running/io.js';
import { openSession } from '../running/session.js';
import { bytesPerElement, cast, type Dtype, fromBytes, fromNumbers, type HostTensor, zeros } from '../running/tensor.js';

export interface Embedder {
  readonly kind: 'model' | 'table' | 'stand-in';
  /** [rows, tokens, hidden] for ids[row][token]. */
  embed(ids: readonly (readonly number[])[], dtype: Dtype): Promise<HostTensor>;
  close(): Promise<void>;
}

/** `embed_tokens.onnx` beside the model, the usual layout of three-file exports. */
export function embedBeside(model: string): string | undefined {
  return ['embed_tokens.onnx', 'embeddings.onnx', 'embedding.onnx', 'embed_tokens.npy'].map((f) => join(dirname(model), f)).find(existsSync);
}

export async function openEmbedder(path: string): Promise<Embedder> {
  if (path.endsWith('.npy')) return table(path);
  const session = await openSession(path);
  const input = session.inputs.find(isInteger);
  const output = session.outputs[0];
  // Graphs that put features in their places take none for text (onnxruntime-genai's).
  const features = session.inputs.filter((i) => i !== input);
  if (!input || !output || !features.every((i) => isFloat(i) && i.dims.some((d) => typeof d === 'string'))) {
    await session.close();
    throw new UsageError({ code: 'PD008', message: `${path} does not turn token ids into embeddings`, culprit: '--embed', hint: 'give a model with one integer input (and features, as many as there are image tokens) and one output, or a .npy table [vocab, hidden]' });
  }
  const none = features.map((i): [string, HostTensor] => [i.name, zeros(i.dtype as Dtype, i.dims.map((d) => (typeof d === 'number' ? d : 0)))]);
  return {
    kind: 'model',
    async embed(ids, dtype) {
      const width = ids[0]?.length ?? 0;
      const result = await session.run(new Map([[input.name, fromNumbers(input.dtype as Dtype, [ids.length, width], ids.flat())], ...none]));
      const out = result.get(output.name);
      if (!out) throw new Error(`${path} gave no ${output.name}`);
      return cast(out, dtype);
    },
    close: () => session.close(),
  };
}

/** Rows are read from the file as they are needed; the table is not loaded. */
function table(path: string): Embedder {
  const file = statSync(path);
  if (!file.isFile()) throw new UsageError({ code: 'PD008', message: `${path} is not a file`, culprit: '--embed', hint: 'give a .npy table [vocab, hidden]' });
  const fd = openSync(path, 'r');
  const head = new Uint8Array(4096);
  readSync(fd, head, 0, head.length, 0);
  const start = 10 + new DataView(head.buffer).getUint16(8, true);
  const text = new TextDecoder().decode(head.subarray(10, start));
  const descr = /'descr':\s*'<f([24])'/.exec(text)?.[1];
  const shape = /'shape':\s*\((\d+),\s*(\d+)\)/.exec(text);
  if (head[6] !== 1 || !descr || !shape || text.includes("'fortran_order': True")) {
    closeSync(fd);
    throw new UsageError({ code: 'PD008', message: `${path} is not a float table [vocab, hidden]`, culprit: '--embed', hint: 'save it with numpy.save as float32 or float16, C order' });
  }
  const from: Dtype = descr === '2' ? 'float16' : 'float32';
  const [vocab, hidden] = [Number(shape[1]), Number(shape[2])];
  const row = hidden * bytesPerElement(from);
  if (start + vocab * row > file.size) {
    closeSync(fd);
    throw new UsageError({ code: 'PD008', message: `${path} is cut off: a table [${vocab}, ${hidden}] has ${start + vocab * row} bytes, the file ${file.size}`, culprit: '--embed', hint: 'save it again' });
  }
  return {
    kind: 'table',
    async embed(ids, dtype) {
      const bytes = new Uint8Array(ids.length * (ids[0]?.length ?? 0) * row);
      ids.flat().forEach((id, i) => {
        if (id >= vocab) throw new UsageError({ code: 'PD008', message: `token id ${id} is outside the table of ${vocab}`, culprit: path, hint: 'give the table of this model' });
        readSync(fd, bytes, i * row, row, start + id * row);
      });
      return cast(fromBytes(from, [ids.length, ids[0]?.length ?? 0, hidden], bytes), dtype);
    },
    async close() {
      closeSync(fd);
    },
  };
}

/** Random but fixed embeddings by token id: lets generation run where nothing else is known. Its words mean nothing. */
export function standInEmbedder(hidden: number, seed: number): Embedder {
  return {
    kind: 'stand-in',
    async embed(ids, dtype) {
      const out = zeros('float32', [ids.length, ids[0]?.length ?? 0, hidden]);
      ids.flat().forEach((id, i) => {
        const random = new Random(seed * 1_000_003 + id);
        for (let k = 0; k < hidden; k++) (out.data as Float32Array)[i * hidden + k] = random.normal();
      });
      return cast(out, dtype);
    },
    async close() {},
  };
}
