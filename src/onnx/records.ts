/** What the reader leaves with the IR, so that the writer can write back unchanged what no pass touched. */
import type { Node, Value } from '../ir/graph.js';
import type { ByteSource, Piece } from './bytes.js';
import type { Decoded } from './decode.js';
import { fieldOf } from './wire.js';

/** A field as it stands in the source, tag and length included, and what of the IR it belongs to. */
export type Segment =
  | { readonly kind: 'node'; readonly node: Node }
  | { readonly kind: 'value'; readonly field: number; readonly value: Value; readonly piece: Piece }
  | { readonly kind: 'raw'; readonly field: number; readonly piece: Piece };

/** What a node was read from. `full` is the whole field record. */
export interface NodeRecord {
  readonly full: Piece;
  /** NodeProto body, payloads elided when `full` is a span. */
  readonly body: Uint8Array;
  readonly elided: boolean;
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  readonly name: string;
}

/** What a node was read from, all of it in memory. */
export class HeldNode implements NodeRecord {
  readonly elided = false;

  constructor(
    readonly full: Uint8Array,
    readonly inputNames: readonly string[],
    readonly outputNames: readonly string[],
    readonly name: string,
  ) {}

  /** Looked at where the node has changed: of most it is not. */
  get body(): Uint8Array {
    return fieldOf(this.full).payload;
  }
}

export interface GraphRecord {
  readonly segments: Segment[];
}

export interface ModelRecord {
  readonly source: ByteSource;
  readonly segments: readonly { readonly field: number; readonly piece: Piece }[];
  readonly decoded: Decoded;
}
