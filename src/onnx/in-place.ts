/**
 * The output as edits of a copy of the source: embedded weights stay where they are, so that they can be copied before anything is
 * known about the rest (a copy of the file by the system, while the graph is compiled). Nodes fill the space the old ones had, the
 * remaining ones and all else follow the weights. Space that is left over, before the weights or where a small initializer among
 * them is not wanted any more, is a metadata entry of spaces. The order of nodes, and of every other kind of record, is the same as in `layoutModel`.
 */
import type { Model } from '../ir/graph.js';
import { isSpan, type Piece } from './bytes.js';
import { encodeEntry } from './encode.js';
import { GRAPH, MODEL } from './proto.js';
import type { GraphRecord, ModelRecord, NodeRecord, Segment } from './records.js';
import { concat, encodeBytesField, encodeHeader } from './wire.js';
import { branchesOf, layoutGraph, lengthOf, MAX_MESSAGE_BYTES, modelAdditions, type WriteChanges } from './write.js';

export interface InPlaceLayout {
  /** Replaces the bytes from 0 up to the first initializer; exactly as long as those. */
  readonly head: Uint8Array;
  /** Replace bytes between the first and the last initializer; in order, exactly as long as what was there. */
  readonly patches: readonly Patch[];
  /** Where the last initializer ends. */
  readonly tailOffset: number;
  /** Replaces everything from there on. */
  readonly tail: Uint8Array;
  readonly byteLength: number;
}

export interface Patch {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

export function piecesInPlace({ head, patches, tailOffset, tail }: InPlaceLayout): Piece[] {
  const pieces: Piece[] = [head];
  let at = head.length;
  for (const { offset, bytes } of patches) {
    if (offset > at) pieces.push({ offset: at, length: offset - at });
    pieces.push(bytes);
    at = offset + bytes.length;
  }
  if (tailOffset > at) pieces.push({ offset: at, length: tailOffset - at });
  return [...pieces, tail];
}

/** Smallest filler entry before the weights: tag, lengths, key and an empty value. */
const LEAST_FILL = 32;
const FILL_KEY = 'pdrop.fill';

/** @returns undefined where the file is not laid out for it: then the pieces are streamed */
export function layoutInPlace(model: Model, changes: WriteChanges): InPlaceLayout | undefined {
  const record = model.record as ModelRecord;
  const at = record.segments.findIndex((s) => s.field === MODEL.graph);
  const graphSegment = record.segments[at];
  if (!graphSegment || !isSpan(graphSegment.piece)) return undefined;
  const before = record.segments.slice(0, at).map((s) => s.piece);
  const after = record.segments.slice(at + 1).map((s) => s.piece);
  const { segments } = model.graph.record as GraphRecord;
  const first = segments.findIndex((s) => s.kind === 'value' && s.field === GRAPH.initializer);
  const last = segments.findLastIndex((s) => s.kind === 'value' && s.field === GRAPH.initializer);
  const weights = segments.slice(first, last + 1);
  if (first < 0 || !weights.every((s) => s.kind === 'value' && s.field === GRAPH.initializer)) return undefined;
  const headerLength = graphSegment.piece.length - sizeOf(segments);
  const bodyStart = graphSegment.piece.offset + headerLength;
  const weightsStart = bodyStart + sizeOf(segments.slice(0, first));
  const weightsEnd = weightsStart + sizeOf(weights);
  const patches = blanks(model, weights, weightsStart);
  if (!patches) return undefined;
  const stay = new Set<Piece>(weights.map((s) => (s as { piece: Piece }).piece));
  const branches = branchesOf(model);
  const rest = layoutGraph(model.graph, branches).filter((p) => !stay.has(p));
  const others = [...before, ...rest, ...after];
  if (lengthOf(before) !== graphSegment.piece.offset || others.some(isSpan)) return undefined;
  let room = weightsStart - bodyStart - LEAST_FILL;
  let taken = 0;
  while (taken < rest.length && (rest[taken] as Piece).length <= room) room -= (rest[taken++] as Piece).length;
  const filler = room >= 0 ? fill(room + LEAST_FILL) : undefined;
  const tailGraph = rest.slice(taken) as Uint8Array[];
  const header = encodeHeader(MODEL.graph, weightsEnd - bodyStart + lengthOf(tailGraph));
  if (!filler || header.length !== headerLength) return undefined;
  const head = concat([...(before as Uint8Array[]), header, ...(rest.slice(0, taken) as Uint8Array[]), filler]);
  const tail = concat([...tailGraph, ...(after as Uint8Array[]), ...modelAdditions(model, changes, branches)]);
  const byteLength = weightsEnd + tail.length;
  if (head.length !== weightsStart || byteLength > MAX_MESSAGE_BYTES) return undefined;
  return { head, patches, tailOffset: weightsEnd, tail, byteLength };
}

function sizeOf(segments: readonly Segment[]): number {
  let size = 0;
  for (const s of segments) size += (s.kind === 'node' ? (s.node.record as NodeRecord).full : s.piece).length;
  return size;
}

/** What stands in for initializers that are gone; undefined where one is too large to be written anew. */
function blanks(model: Model, weights: readonly Segment[], start: number): Patch[] | undefined {
  const present = new Set(model.graph.initializers);
  const patches: Patch[] = [];
  let offset = start;
  for (const s of weights) {
    const { piece, value } = s as Extract<Segment, { kind: 'value' }>;
    if (!present.has(value)) {
      const bytes = isSpan(piece) ? undefined : fill(piece.length);
      if (!bytes) return undefined;
      patches.push({ offset, bytes });
    }
    offset += piece.length;
  }
  return patches;
}

/** GraphProto.metadata_props entry of exactly `length` bytes; the key is shorter where there is no room for it. */
function fill(length: number): Uint8Array | undefined {
  for (const key of [FILL_KEY, `${FILL_KEY}_`, ...Array.from({ length: FILL_KEY.length }, (_, i) => FILL_KEY.slice(0, FILL_KEY.length - 1 - i))]) {
    for (let spaces = Math.max(0, length - 16 - key.length); spaces <= length - key.length; spaces++) {
      const entry = encodeBytesField(GRAPH.metadataProps, encodeEntry(key, ' '.repeat(spaces)));
      if (entry.length === length) return entry;
    }
  }
  return undefined;
}
