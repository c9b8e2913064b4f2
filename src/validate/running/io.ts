/**
 * What a decoder's inputs and outputs are for, read from their declarations: element types, ranks and shared symbols
 * first, names where those leave a choice. `pair` gives the caches a known pairing (from the graph's analysis).
 */
import { extentOf } from '../../ir/graph.js';
import { RunFault } from './faults.js';
import type { Dtype } from './tensor.js';

/** A declared graph input or output: numbers, or the names of symbolic dimensions ('' when unnamed). */
export interface IoInfo {
  readonly name: string;
  readonly dtype: Dtype | 'unknown';
  readonly dims: readonly (number | string)[];
}

/** One tensor carried from a run to the next: output `present` becomes input `past`. */
export interface CacheSlot {
  readonly past: string;
  readonly present: string;
  /** Position among the layers that have a cache, counted from 0. */
  readonly layer: number;
  readonly kind: 'key' | 'value' | 'state';
  /** Axis that grows with the tokens; -1 for states of fixed size. */
  readonly tokenAxis: number;
  readonly dtype: IoInfo['dtype'];
  readonly dims: readonly (number | string)[];
}

/** What analysis knows of a cache input, by its name: it overrules what the declaration leaves open. */
export interface KnownCache {
  readonly layer: number;
  readonly kind: 'key' | 'value';
  readonly tokenAxis: number;
  readonly kvHeads: number;
  readonly headDim: number;
}

export interface DecoderIo {
  readonly ids: IoInfo | undefined;
  readonly embeds: IoInfo | undefined;
  readonly mask: IoInfo | undefined;
  readonly positions: IoInfo | undefined;
  readonly imageMask: IoInfo | undefined;
  /** Inputs that are none of the above nor caches: pixel_values and the like. */
  readonly extras: readonly IoInfo[];
  readonly caches: readonly CacheSlot[];
  readonly logits: IoInfo;
  /** Kept-index outputs added by `--probe`, in boundary order. */
  readonly probes: readonly string[];
  /** mRoPE: size of the leading axis of 3-D position ids, else 0. */
  readonly positionAxes: number;
}

/** Some exporters write a static size as a symbol named after the number. */
export function readDim(d: number | string): number | string {
  return extentOf(d) ?? d;
}

export const IMAGE_MASK_INPUT = 'image_token_mask';

/** Where a graph marks image tokens itself, its input is called so (Qwen3-VL). */
export const VISUAL_MASK_INPUT = 'visual_pos_masks';

export const isInteger = (i: IoInfo): boolean => i.dtype === 'int64' || i.dtype === 'int32';
export const isFloat = (i: IoInfo): boolean => i.dtype === 'float32' || i.dtype === 'float16' || i.dtype === 'float64';

/** Roles of the declared inputs and outputs. @throws {RunFault} PD505 when there are no logits or no token input. */
export function describeIo(model: string, inputs: readonly IoInfo[], outputs: readonly IoInfo[], known: ReadonlyMap<string, KnownCache> = new Map()): DecoderIo {
  const left = new Set(inputs);
  const take = (test: (i: IoInfo) => boolean): IoInfo | undefined => {
    const found = [...left].find(test);
    if (found) left.delete(found);
    return found;
  };
  const imageMask = take((i) => i.name === IMAGE_MASK_INPUT);
  const positions = take((i) => /position_?ids?/i.test(i.name) && isInteger(i));
  const mask = take((i) => /attention_?mask/i.test(i.name) && i.dims.length === 2) ?? take((i) => /mask/i.test(i.name) && i.dims.length === 2 && !isFloat(i));
  const ids = take((i) => /input_?ids|decoder_input|^tokens?$/i.test(i.name) && isInteger(i)) ?? take((i) => isInteger(i) && i.dims.length === 2);
  const embeds =
    take((i) => /inputs?_?embed/i.test(i.name) && isFloat(i)) ??
    (ids ? undefined : take((i) => isFloat(i) && i.dims.length === 3 && typeof i.dims[2] === 'number' && typeof i.dims[1] === 'string'));
  if (!ids && !embeds) {
    throw new RunFault({ code: 'PD505', message: `${model} has neither token ids nor embeddings among its inputs (${inputs.map((i) => i.name).join(', ')})`, culprit: model, hint: 'validate takes the decoder of a vision-language model' });
  }
  const probes = outputs.filter((o) => o.dtype === 'int64' && /kept|probe/i.test(o.name));
  const results = outputs.filter((o) => !probes.includes(o));
  const logits = results.find((o) => o.name === 'logits') ?? results.find((o) => isFloat(o) && o.dims.length === 3 && !pairsWithInput(o, inputs)) ?? results[0];
  if (!logits) throw new RunFault({ code: 'PD505', message: `${model} has no logits output`, culprit: model, hint: 'validate takes the decoder of a vision-language model' });
  const caches = pairCaches([...left], results.filter((o) => o !== logits)).map((slot) => informed(slot, known.get(slot.past)));
  const paired = new Set(caches.map((c) => c.past));
  const first = positions?.dims.length === 3 ? positions.dims[0] : 0;
  return {
    ids,
    embeds,
    mask,
    positions,
    imageMask,
    extras: [...left].filter((i) => !paired.has(i.name)),
    caches,
    logits,
    probes: probes.map((p) => p.name),
    positionAxes: positions?.dims.length === 3 ? (typeof first === 'number' ? first : 3) : 0,
  };
}

function informed(slot: CacheSlot, known: KnownCache | undefined): CacheSlot {
  if (!known) return slot;
  const dims = slot.dims.map((d, axis) => {
    if (typeof d === 'number' || axis === 0 || axis === known.tokenAxis || slot.dims.length !== 4) return d;
    return axis === 3 ? known.headDim : known.kvHeads;
  });
  return { ...slot, layer: known.layer, kind: known.kind, tokenAxis: known.tokenAxis, dims };
}

function pairsWithInput(output: IoInfo, inputs: readonly IoInfo[]): boolean {
  const key = labelOf(output.name);
  return key.index !== undefined && inputs.some((i) => labelOf(i.name).index === key.index && isFloat(i) && i.dims.length === output.dims.length);
}

/** The layer number and the kind a cache name speaks of. */
function labelOf(name: string): { index: number | undefined; kind: CacheSlot['kind'] } {
  const numbers = name.match(/\d+/g);
  const tail = name.toLowerCase().replace(/key_?values?/, '');
  const kind = /(^|[._-])(k|keys?)([._-]|\d|$)/.test(tail) || tail.includes('key') ? 'key' : /(^|[._-])(v|values?)([._-]|\d|$)/.test(tail) || tail.includes('value') ? 'value' : 'state';
  return { index: numbers ? Number(numbers[0]) : undefined, kind };
}

/**
 * Pairs pasts with presents by layer number and kind; where names do not say, in order among those of equal rank and
 * element type.
 */
export function pairCaches(inputs: readonly IoInfo[], outputs: readonly IoInfo[]): CacheSlot[] {
  const slots: { past: IoInfo; present: IoInfo; index: number; kind: CacheSlot['kind'] }[] = [];
  const free = new Set(outputs);
  const unpaired: IoInfo[] = [];
  for (const past of inputs) {
    const label = labelOf(past.name);
    // Counts that are carried (`--runtime genai`) are integers.
    if (past.dims.length < 3 || !(isFloat(past) || (past.dtype === 'int64' && /_state$/.test(past.name)))) continue;
    const present = label.index === undefined ? undefined : [...free].find((o) => {
      const other = labelOf(o.name);
      return other.index === label.index && other.kind === label.kind && o.dims.length === past.dims.length && o.dtype === past.dtype;
    });
    if (present) {
      free.delete(present);
      slots.push({ past, present, index: label.index ?? 0, kind: label.kind });
    } else unpaired.push(past);
  }
  const rest = [...free];
  if (unpaired.length > 0 && unpaired.length === rest.length && slots.length === 0) {
    unpaired.forEach((past, i) => {
      const present = rest[i];
      if (present && present.dims.length === past.dims.length) slots.push({ past, present, index: Math.floor(i / 2), kind: i % 2 === 0 ? 'key' : 'value' });
    });
  }
  const layers = [...new Set(slots.map((s) => s.index))].sort((a, b) => a - b);
  return slots.map((s) => ({
    past: s.past.name,
    present: s.present.name,
    layer: layers.indexOf(s.index),
    kind: s.kind,
    tokenAxis: tokenAxisOf(s.past, s.present),
    dtype: s.past.dtype,
    dims: s.past.dims,
  }));
}

/**
 * Where a graph takes no caches, what it gives out for them says as much: keys and values by layer. Which axis is the tokens' is where
 * layers differ (stages hold other numbers of tokens), or the axis of `tokens` in all of them.
 */
export function withPresents(io: DecoderIo, outputs: readonly IoInfo[]): DecoderIo {
  if (io.caches.length > 0) return io;
  const labelled = outputs.filter((o) => o !== io.logits && isFloat(o) && o.dims.length === 4).map((present) => ({ present, ...labelOf(present.name) }));
  const found = labelled.filter((p) => p.index !== undefined && p.kind !== 'state');
  const ranks = [1, 2, 3].filter((axis) => new Set(found.map((p) => p.present.dims[axis])).size > 1);
  const [tokenAxis] = ranks;
  if (tokenAxis === undefined || ranks.length > 1) return io;
  const layers = [...new Set(found.map((p) => p.index as number))].sort((a, b) => a - b);
  return { ...io, caches: found.map(({ present, index, kind }) => ({ past: '', present: present.name, layer: layers.indexOf(index as number), kind, tokenAxis, dtype: present.dtype, dims: present.dims })) };
}

function tokenAxisOf(past: IoInfo, present: IoInfo): number {
  const differing = present.dims.flatMap((d, i) => (i > 0 && d !== past.dims[i] ? [i] : []));
  if (differing.length === 1 && differing[0] !== undefined) return differing[0];
  const symbolic = present.dims.flatMap((d, i) => (i > 0 && typeof d === 'string' ? [i] : []));
  if (symbolic.length === 1 && symbolic[0] !== undefined) return symbolic[0];
  return present.dims.length === 4 ? 2 : symbolic.length > 0 ? (symbolic[0] ?? -1) : -1;
}
