/** Axes: round ticks, linear and logarithmic. */

export interface Scale {
  /** Place of a value, 0 to 1. */
  readonly place: (v: number) => number;
  readonly ticks: readonly number[];
}

/** From 0 (or `from`) to a round number at or above `max`, with about `wanted` ticks. */
export function linear(max: number, wanted = 4, from = 0): Scale {
  const span = max - from > 0 ? max - from : 1;
  const raw = span / wanted;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * ([1, 2, 2.5, 5, 10].find((m) => m * power >= raw * 0.999) ?? 10);
  const steps = Math.max(1, Math.ceil(span / step - 1e-9));
  const ticks = Array.from({ length: steps + 1 }, (_, i) => Number((from + i * step).toPrecision(12)));
  return { place: (v) => (v - from) / (steps * step), ticks };
}

/** As `linear`, with ticks that are round in KiB, MiB and so on. */
export function binary(max: number, wanted = 4): Scale {
  const unit = 1024 ** Math.max(0, Math.floor(Math.log2(Math.max(1, max)) / 10));
  const scale = linear(max / unit, wanted);
  return { place: (v) => scale.place(v / unit), ticks: scale.ticks.map((t) => t * unit) };
}

/** Whole decades around the values; these must be positive. */
export function logarithmic(values: readonly number[]): Scale {
  const low = Math.floor(Math.log10(Math.min(...values)) + 1e-9);
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...values)) - 1e-9));
  // At most about six ticks, whatever the range.
  const every = Math.ceil((high - low) / 6);
  const ticks = Array.from({ length: Math.floor((high - low) / every) + 1 }, (_, i) => 10 ** (low + i * every));
  return { place: (v) => (Math.log10(v) - low) / (high - low), ticks };
}

/** Logarithmic where the values span more than `decades`, none of them zero; linear otherwise. */
export function fitting(values: readonly number[], decades = 1.3): Scale {
  const high = Math.max(...values);
  const low = Math.min(...values);
  return low > 0 && high / low > 10 ** decades ? logarithmic(values) : linear(high);
}

/** A share as a coordinate. */
export const percent = (share: number): string => `${Number((100 * share).toFixed(3))}%`;
