/** Head counts and sizes of an attention, as a file states them: no layer is built on numbers that do not go together. */
import { describeNode, Refusal } from '../../diagnostics.js';
import type { AttentionCore } from '../facts.js';

/** Larger than any model's; what is computed from it stays exact. */
const MOST = 2 ** 24;

/** @throws {Refusal} PD102 */
export function requireSoundCore(core: AttentionCore): void {
  const size = (n: number): boolean => Number.isInteger(n) && n > 0 && n <= MOST;
  const { heads, kvHeads, headDim, scale, softcap } = core;
  if (size(heads) && size(kvHeads) && size(headDim) && heads % kvHeads === 0 && Number.isFinite(scale) && Number.isFinite(softcap)) return;
  throw new Refusal({
    code: 'PD102',
    message: `an attention of ${heads} heads over ${kvHeads} key heads of size ${headDim}, scale ${scale}${softcap ? `, soft-cap ${softcap}` : ''}, does not go together`,
    culprit: describeNode(core.anchor),
    hint: 'the graph is not valid ONNX; export it again or run onnx.checker on it',
  });
}
