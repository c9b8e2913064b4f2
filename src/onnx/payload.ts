/** Payloads of large tensors, read in slices: a table of gigabytes is looked through without being held. */
import type { Model, Value } from '../ir/graph.js';
import { type ByteSource, isSpan, MemorySource, WindowedSource } from './bytes.js';
import { fieldAt } from './elide.js';
import { GRAPH, TENSOR } from './proto.js';
import type { GraphRecord, ModelRecord } from './records.js';
import { LENGTH_DELIMITED } from './wire.js';

/** Opens the external data file of a location. */
export type ExternalOpener = (location: string) => ByteSource;

/**
 * The raw little-endian payload of an initializer.
 *
 * @returns undefined when it is stored in typed fields one element at a time (int32_data, as old half-precision converters wrote)
 */
export async function payloadOf(model: Model, value: Value, external: ExternalOpener): Promise<ByteSource | undefined> {
  const { tensor } = value;
  if (!tensor) return undefined;
  if (tensor.data) return new MemorySource(tensor.data);
  if (tensor.external) return part(external(tensor.external.location), tensor.external.offset, tensor.byteLength);
  const segment = (model.graph.record as GraphRecord).segments.find((s) => s.kind === 'value' && s.field === GRAPH.initializer && s.value === value);
  if (segment?.kind !== 'value') return undefined;
  const { piece } = segment;
  const source = isSpan(piece) ? (model.record as ModelRecord).source : new MemorySource(piece);
  const from = isSpan(piece) ? piece.offset : 0;
  const windowed = new WindowedSource(source);
  const record = await fieldAt(windowed, from, from + piece.length);
  for (let at = record.dataStart; at < record.end; ) {
    const field = await fieldAt(windowed, at, record.end);
    // raw_data, or float_data in one packed piece: both are the elements themselves.
    if ((field.number === TENSOR.rawData || field.number === TENSOR.floatData) && field.wire === LENGTH_DELIMITED && field.end - field.dataStart === tensor.byteLength) {
      return part(source, field.dataStart, tensor.byteLength);
    }
    at = field.end;
  }
  return undefined;
}

function part(source: ByteSource, offset: number, size: number): ByteSource {
  return { size, read: (at, length) => source.read(offset + at, length) };
}
