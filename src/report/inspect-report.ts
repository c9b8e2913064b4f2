/** What analysis found in a graph, as data. */
import { type NearMiss, nearMisses, type Trace } from '../analyse/near-miss.js';
import type { DecoderFacts } from '../analyse/facts.js';
import { describeAxes } from '../rewrite/gathering.js';
import { frameDependent, isShapeSlot, isContentNode } from '../rewrite/stages.js';
import type { DiagnosticDetail } from '../diagnostics.js';
import type { Model, Node, Value } from '../ir/graph.js';
import type { ImageTokenId } from '../plan/image-token-id.js';
import { imageIdComparedInGraph } from '../plan/image-source.js';
import type { Plan } from '../plan/plan.js';

export interface LayerReport {
  readonly layer: number;
  /** Values that enter the layer: where it can be cut. */
  readonly entry: readonly string[];
  readonly attention: string;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly scale: number;
  readonly softcap: number;
  readonly rotary: 'inside' | 'outside';
  readonly qkNorm: 'inside' | 'outside or none';
  readonly past: string | null;
  readonly present: string | null;
  readonly croppedCache: boolean;
}

export interface InspectReport {
  readonly input: string;
  readonly producer: string;
  readonly irVersion: number;
  readonly opsets: Readonly<Record<string, number>>;
  readonly nodes: number;
  readonly bytes: number;
  readonly externalData: readonly string[];
  /** Attention spelling and embedding source, in words. */
  readonly family: string;
  readonly hiddenSize: number;
  readonly layers: readonly LayerReport[];
  /** Attention found that is not the decoder's (a vision tower's). */
  readonly otherAttention: number;
  readonly inputs: Readonly<Record<string, string>>;
  readonly outputs: Readonly<Record<string, string>>;
  /** Values that depend on the sequence but not on content and are read by more than one layer. */
  readonly shared: readonly { readonly value: string; readonly layout: string; readonly readers: number }[];
  readonly imageTokens: string;
  /** Set when this model was made by pdrop-compile. */
  readonly compiled: { readonly version: string; readonly plan: Plan } | null;
  /** Why the graph would be refused, if it would. */
  readonly refusal: DiagnosticDetail | null;
  /** For a graph that would be refused: what looks like a layer, and where understanding stopped. */
  readonly nearMisses: readonly NearMiss[];
}

export interface InspectContext {
  readonly input: string;
  readonly bytes: number;
  readonly imageTokenId: ImageTokenId | undefined;
  readonly compiled: { version: string; plan: Plan } | undefined;
  readonly refusal: DiagnosticDetail | undefined;
  readonly trace: Trace;
}

export function inspectReport(model: Model, facts: DecoderFacts | undefined, context: InspectContext): InspectReport {
  const roles = facts ? roleNames(facts) : new Map<Value, string>();
  return {
    input: context.input,
    producer: model.producer,
    irVersion: model.irVersion,
    opsets: Object.fromEntries([...model.opsets].map(([d, v]) => [d || 'ai.onnx', v])),
    nodes: model.graph.nodes.length,
    bytes: context.bytes,
    externalData: model.externalLocations,
    family: facts ? familyOf(model, facts) : 'unknown',
    hiddenSize: facts?.hiddenSize ?? 0,
    layers: facts?.layers.map((l): LayerReport => layerReport(l)) ?? [],
    otherAttention: facts?.otherAttention ?? 0,
    inputs: Object.fromEntries(model.graph.inputs.filter((v) => !v.tensor).map((v) => [v.name, roles.get(v) ?? 'other'])),
    outputs: Object.fromEntries(model.graph.outputs.map((v) => [v.name, roles.get(v) ?? 'other'])),
    shared: facts ? sharedValues(facts) : [],
    imageTokens: facts ? imageTokensOf(facts, context.imageTokenId) : 'unknown',
    compiled: context.compiled ?? null,
    refusal: context.refusal ?? null,
    nearMisses: context.refusal ? nearMisses(context.trace, context.refusal) : [],
  };
}

function layerReport({ index, cut, core, mixer }: DecoderFacts['layers'][number]): LayerReport {
  if (!core) {
    const none = { heads: 0, kvHeads: 0, headDim: 0, scale: 0, softcap: 0, rotary: 'outside', qkNorm: 'outside or none', croppedCache: false } as const;
    const past = mixer?.states[0]?.name ?? null;
    return { layer: index, entry: cut.values.map((v) => v.name), attention: 'none: a convolution or recurrence over a state', ...none, past, present: mixer?.renewed[0]?.name ?? null };
  }
  return {
    layer: index,
    entry: cut.values.map((v) => v.name),
    attention: core.dialect,
    heads: core.heads,
    kvHeads: core.kvHeads,
    headDim: core.headDim,
    scale: core.scale,
    softcap: core.softcap,
    rotary: core.rotary ? 'inside' : 'outside',
    qkNorm: core.norm ? 'inside' : 'outside or none',
    past: core.past?.key.value.name ?? null,
    present: core.present?.key.name ?? null,
    croppedCache: core.croppedCache,
  };
}

function familyOf(model: Model, facts: DecoderFacts): string {
  const dialects = [...new Set(facts.attention.map((l) => l.core.dialect))].join(' + ');
  const fused = model.graph.nodes.some((n) => /^Skip.*LayerNormalization$/.test(n.opType)) ? ', fused skip-norms' : '';
  const quantized = model.graph.nodes.some((n) => n.opType === 'MatMulNBits') ? ', int4 weights' : '';
  const cache = facts.roles.pasts.length > 0 ? 'with KV cache' : 'without KV cache';
  const mixers = facts.layers.length - facts.attention.length;
  const hybrid = mixers > 0 ? `, hybrid: ${mixers} of ${facts.layers.length} layers mix tokens by convolution or recurrence` : '';
  const vision = facts.otherAttention > 0 ? `, ${facts.otherAttention} attention layers before the decoder (vision tower)` : '';
  return `${dialects} attention${fused}${quantized}, opset ${model.opsets.get('') ?? '?'}, ${facts.roles.sourceKind}, ${cache}${hybrid}${vision}`;
}

function roleNames(facts: DecoderFacts): Map<Value, string> {
  const { roles } = facts;
  const names = new Map<Value, string>();
  const note = (v: Value | undefined, name: string): void => {
    if (v) names.set(v, name);
  };
  if (roles.sourceKind === 'inputs_embeds') note(roles.source, 'hidden states');
  note(roles.inputIds, 'token ids');
  note(roles.attentionMask, 'attention mask');
  note(roles.positionIds, 'positions');
  note(roles.cachePosition, 'cache positions');
  for (const v of roles.tokenInputs) note(v, v === roles.imageMask ? 'image tokens' : 'aligned with tokens');
  for (const p of roles.pasts) note(p.value, 'KV cache (past)');
  for (const { index, mixer } of facts.layers) {
    for (const v of mixer?.states ?? []) note(v, `state of layer ${index}`);
    for (const v of mixer?.renewed ?? []) note(v, `state of layer ${index}, renewed`);
  }
  for (const { index, core, keysOf } of facts.attention) {
    if (keysOf !== undefined) continue;
    note(core.past?.key.value, `keys in the cache of layer ${index}`);
    note(core.past?.value?.value, `values in the cache of layer ${index}`);
    note(core.present?.key, `keys of layer ${index}`);
    note(core.present?.value, `values of layer ${index}`);
  }
  note(facts.logits, 'logits');
  return names;
}

function sharedValues(facts: DecoderFacts): InspectReport['shared'] {
  const dependent = frameDependent(facts);
  const readers = new Map<Value, Set<Node>>();
  for (const node of facts.graph.nodes) {
    if (!isContentNode(node, facts.content)) continue;
    node.inputs.forEach((v, i) => {
      if (!v || !dependent.has(v) || facts.content.has(v) || isShapeSlot(node, i)) return;
      const set = readers.get(v) ?? new Set<Node>();
      set.add(node);
      readers.set(v, set);
    });
  }
  return [...readers]
    .filter(([, nodes]) => nodes.size > 1)
    .map(([value, nodes]) => ({ value: value.name, layout: describeAxes(facts.probes.axes(value)), readers: nodes.size }))
    .sort((a, b) => b.readers - a.readers)
    .slice(0, 12);
}

function imageTokensOf(facts: DecoderFacts, configured: ImageTokenId | undefined): string {
  if (facts.roles.imageMask) return `the input ${facts.roles.imageMask.name} (--image-mask input)`;
  if (facts.roles.sourceKind === 'inputs_embeds') return 'a new input image_token_mask (--image-mask input)';
  const inGraph = imageIdComparedInGraph(facts);
  const id = configured ?? inGraph;
  if (id === undefined) return 'unknown: give --image-mask input-ids:<id>';
  return `input_ids ${id === 'negative' ? '< 0' : `== ${id}`} (${configured !== undefined ? 'config beside the model' : 'compared in the graph'})`;
}
