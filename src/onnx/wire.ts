/**
 * The protobuf wire format, as far as lossless reading needs it: fields with their exact byte ranges.
 * Reading through a schema would lose what the schema does not know; reading fields loses nothing.
 */
import { Refusal } from '../diagnostics.js';

export interface WireField {
  readonly number: number;
  /** 0 varint, 1 fixed64, 2 length-delimited, 5 fixed32. */
  readonly wire: number;
  /** First byte of the tag. */
  readonly start: number;
  /** First byte of the payload (for varints: of the varint). */
  readonly dataStart: number;
  /** One past the last byte. */
  readonly end: number;
  /** Varint value when wire is 0 (safe integers only; larger ones through `varintBig`). */
  readonly value: number;
}

export function malformed(reason: string, at: number): Refusal {
  return new Refusal({
    code: 'PD101',
    message: `the file is not a complete ONNX model: ${reason}${at > 0 ? ` at byte ${at}` : ''}`,
    hint: 'check that the download or export finished (compare the size or a checksum) and that the file is an ONNX protobuf, not a Git LFS pointer, ORT-format or zipped file',
  });
}

/** Result of `readVarint`: value and the offset after it. */
const out = { value: 0, next: 0 };

function readVarint(bytes: Uint8Array, at: number, base: number): typeof out {
  let value = 0;
  let scale = 1;
  for (let i = 0; i < 10; i++) {
    const byte = bytes[at + i];
    if (byte === undefined) throw malformed('a number is cut off', base + at + i);
    value += (byte & 0x7f) * scale;
    if (byte < 0x80) {
      out.value = value;
      out.next = at + i + 1;
      return out;
    }
    scale *= 128;
  }
  throw malformed('a number is longer than ten bytes', base + at);
}

/**
 * Header of the field at `at`: tag and, for length-delimited fields, the length. `bytes` must hold the header;
 * the payload may lie beyond it. `base` is added to offsets in messages and in the result.
 */
export function readFieldHeader(bytes: Uint8Array, at: number, base = 0): WireField {
  const tag = readVarint(bytes, at, base);
  const number = Math.floor(tag.value / 8);
  const wire = tag.value % 8;
  const afterTag = tag.next;
  if (number === 0) throw malformed('field number 0', base + at);
  switch (wire) {
    case 0: {
      const v = readVarint(bytes, afterTag, base);
      return { number, wire, start: base + at, dataStart: base + afterTag, end: base + v.next, value: v.value };
    }
    case 1:
      return { number, wire, start: base + at, dataStart: base + afterTag, end: base + afterTag + 8, value: 0 };
    case 2: {
      const v = readVarint(bytes, afterTag, base);
      return { number, wire, start: base + at, dataStart: base + v.next, end: base + v.next + v.value, value: v.value };
    }
    case 5:
      return { number, wire, start: base + at, dataStart: base + afterTag, end: base + afterTag + 4, value: 0 };
    default:
      throw malformed(`wire type ${wire} is not used by ONNX`, base + at);
  }
}

/** All fields of a message held in memory, in order. */
export function* fieldsOf(bytes: Uint8Array): Generator<WireField> {
  let at = 0;
  while (at < bytes.length) {
    const field = readFieldHeader(bytes, at);
    if (field.end > bytes.length) throw malformed(`field ${field.number} is cut off`, at);
    yield field;
    at = field.end;
  }
}

/** Signed 64-bit value of a varint field. */
export function varintBig(bytes: Uint8Array, at: number): bigint {
  let value = 0n;
  for (let i = 0; i < 10; i++) {
    const byte = bytes[at + i];
    if (byte === undefined) throw malformed('a number is cut off', at + i);
    value |= BigInt(byte & 0x7f) << BigInt(7 * i);
    if (byte < 0x80) return BigInt.asIntN(64, value);
  }
  throw malformed('a number is longer than ten bytes', at);
}

/** Varint of an int64; negative ones take ten bytes, in two's complement. */
export function encodeVarint(value: number | bigint): Uint8Array {
  const bytes: number[] = [];
  if (typeof value === 'number' && value >= 0) {
    let v = value;
    for (; v >= 128; v = Math.floor(v / 128)) bytes.push((v % 128) | 0x80);
    bytes.push(v);
  } else {
    let v = BigInt.asUintN(64, BigInt(value));
    for (; v >= 128n; v >>= 7n) bytes.push(Number(v & 127n) | 0x80);
    bytes.push(Number(v));
  }
  return Uint8Array.from(bytes);
}

/** Tag and length of a length-delimited field. */
export function encodeHeader(number: number, length: number): Uint8Array {
  return concat([encodeVarint(number * 8 + 2), encodeVarint(length)]);
}

export function encodeBytesField(number: number, payload: Uint8Array): Uint8Array {
  return concat([encodeHeader(number, payload.length), payload]);
}

const encoder = new TextEncoder();
// A byte order mark is a character like any other: taken off, the name would be written back as another one.
const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
const strictDecoder = new TextDecoder('utf-8', { ignoreBOM: true, fatal: true });

export function encodeStringField(number: number, text: string): Uint8Array {
  return encodeBytesField(number, encoder.encode(text));
}

/** A float field, 4 bytes. */
export function encodeFloatField(number: number, value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setFloat32(0, value, true);
  return concat([encodeVarint(number * 8 + 5), bytes]);
}

export function encodeVarintField(number: number, value: number | bigint): Uint8Array {
  return concat([encodeVarint(number * 8), encodeVarint(value)]);
}

/** Text that is shown or matched but never written back; attribute strings may hold any bytes. */
export function decodeText(bytes: Uint8Array): string {
  return decoder.decode(bytes);
}

/**
 * A name, which is written back: bytes that are not UTF-8 have no string that stands for them.
 *
 * @throws {Refusal} PD101
 */
export function decodeName(bytes: Uint8Array): string {
  try {
    return strictDecoder.decode(bytes);
  } catch {
    throw malformed(`the name "${decoder.decode(bytes)}" is not UTF-8`, 0);
  }
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
