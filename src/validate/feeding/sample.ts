/** One prompt with what is known about it. */
import type { HostTensor } from '../running/tensor.js';

/** A run of image tokens of the prompt, laid out row by row on a grid of patches. */
export interface PatchGrid {
  readonly rows: number;
  readonly columns: number;
  /** Index of the grid's first token among the row's *image* tokens. */
  readonly first: number;
  /** Row of the batch the grid belongs to. */
  readonly row: number;
  /** The part of the picture it covers, in shares of its size: [left, top, right, bottom]. */
  readonly area: readonly [number, number, number, number];
}

export interface Sample {
  readonly id: string;
  readonly index: number;
  /** File it came from, as the user gave it. */
  readonly source: string;
  readonly feeds: ReadonlyMap<string, HostTensor>;
  /** Expected next tokens, one list a row of the batch. */
  readonly labels?: readonly (readonly number[])[] | undefined;
  /** Embeddings of the labels, [rows, tokens, hidden], for decoders that take embeddings. */
  readonly labelEmbeds?: HostTensor | undefined;
  /** Accepted answers as token ids, for each row of the batch. */
  readonly answers?: readonly (readonly (readonly number[])[])[] | undefined;
  readonly picture?: { readonly path: string } | undefined;
  readonly grids?: readonly PatchGrid[] | undefined;
  /** Text that says what the sample is (a question), for reports. */
  readonly title?: string | undefined;
}

/** Samples of a data set, streamed: every iteration opens the files anew and holds one sample at a time. */
export interface DataSet {
  readonly kind: 'synthetic' | 'onnx' | 'npz' | 'json';
  readonly source: string;
  /** Number of samples when it is known without reading them all. */
  readonly count: number | undefined;
  samples(): AsyncIterable<Sample | { readonly fault: Error; readonly id: string; readonly index: number; readonly source: string }>;
}
