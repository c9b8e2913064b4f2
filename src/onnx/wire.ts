/**
 * Fields of protobuf messages with their exact byte ranges. Reading through a schema would lose what the schema does not know;
 * keeping ranges loses nothing. How numbers, lengths and text are spelt is protobufjs's business; where they lie is ours.
 */
import { Reader, Writer } from 'protobufjs/minimal.js';
import { Refusal } from '../diagnostics.js';

/** Wire types that ONNX uses. */
export const VARINT = 0;
const FIXED64 = 1;
export const LENGTH_DELIMITED = 2;
const FIXED32 = 5;

/** A 64-bit integer: a number where one holds it exactly. */
export type Integer = number | bigint;

/** Where a field lies: its bytes are [start, end), its payload (for varints: the varint) is [dataStart, end). */
export interface FieldRange {
  readonly number: number;
  readonly wire: number;
  readonly start: number;
  readonly dataStart: number;
  readonly end: number;
}

export function malformed(reason: string, at: number): Refusal {
  return new Refusal({
    code: 'PD101',
    message: `the file is not a complete ONNX model: ${reason}${at > 0 ? ` at byte ${at}` : ''}`,
    hint: 'check that the download or export finished (compare the size or a checksum) and that the file is an ONNX protobuf, not a Git LFS pointer, ORT-format or zipped file',
  });
}

/** What the reader did not like, in our words. */
function unreadable(error: unknown, at: number): Refusal {
  return malformed(error instanceof RangeError ? 'a number is cut off' : error instanceof Error ? error.message : String(error), at);
}

// A byte order mark is a character like any other: taken off, the name would be written back as another one. protobufjs's own
// reader does the same, but puts short text together eight characters at a time, which costs more than all else here.
const looseDecoder = new TextDecoder('utf-8', { ignoreBOM: true });
const strictDecoder = new TextDecoder('utf-8', { ignoreBOM: true, fatal: true });

/**
 * The field at `at`; the payload may lie beyond what the message holds.
 *
 * @param base where the message's bytes lie: added to the range, and to places in messages
 */
function fieldAt(message: Fields, at: number, base: number): Field {
  const { reader } = message;
  const start = base + at;
  reader.pos = at;
  try {
    const tag = reader.tag();
    const wire = tag & 7;
    let payload = 0;
    if (tag >>> 3 === 0) throw malformed('field number 0', start);
    switch (wire) {
      case VARINT: {
        const dataStart = base + reader.pos;
        reader.skip();
        const end = base + reader.pos;
        if (end - dataStart > 10) throw malformed('a number is longer than ten bytes', dataStart);
        return new Field(message, tag, start, dataStart, end);
      }
      case FIXED64:
        payload = 8;
        break;
      case LENGTH_DELIMITED:
        payload = reader.size();
        break;
      case FIXED32:
        payload = 4;
        break;
      default:
        throw malformed(`wire type ${wire} is not used by ONNX`, start);
    }
    const dataStart = base + reader.pos;
    return new Field(message, tag, start, dataStart, dataStart + payload);
  } catch (error) {
    throw error instanceof Refusal ? error : unreadable(error, start);
  }
}

/**
 * Length in bytes of the header (tag and length) at `at`, where it is of the kind that nearly all are: a length-delimited field with a tag of one
 * byte and a length of up to three. 0 for any other, which is the reader's.
 */
function shortHeader(bytes: Uint8Array, at: number): number {
  const tag = bytes[at] as number;
  if ((tag & 0x87) !== LENGTH_DELIMITED || tag < 8) return 0;
  return (bytes[at + 1] as number) < 0x80 ? 2 : (bytes[at + 2] as number) < 0x80 ? 3 : (bytes[at + 3] as number) < 0x80 ? 4 : 0;
}

/** The length that such a header of `size` bytes tells. */
function shortLength(bytes: Uint8Array, at: number, size: number): number {
  const first = bytes[at + 1] as number;
  if (size === 2) return first;
  const two = (first & 0x7f) | (((bytes[at + 2] as number) & 0x7f) << 7);
  return size === 3 ? two : two | ((bytes[at + 3] as number) << 14);
}

/** The range of the field whose header stands at `at`, if the header is short; `base` is added to the range. */
export function shortField(bytes: Uint8Array, at: number, base: number): FieldRange | undefined {
  const header = shortHeader(bytes, at);
  if (header === 0) return undefined;
  const start = base + at;
  const dataStart = start + header;
  return { number: (bytes[at] as number) >>> 3, wire: LENGTH_DELIMITED, start, dataStart, end: dataStart + shortLength(bytes, at, header) };
}

/** The range of the field whose header `bytes` start with. */
export function fieldRange(bytes: Uint8Array, base: number): FieldRange {
  return fieldAt(new Fields(bytes), 0, base);
}

/** Of Node's buffers: a web page has none. */
const latin1 = typeof Buffer === 'undefined' ? undefined : (Buffer.prototype as unknown as { latin1Slice?: (this: Uint8Array, start: number, end: number) => string }).latin1Slice;

const OTHER_THAN_ASCII = /[\x80-\xff]/;

/** A field of a message in memory. What is asked of it must be what its wire type holds. */
export class Field implements FieldRange {
  // Fields are many and short-lived: one object each.
  constructor(
    private readonly message: Fields,
    private readonly tag: number,
    readonly start: number,
    readonly dataStart: number,
    readonly end: number,
  ) {}

  get number(): number {
    return this.tag >>> 3;
  }

  get wire(): number {
    return this.tag & 7;
  }

  /** The whole field, tag and length included. */
  get record(): Uint8Array {
    return this.message.bytes.subarray(this.start, this.end);
  }

  /** Bytes, text or a message. */
  get payload(): Uint8Array {
    this.#require(LENGTH_DELIMITED);
    return this.message.bytes.subarray(this.dataStart, this.end);
  }

  /** The payload's bytes, each as the character of its number: equal for equal payloads. */
  characters(): string {
    this.#require(LENGTH_DELIMITED);
    return latin1 ? latin1.call(this.message.bytes, this.dataStart, this.end) : String.fromCharCode.apply(null, this.payload as unknown as number[]);
  }

  /**
   * A name, which is written back: bytes that are not UTF-8 have no string that stands for them.
   *
   * @throws {Refusal} PD101
   */
  name(): string {
    const plain = this.#ascii();
    if (plain !== undefined) return plain;
    try {
      return strictDecoder.decode(this.payload);
    } catch {
      throw malformed(`the name "${this.text()}" is not UTF-8`, 0);
    }
  }

  /** Nearly all names are short and ASCII: then the bytes are the characters, and a decoder takes longer. Undefined where they are not. */
  #ascii(): string | undefined {
    if (latin1 === undefined || this.wire !== LENGTH_DELIMITED) return undefined;
    const text = this.characters();
    return OTHER_THAN_ASCII.test(text) ? undefined : text;
  }

  /** Text that is shown or matched but never written back: it may hold any bytes. */
  text(): string {
    return looseDecoder.decode(this.payload);
  }

  integer(): Integer {
    this.#require(VARINT);
    const reader = this.#at();
    // Up to 28 bits are no pair of halves.
    return this.end - this.dataStart <= 4 ? reader.uint32() : toInteger(reader.int64());
  }

  float(): number {
    this.#require(FIXED32);
    return this.#at().float();
  }

  /** Appends what a field of repeated integers holds: one element, or many when it is packed. */
  pushIntegers(into: Integer[]): void {
    if (this.wire === VARINT) into.push(this.integer());
    else this.#unpack((reader) => into.push(toInteger(reader.int64())));
  }

  pushFloats(into: Integer[]): void {
    if (this.wire === FIXED32) into.push(this.float());
    else this.#unpack((reader) => into.push(reader.float()));
  }

  pushDoubles(into: Integer[]): void {
    if (this.wire === FIXED64) into.push(this.#at().double());
    else this.#unpack((reader) => into.push(reader.double()));
  }

  #unpack(next: (reader: Reader) => void): void {
    const reader = new Reader(this.payload);
    try {
      while (reader.pos < reader.len) next(reader);
    } catch {
      throw malformed('a list of numbers is cut off', this.start);
    }
  }

  /** The reader of the message, before the payload. */
  #at(): Reader {
    const { reader } = this.message;
    reader.pos = this.dataStart;
    return reader;
  }

  #require(wire: number): void {
    if (this.wire !== wire) throw malformed(`field ${this.number} has wire type ${this.wire} where ${wire} belongs`, this.start);
  }
}

function toInteger(value: number | ReturnType<Reader['int64']>): Integer {
  if (typeof value === 'number') return value;
  const near = value.high * 2 ** 32 + (value.low >>> 0);
  return Number.isSafeInteger(near) ? near : (BigInt(value.high) << 32n) | BigInt(value.low >>> 0);
}

/** The fields of a message held in memory, one after another; of a graph's many messages, a generator would take longer than its fields. */
export class Fields {
  private at: number;
  #reader: Reader | undefined;

  /** @param start where the first field stands */
  constructor(
    readonly bytes: Uint8Array,
    start = 0,
  ) {
    this.at = start;
  }

  /** For what is not read at sight, which is little. */
  get reader(): Reader {
    this.#reader ??= new Reader(this.bytes);
    return this.#reader;
  }

  /** The next field; undefined behind the last one. */
  next(): Field | undefined {
    const { bytes, at } = this;
    if (at >= bytes.length) return undefined;
    const header = shortHeader(bytes, at);
    const dataStart = at + header;
    const field = header > 0 ? new Field(this, bytes[at] as number, at, dataStart, dataStart + shortLength(bytes, at, header)) : fieldAt(this, at, 0);
    if (field.end > bytes.length) throw malformed(`field ${field.number} is cut off`, field.start);
    this.at = field.end;
    return field;
  }
}

/** All fields of a message held in memory, in order. */
export function* fieldsOf(message: Uint8Array): Generator<Field> {
  const fields = new Fields(message);
  for (let f = fields.next(); f; f = fields.next()) yield f;
}

/** The field that `record`, tag and all, is. */
export function fieldOf(record: Uint8Array): Field {
  const field = new Fields(record).next();
  if (!field) throw malformed('a field is empty', 0);
  return field;
}

/** Writes a message, field after field. */
export class MessageWriter {
  readonly #writer = new Writer();

  bytes(field: number, payload: Uint8Array): this {
    this.#tag(field, LENGTH_DELIMITED).bytes(payload);
    return this;
  }

  string(field: number, text: string): this {
    this.#tag(field, LENGTH_DELIMITED).string(text);
    return this;
  }

  /** An int64, or anything narrower; negative ones take ten bytes, in two's complement. */
  integer(field: number, value: Integer): this {
    this.#tag(field, VARINT).int64(typeof value === 'number' ? value : ({ low: Number(BigInt.asIntN(32, value)), high: Number(BigInt.asIntN(32, value >> 32n)) } as ReturnType<Reader['int64']>));
    return this;
  }

  float(field: number, value: number): this {
    this.#tag(field, FIXED32).float(value);
    return this;
  }

  message(field: number, write: (message: this) => void): this {
    this.#tag(field, LENGTH_DELIMITED).fork();
    write(this);
    this.#writer.ldelim();
    return this;
  }

  /** Fields as they stand. */
  raw(fields: Uint8Array): this {
    this.#writer.raw(fields);
    return this;
  }

  finish(): Uint8Array {
    return this.#writer.finish();
  }

  #tag(field: number, wire: number): Writer {
    return this.#writer.uint32(((field << 3) | wire) >>> 0);
  }
}

/** Tag and length of a length-delimited field. */
export function encodeHeader(field: number, length: number): Uint8Array {
  return new Writer().uint32(((field << 3) | LENGTH_DELIMITED) >>> 0).uint32(length).finish();
}

export function encodeBytesField(field: number, payload: Uint8Array): Uint8Array {
  return new MessageWriter().bytes(field, payload).finish();
}

export function encodeStringField(field: number, text: string): Uint8Array {
  return new MessageWriter().string(field, text).finish();
}

export function encodeVarintField(field: number, value: Integer): Uint8Array {
  return new MessageWriter().integer(field, value).finish();
}

export function concat(parts: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  for (const p of parts) length += p.length;
  const joined = new Uint8Array(length);
  let at = 0;
  for (const p of parts) {
    joined.set(p, at);
    at += p.length;
  }
  return joined;
}
