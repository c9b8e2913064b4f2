/**
 * A Llama decoder with rank and drop, in plain TypeScript over arrays of double precision: written from docs/semantics.md,
 * sharing nothing with the compiler, with onnxruntime or with the PyTorch reference the goldens come from.
 */
export interface Weights {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly epsilon: number;
  readonly theta: number;
  readonly layers: readonly LayerWeights[];
  readonly norm: Float64Array;
  readonly head: Matrix;
}

export interface LayerWeights {
  readonly norm: Float64Array;
  readonly q: Matrix;
  readonly k: Matrix;
  readonly v: Matrix;
  readonly o: Matrix;
  readonly mlpNorm: Float64Array;
  readonly gate: Matrix;
  readonly up: Matrix;
  readonly down: Matrix;
}

/** [rows, columns], row by row: x·W has `columns` entries. */
export interface Matrix {
  readonly rows: number;
  readonly columns: number;
  readonly data: Float64Array;
}

export interface Schedule {
  readonly layers: readonly number[];
  /** Cumulative shares, in hundredths. */
  readonly keep: readonly number[];
  readonly positions: 'compact' | 'keep';
}

/** What one row of a chunk brings. */
export interface RowInput {
  readonly embeds: readonly Float64Array[];
  /** The whole mask: past entries, then the chunk's. */
  readonly mask: readonly number[];
  readonly positions: readonly number[];
  readonly image: readonly boolean[];
}

interface Token {
  /** Index in the chunk. */
  readonly index: number;
  hidden: Float64Array;
  readonly valid: boolean;
  readonly image: boolean;
  readonly position: number;
}

/** Keys and values of one layer and row, a vector of all kv heads for each token. */
interface Entry {
  readonly key: Float64Array;
  readonly value: Float64Array;
}

/** Caches of a batch: [layer][row][token]. */
export type Cache = Entry[][][];

export interface Result {
  /** Per boundary and row: which tokens of the chunk are left. */
  readonly kept: number[][][];
  /** Per row and token of the last stage; undefined where the token is padding. */
  readonly logits: (Float64Array | undefined)[][];
  readonly cacheLengths: number[];
  /** Least distance of the score of a kept token to that of a dropped one, over the larger; infinite when nothing had to be chosen. */
  readonly gap: number;
}

export function emptyCache(weights: Weights, rows: number): Cache {
  return weights.layers.map(() => Array.from({ length: rows }, () => []));
}

/** floor(n·r + 1e-6), r in hundredths: exact. */
export function keepCount(n: number, hundredths: number): number {
  return Math.floor((n * hundredths) / 100);
}

/** Runs a chunk and appends to the cache. */
export function runChunk(weights: Weights, schedule: Schedule, rows: readonly RowInput[], cache: Cache): Result {
  const past = (layer: number): number => cache[layer]?.[0]?.length ?? 0;
  const first = past(0);
  const pastBefore = weights.layers.map((_, l) => past(l));
  let stage: Token[][] = rows.map((row) =>
    row.embeds.map((hidden, i) => ({ index: i, hidden, valid: row.mask[first + i] === 1, image: (row.image[i] ?? false) && row.mask[first + i] === 1, position: row.positions[i] as number })),
  );
  const kept: number[][][] = [];
  let gap = Number.POSITIVE_INFINITY;
  let dropped = 0;
  const counts = stage.map((tokens) => {
    const n = tokens.filter((t) => t.image).length;
    return { n, most: n - (lastValid(tokens).image ? 1 : 0) };
  });
  weights.layers.forEach((layer, l) => {
    const boundary = schedule.layers.indexOf(l);
    if (boundary >= 0) {
      const total = Math.min(...counts.map(({ n, most }) => Math.min(n - keepCount(n, schedule.keep[boundary] as number), most)));
      stage = stage.map((tokens, r) => {
        // The ranking happens in the finished stage: its positions, its tokens.
        const scores = rank(weights, layer, tokens, positionsOf(tokens, rows[r] as RowInput, schedule, first - (pastBefore[l - 1] as number)));
        const last = lastValid(tokens);
        const order = tokens.filter((t) => t.image && t !== last).sort((a, b) => (scores.get(a) as number) - (scores.get(b) as number) || b.index - a.index);
        const out = order.slice(0, total - dropped);
        const left = order.slice(total - dropped);
        if (out.length > 0 && left.length > 0) {
          const [high, low] = [scores.get(left[0] as Token) as number, scores.get(out.at(-1) as Token) as number];
          if (high !== low) gap = Math.min(gap, (high - low) / high);
        }
        return tokens.filter((t) => !out.includes(t));
      });
      dropped = total;
      kept.push(stage.map((tokens) => tokens.map((t) => t.index)));
    }
    const before = pastBefore[l] as number;
    stage.forEach((tokens, r) => {
      const row = rows[r] as RowInput;
      const pastMask = row.mask.slice(0, first);
      const visible = pastMask[0] === 0 ? pastMask.slice(0, before) : pastMask.slice(pastMask.length - before);
      attend(weights, layer, tokens, positionsOf(tokens, row, schedule, first - before), cache[l]?.[r] as Entry[], visible);
    });
  });
  const logits = stage.map((tokens) => tokens.map((t) => (t.valid ? times(rms(t.hidden, weights.norm, weights.epsilon), weights.head) : undefined)));
  return { kept, logits, cacheLengths: weights.layers.map((_, l) => past(l)), gap };
}

function lastValid(tokens: readonly Token[]): Token {
  return tokens.findLast((t) => t.valid) as Token;
}

/** `compact`: minus the tokens dropped before it in its row in this chunk, minus what its cache is shorter than the first layer's. */
function positionsOf(tokens: readonly Token[], row: RowInput, schedule: Schedule, shift: number): number[] {
  return tokens.map((t, i) => (schedule.positions === 'keep' ? t.position : (row.positions[t.index] as number) - (t.index - i) - shift));
}

/** Mean over heads of the last valid token's attention to the chunk's tokens. */
function rank(w: Weights, layer: LayerWeights, tokens: readonly Token[], positions: readonly number[]): Map<Token, number> {
  const at = tokens.indexOf(lastValid(tokens));
  const normed = tokens.map((t) => rms(t.hidden, layer.norm, w.epsilon));
  const q = rotated(times(normed[at] as Float64Array, layer.q), positions[at] as number, w);
  const keys = normed.map((x, i) => rotated(times(x, layer.k), positions[i] as number, w));
  const scores = new Map(tokens.map((t): [Token, number] => [t, 0]));
  for (let h = 0; h < w.heads; h++) {
    const p = softmax(keys.map((k, i) => ((tokens[i] as Token).valid ? dot(q, k, h, w) : Number.NEGATIVE_INFINITY)));
    tokens.forEach((t, i) => scores.set(t, (scores.get(t) as number) + (p[i] as number) / w.heads));
  }
  return scores;
}

/** One layer on one row: attention over the cache and the chunk, causal by order, then the MLP. */
function attend(w: Weights, layer: LayerWeights, tokens: readonly Token[], positions: readonly number[], cache: Entry[], visible: readonly number[]): void {
  const normed = tokens.map((t) => rms(t.hidden, layer.norm, w.epsilon));
  const before = cache.length;
  normed.forEach((x, i) => cache.push({ key: rotated(times(x, layer.k), positions[i] as number, w), value: times(x, layer.v) }));
  const seen = [...visible.map((m) => m === 1), ...tokens.map((t) => t.valid)];
  tokens.forEach((t, i) => {
    if (!t.valid) return;
    const q = rotated(times(normed[i] as Float64Array, layer.q), positions[i] as number, w);
    const mixed = new Float64Array(w.heads * w.headDim);
    for (let h = 0; h < w.heads; h++) {
      const p = softmax(cache.map((e, j) => (seen[j] && j <= before + i ? dot(q, e.key, h, w) : Number.NEGATIVE_INFINITY)));
      const from = Math.floor((h * w.kvHeads) / w.heads) * w.headDim;
      cache.forEach((e, j) => {
        for (let d = 0; d < w.headDim; d++) mixed[h * w.headDim + d] = (mixed[h * w.headDim + d] as number) + (p[j] as number) * (e.value[from + d] as number);
      });
    }
    const hidden = plus(t.hidden, times(mixed, layer.o));
    const x = rms(hidden, layer.mlpNorm, w.epsilon);
    const up = times(x, layer.up);
    const gated = times(x, layer.gate).map((g, d) => (g / (1 + Math.exp(-g))) * (up[d] as number));
    t.hidden = plus(hidden, times(gated, layer.down));
  });
}

function dot(q: Float64Array, k: Float64Array, head: number, { heads, kvHeads, headDim }: Weights): number {
  const [a, b] = [head * headDim, Math.floor((head * kvHeads) / heads) * headDim];
  let sum = 0;
  for (let d = 0; d < headDim; d++) sum += (q[a + d] as number) * (k[b + d] as number);
  return sum / Math.sqrt(headDim);
}

/** Rotary embedding, halves of a head rotated against each other. */
function rotated(x: Float64Array, position: number, { headDim, theta }: Weights): Float64Array {
  const out = new Float64Array(x.length);
  const half = headDim / 2;
  for (let at = 0; at < x.length; at += headDim) {
    for (let d = 0; d < half; d++) {
      const angle = position * theta ** (-d / half);
      const [a, b] = [x[at + d] as number, x[at + half + d] as number];
      out[at + d] = a * Math.cos(angle) - b * Math.sin(angle);
      out[at + half + d] = b * Math.cos(angle) + a * Math.sin(angle);
    }
  }
  return out;
}

function softmax(x: readonly number[]): number[] {
  const top = Math.max(...x);
  const e = x.map((v) => Math.exp(v - top));
  const sum = e.reduce((a, b) => a + b, 0);
  return e.map((v) => v / sum);
}

function rms(x: Float64Array, scale: Float64Array, epsilon: number): Float64Array {
  const mean = x.reduce((a, v) => a + v * v, 0) / x.length;
  const factor = 1 / Math.sqrt(mean + epsilon);
  return x.map((v, i) => v * factor * (scale[i] as number));
}

function times(x: Float64Array, { rows, columns, data }: Matrix): Float64Array {
  const out = new Float64Array(columns);
  for (let i = 0; i < rows; i++) {
    const v = x[i] as number;
    for (let j = 0; j < columns; j++) out[j] = (out[j] as number) + v * (data[i * columns + j] as number);
  }
  return out;
}

function plus(a: Float64Array, b: Float64Array): Float64Array {
  return a.map((v, i) => v + (b[i] as number));
}
