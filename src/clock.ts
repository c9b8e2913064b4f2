/** Milliseconds by a clock that never goes back. Node loads `performance`, with all its hooks, when it is first read; its own clock is there. */
export const now: () => number = typeof process === 'object' && typeof process.hrtime === 'function' ? () => milliseconds(process.hrtime()) : () => performance.now();

function milliseconds([seconds, nanoseconds]: readonly [number, number]): number {
  return 1e3 * seconds + nanoseconds / 1e6;
}
