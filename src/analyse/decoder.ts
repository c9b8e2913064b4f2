/** The whole analysis: roles, content, spine, attention → layers. The first thing that does not fit is refused by name. */
import { Refusal } from '../diagnostics.js';
import { type Graph, type Model, type Node, refill, type Value } from '../ir/graph.js';
import { isTopological, topologicalOrder } from '../ir/order.js';
import { findAttention } from './attention/index.js';
import type { AttentionCore, AttentionLayer, DecoderFacts, InputRoles, PastInput } from './facts.js';
import { TEXT_ONLY, withContents } from './contents.js';
import { contradiction } from './alignment.js';
import { spineOf } from './bypass.js';
import { claimsOf, type Decline, requireComplete } from './completeness.js';
import { findCrossAttention, refuseCrossAttention } from './cross-attention.js';
import { findMixers } from './mixers.js';
import type { Trace } from './near-miss.js';
import { NoOps } from './no-ops.js';
import { inlineBranches } from './inline.js';
import { COMPILED_PROBE_SIZES, PROBE_SIZES, Probes, type ProbeSizes } from './probes.js';
import { evaluateShapes, type ShapeBindings } from './shapes/index.js';
import type { ImageMaskSource } from '../plan/plan.js';
import { isFloat } from '../ir/data-type.js';
import { findRoles } from './roles.js';
import { headDimsOf, shapesAt } from './input-sizes.js';
import { named } from './what-it-is.js';
import { contentOf } from './spine.js';
import { layersOf } from './layers.js';
import { cyclic, mergedDecoder, noLayers, refuseFunctions, refuseOldOpset, refuseUnknownOps } from './refusals.js';

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
  const attempt = (headDim: (past: PastInput) => number | undefined): { probes: Probes; content: Set<Value>; cores: AttentionCore[]; first: ShapeBindings; guessed: ReadonlySet<Value> } => {
    declines.length = 0;
    const open = new Set<Value>();
    const bindings = (sizes: ProbeSizes): ShapeBindings => {
      const shapes = shapesAt(graph, roles, sizes, headDim, open);
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
    const guessed = dependentsOf(graph, open);
    // In a compiled graph lengths depend on data: those of a text prompt prove nothing.
    if (!compiledWith) noOps.bypass(probes.facts, guessed);
    const content = contentOf(graph, roles.source, compiledWith !== undefined);
    const cores = findAttention({ graph, roles, content, probes, fixedSequence: fixed.sequence, decline: (node, reason, at) => declines.push({ node, reason, at }) });
    if (trace) Object.assign(trace, { understood: cores.length, declines: [...declines] } satisfies Partial<Trace>);
    return { probes, content, cores, first: made[0] as ShapeBindings, guessed };
  };
  let { probes, content, cores, first, guessed } = attempt(() => undefined);
  if (roles.pasts.some((p) => typeof p.value.type?.dims?.[3] !== 'number')) {
    const headDimOf = headDimsOf(cores);
    ({ probes, content, cores, first, guessed } = attempt((p) => headDimOf(p)));
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
  const layers = layersOf(spine, content, cores, findMixers({ graph, roles, content, probes }, spine.links, spine.last));
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
    guessed,
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

/** In a merged graph even the embedding lookup may be inside the branches. */
function rolesOf(graph: Graph): InputRoles {
  try {
    return findRoles(graph);
  } catch (error) {
    throw (error instanceof Refusal && error.code === 'PD301' && mergedDecoder(graph)) || error;
  }
}
