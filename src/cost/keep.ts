/**
 * How many image tokens are kept: exact integer arithmetic, the same as the compiled graph does.
 */

import { UsageError } from '../diagnostics.js';

/** A share in [0, 1] as an exact fraction. `den` is a power of ten, from 10^6 to 10^12. */
export interface Ratio {
  readonly num: bigint;
  readonly den: bigint;
}

const LEAST_DIGITS = 6;
const MOST_DIGITS = 12;
const DECIMAL = /^\+?(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d{1,3}))?$/;

function refuse(text: string, message: string): UsageError {
  return new UsageError({
    code: 'PD010',
    message,
    culprit: text,
    hint: slipIn(text) ?? `write the share as a decimal between 0 and 1 with at most ${MOST_DIGITS} places, such as 0.5`,
  });
}

/** Percent, or a comma for the point. */
function slipIn(text: string): string | undefined {
  const percent = /^(\d{1,3})(?:\.0*)?%?$/.exec(text.trim())?.[1];
  if (percent !== undefined && Number(percent) > 1 && Number(percent) <= 100) return `write ${Number(percent) / 100} for ${Number(percent)}%`;
  const [, whole, fraction] = /^(0?),(\d+)$/.exec(text.trim()) ?? [];
  return fraction === undefined ? undefined : `write ${whole || '0'}.${fraction}, with a point`;
}

/**
 * Reads a decimal share such as `0.5`, `.25`, `1` or `5e-1`.
 * @returns the fraction, over 10^6 or, for longer decimals, over the power of ten they need
 * @throws UsageError (PD010) for what is not a decimal, is outside [0, 1], or has more than 12 decimal places
 */
export function parseRatio(text: string): Ratio {
  const match = DECIMAL.exec(text.trim());
  const [, whole = '', fraction = '', exponent = '0'] = match ?? [];
  if (match === null || whole + fraction === '') throw refuse(text, `"${text}" is not a decimal number`);
  let digits = BigInt(whole + fraction);
  let places = fraction.length - Number(exponent);
  while (places > 0 && digits % 10n === 0n) {
    digits /= 10n;
    places--;
  }
  if (places > MOST_DIGITS) throw refuse(text, `"${text}" has more than ${MOST_DIGITS} decimal places`);
  const scale = Math.max(places, LEAST_DIGITS);
  const den = 10n ** BigInt(scale);
  const num = digits * 10n ** BigInt(digits === 0n ? 0 : scale - places);
  if (num > den) throw refuse(text, `"${text}" is outside [0, 1]`);
  return { num, den };
}

/**
 * `ratio` to the power `exponent` (a whole number, 0 or more): computed exactly, then rounded (half up) to 12 decimals.
 * The result is over 10^6 when that holds it, else over 10^12.
 */
export function powRatio(ratio: Ratio, exponent: number): Ratio {
  if (!Number.isInteger(exponent) || exponent < 0) throw new RangeError(`exponent ${exponent} is not a whole number`);
  const power = BigInt(exponent);
  const top = 10n ** BigInt(MOST_DIGITS);
  const den = ratio.den ** power;
  const num = (2n * ratio.num ** power * top + den) / (2n * den);
  const shorter = 10n ** BigInt(MOST_DIGITS - LEAST_DIGITS);
  return num % shorter === 0n ? { num: num / shorter, den: top / shorter } : { num, den: top };
}

/** The ratio as a decimal string without trailing zeros, such as `0.125`: `parseRatio` of it is equal. */
export function formatRatio(ratio: Ratio): string {
  const places = ratio.den.toString().length - 1;
  const digits = ratio.num.toString().padStart(places + 1, '0');
  const fraction = digits.slice(-places).replace(/0+$/, '');
  return fraction === '' ? digits.slice(0, -places) : `${digits.slice(0, -places)}.${fraction}`;
}

/** `a < b`, exactly. */
export function isLess(a: Ratio, b: Ratio): boolean {
  return a.num * b.den < b.num * a.den;
}

/**
 * Image tokens kept of `tokens`: floor(tokens·ratio + 1e-6), exactly.
 * The 1e-6 makes a ratio that was rounded down (one third of 576) keep what was meant.
 *
 * @param tokens image tokens of a row at the start of the chunk, a whole number
 * @param ratio cumulative share, a decimal string or what `parseRatio` gave
 */
export function keepCount(tokens: number, ratio: Ratio | string): number {
  const { num, den } = typeof ratio === 'string' ? parseRatio(ratio) : ratio;
  // den is a multiple of 10^6, so 1e-6 of it is a whole number: the compiled graph does the same sum in int64.
  return Number((BigInt(tokens) * num + den / 1_000_000n) / den);
}
