/**
 * What the graph's inputs are. Roles come from data flow (`input-flow.ts`); names only break ties between inputs that flow to
 * the same places.
 */
import { Refusal } from '../diagnostics.js';
import { isFloat } from '../ir/data-type.js';
import { DataType, type Dim, type Graph, isRead, type Value } from '../ir/graph.js';
import { CARRIED, IMAGE_TOKEN_MASK, isTrainingForward, TRAINING } from './added-names.js';
import type { InputRoles, PastInput } from './facts.js';
import { imageMaskOf } from './image-mask.js';
import { contentOf } from './spine.js';
import { isState } from './states.js';
import { findLookups, flowsOf, INTS, isPast } from './input-flow.js';

function findPasts(graph: Graph): PastInput[] {
  const pasts: PastInput[] = [];
  for (const value of graph.inputs) {
    const dims = value.type?.dims;
    if (!dims || dims.length !== 4 || value.tensor || !isPast(value)) continue;
    // The token axis is the symbolic one that is not the batch; axis 2 ([B, kv heads, past, head size]) is the rule.
    const tokenAxis = typeof dims[2] !== 'number' ? 2 : typeof dims[1] !== 'number' ? 1 : 2;
    pasts.push({ value, tokenAxis });
  }
  return pasts;
}

function named(value: Value, pattern: RegExp): boolean {
  return pattern.test(value.name);
}

/** Prefers by `score`, then by name, then by input order. */
function best<T>(items: readonly T[], score: (item: T) => number): T | undefined {
  let winner: T | undefined;
  let top = Number.NEGATIVE_INFINITY;
  for (const item of items) {
    const s = score(item);
    if (s > top) {
      top = s;
      winner = item;
    }
  }
  return winner;
}

const same = (a: Dim | undefined, b: Dim | undefined): boolean => typeof a === 'string' && a === b;

export function findRoles(graph: Graph): InputRoles {
  // The inputs that pdrop-compile adds are none of the model's own.
  const added: string[] = [IMAGE_TOKEN_MASK, CARRIED.conv[0], CARRIED.recurrent[0], ...(isTrainingForward(graph) ? [TRAINING.query, TRAINING.labels] : [])];
  const inputs = graph.inputs.filter((v) => !v.tensor && !added.includes(v.name));
  const pasts = findPasts(graph);
  const pastValues = new Set(pasts.map((p) => p.value));
  const free = inputs.filter((v) => !pastValues.has(v));
  const lookups = findLookups(graph);
  const likeEmbeds = (v: Value): number => (named(v, /^inputs?_embeds?$/) ? 2 : 0) + (named(v, /embed/) ? 1 : 0);
  const vocab = graph.outputs.map((o) => o.type?.dims?.at(-1)).find((d, i) => graph.outputs[i]?.type?.dims?.length === 3 && typeof d === 'number');
  // Where ids are looked up in a table as long as there are logits, what is called otherwise are features of pictures (Fuyu's image_patches).
  const ofIds = (l: (typeof lookups)[number]): boolean => named(l.ids, /ids/) && !named(l.ids, /pos/);
  const hasIds = lookups.some((l) => l.rows === vocab && ofIds(l));
  const features = free.filter((v) => isFloat(v.type?.elemType) && v.type?.dims?.length === 3 && isRead(v) && (!hasIds || likeEmbeds(v) > 0));
  // A fixed length is a last resort: image features have one too.
  const embeds = best(features.filter((v) => typeof v.type?.dims?.[1] !== 'number'), likeEmbeds) ?? (lookups.length === 0 ? best(features, likeEmbeds) : undefined);
  const lookup = best(lookups, (l) => (l.rows === vocab ? 4 : 0) + (ofIds(l) ? 2 : 0) + (flowsOf(l.ids).mask ? 0 : 1) + l.rows / 1e9);
  const source = embeds ?? lookup?.node.outputs[0];
  if (!source) {
    throw new Refusal({
      code: 'PD301',
      message: 'no decoder found: the graph has neither a float input [batch, sequence, hidden] nor an embedding lookup of token ids',
      culprit: inputs.map((v) => v.name).slice(0, 8).join(', '),
      hint: 'compile the decoder graph (decoder_model_merged.onnx, model.onnx), not the vision encoder, the embedding graph or a head',
    });
  }
  const inputIds = embeds ? undefined : lookup?.ids;
  const sequenceSymbol = (embeds ?? inputIds)?.type?.dims?.[1];
  const rest = free.filter((v) => v !== embeds && v !== inputIds);
  // 2-D [batch, width] candidates, and [n, batch, sequence] for multi-dimensional rotary positions.
  const content = contentOf(graph, source);
  const flows = new Map(rest.map((v) => [v, flowsOf(v, content)]));
  const isTable = (v: Value): boolean => v.type?.dims?.length === 2 && (INTS.includes(v.type.elemType) || v.type.elemType === DataType.BOOL || isFloat(v.type.elemType));
  const attentionMask = best(
    rest.filter((v) => isTable(v) && (flows.get(v)?.mask || named(v, /attention_mask/))),
    (v) => (flows.get(v)?.mask ? 16 : 0) + (named(v, /mask/) ? 4 : 0) + (named(v, /pos|type/) ? -4 : 0) + (same(v.type?.dims?.[1], sequenceSymbol) ? 0 : 1) + (flows.get(v)?.rotary ? 0 : 1),
  );
  const positionIds = best(
    rest.filter((v) => v !== attentionMask && INTS.includes(v.type?.elemType ?? 0) && (flows.get(v)?.rotary || named(v, /^position_ids$/)) && (v.type?.dims?.length === 2 || v.type?.dims?.length === 3)),
    (v) => (named(v, /pos/) ? 4 : 0) + (same(v.type?.dims?.at(-1), sequenceSymbol) ? 1 : 0),
  );
  const cachePosition = rest.find((v) => v !== positionIds && INTS.includes(v.type?.elemType ?? 0) && v.type?.dims?.length === 1 && typeof v.type.dims[0] !== 'number' && (flows.get(v)?.mask || flows.get(v)?.rotary));
  // Where a 2-D mask is what masks, one of other sizes than the tokens' is the vision tower's (pixel_attention_mask).
  const masked = attentionMask !== undefined && flows.get(attentionMask)?.mask === true;
  const ofTokens = (v: Value): boolean => !masked || (v.type?.dims?.some((d) => same(d, sequenceSymbol)) ?? false);
  const fourD = rest.find((v) => v.type?.dims?.length === 4 && ofTokens(v) && (named(v, /mask/) || (flows.get(v)?.mask && !flows.get(v)?.rotary && v.type.dims[1] === 1)));
  if (fourD) {
    throw new Refusal({
      code: 'PD306',
      message: 'the attention mask is a 4-D input: what it says about each token cannot be read from it',
      culprit: fourD.name,
      hint: 'export the decoder with a 2-D attention_mask [batch, past + sequence] and let the graph build the causal mask',
    });
  }
  const states = rest.filter((v) => v !== attentionMask && isState(graph, v));
  const claimed = new Set<Value | undefined>([attentionMask, positionIds, cachePosition, ...states]);
  const tokenInputs = rest.filter((v) => {
    const dims = v.type?.dims;
    if (claimed.has(v) || !dims || dims.length < 2) return false;
    const at = dims.findIndex((d) => same(d, sequenceSymbol));
    return at > 0 || (dims.length === 2 && INTS.includes(v.type?.elemType ?? 0) && typeof dims[1] !== 'number' && named(v, /token_type|^(decoder_)?input_ids$/));
  });
  return {
    source,
    sourceKind: embeds ? 'inputs_embeds' : 'input_ids',
    inputIds,
    attentionMask,
    positionIds,
    cachePosition,
    tokenInputs,
    imageMask: imageMaskOf(tokenInputs),
    pasts,
    states,
  };
}
