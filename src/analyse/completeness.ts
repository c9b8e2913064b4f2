/**
 * That no layer is missing, as a proof: between the embeddings and the logits tokens meet nowhere but in layers, and
 * every cache belongs to one. Counting only what was understood would cut a model before another layer than was asked for.
 *
 * A layer is whatever mixes tokens: it claims its nodes and its caches, and nothing here knows what it is made of.
 */
import { describeNode, Refusal } from '../diagnostics.js';
import type { Graph, Node, Value } from '../ir/graph.js';
import type { InputRoles, Layer } from './facts.js';
import type { Axis, Probes } from './probes.js';
import { carriesNoContent } from './spine.js';

/** What layers account for. */
export interface Claims {
  readonly nodes: ReadonlySet<Node>;
  /** Cache inputs. */
  readonly caches: ReadonlySet<Value>;
}

export interface Decline {
  readonly node: Node;
  readonly reason: string;
  /** Where the way to its queries and keys ended. */
  readonly at?: Node | undefined;
}

export function claimsOf(layers: readonly Pick<Layer, 'core' | 'mixer'>[]): Claims {
  const nodes = new Set<Node>();
  const caches = new Set<Value>();
  for (const { core, mixer } of layers) {
    for (const n of core?.nodes ?? []) nodes.add(n);
    for (const past of [core?.past?.key, core?.past?.value]) if (past) caches.add(past.value);
    // A convolution or recurrence is all between its two links but attention, which must be understood for itself.
    for (const n of mixer?.nodes ?? []) if (!isSoftmaxAttention(n)) nodes.add(n);
  }
  return { nodes, caches };
}

function isSoftmaxAttention({ opType }: Node): boolean {
  return /Softmax$/.test(opType) || (/Attention$/.test(opType) && opType !== 'LinearAttention');
}

interface View {
  readonly graph: Graph;
  readonly roles: InputRoles;
  readonly content: ReadonlySet<Value>;
  readonly probes: Probes;
  readonly logits: Value;
  readonly fixedSequence: number | undefined;
}

/** @throws {Refusal} PD319 naming the node or the cache that no layer accounts for */
export function requireComplete(view: View, claims: Claims, layers: number, declines: readonly Decline[]): void {
  const because = (node: Node): string | undefined => declines.find((d) => d.node === node)?.reason;
  for (const node of leadingTo(view.graph, view.content, view.logits)) {
    const what = claims.nodes.has(node) ? undefined : meeting(view, node);
    if (what) throw missing(`${what}, but it is none of the ${layers} attention layers that were understood${because(node) ? `: ${because(node)}` : ''}`, describeNode(node));
  }
  for (const { value } of view.roles.pasts) {
    if (claims.caches.has(value) || (value.uses.length === 0 && value.capturedBy.length === 0)) continue;
    const reader = value.uses[0]?.node ?? value.capturedBy[0];
    throw missing(`the cache "${value.name}" belongs to none of the ${layers} attention layers that were understood`, reader && describeNode(reader));
  }
}

function missing(message: string, culprit: string | undefined): Refusal {
  return new Refusal({
    code: 'PD319',
    message: `layers cannot be counted: ${message}`,
    culprit,
    hint: '`pdrop-compile inspect` shows what was found there and what stopped it; export all layers alike with a current exporter, or report this graph',
  });
}

/** Content nodes from which the logits are made, in node order. */
export function leadingTo(graph: Graph, content: ReadonlySet<Value>, logits: Value): Node[] {
  const wanted = new Set<Value>([logits]);
  const found: Node[] = [];
  for (let i = graph.nodes.length - 1; i >= 0; i--) {
    const n = graph.nodes[i] as Node;
    if (carriesNoContent(n) || !n.makesOneOf(wanted)) continue;
    found.push(n);
    const { reads } = n;
    for (let k = 0; k < reads.length; k++) if (content.has(reads[k] as Value)) wanted.add(reads[k] as Value);
  }
  return found.reverse();
}

/** How tokens meet in a node, in words; undefined where they do not. */
function meeting(view: View, node: Node): string | undefined {
  const { content, probes } = view;
  if (/Attention/.test(node.opType)) return 'this op is attention';
  if (node.subgraphs.some(hasAttention)) return 'there is attention in the branches of this op';
  if (node.domain !== '' && node.domain !== 'com.microsoft') return undefined;
  if (['Softmax', 'LogSoftmax', 'Hardmax'].includes(node.opType)) {
    const axes = node.inputs[0] && probes.axes(node.inputs[0]);
    if (!axes) return 'this is a softmax over an unknown number of things';
    return axes[axisOf(node, axes.length)] !== undefined && isTokens(view, axes[axisOf(node, axes.length)]) ? 'this is a softmax over tokens' : undefined;
  }
  if (!/MatMul/.test(node.opType)) return undefined;
  const [a, b] = node.inputs;
  const axes = a && b && content.has(a) && content.has(b) && probes.axes(a);
  const out = node.outputs[0] && probes.axes(node.outputs[0]);
  if (!axes || !out || axes.length < 2) return undefined;
  // Queries with keys give tokens by tokens; weights with values sum over tokens.
  if (isTokens(view, out.at(-1)) && isTokens(view, out.at(-2))) return 'tokens are multiplied with tokens here';
  return isTokens(view, axes.at(-1)) ? 'this sums over tokens with weights that depend on them' : undefined;
}

function axisOf(node: Node, rank: number): number {
  const axis = node.int('axis', -1);
  return axis < 0 ? axis + rank : axis;
}

/** An axis of tokens, or of a size that nothing tells. In a graph of fixed length tokens have a fixed number too. */
function isTokens({ roles, fixedSequence }: View, axis: Axis | undefined): boolean {
  if (axis === undefined || axis === 'B') return false;
  if (typeof axis !== 'number') return true;
  if (fixedSequence === undefined || axis === 1) return false;
  const pasts = roles.pasts.map((p) => p.value.type?.dims?.[p.tokenAxis]).filter((d): d is number => typeof d === 'number');
  return axis === fixedSequence || pasts.some((p) => axis === p || axis === p + fixedSequence);
}

function hasAttention(graph: Graph): boolean {
  return graph.nodes.some((n) => n.opType === 'Softmax' || /Attention/.test(n.opType) || n.subgraphs.some(hasAttention));
}
