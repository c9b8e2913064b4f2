/**
 * Large records (initializers, Constant nodes, subgraphs with weights) are scanned without being loaded: what is
 * needed to understand them is copied, payloads are skipped. The record itself stays a span of the source.
 */
import { type ByteSource, WindowedSource } from './bytes.js';
import { ATTRIBUTE, FUNCTION, GRAPH, MODEL, NODE, TENSOR } from './proto.js';
import { concat, encodeHeader, type FieldRange, fieldRange, LENGTH_DELIMITED, malformed, shortField } from './wire.js';
import { Refusal } from '../diagnostics.js';

export type MessageKind = 'model' | 'function' | 'graph' | 'node' | 'attribute' | 'tensor';

/** Length-delimited fields that are messages of interest, by message and field number. */
const NESTED: Record<MessageKind, Record<number, MessageKind>> = {
  model: { [MODEL.graph]: 'graph', [MODEL.functions]: 'function' },
  function: { [FUNCTION.node]: 'node' },
  graph: { [GRAPH.node]: 'node', [GRAPH.initializer]: 'tensor' },
  node: { [NODE.attribute]: 'attribute' },
  attribute: { [ATTRIBUTE.t]: 'tensor', [ATTRIBUTE.g]: 'graph', [ATTRIBUTE.tensors]: 'tensor', [ATTRIBUTE.graphs]: 'graph' },
  tensor: {},
};

/** Records up to this size are read whole. */
export const WHOLE_RECORD_BYTES = 64 * 1024;

/** More than a tag and a length, or a tag and a number, can take. */
const HEADER_BYTES = 20;

/** Reads the header of the field at `offset`, loading as needed. `limit` is the end of the enclosing message. */
export async function fieldAt(source: WindowedSource, offset: number, limit: number): Promise<FieldRange> {
  const known = peekField(source, offset, limit);
  return known ?? within(fieldRange(await source.load(offset, headerBytes(offset, limit)), offset), limit);
}

/** The same where it is loaded already, and undefined where it is not: of a million fields few are waited for. */
export function peekField(source: WindowedSource, offset: number, limit: number): FieldRange | undefined {
  const { window, windowStart } = source;
  const at = offset - windowStart;
  const short = at >= 0 ? shortField(window, at, windowStart) : undefined;
  if (short && short.dataStart <= limit) return within(short, limit);
  const bytes = source.peek(offset, headerBytes(offset, limit));
  return bytes && within(fieldRange(bytes, offset), limit);
}

const headerBytes = (offset: number, limit: number): number => Math.min(HEADER_BYTES, limit - offset);

function within(field: FieldRange, limit: number): FieldRange {
  if (field.end > limit) {
    throw malformed(`field ${field.number} says it has ${field.end - field.dataStart} bytes but only ${limit - field.dataStart} are there`, field.start);
  }
  return field;
}

/**
 * Graphs within graphs that are read. Protobuf's own parsers stop at 100 nested messages, and each graph is three of
 * them (node, attribute, graph): no runtime loads a deeper model.
 */
const MOST_GRAPH_LEVELS = 33;

/** @throws {Refusal} PD106 */
export function refuseNesting(depth: number): void {
  if (depth < MOST_GRAPH_LEVELS) return;
  throw new Refusal({
    code: 'PD106',
    message: `subgraphs are nested more than ${MOST_GRAPH_LEVELS} deep`,
    hint: 'protobuf parsers stop at 100 nested messages, so no runtime loads this model: it is damaged, or was made to do harm',
  });
}

/** A message that is elided: what it is, and how many graphs are around it. */
interface Place {
  readonly start: number;
  readonly end: number;
  readonly kind: MessageKind;
  readonly depth: number;
}

/**
 * A message without payloads above WHOLE_RECORD_BYTES: a valid, smaller message.
 *
 * @returns the message, and of a tensor the size of the raw payload that was left out
 */
export async function elide(source: WindowedSource, place: Place): Promise<{ readonly bytes: Uint8Array; readonly rawBytes: number | undefined }> {
  const parts: Uint8Array[] = [];
  let rawBytes: number | undefined;
  await collect(source, place, parts, (field) => {
    if (place.kind === 'tensor' && field.number === TENSOR.rawData) rawBytes = field.end - field.dataStart;
  });
  return { bytes: concat(parts), rawBytes };
}

/** A whole model without its large payloads: what is left is a model that fits in memory. */
export async function withoutPayloads(source: ByteSource): Promise<Uint8Array> {
  return (await elide(new WindowedSource(source), { start: 0, end: source.size, kind: 'model', depth: 0 })).bytes;
}

/** Appends what is kept of a message to `parts`, which are joined once; returns its length. */
async function collect(source: WindowedSource, { start, end, kind, depth }: Place, parts: Uint8Array[], leftOut: (field: FieldRange) => void): Promise<number> {
  let length = 0;
  const put = (part: Uint8Array): void => {
    parts.push(part);
    length += part.length;
  };
  for (let at = start; at < end; ) {
    const field = await fieldAt(source, at, end);
    const size = field.end - field.start;
    if (size <= WHOLE_RECORD_BYTES) put((source.peek(field.start, size) ?? (await source.load(field.start, size))).slice());
    else {
      const nested = field.wire === LENGTH_DELIMITED ? NESTED[kind][field.number] : undefined;
      // Anything else that is large is a payload (raw_data, packed data, doc strings): left out.
      if (nested) {
        const within = nested === 'graph' && kind !== 'model' ? depth + 1 : depth;
        refuseNesting(within);
        const headerAt = parts.push(new Uint8Array(0)) - 1;
        const inner = await collect(source, { start: field.dataStart, end: field.end, kind: nested, depth: within }, parts, () => {});
        const header = encodeHeader(field.number, inner);
        parts[headerAt] = header;
        length += header.length + inner;
      } else leftOut(field);
    }
    at = field.end;
  }
  return length;
}
