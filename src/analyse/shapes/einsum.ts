/**
 * Reads an Einsum equation against its operands' sizes. Shared by the shape evaluator and the MAC count.
 */

import type { Dims } from './types.js';

export interface EinsumTerms {
  /** Axis labels of each operand; an axis under `...` is labelled `.0` for the last one, `.1` for the one before. */
  readonly operands: readonly (readonly string[])[];
  readonly output: readonly string[];
  /** Size of every label; null when unknown. */
  readonly sizes: ReadonlyMap<string, number | null>;
  readonly conflicts: readonly string[];
}

function labels(term: string, rank: number | undefined): string[] | null {
  const [before = '', after, extra] = term.split('...');
  if (after === undefined) return [...before];
  if (extra !== undefined || rank === undefined) return null;
  const covered = rank - before.length - after.length;
  return [...before, ...Array.from({ length: Math.max(0, covered) }, (_, i) => `.${covered - 1 - i}`), ...after];
}

/** Labels and sizes of `equation` over operands of these shapes; null when a needed rank is unknown or it cannot be read. */
export function einsumTerms(equation: string, shapes: readonly (Dims | null)[]): EinsumTerms | null {
  const [left = '', right] = equation.replaceAll(' ', '').split('->');
  const terms = left.split(',');
  if (terms.length !== shapes.length) return null;
  const operands: string[][] = [];
  const sizes = new Map<string, number | null>();
  const conflicts: string[] = [];
  let widest = 0;
  for (const [i, term] of terms.entries()) {
    const shape = shapes[i] ?? null;
    const own = labels(term, shape?.length);
    if (own === null) return null;
    operands.push(own);
    widest = Math.max(widest, own.filter((l) => l.startsWith('.')).length);
    if (shape !== null && own.length !== shape.length) conflicts.push(`Einsum term "${term}" has ${own.length} axes, its operand ${shape.length}`);
    for (const [axis, label] of own.entries()) {
      const dim = shape?.[axis] ?? null;
      const before = sizes.get(label) ?? null;
      if (before !== null && dim !== null && before !== dim && before !== 1 && dim !== 1) {
        conflicts.push(`Einsum label "${label}": ${before} and ${dim} differ`);
      }
      // Ellipsis axes broadcast, so a one gives way.
      sizes.set(label, before === null || before === 1 ? (dim ?? before) : before);
    }
  }
  const ellipsis = Array.from({ length: widest }, (_, i) => `.${widest - 1 - i}`);
  let output: string[];
  if (right !== undefined) {
    const [before = '', after] = right.split('...');
    output = after === undefined ? [...before] : [...before, ...ellipsis, ...after];
  } else {
    // Implicit form: labels that occur once, in alphabetical order.
    const counts = new Map<string, number>();
    for (const label of operands.flat()) counts.set(label, (counts.get(label) ?? 0) + 1);
    output = [...ellipsis, ...[...counts].filter(([l, n]) => n === 1 && !l.startsWith('.')).map(([l]) => l).sort()];
  }
  return { operands, output, sizes, conflicts };
}
