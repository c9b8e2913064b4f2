/** What the dialects share: walking back from an attention operand to q, k or v before the cache. */
import type { Graph, Node, Value } from '../../ir/graph.js';
import type { HeadOperand, InputRoles, PastInput } from '../facts.js';
import type { Axis, Probes } from '../probes.js';

export interface DialectContext {
  readonly graph: Graph;
  readonly roles: InputRoles;
  readonly content: ReadonlySet<Value>;
  readonly probes: Probes;
  /** Length of the chunk where the export fixed it. */
  readonly fixedSequence: number | undefined;
  /** Records why something that looked like attention was not taken; shown when no decoder is found. */
  decline(node: Node, reason: string, at?: Node): void;
}

/** Size of the batch axis as probes see it: `B`, or 1 when the export fixed it. */
export function isBatch(axis: Axis | undefined): boolean {
  return axis === 'B' || axis === 1;
}

/** A scalar factor that `node` applies to its content operand: Mul by c is c, Div by c is 1/c. */
export function scalarFactor(ctx: DialectContext, node: Node): { operand: Value; factor: number } | undefined {
  const [a, b] = node.inputs;
  if (!a || !b) return undefined;
  if (node.is('Div')) {
    const c = ctx.probes.constantScalar(b);
    return c !== undefined && c !== 0 ? { operand: a, factor: 1 / c } : undefined;
  }
  if (!node.is('Mul')) return undefined;
  const right = ctx.content.has(b) ? undefined : ctx.probes.constantScalar(b);
  if (right !== undefined) return { operand: a, factor: right };
  const left = ctx.content.has(a) ? undefined : ctx.probes.constantScalar(a);
  return left !== undefined ? { operand: b, factor: left } : undefined;
}

export interface OperandWalk {
  /** The operand before cache, repetition, transposition and scaling: [B, heads, S, D] or [B, S, heads, D]. */
  readonly operand: HeadOperand | undefined;
  /** Product of the scalar factors on the way. */
  readonly factor: number;
  /** The cache the operand is appended to. */
  readonly past: PastInput | undefined;
  /** The value right after the cache has been joined; what is stored as present. */
  readonly joined: Value | undefined;
  /** False when repeated heads are laid out head-minor (tiled), which is not how grouped queries pair up. */
  readonly grouped: boolean;
  /** Caches of what the operand is made of, where that is not the operand itself. */
  readonly latent: readonly LatentCache[];
  readonly heads: number;
  readonly headDim: number;
}

/** A cache of latents, and what is stored again. */
export interface LatentCache {
  readonly past: PastInput;
  readonly joined: Value;
}

/**
 * Multi-head latent attention: keys are made of latents and a rotary part that are cached each by itself, [B, 1, P, …]. Every
 * way back from the keys must end at such a cache or in what is no content: only then are the last S of them the chunk's.
 */
function latentCache(ctx: DialectContext, keys: Value): LatentCache[] | undefined {
  const found: LatentCache[] = [];
  const seen = new Set<Value>();
  const queue = [keys];
  for (let v = queue.pop(); v; v = queue.pop()) {
    if (seen.has(v) || !ctx.content.has(v)) continue;
    seen.add(v);
    const node: Node | null = v.producer;
    if (!node || seen.size > 64) return undefined;
    if (node.is('Shape') || node.is('Size')) continue;
    const [first, second] = node.inputs;
    const past = node.is('Concat') && node.inputs.length === 2 && first && second && !ctx.content.has(first) && ctx.content.has(second) ? pastBehind(ctx, first) : undefined;
    if (past) found.push({ past, joined: v });
    else for (const i of node.inputs) if (i) queue.push(i);
  }
  return found.length > 0 ? found.sort((a, b) => ctx.roles.pasts.indexOf(a.past) - ctx.roles.pasts.indexOf(b.past)) : undefined;
}

/** Q and DQ nodes of graphs that are quantized with constant scales: they round, and change nothing else. */
export const QUANTIZING = ['QuantizeLinear', 'DequantizeLinear'];

const PASSING = new Set([...QUANTIZING, 'Transpose', 'Cast', 'Identity', 'Reshape', 'Expand', 'Unsqueeze', 'Squeeze', 'Slice', 'Flatten', 'Tile']);

/** Follows an attention operand back to where its heads are first laid out over the chunk's tokens. */
export function walkOperand(ctx: DialectContext, start: Value): OperandWalk {
  let factor = 1;
  let past: PastInput | undefined;
  let joined: Value | undefined;
  let best: { value: Value; layout: HeadOperand['layout']; heads: number; headDim: number; factor: number } | undefined;
  let repeated: readonly Axis[] | undefined;
  let expanded: typeof best;
  for (let v: Value | undefined = start; v; ) {
    const axes = ctx.probes.axes(v);
    if (axes?.length === 5) repeated = axes;
    const laid = axes && headAxes(axes, ctx.fixedSequence);
    if (laid && !(best && (laid.heads > best.heads || laid.headDim !== best.headDim))) best = { value: v, ...laid, factor };
    if (axes && isBatch(axes[0]) && axes.length === 4 && axes[2] === 'T' && typeof axes[1] === 'number' && typeof axes[3] === 'number') expanded = { value: v, layout: 'bhtd', heads: axes[1], headDim: axes[3], factor };
    const node: Node | null = v.producer;
    if (!node || !ctx.content.has(v)) break;
    const scaled: { operand: Value; factor: number } | undefined = scalarFactor(ctx, node);
    if (scaled && ctx.content.has(scaled.operand)) {
      factor *= scaled.factor;
      v = scaled.operand;
      continue;
    }
    const inputs: Value[] = node.inputs.filter((i): i is Value => i !== null);
    if (node.is('Concat') && inputs.length > 1) {
      const fresh: Value[] = inputs.filter((i) => ctx.content.has(i));
      const cached: Value[] = inputs.filter((i) => !ctx.content.has(i));
      if (fresh.length !== 1 || cached.length !== 1 || joined) break;
      past = pastBehind(ctx, cached[0] as Value);
      if (!past) break;
      joined = v;
      best = undefined;
      v = fresh[0];
      continue;
    }
    if (!(node.domain === '' && (PASSING.has(node.opType) || (node.opType === 'Concat' && inputs.length === 1)))) break;
    const data: Value | undefined = inputs[0];
    if (!data || !ctx.content.has(data)) break;
    v = data;
  }
  const latent = !best && !joined && expanded ? latentCache(ctx, expanded.value) : undefined;
  if (latent) {
    best = expanded;
    past = latent[0]?.past;
    joined = latent[0]?.joined;
  }
  const heads = best?.heads ?? 0;
  const grouped = !repeated || repeated[1] === heads || repeated[2] === 1 || heads === 1;
  return {
    operand: best && { value: best.value, layout: best.layout, offset: undefined },
    // Factors beyond the operand belong to its projection and are instantiated with it.
    factor: best?.factor ?? factor,
    past,
    joined,
    grouped,
    latent: latent ?? [],
    heads,
    headDim: best?.headDim ?? 0,
  };
}

function headAxes(axes: readonly Axis[], fixedSequence: number | undefined): { layout: 'bhsd' | 'bshd'; heads: number; headDim: number } | undefined {
  if (axes.length !== 4 || !isBatch(axes[0])) return undefined;
  const [, a, b, d] = axes;
  if (typeof d !== 'number') return undefined;
  const isSequence = (x: Axis | undefined): boolean => x === 'S' || (fixedSequence !== undefined && x === fixedSequence);
  if (typeof a === 'number' && isSequence(b)) return { layout: 'bhsd', heads: a, headDim: d };
  // [B, S, heads, D] only counts where it is what the rotated operand looks like (some models rotate before the transpose).
  if (isSequence(a) && typeof b === 'number') return { layout: 'bshd', heads: b, headDim: d };
  return undefined;
}

/** The cache input behind Cast, Identity, Slice and one-input Concat. */
export function pastBehind(ctx: DialectContext, value: Value | null | undefined): PastInput | undefined {
  let v = value ?? undefined;
  while (v) {
    const past = ctx.roles.pasts.find((p) => p.value === v);
    if (past) return past;
    const n: Node | null = v.producer;
    if (!n || !(n.domain === '' && ['Cast', 'Identity', 'Slice', 'Transpose', 'Concat', 'Reshape', ...QUANTIZING].includes(n.opType))) return undefined;
    v = n.inputs[0] ?? undefined;
  }
  return undefined;
}

/** The graph output that stores `joined`, and whether it is cropped on the way. */
export function presentOf(joined: Value | undefined): { output: Value; cropped: boolean } | undefined {
  if (!joined) return undefined;
  const queue: { value: Value; cropped: boolean }[] = [{ value: joined, cropped: false }];
  const seen = new Set<Value>();
  for (let item = queue.shift(); item; item = queue.shift()) {
    if (seen.has(item.value)) continue;
    seen.add(item.value);
    if (item.value.isOutput) return { output: item.value, cropped: item.cropped };
    for (const { node, index } of item.value.uses) {
      if (index !== 0 || node.domain !== '') continue;
      const out = node.outputs[0];
      const passes = ['Identity', 'Cast', 'Transpose', ...QUANTIZING].includes(node.opType) || (node.opType === 'Concat' && node.inputs.length === 1);
      if (out && (passes || node.opType === 'Slice')) queue.push({ value: out, cropped: item.cropped || node.opType === 'Slice' });
    }
  }
  return undefined;
}

/**
 * A bias that differs by head (ALiBi, relative positions): [B·heads, S | 1, K], [heads, S | 1, K] or [B | 1, heads, S | 1, K].
 * One that is merely repeated over the heads is a mask.
 */
export function perHeadBias(ctx: DialectContext, value: Value, heads: number): Value | undefined {
  if (heads < 2 || ctx.content.has(value) || !headFirst(ctx, value, heads)) return undefined;
  for (let v: Value | undefined = value; v?.producer; v = v.producer.inputs[0] ?? undefined) {
    const n: Node = v.producer;
    if ((n.is('Expand') || n.is('Tile')) && n.inputs[0] && !headFirst(ctx, n.inputs[0], heads)) return undefined;
    if (!(n.domain === '' && ['Cast', 'Expand', 'Tile'].includes(n.opType))) break;
  }
  return value;
}

/** True when an axis of the value counts heads. */
function headFirst(ctx: DialectContext, value: Value, heads: number): boolean {
  const shapes = ctx.probes.facts.map((f) => f.shape(value));
  return shapes.every((s, i) => {
    if (!s || s.length < 3) return false;
    const at = s[s.length - 3];
    return at === heads || (s.length === 3 && at === heads * (ctx.probes.sizes(i as 0 | 1).batch));
  });
}

/** The parameter behind a column of sinks: one logit a head, the same for all rows and queries. */
export function headSinks(ctx: DialectContext, column: Value): Value | undefined {
  let v: Value | undefined = column;
  while (v?.producer && v.producer.domain === '' && ['Expand', 'Reshape', 'Unsqueeze', 'Squeeze', 'Cast', 'Tile'].includes(v.producer.opType)) v = v.producer.inputs[0] ?? undefined;
  return v && v.tensor && !v.isInput && v.tensor.dims.filter((d) => d !== 1).length <= 1 && ctx.probes.axes(column)?.at(-1) === 1 ? v : undefined;
}
