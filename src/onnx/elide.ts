/**
 * Large records (initializers, Constant nodes, subgraphs with weights) are scanned without being loaded: what is
 * needed to understand them is copied, payloads are skipped. The record itself stays a span of the source.
 */
import type { WindowedSource } from './bytes.js';
import { concat, encodeBytesField, malformed, readFieldHeader, type WireField } from './wire.js';

export type MessageKind = 'node' | 'attribute' | 'tensor' | 'graph';

/** Length-delimited fields that are messages of interest, by message and field number (onnx.proto). */
const NESTED: Record<MessageKind, Record<number, MessageKind>> = {
  graph: { 1: 'node', 5: 'tensor' },
  node: { 5: 'attribute' },
  attribute: { 5: 'tensor', 6: 'graph', 10: 'tensor', 11: 'graph' },
  tensor: {},
};

/** Records up to this size are read whole. */
export const WHOLE_RECORD_BYTES = 64 * 1024;

/** Reads the header of the field at `offset`, loading as needed. `limit` is the end of the enclosing message. */
export async function fieldAt(source: WindowedSource, offset: number, limit: number): Promise<WireField> {
  const need = Math.min(20, limit - offset);
  const bytes = source.peek(offset, need) ?? (await source.load(offset, need));
  const field = readFieldHeader(bytes, 0, offset);
  if (field.end > limit) {
    throw malformed(`field ${field.number} says it has ${field.end - field.dataStart} bytes but only ${limit - field.dataStart} are there`, offset);
  }
  return field;
}

/** The message at [start, end) without payloads above WHOLE_RECORD_BYTES: a valid, smaller message. */
export async function elide(source: WindowedSource, start: number, end: number, kind: MessageKind): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let at = start;
  while (at < end) {
    const field = await fieldAt(source, at, end);
    const size = field.end - field.start;
    if (size <= WHOLE_RECORD_BYTES) {
      parts.push((source.peek(field.start, size) ?? (await source.load(field.start, size))).slice());
    } else {
      const nested = field.wire === 2 ? NESTED[kind][field.number] : undefined;
      // Anything else that is large is a payload (raw_data, packed data, doc strings): left out.
      if (nested) parts.push(encodeBytesField(field.number, await elide(source, field.dataStart, field.end, nested)));
    }
    at = field.end;
  }
  return concat(parts);
}
