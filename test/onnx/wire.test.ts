/** Fields and their ranges, as they are read off damaged and odd bytes, and as they are written. */
import { Writer } from 'protobufjs/minimal.js';
import { describe, expect, it } from 'vitest';
import { Refusal } from '../../src/diagnostics.js';
import { encodeVarintField, type Field, fieldOf, fieldsOf, MessageWriter } from '../../src/onnx/wire.js';
import { MemorySource, WindowedSource } from '../../src/onnx/bytes.js';
import { peekField } from '../../src/onnx/elide.js';
import { hex } from '../support/wire.js';

const bytes = (...list: number[]): Uint8Array => Uint8Array.from(list);

function refusal(read: () => unknown): string {
  try {
    read();
  } catch (error) {
    if (error instanceof Refusal && error.code === 'PD101') return error.message;
    throw error;
  }
  throw new Error('it was read');
}

/** Field 1, length-delimited. */
const text = (...payload: number[]): Field => fieldOf(bytes(0x0a, payload.length, ...payload));

describe('integers', () => {
  it.each([0, 1, 127, 128, -1, -2, 2 ** 31, 2 ** 32, -(2 ** 31), Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER])('%i is read as it was written', (value) => {
    expect(fieldOf(encodeVarintField(1, value)).integer()).toBe(value);
    expect(fieldOf(encodeVarintField(1, BigInt(value))).integer()).toBe(value);
  });

  it.each([2n ** 53n, 2n ** 53n + 1n, -(2n ** 53n), 2n ** 63n - 1n, -(2n ** 63n), -(2n ** 63n) + 1n])('%i, which no number holds exactly, is a bigint', (value) => {
    expect(fieldOf(encodeVarintField(1, value)).integer()).toBe(value);
  });

  it('negative ones take ten bytes', () => {
    expect(hex(encodeVarintField(1, -1))).toBe('08ffffffffffffffffff01');
    expect(hex(encodeVarintField(1, -(2n ** 63n)))).toBe('0880808080808080808001');
  });

  it('packed, and one by one', () => {
    const packed = new Writer().uint32(0x0a).int64s([1, -1, 300]).finish();
    const list: (number | bigint)[] = [];
    fieldOf(packed).pushIntegers(list);
    for (const f of fieldsOf(new MessageWriter().integer(1, 5).integer(1, 2n ** 60n).finish())) f.pushIntegers(list);
    expect(list).toEqual([1, -1, 300, 5, 2n ** 60n]);
  });

  it('floats, packed and one by one', () => {
    const list: (number | bigint)[] = [];
    fieldOf(new Writer().uint32(0x0a).floats([1.5, -0]).finish()).pushFloats(list);
    fieldOf(new MessageWriter().float(1, 0.25).finish()).pushFloats(list);
    fieldOf(new Writer().uint32(0x0a).doubles([0.1]).finish()).pushDoubles(list);
    fieldOf(new Writer().uint32(0x09).double(0.2).finish()).pushDoubles(list);
    expect(list).toEqual([1.5, -0, 0.25, 0.1, 0.2]);
  });
});

describe('names', () => {
  const BOM = [0xef, 0xbb, 0xbf];

  it.each([
    ['short', [0x61]],
    ['long', new Array<number>(100).fill(0x61)],
  ])('a byte order mark is a character like any other, before a %s text', (_, rest) => {
    expect(text(...BOM, ...rest).name()).toBe(`\ufeff${String.fromCharCode(...rest)}`);
    expect(text(...BOM, ...rest).text()).toBe(`\ufeff${String.fromCharCode(...rest)}`);
  });

  it.each([
    ['a byte that begins nothing', [0x61, 0xff, 0x62]],
    ['a character cut off', [0x61, 0xe2, 0x82]],
    ['a surrogate', [0xed, 0xa0, 0x80]],
    ['an overlong form', [0xc0, 0x80]],
    ['the same in a long name', [...new Array<number>(100).fill(0x61), 0xff]],
  ])('%s is refused as a name and shown as text', (_, payload) => {
    expect(refusal(() => text(...payload).name())).toContain('not UTF-8');
    expect(text(...payload).text()).toContain('\ufffd');
  });

  it('every character is written as it was read', () => {
    for (const name of ['', 'a', 'ä', '漢', '😀', '\u0000', '\ufeff', `${'x'.repeat(50)}😀`, '😀'.repeat(100)]) {
      const field = fieldOf(new MessageWriter().string(1, name).finish());
      expect(field.name()).toBe(name);
      expect(hex(field.payload)).toBe(Buffer.from(name).toString('hex'));
    }
  });
});

describe('damaged fields are refused', () => {
  it.each([
    ['a tag cut off', [0x8a], 'cut off'],
    ['a number cut off', [0x08, 0x80], 'cut off'],
    ['a number of more than ten bytes', [0x08, ...new Array<number>(10).fill(0x80), 0x01], 'longer than ten bytes'],
    ['a length cut off', [0x0a, 0x80], 'cut off'],
    ['a length past the end', [0x0a, 0x05, 1, 2], 'cut off'],
    ['a length of 2 GiB', [0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f, 0], 'length'],
    ['a length of ten bytes', [0x0a, ...new Array<number>(9).fill(0xff), 0x01, 0], 'length'],
    ['a tag of six bytes', [0x8a, 0x80, 0x80, 0x80, 0x80, 0x01, 0, 0, 0], 'tag'],
    ['fixed64 cut off', [0x09, 1, 2, 3, 4, 5, 6, 7], 'cut off'],
    ['fixed32 cut off', [0x0d, 1, 2, 3], 'cut off'],
    ['field 0', [0x00, 0x01], 'field number 0'],
    ['a group', [0x0b, 0x0c], 'wire type 3'],
    ['the end of a group', [0x0c], 'wire type 4'],
    ['wire type 7', [0x0f, 0, 0], 'wire type 7'],
  ])('%s', (_, list, reason) => {
    expect(refusal(() => [...fieldsOf(bytes(...list))])).toContain(reason);
  });

  it.each([
    ['a number where text belongs', () => fieldOf(bytes(0x08, 1)).name()],
    ['text where a number belongs', () => text(1).integer()],
    ['a number where a message belongs', () => fieldOf(bytes(0x08, 1)).payload],
    ['a packed list that ends in a number', () => text(1, 0x80).pushIntegers([])],
    ['packed floats that end in a float', () => text(1, 2, 3, 4, 5).pushFloats([])],
  ])('%s', (_, read) => {
    expect(refusal(read)).toMatch(/belongs|cut off/);
  });

  it('with the place where they are', () => {
    expect(refusal(() => [...fieldsOf(bytes(0x08, 1, 0x08, 1, 0x0a, 9))])).toContain('at byte 4');
  });
});

describe('ranges', () => {
  it('hold every byte of the message, once', () => {
    const nested = new MessageWriter().string(1, 'x').finish();
    const message = new MessageWriter().integer(1, 300).float(2, 1).bytes(300, new Uint8Array(200)).message(4, (m) => m.raw(nested)).raw(bytes(0x29, 1, 2, 3, 4, 5, 6, 7, 8)).finish();
    const fields = [...fieldsOf(message)];
    expect(fields.map((f) => [f.number, f.wire])).toEqual([[1, 0], [2, 5], [300, 2], [4, 2], [5, 1]]);
    let at = 0;
    for (const f of fields) {
      expect(f.start).toBe(at);
      expect(hex(f.record)).toBe(hex(message.subarray(f.start, f.end)));
      at = f.end;
    }
    expect(at).toBe(message.length);
    expect(hex(fields[3]?.payload as Uint8Array)).toBe(hex(nested));
  });
});

describe('headers', () => {
  const SIZES = [0, 1, 127, 128, 129, 16_383, 16_384, 2_097_151, 2_097_152];

  it.each([1, 15, 16, 2047, 2048, 536_870_911])('of field %i are read alike whatever their length', (number) => {
    for (const size of SIZES) {
      const payload = new Uint8Array(size).fill(7);
      const message = new Writer().uint32(8).int32(-3).uint32((number << 3) | 2).bytes(payload).uint32((number << 3) | 2).bytes(payload).finish();
      const [first, ...rest] = [...fieldsOf(message)];
      expect([first?.number, first?.integer(), rest.length]).toEqual([1, -3, 2]);
      for (const f of rest) expect([f.number, f.wire, f.payload.length, f.record.length - f.payload.length, message.subarray(f.dataStart, f.end).length]).toEqual([number, 2, size, headerOf(number, size), size]);
    }
  });

  it('that spell a length with more bytes than it takes are read as protobufjs reads them', () => {
    for (const length of [[0x82, 0x00], [0x82, 0x80, 0x00], [0x82, 0x80, 0x80, 0x00], [0x82, 0x80, 0x80, 0x80, 0x00]]) {
      expect([...fieldOf(bytes(0x0a, ...length, 65, 66)).payload]).toEqual([65, 66]);
    }
  });

  it('that are cut off, or tell of more than is there, are refused', () => {
    for (const size of SIZES.slice(1, -2)) {
      const message = new Writer().uint32(0x0a).bytes(new Uint8Array(size)).finish();
      for (const end of [1, 2, 3, message.length - 1]) if (end < message.length) refusal(() => fieldOf(message.subarray(0, end)));
    }
    // Field 0, and a wire type that is none.
    for (const tag of [0x02, 0x0e, 0x0f]) refusal(() => fieldOf(bytes(tag, 1, 65)));
  });

  it('are read at sight where a window holds them, and never beyond the message', async () => {
    const inner = new Writer().uint32(0x0a).bytes(new Uint8Array(200)).uint32(0x12).bytes(new Uint8Array(3)).finish();
    // A length that would be whole with the bytes behind the message.
    const cut = Uint8Array.of(...inner, 0x0a, 0x05, 1, 2, 3, 4, 5);
    const source = new WindowedSource(new MemorySource(cut));
    await source.load(0, cut.length);
    const found = [];
    for (let at = 0; at < inner.length; ) {
      const f = peekField(source, at, inner.length);
      if (!f) throw new Error('the window holds it');
      found.push([f.number, f.end - f.dataStart]);
      at = f.end;
    }
    expect(found).toEqual([[1, 200], [2, 3]]);
    refusal(() => peekField(source, inner.length, inner.length + 1));
    refusal(() => peekField(source, inner.length, inner.length + 6));
  });
});

/** Bytes of a tag and a length. */
function headerOf(number: number, size: number): number {
  const bytesOf = (n: number): number => Math.max(1, Math.ceil(Math.log2(n + 1) / 7));
  return bytesOf(number * 8 + 2) + bytesOf(size);
}
