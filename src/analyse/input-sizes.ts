/** How large the graph's inputs are at given sizes of batch, sequence and past, by their roles and declared symbols. */
import { extentOf, type Graph, type Value } from '../ir/graph.js';
import type { AttentionCore, InputRoles, PastInput } from './facts.js';
import { pictureSize } from './picture-size.js';
import type { ProbeSizes } from './probes.js';

/** Head size assumed for caches that do not declare theirs, until the attention op has told it. */
export const UNKNOWN_HEAD_DIM = 947;

/** Head size of each cache, as its attention knows it: caches need not declare theirs. */
export function headDimsOf(cores: Iterable<Pick<AttentionCore, 'past' | 'headDim'>>): (past: PastInput) => number | undefined {
  const headDims = new Map<Value, number>();
  for (const { past, headDim } of cores) for (const p of [past?.key, past?.value]) if (p) headDims.set(p.value, headDim);
  return (p) => headDims.get(p.value);
}

/**
 * Sizes of all graph inputs at the probe sizes. `headDim` stands in where a cache does not declare its head size.
 * Inputs with a size that nothing tells are noted in `guessed`.
 */
export function shapesAt(graph: Graph, roles: InputRoles, sizes: ProbeSizes, headDim: (past: PastInput) => number | undefined, guessed?: Set<Value>): Map<Value, (number | null)[]> {
  const { batch, sequence } = sizes;
  const past = roles.pasts.length > 0 ? sizes.past : 0;
  const shapes = new Map<Value, (number | null)[]>();
  const anchor = roles.sourceKind === 'inputs_embeds' ? roles.source : roles.inputIds;
  const symbols = new Map<string, number>();
  const learn = (value: Value | undefined, axis: number, size: number): void => {
    const d = value?.type?.dims?.at(axis);
    if (typeof d === 'string' && !symbols.has(d)) symbols.set(d, size);
  };
  learn(anchor, 0, batch);
  learn(anchor, 1, sequence);
  for (const p of roles.pasts) {
    learn(p.value, p.tokenAxis, past);
    learn(p.value, 0, batch);
  }
  const fill = (value: Value, wanted: (axis: number, rank: number) => number | undefined): void => {
    const dims = value.type?.dims;
    if (!dims) return;
    const picture = pictureSize(value);
    shapes.set(
      value,
      dims.map((d, i) => {
        const size = typeof d === 'number' ? d : (wanted(i, dims.length) ?? (typeof d === 'string' ? (symbols.get(d) ?? extentOf(d)) : undefined));
        if (size === undefined) guessed?.add(value);
        return size ?? picture?.[i] ?? (i === 3 && roles.pasts.some((p) => p.value === value) ? UNKNOWN_HEAD_DIM : 1);
      }),
    );
  };
  for (const v of graph.inputs) {
    if (v.tensor) continue;
    const pastInput = roles.pasts.find((p) => p.value === v);
    if (v === anchor) fill(v, (i) => [batch, sequence][i]);
    else if (pastInput) fill(v, (i) => (i === 0 ? batch : i === pastInput.tokenAxis ? past : i === 3 ? (headSize(v) ?? headDim(pastInput)) : undefined));
    else if (roles.states.includes(v)) fill(v, (i) => (i === 0 ? batch : undefined));
    else if (v === roles.attentionMask) fill(v, (i) => [batch, past + sequence][i]);
    else if (v === roles.positionIds) fill(v, (i, rank) => [batch, sequence][i - (rank - 2)]);
    else if (v === roles.cachePosition) fill(v, () => sequence);
    else if (roles.tokenInputs.includes(v) && v.type?.dims?.length === 2) fill(v, (i) => [batch, sequence][i]);
    else fill(v, (i, rank) => (rank === 2 && v.type?.dims?.[i] === null ? [batch, sequence][i] : undefined));
  }
  return shapes;
}

/** The head size a cache declares as a symbol named after the number. */
function headSize(past: Value): number | undefined {
  const d = past.type?.dims?.[3];
  return typeof d === 'string' ? extentOf(d) : undefined;
}
