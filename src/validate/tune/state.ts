/** What a tuning run has measured, a line each, so that an interrupted one is taken up. */
import { appendFileSync, existsSync, rmSync, writeFileSync } from 'node:fs';
import { UsageError } from '../../diagnostics.js';
import { readRegularText } from '../../disk/small-files.js';

export class TuneState {
  readonly #path: string;
  readonly #held = new Map<string, unknown>();

  /** @param key what measurements depend on besides the plan; a state of another key is begun anew */
  constructor(path: string, key: string) {
    this.#path = path;
    const head = JSON.stringify({ tool: 'pdrop-compile', tune: key });
    const lines = existsSync(path) ? readRegularText(path).split('\n') : [];
    if (lines[0] === head) {
      for (const line of lines.slice(1)) {
        try {
          const [k, v] = JSON.parse(line) as [string, unknown];
          this.#held.set(k, v);
        } catch {
          // The last line of an interrupted run may be half a line.
        }
      }
    }
    try {
      writeFileSync(path, `${head}\n${[...this.#held].map((e) => `${JSON.stringify(e)}\n`).join('')}`);
    } catch (error) {
      throw new UsageError({ code: 'PD003', message: `cannot write what was measured: ${(error as Error).message}`, culprit: path, hint: 'choose another place for --report' }, { cause: error });
    }
  }

  get size(): number {
    return this.#held.size;
  }

  get(key: string): unknown {
    return this.#held.get(key);
  }

  put(key: string, value: unknown): void {
    this.#held.set(key, value);
    appendFileSync(this.#path, `${JSON.stringify([key, value])}\n`);
  }

  remove(): void {
    rmSync(this.#path, { force: true });
  }
}
