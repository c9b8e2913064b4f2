/** Feeds for any decoder-like session: sizes by declared ranks, contents by what inputs of that type and rank mean. */
import { random } from './mutate.mjs';

const TOKENS = 12;

/** What kind of run: one row or two, with padding on the left, over a cache or not. */
function situation(r) {
  const rows = r.chance(0.4) ? 2 : 1;
  return { rows, past: r.chance(0.4) ? 1 + r.below(6) : 0, padding: rows === 2 && r.chance(0.5) ? 1 + r.below(3) : 0 };
}

function shapeOf(input, { rows, past }) {
  const { shape, name } = input;
  const rank = shape.length;
  return shape.map((dim, axis) => {
    if (typeof dim === 'number') return dim;
    if (rank === 4) return axis === 0 ? rows : axis === 2 ? past : 4;
    if (rank === 3) return /position/.test(name) ? [3, rows, TOKENS][axis] : [rows, TOKENS, TOKENS][axis];
    if (rank === 2) return axis === 0 ? rows : /mask/.test(name) ? past + TOKENS : TOKENS;
    return TOKENS;
  });
}

/** `extra` is the mask of image tokens. */
export function feedsFor(ort, session, seed) {
  const r = random(seed ^ 0x5eed);
  const now = situation(r);
  if (!session.inputMetadata.some((i) => i.shape.length === 4)) now.past = 0;
  const { rows, past, padding } = now;
  const feeds = {};
  for (const input of session.inputMetadata) {
    const shape = shapeOf(input, now);
    const count = shape.reduce((a, b) => a * b, 1);
    const { name, type } = input;
    const width = shape.at(-1) || 1;
    const fill = (make) => Array.from({ length: count }, (_, i) => make(i % width, Math.floor(i / width)));
    // Left padding in the second row; positions count valid tokens.
    const valid = (column, row) => !(row === 1 && past === 0 && column < padding);
    const whole = (column, row) => {
      if (/pos/.test(name)) return Math.max(0, past + column - (row % rows === 1 && past === 0 ? padding : 0));
      if (/ids/.test(name)) return 3 + r.below(40);
      return valid(column, row) ? 1 : 0;
    };
    if (type === 'float32') feeds[name] = new ort.Tensor('float32', Float32Array.from(fill(() => r.next() * 2 - 1)), shape);
    else if (type === 'float16') feeds[name] = new ort.Tensor('float16', Uint16Array.from(fill(() => 0x3000 + r.below(0x0a00))), shape);
    else if (type === 'int64') feeds[name] = new ort.Tensor('int64', BigInt64Array.from(fill((c, w) => BigInt(whole(c, w)))), shape);
    else if (type === 'int32') feeds[name] = new ort.Tensor('int32', Int32Array.from(fill(whole)), shape);
    else if (type === 'bool') feeds[name] = new ort.Tensor('bool', Uint8Array.from(fill(() => 1)), shape);
  }
  const mask = Uint8Array.from({ length: rows * TOKENS }, (_, i) => (i % TOKENS > 3 && i % TOKENS < 10 ? 1 : 0));
  return { feeds, extra: { image_token_mask: new ort.Tensor('bool', mask, [rows, TOKENS]) }, now };
}
