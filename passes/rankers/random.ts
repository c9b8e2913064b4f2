/** A baseline: seeded random tokens. */
import { DataType } from '../../src/ir/graph.js';
import type { Ranker } from './ranker.js';

/** A seeded hash of the token's place in the chunk, in [0, 1): two rounds of a Lehmer generator. */
export const random: Ranker = ({ context: { builder: b, frames, plan }, stage }) => {
  const modulus = 2147483647;
  const origin = frames.tokens(stage).origin ?? frames.placesIn(0);
  let h = b.op('Add', 'hash_seeded', [origin, b.int(1 + ((plan.seed * 7919 + stage * 104729) % 1000003))]);
  for (const multiplier of [1583458089, 784588716]) {
    h = b.op('Mod', 'hash', [b.op('Mul', 'hash_multiplied', [h, b.int(multiplier)]), b.int(modulus)]);
  }
  return b.op('Div', 'score', [b.cast('hash_float', h, DataType.FLOAT), b.float(modulus)]);
};
