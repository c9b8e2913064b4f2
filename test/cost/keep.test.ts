import { describe, expect, it } from 'vitest';
import { formatRatio, isLess, keepCount, parseRatio, powRatio } from '../../src/cost/keep.js';
import { UsageError } from '../../src/diagnostics.js';

describe('parseRatio', () => {
  it.each([
    ['0.5', 500_000n, 6],
    ['.25', 250_000n, 6],
    ['1', 1_000_000n, 6],
    ['1.000', 1_000_000n, 6],
    ['0', 0n, 6],
    ['5e-1', 500_000n, 6],
    ['0.05E1', 500_000n, 6],
    ['0.333333333333', 333_333_333_333n, 12],
    ['0.1234567', 1_234_567n, 7],
    ['0.5000000000000000', 500_000n, 6],
    [' 0.5 ', 500_000n, 6],
  ])('reads %s', (text, num, places) => {
    expect(parseRatio(text)).toEqual({ num, den: 10n ** BigInt(places) });
  });

  it.each(['', '.', 'half', '-0.5', '1.000001', '2', '5e1', 'NaN', 'Infinity', '0x1', '0.5.5', '1/2', '0.1234567890123', '1e-13', '50%'])(
    'refuses "%s"',
    (text) => {
      expect(() => parseRatio(text)).toThrow(UsageError);
    },
  );

  it('prints what it reads', () => {
    for (const text of ['0.5', '0', '1', '0.064', '0.333333333333', '0.000001']) expect(formatRatio(parseRatio(text))).toBe(text);
  });
});

describe('powRatio', () => {
  it('is exact, rounded to 12 decimals', () => {
    expect(formatRatio(powRatio(parseRatio('0.4'), 3))).toBe('0.064');
    expect(formatRatio(powRatio(parseRatio('0.333333'), 2))).toBe('0.111110888889');
    expect(formatRatio(powRatio(parseRatio('0.7071067811'), 2))).toBe('0.499999999878');
    expect(powRatio(parseRatio('0.3'), 0)).toEqual({ num: 1_000_000n, den: 1_000_000n });
    expect(formatRatio(powRatio(parseRatio('0.000001'), 2))).toBe('0.000000000001');
    expect(formatRatio(powRatio(parseRatio('0.000001'), 3))).toBe('0');
  });

  it('compares across denominators', () => {
    expect(isLess(parseRatio('0.333333333333'), parseRatio('0.4'))).toBe(true);
    expect(isLess(parseRatio('0.5'), parseRatio('0.5000000'))).toBe(false);
  });
});

describe('keepCount', () => {
  it('gives the paper its counts', () => {
    expect([1, 2, 3].map((i) => keepCount(576, powRatio(parseRatio('0.5'), i)))).toEqual([288, 144, 72]);
    expect([1, 2, 3].map((i) => keepCount(2880, powRatio(parseRatio('0.6'), i)))).toEqual([1728, 1036, 622]);
  });

  it('forgives what rounding took from a ratio, and no more', () => {
    // 0.333333333333 · 576 falls 2e-10 short of 192.
    expect(keepCount(576, '0.333333333333')).toBe(192);
    expect(keepCount(3, '0.333333')).toBe(1);
    expect(keepCount(576, '0.33333')).toBe(191);
  });

  it('is exact where doubles are not', () => {
    expect(keepCount(100, '0.29')).toBe(29);
    expect(100 * 0.29).toBeLessThan(29);
    expect(keepCount(0, '0.5')).toBe(0);
    expect(keepCount(576, '1')).toBe(576);
    expect(keepCount(576, '0')).toBe(0);
    for (let n = 0; n <= 3000; n += 7) expect(keepCount(n, '0.5')).toBe(Math.floor(n / 2));
  });
});
