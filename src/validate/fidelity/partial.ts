/** The partial report beside the report: a line a sample, appended as it is done, so that an interrupted run resumes. */
import { appendFileSync, existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { UsageError } from '../../diagnostics.js';
import { joinRecords, type SampleRecord } from './records.js';

interface Header {
  readonly partial: 1;
  /** Everything the records depend on: models, options, data. A different one starts anew. */
  readonly key: string;
}

export class PartialReport {
  readonly #path: string | undefined;
  readonly #records = new Map<string, SampleRecord[]>();
  readonly resumed: number;

  /** Takes up the partial report at `path` when its key is the same; without a path nothing is stored. */
  constructor(path: string | undefined, key: string, resume: boolean) {
    this.#path = path;
    let found = 0;
    if (path && resume && existsSync(path)) {
      const [head = '', ...lines] = readFileSync(path, 'utf8').split('\n');
      if (safeParse<Header>(head)?.key === key) {
        for (const line of lines) {
          // The last line may be cut off by whatever interrupted the run.
          const parsed = safeParse<{ provider: string; record: SampleRecord }>(line);
          if (!parsed) continue;
          this.#list(parsed.provider).push(parsed.record);
          found++;
        }
      }
    }
    this.resumed = found;
    if (path && found === 0) {
      if (existsSync(path) && statSync(path).size > 0 && safeParse<Header>(readFileSync(path, 'utf8').split('\n', 1)[0] ?? '')?.partial !== 1) {
        throw new UsageError({ code: 'PD004', message: `${path} exists and is no partial report`, culprit: path, hint: 'the partial report goes beside the report under this name: move the file, or choose another path with --report' });
      }
      try {
        writeFileSync(path, `${JSON.stringify({ partial: 1, key } satisfies Header)}\n`);
      } catch (error) {
        throw new UsageError({ code: 'PD003', message: `cannot write the report's folder: ${(error as Error).message}`, culprit: path, hint: 'choose a writable path with --report' }, { cause: error });
      }
    }
  }

  #list(provider: string): SampleRecord[] {
    const list = this.#records.get(provider) ?? [];
    this.#records.set(provider, list);
    return list;
  }

  add(provider: string, record: SampleRecord): void {
    this.#list(provider).push(record);
    if (this.#path) appendFileSync(this.#path, `${JSON.stringify({ provider, record })}\n`);
  }

  records(provider: string): SampleRecord[] {
    return joinRecords(this.#records.get(provider) ?? []);
  }

  /** Ids that have a record of this candidate. */
  done(provider: string, candidate: string): Set<string> {
    return new Set((this.#records.get(provider) ?? []).filter((r) => candidate in r.candidates).map((r) => r.id));
  }

  /** After a run that failed before anything was done: there is nothing to resume. */
  removeIfEmpty(): void {
    if ([...this.#records.values()].every((list) => list.length === 0)) this.remove();
  }

  /** After the report itself is written. */
  remove(): void {
    if (this.#path) rmSync(this.#path, { force: true });
  }
}

function safeParse<T>(text: string): T | undefined {
  try {
    return JSON.parse(text) as T;
  } catch {
    return undefined;
  }
}
