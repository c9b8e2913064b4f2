/** Models on the wire: adding fields that no schema knows, and reading records back as bytes. */
import { concat, encodeBytesField, encodeVarintField, fieldsOf } from '../../src/onnx/wire.js';

/** A field number far above those of onnx.proto. */
export const UNKNOWN = 1234;

export function unknownField(text: string): Uint8Array {
  return concat([encodeBytesField(UNKNOWN, new TextEncoder().encode(text)), encodeVarintField(UNKNOWN + 1, 42)]);
}

/** `bytes` with every field `number` of the message replaced by what `edit` makes of its payload. */
export function mapField(bytes: Uint8Array, number: number, edit: (payload: Uint8Array, index: number) => Uint8Array): Uint8Array {
  const parts: Uint8Array[] = [];
  let index = 0;
  for (const f of fieldsOf(bytes)) {
    if (f.number === number && f.wire === 2) parts.push(encodeBytesField(number, edit(bytes.subarray(f.dataStart, f.end), index++)));
    else parts.push(bytes.subarray(f.start, f.end));
  }
  return concat(parts);
}

/** Payloads of all length-delimited fields `number`. */
export function payloads(bytes: Uint8Array, number: number): Uint8Array[] {
  return [...fieldsOf(bytes)].filter((f) => f.number === number && f.wire === 2).map((f) => bytes.subarray(f.dataStart, f.end));
}

export function textOf(bytes: Uint8Array, number: number): string {
  const [payload] = payloads(bytes, number);
  return payload ? new TextDecoder().decode(payload) : '';
}

export function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

/** The unknown fields of a message, as they stand. */
export function unknownOf(bytes: Uint8Array): string {
  return [...fieldsOf(bytes)].filter((f) => f.number >= UNKNOWN).map((f) => hex(bytes.subarray(f.start, f.end))).join();
}
