/** Which tokens were kept, recovered from rows and judged. */
import { describe, expect, it } from 'vitest';
import { judgeKept, matchRows, type TokenRows } from '../../../src/validate/gates/rows.js';
import { scheduleFor } from '../../../src/validate/models/plan.js';

describe('kept tokens', () => {
  const rows = (list: readonly number[]): TokenRows => ({ count: list.length, width: 2, values: Float32Array.from(list.flatMap((v) => [v, -v])) });
  it('are recovered from rows, equal rows in their expected places', () => {
    expect(matchRows(rows([1, 3, 4]), rows([1, 2, 3, 4]), [0, 2, 3], 1e-4)).toEqual([0, 2, 3]);
    expect(matchRows(rows([5, 5, 7]), rows([5, 5, 6, 7]), [0, 1, 3], 1e-4)).toEqual([0, 1, 3]);
    expect(matchRows(rows([9]), rows([1, 2]), [0], 1e-4)).toEqual([-1]);
  });
  it('are judged', () => {
    const text = (t: number): boolean => t < 2;
    expect(judgeKept([0, 1, 4, 3], [0, 1, 3, 4], text)).toMatchObject({ disorder: [[4, 3]], lost: [], otherChoice: [] });
    expect(judgeKept([0, 3, 4, 5], [0, 1, 3, 4], text)).toMatchObject({ disorder: [], lost: [1], otherChoice: [] });
    expect(judgeKept([0, 1, 3, 5], [0, 1, 3, 4], text)).toMatchObject({ lost: [], otherChoice: [4] });
  });
  it('are counted as the paper does, the last token spared, rows kept rectangular', () => {
    const layout = (image: number[][], trailing: number[] = image.map(() => 0)) => ({ rows: image.length, length: image[0]?.length ?? 0, valid: new Uint8Array(image.flat().length).fill(1), image: Uint8Array.from(image.flat()), imageKnown: true, trailing, past: 0 });
    const one = Array.from({ length: 600 }, (_, i) => (i >= 4 && i < 580 ? 1 : 0));
    expect(scheduleFor({ keep: ['0.5', '0.25', '0.125'] }, layout([one])).stageTokens).toEqual([600, 312, 168, 96]);
    expect(scheduleFor({ keep: ['0'] }, layout([[1, 1, 1]])).stageTokens).toEqual([3, 1]);
    expect(scheduleFor({ keep: ['0.5'] }, layout([[1, 1, 1, 1, 0], [0, 0, 0, 0, 0]])).stageTokens).toEqual([5, 5]);
  });
});
