/** Feeds for any decoder-like session: sizes by declared names, contents by what inputs of that type and rank mean. */
import { random } from './mutate.mjs';

const ROWS = 1;
const TOKENS = 12;

function sizeOf(dim, axis, rank, name) {
  if (typeof dim === 'number') return dim;
  if (rank === 4) return axis === 0 ? ROWS : axis === 2 ? 0 : 4;
  if (rank === 1) return TOKENS;
  if (axis === 0 && rank > 1) return /position/.test(name) && rank === 3 ? 3 : ROWS;
  if (rank === 3 && axis === 1) return /position/.test(name) ? ROWS : TOKENS;
  return TOKENS;
}

/** Feeds without a cache; `extra` is the mask of image tokens. */
export function feedsFor(ort, session, seed) {
  const r = random(seed ^ 0x5eed);
  const feeds = {};
  for (const input of session.inputMetadata) {
    const shape = input.shape.map((d, i) => sizeOf(d, i, input.shape.length, input.name));
    const count = shape.reduce((a, b) => a * b, 1);
    const { name, type } = input;
    const fill = (make) => Array.from({ length: count }, (_, i) => make(i));
    const last = shape.at(-1) || 1;
    if (type === 'float32') feeds[name] = new ort.Tensor('float32', Float32Array.from(fill(() => r.next() * 2 - 1)), shape);
    else if (type === 'float16') feeds[name] = new ort.Tensor('float16', Uint16Array.from(fill(() => 0x3000 + r.below(0x0a00))), shape);
    else if (type === 'int64') feeds[name] = new ort.Tensor('int64', BigInt64Array.from(fill((i) => BigInt(/pos/.test(name) ? i % last : /ids/.test(name) ? 3 + r.below(40) : 1))), shape);
    else if (type === 'int32') feeds[name] = new ort.Tensor('int32', Int32Array.from(fill((i) => (/pos/.test(name) ? i % last : 1))), shape);
    else if (type === 'bool') feeds[name] = new ort.Tensor('bool', Uint8Array.from(fill(() => 1)), shape);
  }
  const mask = Uint8Array.from({ length: ROWS * TOKENS }, (_, i) => (i > 2 && i < 9 ? 1 : 0));
  return { feeds, extra: { image_token_mask: new ort.Tensor('bool', mask, [ROWS, TOKENS]) } };
}
