/** Marks on disk: embedding graphs that they are proved against, vision encoders that put them on. */
import { existsSync, readdirSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { checkExternalData, type ExternalFile, planExternalData, requireUnchanged } from './external-files.js';
import { FileSource } from './files.js';
import type { OutputFile, OutputTransaction } from './transaction.js';
import { markRange, type MarksProof, proveMarks } from '../marks/prove.js';
import { embeddingTable } from '../marks/table.js';
import { markVisionEncoder, writeMarked } from '../marks/vision.js';
import { readModel } from '../onnx/read.js';
import type { MarkType } from '../plan/marks.js';
import type { Marks, Plan } from '../plan/plan.js';
import { unproved } from '../plan/image-mask.js';

/** The embedding graph and the vision encoder beside a decoder, when there is exactly one of each. */
export function partsBeside(decoder: string): { embed: string | undefined; vision: string | undefined } {
  const folder = dirname(resolve(decoder));
  const names = existsSync(folder) ? readdirSync(folder).filter((n) => n.endsWith('.onnx') && !n.endsWith('.pdrop.onnx')) : [];
  const only = (pattern: RegExp): string | undefined => {
    const found = names.filter((n) => pattern.test(n));
    return found.length === 1 ? join(folder, found[0] as string) : undefined;
  };
  return { embed: only(/^(embed_tokens|embeddings?)(_\w+)?\.onnx$/), vision: only(/^vision(_encoder|_model)?(_\w+)?\.onnx$/) };
}

/**
 * Proves marks against the tables of embedding graphs, which are read in slices.
 *
 * @throws {Refusal} PD604, PD605 when a graph is not understood, or a token looks marked
 */
export async function proveMarksOfFiles(paths: readonly string[], wanted?: Marks, allowLinks = false): Promise<MarksProof> {
  const open: FileSource[] = [];
  const opened = (path: string): FileSource => {
    const source = new FileSource(path, allowLinks);
    open.push(source);
    return source;
  };
  try {
    const tables = [];
    for (const path of paths) {
      const model = await readModel(opened(path));
      checkExternalData(model, path, allowLinks);
      tables.push(await embeddingTable(model, (location) => opened(join(dirname(path), location))));
    }
    return await proveMarks(tables, wanted);
  } finally {
    for (const source of open) source.close();
  }
}

/** What `prepareMarks` reads of the compile options. */
export interface MarkOptions {
  readonly imageMask?: string | undefined;
  readonly embed?: string | undefined;
  readonly vision?: string | undefined;
  readonly visionOutput?: string | undefined;
  readonly allowExternalLinks?: boolean | undefined;
}

/**
 * Everything marks need besides the decoder, before anything is written: the proof, and the vision encoder.
 *
 * @returns undefined when image tokens are not told by marks
 * @throws {Refusal} PD602 when the embedding graph or the vision encoder is not there
 */
export async function prepareMarks(decoder: string, options: MarkOptions, plan: Plan | undefined, transaction: OutputTransaction | undefined): Promise<PreparedMarks | undefined> {
  const replayed = options.imageMask === undefined && plan?.imageMask.kind === 'marks' ? plan.imageMask : undefined;
  if (options.imageMask !== 'marks' && !replayed) return undefined;
  const beside = partsBeside(decoder);
  const embed = options.embed ?? beside.embed;
  const vision = options.vision ?? beside.vision;
  if (!embed || !vision) throw unproved();
  const visionOutput = options.visionOutput ?? markedName(vision);
  transaction?.reads(embed);
  transaction?.reads(vision);
  const output = transaction?.writes(visionOutput);
  const proof = await proveMarksOfFiles([embed], replayed, options.allowExternalLinks);
  return { proof, vision, output };
}

export interface PreparedMarks {
  readonly proof: MarksProof;
  readonly vision: string;
  /** Undefined: nothing is to be written. */
  readonly output: OutputFile | undefined;
}

export interface MarkedFile {
  readonly input: string;
  readonly output: string | null;
  readonly type: MarkType;
  readonly features: string;
  readonly bytes: number;
  /** By how much a mark changes a value at most, and the magnitude from which on values are clipped. */
  readonly largestMove: number;
  readonly limit: number;
}

/** Writes the vision encoder with marked features, where the transaction will put it in place. */
export async function markVisionFile({ vision: input, output, proof }: PreparedMarks, transaction: OutputTransaction | undefined, allowLinks = false): Promise<MarkedFile> {
  const source = new FileSource(input, allowLinks);
  try {
    const model = await readModel(source);
    const data: ExternalFile[] = checkExternalData(model, input, allowLinks);
    const marked = markVisionEncoder(model, proof.marks, proof.hidden);
    const { limit, move } = markRange(proof.marks, marked.type);
    if (output && transaction) {
      if (!output.target.through) await planExternalData(transaction, data, input, output.target.path, 'auto').write();
      const sink = output.open();
      try {
        await writeMarked(marked, sink);
      } finally {
        await sink.close();
      }
      source.requireUnchanged();
      requireUnchanged(data);
    }
    return { input, output: output?.target.path ?? null, type: marked.type, features: marked.output, bytes: marked.byteLength, largestMove: move, limit };
  } finally {
    source.close();
  }
}

/** `vision_encoder.onnx` → `vision_encoder.pdrop.onnx`. */
export function markedName(path: string): string {
  return join(dirname(path), `${basename(path, '.onnx')}.pdrop.onnx`);
}
