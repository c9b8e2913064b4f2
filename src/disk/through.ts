/** Writing into devices and pipes: they stay what they are, and nothing of it can be taken back. */
import { closeSync, constants, openSync, writeSync } from 'node:fs';
import { UsageError } from '../diagnostics.js';
import type { ByteSink, ByteSource } from '../onnx/bytes.js';
import { COPY_BUFFER_BYTES, failed } from './files.js';

const PAUSE_MS = 10;

export class ThroughSink implements ByteSink {
  readonly #path: string;
  #fd: number | undefined;

  constructor(path: string) {
    this.#path = path;
  }

  /** Waits for a reader of a pipe, in a way that leaves signals alone. */
  async #open(): Promise<number> {
    for (;;) {
      try {
        return openSync(this.#path, constants.O_WRONLY | (constants.O_NONBLOCK ?? 0));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENXIO') {
          throw new UsageError({ code: 'PD003', message: `cannot write into ${this.#path}: ${(error as Error).message}`, culprit: this.#path, hint: 'check its permissions' }, { cause: error });
        }
        await pause();
      }
    }
  }

  async write(chunk: Uint8Array): Promise<void> {
    this.#fd ??= await this.#open();
    for (let done = 0; done < chunk.length; ) {
      try {
        done += writeSync(this.#fd, chunk, done, Math.min(COPY_BUFFER_BYTES, chunk.length - done));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw failed(this.#path, error);
        await pause();
      }
    }
  }

  async copy(source: ByteSource, offset: number, length: number): Promise<void> {
    for (let done = 0; done < length; ) {
      const n = Math.min(COPY_BUFFER_BYTES, length - done);
      await this.write(await source.read(offset + done, n));
      done += n;
    }
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }
}

function pause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
}
