/** The grid of schedules that sweep measures. */
import { expect, it } from 'vitest';
import { parseLambdas } from '../../../src/validate/sweep/sweep-grid.js';

it('λ ranges are exact', () => {
  expect(parseLambdas('0.3:0.9:0.1')).toEqual(['0.3', '0.4', '0.5', '0.6', '0.7', '0.8', '0.9']);
  expect(parseLambdas('0.5,0.25')).toEqual(['0.5', '0.25']);
  expect(() => parseLambdas('0.9:0.3:0.1')).toThrow(/empty range/);
});
