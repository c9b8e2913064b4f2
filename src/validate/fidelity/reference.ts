/**
 * What the original says about each sample: computed once, spooled to a temporary folder while there is room, so that
 * baselines and sweeps need not run (or hold) the original again.
 */
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Decoder } from '../models/decoder.js';
import { follow } from './follow.js';
import type { Sample } from '../feeding/sample.js';

export interface ReferenceEntry {
  /** [position][row]. */
  readonly logits: readonly (readonly Float32Array[])[];
  /** The continuation every model is forced along: labels, else the original's greedy text. */
  readonly forced: readonly (readonly number[])[];
  readonly labels: readonly (readonly number[])[] | undefined;
  readonly generated: readonly (readonly number[])[];
}

export interface ReferenceOptions {
  /** Positions compared along the continuation, the prompt's last included. */
  readonly positions: number;
  readonly generate: number;
  readonly eos?: number | readonly number[] | undefined;
  /** Where and how much may be spooled; nothing when undefined. */
  readonly spool?: { readonly folder: string; readonly limitBytes: number } | undefined;
}

export class Reference {
  readonly #open: () => Promise<Decoder>;
  readonly #options: ReferenceOptions;
  #decoder: Decoder | undefined;
  #spooled = 0;

  constructor(open: () => Promise<Decoder>, options: ReferenceOptions) {
    this.#open = open;
    this.#options = options;
    if (options.spool) mkdirSync(options.spool.folder, { recursive: true });
  }

  async decoder(): Promise<Decoder> {
    this.#decoder ??= await this.#open();
    return this.#decoder;
  }

  async get(sample: Sample): Promise<ReferenceEntry> {
    const held = this.#load(sample);
    if (held) return held;
    const { positions, generate, eos } = this.#options;
    const labels = sample.labels;
    const decoder = await this.decoder();
    const followed = await follow(decoder, sample, { positions: labels ? Math.min(positions, ...labels.map((l) => l.length)) : positions, generate, forced: labels, eos });
    const entry: ReferenceEntry = { logits: followed.logits, forced: labels ?? followed.path, labels, generated: followed.generated };
    this.#save(sample, entry);
    return entry;
  }

  #path(sample: Sample): string | undefined {
    return this.#options.spool && join(this.#options.spool.folder, `${sample.index}.logits`);
  }

  #save(sample: Sample, entry: ReferenceEntry): void {
    const path = this.#path(sample);
    if (!path || !this.#options.spool) return;
    const rows = entry.logits[0]?.length ?? 0;
    const vocab = entry.logits[0]?.[0]?.length ?? 0;
    const size = entry.logits.length * rows * vocab * 4;
    if (this.#spooled + size > this.#options.spool.limitBytes) return;
    const head = Buffer.from(JSON.stringify({ positions: entry.logits.length, rows, vocab, forced: entry.forced, labels: entry.labels, generated: entry.generated }));
    const length = Buffer.alloc(4);
    length.writeUInt32LE(head.length);
    const body = entry.logits.flat().map((l) => Buffer.from(l.buffer, l.byteOffset, l.byteLength));
    writeFileSync(path, Buffer.concat([length, head, ...body]));
    this.#spooled += size;
  }

  #load(sample: Sample): ReferenceEntry | undefined {
    const path = this.#path(sample);
    if (!path || !existsSync(path)) return undefined;
    const bytes = readFileSync(path);
    const headLength = bytes.readUInt32LE(0);
    const head = JSON.parse(bytes.subarray(4, 4 + headLength).toString()) as { positions: number; rows: number; vocab: number; forced: number[][]; labels?: number[][]; generated: number[][] };
    const body = bytes.subarray(4 + headLength);
    const all = new Float32Array(head.positions * head.rows * head.vocab);
    new Uint8Array(all.buffer).set(body);
    const logits = Array.from({ length: head.positions }, (_, p) => Array.from({ length: head.rows }, (_, r) => all.subarray((p * head.rows + r) * head.vocab, (p * head.rows + r + 1) * head.vocab)));
    return { logits, forced: head.forced, labels: head.labels, generated: head.generated };
  }

  /** Closes the model; what is spooled stays until `dispose`. */
  async close(): Promise<void> {
    await this.#decoder?.close();
    this.#decoder = undefined;
  }

  async dispose(): Promise<void> {
    await this.close();
    if (this.#options.spool) rmSync(this.#options.spool.folder, { recursive: true, force: true });
  }
}
