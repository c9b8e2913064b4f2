/**
 * Work in a process of its own: peak memory is then one model's alone, and a provider that crashes takes nothing along.
 * The parent talks to it with one message each way.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { PdropError } from '../../diagnostics.js';
import type { Provider } from './providers.js';
import { builtScript } from '../../disk/own-files.js';
import { endsWithUs } from '../../disk/temporaries.js';
import { openSession, type SessionOptions } from './session.js';
import { type Dtype, fromBytes, type HostTensor } from './tensor.js';

export interface ChildTask {
  readonly model: string;
  readonly provider: Provider;
  readonly optimize?: SessionOptions['optimize'];
  /** File of feeds (see `writeFeeds`). */
  readonly feeds: string;
}

export interface ChildAnswer {
  readonly ok: boolean;
  readonly error?: string | undefined;
  readonly code?: string | undefined;
  /** Bytes of resident memory: before the session, after it was made, and the peak. */
  readonly rss?: { readonly before: number; readonly loaded: number; readonly peak: number };
  readonly milliseconds?: number;
  /** First values of the first output. */
  readonly values?: readonly number[];
}

/** Tensors → one file: a JSON header's length, the header, the payloads. */
export function writeFeeds(path: string, feeds: ReadonlyMap<string, HostTensor>): void {
  const head = Buffer.from(JSON.stringify([...feeds].map(([name, t]) => ({ name, dtype: t.dtype, dims: t.dims, bytes: t.data.byteLength }))));
  const length = Buffer.alloc(4);
  length.writeUInt32LE(head.length);
  writeFileSync(path, Buffer.concat([length, head, ...[...feeds.values()].map((t) => Buffer.from(t.data.buffer, t.data.byteOffset, t.data.byteLength))]));
}

export function readFeeds(path: string): Map<string, HostTensor> {
  const bytes = readFileSync(path);
  const headLength = bytes.readUInt32LE(0);
  const head = JSON.parse(bytes.subarray(4, 4 + headLength).toString()) as { name: string; dtype: Dtype; dims: number[]; bytes: number }[];
  let at = 4 + headLength;
  return new Map(head.map((h) => {
    const tensor = fromBytes(h.dtype, h.dims, bytes.subarray(at, at + h.bytes));
    at += h.bytes;
    return [h.name, tensor] as const;
  }));
}

/** Runs one model once in a child process. Never rejects: what went wrong is in the answer. */
export function runInChild(task: ChildTask, timeoutMs = 600_000): Promise<ChildAnswer> {
  return new Promise((resolve) => {
    let answer: ChildAnswer | undefined;
    let noise = '';
    const child: ChildProcess = fork(builtScript('src/validate/running/child.ts'), ['--pdrop-child', JSON.stringify(task)], { stdio: ['ignore', 'ignore', 'pipe', 'ipc'], execArgv: [] });
    const ended = endsWithUs(child.pid);
    const timer = setTimeout(() => {
      answer = { ok: false, error: `no answer in ${Math.round(timeoutMs / 1000)} s` };
      child.kill('SIGKILL');
    }, timeoutMs);
    child.stderr?.on('data', (d: Buffer) => {
      noise = (noise + d.toString()).slice(-4000);
    });
    child.on('message', (m) => {
      answer = m as ChildAnswer;
    });
    child.on('error', (e) => {
      answer ??= { ok: false, error: e.message };
    });
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      ended();
      resolve(answer ?? { ok: false, error: `the process ended with ${signal ?? `code ${code}`}${signal === 'SIGKILL' ? ' (killed: out of memory?)' : ''}${noise ? `: ${noise.trim().split('\n').at(-1)}` : ''}` });
    });
  });
}

async function work(task: ChildTask): Promise<ChildAnswer> {
  const rss = (): number => process.memoryUsage.rss();
  const before = rss();
  try {
    const session = await openSession(task.model, { provider: task.provider, optimize: task.optimize });
    const loaded = rss();
    const feeds = readFeeds(task.feeds);
    const start = performance.now();
    const outputs = await session.run(feeds);
    const milliseconds = performance.now() - start;
    const first = outputs.values().next().value;
    const values = first ? Array.from({ length: Math.min(4, first.data.length) }, (_, i) => Number(first.data[i])) : [];
    // maxRSS is in kilobytes.
    return { ok: true, rss: { before, loaded, peak: process.resourceUsage().maxRSS * 1024 }, milliseconds, values };
  } catch (error) {
    return { ok: false, error: (error as Error).message, code: error instanceof PdropError ? error.code : undefined };
  }
}

const marker = process.argv.indexOf('--pdrop-child');
// Who asked may be gone before it could say that we are not to outlive it.
if (marker > 0) await new Promise((resolve) => setImmediate(resolve));
if (marker > 0 && process.connected && process.send) {
  const answer = await work(JSON.parse(process.argv[marker + 1] ?? '{}') as ChildTask);
  process.send(answer, () => process.exit(0));
}
