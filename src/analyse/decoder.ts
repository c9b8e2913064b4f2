/** The whole analysis: roles, content, spine, attention → layers. The first thing that does not fit is refused by name. */
import { describeNode, Refusal } from '../diagnostics.js';
import { type Graph, type Model, type Node, refill, type Value } from '../ir/graph.js';
import { isTopological, topologicalOrder } from '../ir/order.js';
import { findAttention } from './attention/index.js';
import { requireSoundCore } from './attention/sound.js';
import type { AttentionCore, AttentionLayer, Cut, DecoderFacts, InputRoles, Layer, Mixer, PastInput } from './facts.js';
import { withContents, TEXT_ONLY } from './contents.js';
import { contradiction } from './alignment.js';
import { placeOf, spineOf } from './bypass.js';
import { claimsOf, type Decline, leadingTo, requireComplete } from './completeness.js';
import { findCrossAttention, refuseCrossAttention } from './cross-attention.js';
import { findMixers } from './mixers.js';
import type { Trace } from './near-miss.js';
import { NoOps } from './no-ops.js';
import { inlineBranches } from './inline.js';
import { COMPILED_PROBE_SIZES, PROBE_SIZES, Probes, type ProbeSizes } from './probes.js';
import { evaluateShapes, type ShapeBindings } from './shapes/index.js';
import type { ImageMaskSource } from '../plan/plan.js';
import { isFloat } from '../ir/data-type.js';
import { findRoles, headDimsOf, shapesAt } from './roles.js';
import { RULES } from './token-rules/index.js';
import { named } from './what-it-is.js';
import { contentOf, type Link } from './spine.js';

export interface AnalyseOptions {
  /** For a compiled graph: where its image tokens are marked. It is then analysed as for a prompt without images. */
  readonly compiledWith?: ImageMaskSource | undefined;
  /** Sizes to probe at, where the usual ones are too long for the graph. */
  readonly sizes?: readonly [ProbeSizes, ProbeSizes] | undefined;
  /** What an earlier analysis of this graph has taken out of the way. */
  readonly noOps?: NoOps | undefined;
  /** Filled with what was found, also when the graph is refused. */
  readonly trace?: Trace | undefined;
}

/**
 * Finds the decoder in a graph.
 *
 * @throws {Refusal} PD102 cycle, PD301 no decoder, PD303 no single stream (cross-attention, shared keys), PD304 If-merged, PD306 4-D mask,
 *   PD308 unknown op on the path.
 */
export function analyseDecoder(model: Model, options: AnalyseOptions = {}): DecoderFacts {
  const { graph } = model;
  if (!isTopological(graph)) {
    const order = topologicalOrder(graph.nodes, cyclic);
    refill(graph.nodes, order);
  }
  const takeBack = options.compiledWith && inlineBranches(graph);
  const noOps = options.noOps ?? new NoOps(graph);
  let facts: DecoderFacts | undefined;
  try {
    facts = analyse(model, noOps, options);
    return facts;
  } catch (error) {
    throw error instanceof Refusal && error.code === 'PD301' ? named(error, graph) : error;
  } finally {
    if (!facts || takeBack) noOps.restore();
    takeBack?.();
  }
}

function analyse(model: Model, noOps: NoOps, { compiledWith, trace, sizes: wanted }: AnalyseOptions): DecoderFacts {
  const { graph } = model;
  refuseOldOpset(model);
  noOps.bypass([evaluateShapes(graph, { inputs: new Map() })]);
  const declared = rolesOf(graph);
  let roles = declared;
  const fixed = { batch: declaredSize(roles, 0), sequence: declaredSize(roles, 1) };
  const declines: Decline[] = [];
  const attempt = (headDim: (past: PastInput) => number | undefined): { probes: Probes; content: Set<Value>; cores: AttentionCore[]; first: ShapeBindings } => {
    declines.length = 0;
    const guessed = new Set<Value>();
    const bindings = (sizes: ProbeSizes): ShapeBindings => {
      const shapes = shapesAt(graph, roles, sizes, headDim, guessed);
      if (!compiledWith) return { inputs: new Map([...shapes].map(([v, shape]) => [v, { shape: shape as number[] }])) };
      return { inputs: withContents(graph, roles, shapes, compiledWith, TEXT_ONLY), dataLimit: 1 << 16, floatLimit: 1 << 16 };
    };
    const made: ShapeBindings[] = [];
    const probes = new Probes(
      graph,
      (sizes) => {
        made.push(bindings(sizes));
        return made.at(-1) as ShapeBindings;
      },
      fixed,
      wanted ?? (compiledWith ? COMPILED_PROBE_SIZES : PROBE_SIZES),
    );
    // In a compiled graph lengths depend on data: those of a text prompt prove nothing.
    if (!compiledWith) noOps.bypass(probes.facts, dependentsOf(graph, guessed));
    const content = contentOf(graph, roles.source, compiledWith !== undefined);
    const cores = findAttention({ graph, roles, content, probes, fixedSequence: fixed.sequence, decline: (node, reason, at) => declines.push({ node, reason, at }) });
    if (trace) Object.assign(trace, { understood: cores.length, declines: [...declines] } satisfies Partial<Trace>);
    return { probes, content, cores, first: made[0] as ShapeBindings };
  };
  let { probes, content, cores, first } = attempt(() => undefined);
  if (roles.pasts.some((p) => typeof p.value.type?.dims?.[3] !== 'number')) {
    const headDimOf = headDimsOf(cores);
    ({ probes, content, cores, first } = attempt((p) => headDimOf(p)));
  }
  const logits = findLogits(graph, content);
  const notAligned = new Map<Value, { reason: string; node: Node }>();
  if (!compiledWith) {
    for (const v of declared.tokenInputs) {
      const against = contradiction({ graph, content, probes, bindings: first, opset: model.opsets.get('') ?? 0 }, v, tokenAxisOf(declared, v));
      if (against) notAligned.set(v, against);
    }
    roles = { ...declared, tokenInputs: declared.tokenInputs.filter((v) => !notAligned.has(v)) };
  }
  const view = { graph, roles, content, probes, fixedSequence: fixed.sequence, logits };
  const cross = findCrossAttention({ ...view, decline: () => undefined });
  if (trace) trace.cross = cross;
  refuseCrossAttention(cross, cores.length);
  refuseFunctions(model, probes);
  refuseUnknownOps(view, probes);
  const spine = spineOf(graph, content, roles.source, logits, cores);
  const { links: chain, last } = spine;
  const found = new Map<number, { core?: AttentionCore; mixer?: Mixer }>();
  for (const { at, mixer } of findMixers({ graph, roles, content, probes }, chain, last)) found.set(at, { mixer });
  for (const core of cores) {
    requireSoundCore(core);
    const at = placeOf(spine, core);
    if (at < 0) continue;
    const beside = found.get(at);
    if (beside?.core) {
      throw new Refusal({
        code: 'PD303',
        message: 'two attention ops stand between the same two points of the residual stream',
        culprit: describeNode(core.anchor),
        hint: 'something bypasses the layers: cross-attention (image tokens must be part of the decoder sequence), keys shared between layers, or a skip connection over several layers; such graphs cannot be cut between layers',
      });
    }
    found.set(at, { ...beside, core });
  }
  const placed = [...found].sort(([a], [b]) => a - b);
  const entered = placed.map(([at, { core, mixer }], index): Layer => {
    const cut = cutAt(chain, at, content);
    const keysOf = core && placed.findIndex(([, earlier]) => earlier.core?.k.value === core.k.value && earlier.core.anchor !== core.anchor);
    const residual = cut.node ? residualOf(cut.node) : cut.values[0];
    return { index, cut, core, mixer, keysOf: keysOf !== undefined && keysOf >= 0 && keysOf < index ? keysOf : undefined, residual, middle: undefined };
  });
  const layers = entered.map((layer, i): Layer => ({ ...layer, middle: middleOf(chain.slice((placed[i]?.[0] as number) + 1, placed[i + 1]?.[0]), entered[i + 1]) }));
  const attention = layers.filter((l): l is AttentionLayer => l.core !== undefined);
  if (layers.length < 2 || attention.length === 0) throw noLayers(graph, layers.length, declines);
  requireComplete(view, claimsOf(layers), layers.length, declines);
  const hidden = probes.axes(roles.source)?.at(-1);
  return {
    model,
    graph,
    roles,
    logits,
    spine,
    layers,
    attention,
    content,
    probes,
    otherAttention: cores.length - attention.length,
    hiddenSize: typeof hidden === 'number' ? hidden : 0,
    fixedSequence: fixed.sequence,
    noOps,
    notAligned,
  };
}

/** The axis of a token input that is declared like the sequence. */
function tokenAxisOf(roles: InputRoles, input: Value): number {
  const anchor = roles.sourceKind === 'inputs_embeds' ? roles.source : roles.inputIds;
  const at = input.type?.dims?.findIndex((d, i) => i > 0 && d === anchor?.type?.dims?.[1]) ?? -1;
  return at > 0 ? at : 1;
}

/** The values themselves and whatever is made of them, or of their sizes. */
function dependentsOf(graph: Graph, values: ReadonlySet<Value>): ReadonlySet<Value> {
  if (values.size === 0) return values;
  const all = new Set(values);
  for (const n of graph.nodes) if (n.reads.some((v) => v && all.has(v))) for (const o of n.outputs) if (o) all.add(o);
  return all;
}

function cyclic(node: Node): Refusal {
  return new Refusal({
    code: 'PD102',
    message: 'the graph has a cycle: a value depends on itself',
    culprit: describeNode(node),
    hint: 'the graph is not valid ONNX; export it again or run onnx.checker on it',
  });
}

/** The sum that a fused skip norm gives beside its norm; undefined for other nodes. */
function residualOf(node: Node): Value | undefined {
  return /^Skip(Simplified)?LayerNormalization$/.test(node.opType) ? (node.outputs[3] ?? undefined) : undefined;
}

/** Of the chain's links between two layers' entries: the hidden states that stand before the next layer's. */
function middleOf(links: readonly Link[], next: Layer | undefined): Value | undefined {
  if (!next) return undefined;
  for (const link of links) {
    const value = link.value ?? residualOf(link.node as Node);
    if (!value || value === next.residual || value.producer?.is('Cast') || value.producer?.is('Identity')) continue;
    if (link.node ? link.node === next.cut.node : next.cut.values.includes(value)) return undefined;
    if (value.producer?.is('Add') || link.node) return value;
  }
  return undefined;
}

/** Up through Cast and Identity, so that what is gathered is the residual stream itself. */
function cutAt(chain: readonly Link[], at: number, content: ReadonlySet<Value>): Cut {
  let i = at;
  for (;;) {
    const producer: Node | null | undefined = chain[i]?.value?.producer;
    if (i === 0 || !producer || !(producer.is('Cast') || producer.is('Identity'))) break;
    i--;
  }
  const link = chain[i] as Link;
  if (link.value) return { values: [link.value], node: undefined };
  const values = link.node.outputs.filter((o): o is Value => o !== null && content.has(o) && (o.uses.length > 0 || o.isOutput));
  return { values, node: link.node };
}

function findLogits(graph: Graph, content: ReadonlySet<Value>): Value {
  const candidates = graph.outputs.filter((o) => content.has(o) && isFloat(o.type?.elemType) && (o.type?.dims === undefined || o.type.dims.length <= 3));
  const logits = candidates.find((o) => /logits/.test(o.name)) ?? candidates.find((o) => o.type?.dims?.length === 3) ?? candidates[0];
  if (logits) return logits;
  throw new Refusal({
    code: 'PD301',
    message: 'no decoder found: no output of logits or hidden states [batch, sequence, features] depends on the input embeddings',
    culprit: graph.outputs.map((o) => o.name).slice(0, 8).join(', '),
    hint: 'compile the decoder graph, not the vision encoder or the embedding graph; an `If`-merged decoder must be exported anew without merging',
  });
}

/** Size of the batch (0) or sequence (1) axis where the export fixed it. */
function declaredSize(roles: InputRoles, axis: 0 | 1): number | undefined {
  const d = (roles.sourceKind === 'inputs_embeds' ? roles.source : roles.inputIds)?.type?.dims?.[axis];
  return typeof d === 'number' ? d : undefined;
}

/** Model-local functions are fine where they only spell out an op that is known anyway (a portable fallback). */
function refuseFunctions(model: Model, probes: Probes): void {
  if (model.functions.length === 0) return;
  const local = new Set(model.functions);
  const unknown = probes.facts[0].unknownOps;
  const used = model.graph.nodes.find((n) => (local.has(`${n.domain}:${n.opType}`) || local.has('?')) && unknown.has(n.domain ? `${n.domain}.${n.opType}` : n.opType));
  if (used) {
    throw new Refusal({
      code: 'PD308',
      message: 'the graph calls model-local functions, whose bodies are not analysed',
      culprit: describeNode(used),
      hint: 'inline them first: onnx.inliner.inline_local_functions(model)',
    });
  }
}

/** An op of unknown effect may be a layer, or hide the attention behind it: layers would be missed and counted wrong. */
function refuseUnknownOps({ graph, content, logits }: { graph: Graph; content: ReadonlySet<Value>; logits: Value }, probes: Probes): void {
  const unknown = probes.facts[0].unknownOps;
  if (unknown.size === 0) return;
  const first = leadingTo(graph, content, logits).find((n) => unknown.has(n.domain ? `${n.domain}.${n.opType}` : n.opType) && !RULES.get(n.domain)?.has(n.opType));
  if (!first) return;
  throw new Refusal({
    code: 'PD308',
    message: 'what this op does with tokens is not known: it may be a layer, or hide one',
    culprit: describeNode(first),
    hint: /^QLinear/.test(first.opType)
      ? 'quantize with Q and DQ nodes instead (quantize_static with quant_format=QuantFormat.QDQ): a runtime makes these ops of them'
      : 'export with standard ONNX or ONNX Runtime ops only; model-local functions can be inlined with onnx.inliner.inline_local_functions',
  });
}

/** The oldest opset that has what is added to the graph (Min and Max of int64). */
const OLDEST_OPSET = 12;

function refuseOldOpset(model: Model): void {
  const opset = model.opsets.get('') ?? 0;
  if (opset >= OLDEST_OPSET) return;
  throw new Refusal({
    code: 'PD317',
    message: `opset ${opset} is older than what is added to the graph needs (${OLDEST_OPSET})`,
    culprit: 'opset_import',
    hint: 'export with opset 14 or newer, or convert the model with onnx.version_converter',
  });
}

/** In a merged graph even the embedding lookup may be inside the branches. */
function rolesOf(graph: Graph): InputRoles {
  try {
    return findRoles(graph);
  } catch (error) {
    throw (error instanceof Refusal && error.code === 'PD301' && mergedDecoder(graph)) || error;
  }
}

function mergedDecoder(graph: Graph): Refusal | undefined {
  const merged = graph.nodes.find((n) => n.is('If') && n.subgraphs.some((g) => g.nodes.length > 50));
  return (
    merged &&
    new Refusal({
      code: 'PD304',
      message: 'the decoder is merged with `If`: its layers are inside the branches',
      culprit: describeNode(merged),
      hint: 'export it without merging (optimum-cli export onnx --no-post-process, or a recent exporter that takes empty caches) and compile that',
    })
  );
}

function noLayers(graph: Graph, found: number, declines: readonly { node: Node; reason: string }[]): Refusal {
  const merged = mergedDecoder(graph);
  if (merged) return merged;
  const near = declines[0];
  return new Refusal({
    code: 'PD301',
    message: near
      ? `no decoder found: ${found} attention layers; one that was looked at: ${near.reason}`
      : `no decoder found: ${found} attention layers between the embeddings and the logits`,
    culprit: near && describeNode(near.node),
    hint: 'see `pdrop-compile inspect` for what was found; supported attention: MatMul/Softmax/MatMul, Attention (opset 23+), GroupQueryAttention, MultiHeadAttention',
  });
}
