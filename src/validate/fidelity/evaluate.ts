/** One pass of one model over the data, against the reference: records, faults, progress, resuming. */
import { PdropError } from '../../diagnostics.js';
import type { Decoder } from '../models/decoder.js';
import { divergenceAt, textDivergence } from './divergence.js';
import { badSample, SampleFault } from '../running/faults.js';
import { follow } from './follow.js';
import { type CandidateRecord, type FaultRecord, type SampleRecord, toRecord } from './records.js';
import type { Reference, ReferenceEntry } from './reference.js';
import type { DataSet, Sample } from '../feeding/sample.js';

export interface PassOptions {
  readonly candidate: string;
  readonly generate: number;
  /** False: generation and continuation would mean nothing (no embeddings of generated tokens). */
  readonly eos?: number | readonly number[] | undefined;
  readonly keepGoing: boolean;
  /** Samples to leave out: other shards, those past the limit. */
  readonly wants: (index: number) => boolean;
  /** Ids that a resumed run has already. */
  readonly done: ReadonlySet<string>;
  readonly onRecord: (record: SampleRecord) => void;
  readonly onFault: (fault: FaultRecord) => void;
  readonly tick: (done: number) => void;
  /** Ctrl-C: stop between samples. */
  readonly aborted: () => boolean;
}

/** Runs `decoder` over the data. Returns false when it stopped at a fault (no --keep-going). */
export async function evaluatePass(data: DataSet, reference: Reference, decoder: Decoder, options: PassOptions): Promise<boolean> {
  let seen = 0;
  for await (const item of data.samples()) {
    if (options.aborted()) return false;
    if (!options.wants(item.index)) continue;
    if (!options.done.has(item.id)) {
      try {
        if ('fault' in item) throw item.fault;
        options.onRecord(await evaluateSample(item, reference, decoder, options));
      } catch (error) {
        const fault = asFault(error, item.id);
        options.onFault({ id: item.id, index: item.index, code: fault.code, message: fault.message, culprit: fault.culprit, hint: fault.hint });
        // A broken session is not this sample's fault: nothing after it would run either.
        if (!options.keepGoing || !(fault instanceof SampleFault)) return false;
      }
    }
    options.tick(++seen);
  }
  return true;
}

function asFault(error: unknown, id: string): PdropError {
  return error instanceof PdropError ? error : badSample(id, (error as Error).message ?? String(error), 'check the sample', error);
}

async function evaluateSample(sample: Sample, reference: Reference, decoder: Decoder, options: PassOptions): Promise<SampleRecord> {
  const entry = await reference.get(sample);
  const layout = decoder.layout(sample);
  const image = Array.from({ length: layout.rows }, (_, r) => layout.image.subarray(r * layout.length, (r + 1) * layout.length).reduce((a, b) => a + b, 0));
  return {
    id: sample.id,
    index: sample.index,
    title: sample.title,
    tokens: { length: layout.length, rows: layout.rows, image },
    generated: entry.generated[0]?.length ? entry.generated : undefined,
    answers: sample.answers && sample.answers.length === layout.rows ? sample.answers : undefined,
    candidates: { [options.candidate]: await candidateRecord(sample, entry, decoder, options) },
  };
}

async function candidateRecord(sample: Sample, entry: ReferenceEntry, decoder: Decoder, options: Pick<PassOptions, 'generate' | 'eos'>): Promise<CandidateRecord> {
  const run = await follow(decoder, sample, { positions: entry.logits.length, generate: options.generate, forced: entry.forced, eos: options.eos });
  const rows = run.prompt.state.rows;
  const positions = run.logits.map((perRow, p) => perRow.map((logits, r) => divergenceAt(entry.logits[p]?.[r] ?? logits, logits, entry.labels?.[r]?.[p])));
  const record = toRecord(positions, rows);
  if (!run.generated[0]?.length) return record;
  const parted = run.generated.map((g, r) => textDivergence(entry.generated[r] ?? [], g));
  return { ...record, generated: run.generated, firstDivergent: parted.map((p) => p.first), divergentShare: parted.map((p) => p.share) };
}
