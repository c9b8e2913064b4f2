/** `0.3:0.9:0.1` and `2,4` → the points of a sweep, in exact decimals. */
import { formatRatio, parseRatio } from '../../cost/keep.js';
import { UsageError } from '../../diagnostics.js';

/** What is swept when nothing is said. */
export const SWEEP_DEFAULTS = { lambdas: '0.3:0.9:0.1', stages: [4] } as const;

/** λ values: a list `0.4,0.5`, or a range `from:to:step` with both ends, in exact decimals. */
export function parseLambdas(text: string): string[] {
  const out: string[] = [];
  for (const part of text.split(',')) {
    const [from, to, step] = part.split(':');
    if (to === undefined) {
      out.push(formatRatio(parseRatio(part)));
      continue;
    }
    const [a, b, s] = [parseRatio(from ?? ''), parseRatio(to), parseRatio(step ?? '0.1')];
    const den = [a.den, b.den, s.den].reduce((x, y) => (x > y ? x : y));
    const scaled = (r: { num: bigint; den: bigint }): bigint => r.num * (den / r.den);
    if (scaled(s) === 0n || scaled(b) < scaled(a)) throw new UsageError({ code: 'PD033', message: `--lambda ${part} is an empty range`, culprit: '--lambda', hint: 'write from:to:step, such as 0.3:0.9:0.1' });
    for (let v = scaled(a); v <= scaled(b); v += scaled(s)) out.push(formatRatio({ num: v, den }));
  }
  const unique = [...new Set(out)].filter((l) => l !== '0');
  if (unique.length === 0 || unique.length > 200) throw new UsageError({ code: 'PD033', message: `--lambda ${text} gives ${unique.length} values`, culprit: '--lambda', hint: 'write a list or from:to:step with 1 to 200 values in (0, 1]' });
  return unique;
}

export interface GridPoint {
  readonly positions: 'auto' | 'compact' | 'keep';
  readonly stages: number;
  readonly lambda: string;
}

export function gridOf(modes: readonly GridPoint['positions'][], stages: readonly number[], lambdas: readonly string[]): GridPoint[] {
  return modes.flatMap((positions) => stages.flatMap((s) => lambdas.map((lambda) => ({ positions, stages: s, lambda }))));
}
