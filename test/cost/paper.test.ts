import { describe, expect, it } from 'vitest';
import { paperMacs, paperStages } from '../../src/cost/paper.js';

/** LLaVA-1.5-7B and LLaVA-NeXT-7B have the same decoder; the numbers are the paper's, in 10¹² MACs as printed. */
const DECODER = { hidden: 4096, mlp: 11008 };

describe.each([
  ['LLaVA-1.5-7B', 576, { 1: '3.82', 0.4: '1.54', 0.5: '1.78', 0.6: '2.06' }],
  ['LLaVA-NeXT-7B', 2880, { 1: '20.8', 0.4: '8.22', 0.5: '9.46', 0.6: '11.0' }],
])('%s, %i image tokens', (_, tokens, printed) => {
  it.each(Object.entries(printed))('lambda %s: %s T', (lambda, want) => {
    const macs = paperMacs({ ...DECODER, stages: paperStages(32, 4, tokens, lambda) });
    expect((macs / 1e12).toPrecision(3)).toBe(want);
  });
});

describe('paperStages', () => {
  it('puts 32 layers into stages of 8', () => {
    expect(paperStages(32, 4, 576, '0.5')).toEqual([576, 288, 144, 72].map((imageTokens) => ({ layers: 8, imageTokens })));
  });

  it('spreads layers that do not divide evenly as the default boundaries do', () => {
    expect(paperStages(30, 4, 10, '1').map((s) => s.layers)).toEqual([7, 8, 7, 8]);
  });
});
