/** Percentiles and the like over plain arrays of numbers. */

/** `q`-th quantile (0..1) with linear interpolation between neighbours (numpy's default); NaN when there is nothing. */
export function quantile(sorted: readonly number[], q: number): number {
  if (sorted.length === 0) return Number.NaN;
  const place = q * (sorted.length - 1);
  const low = Math.floor(place);
  const a = sorted[low] ?? Number.NaN;
  const b = sorted[Math.min(low + 1, sorted.length - 1)] ?? a;
  return a + (b - a) * (place - low);
}

export function sorted(values: readonly number[]): number[] {
  return Float64Array.from(values).sort() as unknown as number[];
}

export function mean(values: readonly number[]): number {
  return values.length === 0 ? Number.NaN : values.reduce((a, b) => a + b, 0) / values.length;
}

export function rms(values: readonly number[]): number {
  return Math.sqrt(mean(values.map((v) => v * v)));
}

/** Standard error of the mean. */
export function standardError(values: readonly number[]): number {
  if (values.length < 2) return Number.NaN;
  const m = mean(values);
  return Math.sqrt(values.reduce((a, v) => a + (v - m) ** 2, 0) / (values.length - 1) / values.length);
}

export interface Spread {
  readonly median: number;
  readonly p25: number;
  readonly p75: number;
  readonly min: number;
  readonly max: number;
  readonly n: number;
}

export function spread(values: readonly number[]): Spread {
  const s = sorted(values);
  return { median: quantile(s, 0.5), p25: quantile(s, 0.25), p75: quantile(s, 0.75), min: quantile(s, 0), max: quantile(s, 1), n: s.length };
}

/** A mean with the 95% interval that Student's t gives it. */
export interface Estimate {
  readonly mean: number;
  readonly standardError: number;
  /** NaN where there are fewer than two values. */
  readonly low: number;
  readonly high: number;
  readonly samples: number;
}

export function estimate(values: readonly number[]): Estimate {
  const [m, error] = [mean(values), standardError(values)];
  const half = error * t95(values.length - 1);
  return { mean: m, standardError: error, low: m - half, high: m + half, samples: values.length };
}

/** Student's t, two-sided 95%: the first quantiles as tabled, then Cornish and Fisher's expansion around the normal one (right to 0.001). */
export function t95(degrees: number): number {
  const tabled = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228][degrees - 1];
  if (tabled !== undefined) return tabled;
  const z = 1.959964;
  return z + (z ** 3 + z) / (4 * degrees) + (5 * z ** 5 + 16 * z ** 3 + 3 * z) / (96 * degrees ** 2) + (3 * z ** 7 + 19 * z ** 5 + 17 * z ** 3 - 15 * z) / (384 * degrees ** 3);
}
