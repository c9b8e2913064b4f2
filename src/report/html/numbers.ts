/** Numbers as people read them, with units. */

/** Minus as a sign, not a hyphen. */
const minus = (text: string): string => text.replace(/^-/, '−');

/** Three significant digits, and no trailing zeros beyond them. */
function three(v: number): string {
  const a = Math.abs(v);
  return a >= 100 ? v.toFixed(0) : v.toPrecision(3);
}

function scaled(v: number, base: number, units: readonly string[]): string {
  let x = v;
  let u = 0;
  while (Math.abs(x) >= base * 0.9995 && u < units.length - 1) {
    x /= base;
    u++;
  }
  return minus(`${u === 0 && Number.isInteger(x) ? x : three(x)} ${units[u]}`.trim());
}

/** 1348 → 1,348 */
export function count(v: number): string {
  return minus(Number.isInteger(v) ? String(v).replace(/\B(?=(\d{3})+(?!\d))/g, ',') : three(v));
}

/** 68600832 → 68.6 M */
export function si(v: number): string {
  return scaled(v, 1000, ['', 'k', 'M', 'G', 'T', 'P', 'E']);
}

/** 3145728 → 3.00 MiB */
export function bytes(v: number): string {
  return scaled(v, 1024, ['B', 'KiB', 'MiB', 'GiB', 'TiB']);
}

/** 0.535 → 53.5%; what is not all is never shown as 100%. */
export function share(v: number): string {
  const p = 100 * v;
  if (p === 0 || p === 100) return `${p}%`;
  let digits = Math.abs(p) < 0.1 ? 2 : 1;
  while (digits < 5 && ((v < 1 && Number(p.toFixed(digits)) >= 100) || Number(p.toFixed(digits)) === 0)) digits++;
  return minus(`${p.toFixed(digits)}%`);
}

/** A change of a probability in percentage points, signed. */
export function points(v: number): string {
  const p = 100 * v;
  if (p === 0) return '0 pp';
  const text = Math.abs(p) < 0.001 ? p.toExponential(1) : p.toFixed(Math.abs(p) < 0.1 ? 3 : 2);
  return `${p > 0 ? '+' : ''}${minus(text)} pp`;
}

/** As `points`, without a sign. */
export function size(v: number): string {
  return points(v).replace(/^\+/, '');
}

/** Nats, ratios and the like. */
export function plain(v: number): string {
  if (v === 0) return '0';
  const a = Math.abs(v);
  return minus(a < 1e-3 || a >= 1e6 ? v.toExponential(2) : a >= 1000 ? v.toFixed(0) : v.toPrecision(3));
}

/** Without trailing zeros: 0.0500 → 0.05, 50.0% → 50%, 5.00 M → 5 M; for limits and ticks. */
export function round(text: string): string {
  return text.replace(/(\.\d*?)0+(?!\d)/, '$1').replace(/\.(?!\d)/, '');
}

/** A standard error: two digits say enough. */
export function error(v: number): string {
  return v === 0 ? '0' : minus(v < 1e-3 ? v.toExponential(1) : v.toPrecision(2));
}

/** Milliseconds. */
export function ms(v: number): string {
  if (v === 0) return '0 ms';
  return v < 0.1 ? `${three(v * 1000)} µs` : v >= 1000 ? `${three(v / 1000)} s` : `${three(v)} ms`;
}

/** 1.307 → 1.31× */
export function times(v: number): string {
  return `${v.toFixed(v >= 100 ? 0 : 2)}×`;
}

/** `1 sample`, `2 samples`. */
export function counted(n: number, one: string, many = `${one}s`): string {
  return `${count(n)} ${n === 1 ? one : many}`;
}
