/** Did you mean: the nearest of some names, by edit distance. */

function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) next.push(Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)));
    row = next;
  }
  return row[b.length] ?? 0;
}

/** The name that `given` was probably meant to be: at most two edits away, and not another word altogether. */
export function similar(given: string, names: readonly string[]): string | undefined {
  if (given.length > 40) return undefined;
  const ranked = names.map((name) => [distance(given, name), name] as const).sort((x, y) => x[0] - y[0]);
  const best = ranked[0];
  return best && best[0] <= Math.min(2, given.length / 2) ? best[1] : undefined;
}
