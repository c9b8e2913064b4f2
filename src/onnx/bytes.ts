/**
 * Where bytes come from and go to. The core knows only these interfaces; the file-backed ones are in src/disk/files.ts,
 * and a web page can give its own over a `File`.
 */
export interface ByteSource {
  /** Total size in bytes. */
  readonly size: number;
  /** Reads exactly `length` bytes at `offset`; rejects when they are not all there. */
  read(offset: number, length: number): Promise<Uint8Array>;
  /**
   * Reads a small tensor that the model keeps in another file; undefined where there are no files.
   *
   * @throws {Refusal} PD103, PD104, PD105, PD107, PD108 when it cannot be had
   */
  external?(place: ExternalPlace, byteLength: number, culprit: string): Promise<Uint8Array | undefined>;
}

/** Where a tensor lies in external data. */
export interface ExternalPlace {
  readonly location: string;
  readonly offset: number;
  readonly length: number | undefined;
}

export interface ByteSink {
  write(chunk: Uint8Array): Promise<void>;
  /** Copies a range of the source; sinks that can do it without going through the heap do. */
  copy(source: ByteSource, offset: number, length: number): Promise<void>;
}

/** A byte range of the source. */
export interface Span {
  readonly offset: number;
  readonly length: number;
}

/** What is written: bytes at hand, or a range of the source that is streamed and never held. */
export type Piece = Uint8Array | Span;

export function isSpan(piece: Piece): piece is Span {
  return !(piece instanceof Uint8Array);
}

/** Pieces read as the one file they make. */
export class PieceSource implements ByteSource {
  readonly size: number;
  readonly #pieces: readonly Piece[];
  readonly #starts: readonly number[];
  readonly #source: ByteSource;

  /** `source` is what spans are ranges of. */
  constructor(pieces: readonly Piece[], source: ByteSource) {
    const starts: number[] = [];
    let size = 0;
    for (const p of pieces) {
      starts.push(size);
      size += p.length;
    }
    this.size = size;
    this.#pieces = pieces;
    this.#starts = starts;
    this.#source = source;
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    if (offset + length > this.size) throw new RangeError(`read past the end: ${offset}+${length} > ${this.size}`);
    const out = new Uint8Array(length);
    let i = this.#at(offset);
    for (let done = 0; done < length; i++) {
      const piece = this.#pieces[i] as Piece;
      const from = offset + done - (this.#starts[i] as number);
      const n = Math.min(piece.length - from, length - done);
      out.set(isSpan(piece) ? await this.#source.read(piece.offset + from, n) : piece.subarray(from, from + n), done);
      done += n;
    }
    return out;
  }

  /** What stands beside the source stands beside what is made of it. */
  async external(place: ExternalPlace, byteLength: number, culprit: string): Promise<Uint8Array | undefined> {
    return this.#source.external?.(place, byteLength, culprit);
  }

  /** The piece that holds the byte at `offset`. */
  #at(offset: number): number {
    let [low, high] = [0, this.#starts.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if ((this.#starts[middle] as number) <= offset) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}

export class MemorySource implements ByteSource {
  readonly size: number;
  readonly #bytes: Uint8Array;
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.size = bytes.length;
  }
  async read(offset: number, length: number): Promise<Uint8Array> {
    if (offset + length > this.size) throw new RangeError(`read past the end: ${offset}+${length} > ${this.size}`);
    return this.#bytes.subarray(offset, offset + length);
  }
}

export class MemorySink implements ByteSink {
  readonly #chunks: Uint8Array[] = [];
  #length = 0;
  async write(chunk: Uint8Array): Promise<void> {
    this.#chunks.push(chunk.slice());
    this.#length += chunk.length;
  }
  async copy(source: ByteSource, offset: number, length: number): Promise<void> {
    await this.write(await source.read(offset, length));
  }
  bytes(): Uint8Array {
    const out = new Uint8Array(this.#length);
    let at = 0;
    for (const c of this.#chunks) {
      out.set(c, at);
      at += c.length;
    }
    return out;
  }
}

const SHELF_BYTES = 64 * 1024;

/** Copies of many small pieces of bytes, side by side in a few buffers: a buffer for each costs more than its bytes do. */
export class Shelf {
  #buffer = new Uint8Array(0);
  #used = 0;

  keep(bytes: Uint8Array): Uint8Array {
    if (bytes.length > SHELF_BYTES / 8) return bytes.slice();
    if (this.#used + bytes.length > this.#buffer.length) {
      this.#buffer = new Uint8Array(SHELF_BYTES);
      this.#used = 0;
    }
    const kept = this.#buffer.subarray(this.#used, this.#used + bytes.length);
    kept.set(bytes);
    this.#used += bytes.length;
    return kept;
  }
}

const WINDOW_BYTES = 128 * 1024;
const WINDOW_BYTES_AFTER_JUMP = 4 * 1024;

/**
 * Reads ahead in windows, so that scanning thousands of small records costs a handful of reads. After a jump (over
 * weights) it reads little, and more again as long as reading goes on from where the last window ended.
 */
export class WindowedSource {
  readonly #source: ByteSource;
  #window: Uint8Array = new Uint8Array(0);
  #start = 0;
  #ahead = WINDOW_BYTES;

  constructor(source: ByteSource) {
    this.#source = source;
  }

  get size(): number {
    return this.#source.size;
  }

  /** What has been read ahead, from `windowStart` on. */
  get window(): Uint8Array {
    return this.#window;
  }

  get windowStart(): number {
    return this.#start;
  }

  /** The bytes if the window holds them already; undefined means: call `load`. */
  peek(offset: number, length: number): Uint8Array | undefined {
    const at = offset - this.#start;
    if (at < 0 || at + length > this.#window.length) return undefined;
    return this.#window.subarray(at, at + length);
  }

  async load(offset: number, length: number): Promise<Uint8Array> {
    const held = this.peek(offset, length);
    if (held) return held;
    if (offset + length > this.#source.size) throw new RangeError(`read past the end: ${offset}+${length} > ${this.#source.size}`);
    // Large single records get a buffer of their own; replacing the window with them would only lose it.
    if (length > WINDOW_BYTES) return this.#source.read(offset, length);
    const jumped = offset < this.#start || offset > this.#start + this.#window.length;
    this.#ahead = jumped ? WINDOW_BYTES_AFTER_JUMP : Math.min(4 * this.#ahead, WINDOW_BYTES);
    this.#window = await this.#source.read(offset, Math.min(Math.max(length, this.#ahead), this.#source.size - offset));
    this.#start = offset;
    return this.#window.subarray(0, length);
  }
}
