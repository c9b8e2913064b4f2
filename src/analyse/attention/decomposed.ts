/**
 * Attention spelled out in standard ops:
 *
 *   q ──(·c)──┐
 *             MatMul ─(·c, tanh cap, +mask, Where)─ Softmax ─(Cast, IsNaN/Where)─ MatMul ── out
 *   k ─T─(·c)─┘                                                                     │
 *   v ──────────────────────────────────────────────────────────────────────────────┘
 */
import type { Node, Value } from '../../ir/graph.js';
import type { AttentionCore } from '../facts.js';
import { type DialectContext, headSinks, perHeadBias, presentOf, QUANTIZING, scalarFactor, walkOperand } from './context.js';

/** What may stand between the product and the softmax, beside factors. */
const BESIDE_MASKS = ['Add', 'Sub', 'Where', 'Cast', 'Identity', 'Max', 'Reshape', 'Clip'];

export function matchDecomposed(ctx: DialectContext, softmax: Node): AttentionCore | undefined {
  if (!softmax.is('Softmax')) return undefined;
  const input = softmax.inputs[0];
  const output = softmax.outputs[0];
  if (!input || !output || !ctx.content.has(input)) return undefined;
  const rank = ctx.probes.axes(input)?.length;
  const axis = softmax.int('axis', -1);
  if (axis !== -1 && axis !== (rank ?? 0) - 1) return undefined;
  const logits = walkLogits(ctx, input);
  if (!logits) {
    const end = walkEnd(ctx, input);
    // A router's or a head's softmax has no product of hidden states behind it, and is no attention.
    if (end) ctx.decline(softmax, addsContent(ctx, end) ? 'a bias that is made of the tokens themselves is added to its logits (attention with a dynamic mask)' : 'the way from its softmax back to a product of queries and keys ends', end);
    return undefined;
  }
  const pv = findWeightedSum(output);
  if (!pv) {
    ctx.decline(softmax, 'its weights are not multiplied with values');
    return undefined;
  }
  const [qIn, kIn] = logits.matmul.inputs;
  if (logits.sink && !headSinks(ctx, logits.sink)) {
    ctx.decline(softmax, 'something joins its logits along the keys that is not a sink a head');
    return undefined;
  }
  if (!qIn || !kIn) return undefined;
  const q = walkOperand(ctx, qIn);
  const k = walkOperand(ctx, kIn);
  const v = pv.values ? walkOperand(ctx, pv.values) : undefined;
  if (!q.operand || !k.operand) {
    ctx.decline(softmax, 'its queries or keys are not laid out as [batch, heads, sequence, head size]');
    return undefined;
  }
  if (q.headDim !== k.headDim || q.heads % k.heads !== 0 || !k.grouped) {
    ctx.decline(softmax, `its ${q.heads} query heads of ${q.headDim} do not pair up with ${k.heads} key heads of ${k.headDim}`);
    return undefined;
  }
  const biases = logits.added.flatMap(({ value, factor }) => {
    const perHead = perHeadBias(ctx, value, q.heads);
    return perHead ? [{ value: perHead, factor }] : [];
  });
  if (biases.length > 1 || (biases.length === 1 && logits.cap !== 0)) {
    ctx.decline(softmax, 'more than one bias a head is added to its logits, or one inside a soft-cap');
    return undefined;
  }
  // Latent attention keeps no values: its second cache is the keys' rotary part.
  const second = k.latent[1];
  const keyPresent = presentOf(k.joined ?? k.operand.value);
  const valuePresent = presentOf(second ? second.joined : k.latent.length > 0 ? undefined : (v?.joined ?? v?.operand?.value));
  const inner = logits.inner * q.factor * k.factor * fusedAlpha(logits.matmul);
  return {
    dialect: 'decomposed',
    anchor: softmax,
    nodes: [logits.matmul, ...logits.nodes, softmax, ...pv.nodes],
    q: q.operand,
    k: k.operand,
    heads: q.heads,
    kvHeads: k.heads,
    headDim: q.headDim,
    scale: logits.cap === 0 ? inner : inner * logits.cap,
    softcap: logits.cap,
    bias: biases[0],
    sinks: logits.sink && { value: headSinks(ctx, logits.sink) },
    rotary: undefined,
    norm: undefined,
    seqlensK: undefined,
    past: k.past && { key: k.past, value: k.latent.length > 0 ? second?.past : v?.past },
    present: keyPresent && { key: keyPresent.output, value: valuePresent?.output },
    croppedCache: keyPresent?.cropped ?? false,
  };
}

/** The product of queries and keys behind a softmax's input. */
export function queryKeyProduct(ctx: DialectContext, softmaxInput: Value): Node | undefined {
  return walkLogits(ctx, softmaxInput)?.matmul;
}

function fusedAlpha(matmul: Node): number {
  return matmul.opType === 'FusedMatMul' ? matmul.float('alpha', 1) : 1;
}

function isMatMul(node: Node): boolean {
  return node.is('MatMul') || node.is('FusedMatMul', 'com.microsoft');
}

/** The node where the walk to the product ends, if tokens meet tokens in the logits at all. */
function walkEnd(ctx: DialectContext, start: Value): Node | undefined {
  const last = ctx.probes.axes(start)?.at(-1);
  if (typeof last === 'number' || last === undefined) return undefined;
  let v: Value | undefined = start;
  let end: Node | undefined;
  for (let steps = 0; v?.producer && steps < 24; steps++) {
    end = v.producer;
    const content: Value[] = end.inputs.filter((i): i is Value => i !== null && ctx.content.has(i));
    if (content.length !== 1 || end.domain !== '' || ![...BESIDE_MASKS, ...QUANTIZING, 'Mul', 'Div', 'Tanh'].includes(end.opType)) return end;
    v = content[0];
  }
  return end;
}

/** Something that is worked out from hidden states meets the product of queries and keys: not one of the masks that ranking knows. */
function addsContent(ctx: DialectContext, node: Node): boolean {
  const content = node.inputs.filter((i): i is Value => i !== null && ctx.content.has(i));
  return (node.is('Add') || node.is('Sub')) && content.length === 2 && content.filter((v) => walkLogits(ctx, v)).length === 1;
}

interface LogitsWalk {
  readonly matmul: Node;
  readonly nodes: Node[];
  readonly inner: number;
  readonly cap: number;
  /** What is added to the logits, with the factor that is applied behind it. */
  readonly added: readonly { readonly value: Value; readonly factor: number }[];
  /** What joins the logits along the keys. */
  readonly sink: Value | undefined;
}

function isLast(ctx: DialectContext, node: Node): boolean {
  const axis = node.int('axis', 0);
  return axis === -1 || axis === (node.inputs[0] ? (ctx.probes.axes(node.inputs[0])?.length ?? 0) : 0) - 1;
}

/** x − max(x), kept as one column. */
function subtractsMaximum(node: Node): boolean {
  const [x, maximum] = node.inputs;
  return !!x && !!maximum?.producer?.is('ReduceMax') && maximum.producer.inputs[0] === x && maximum.producer.int('keepdims', 1) === 1;
}

/** From the softmax's input back to the product of queries and keys. */
function walkLogits(ctx: DialectContext, start: Value): LogitsWalk | undefined {
  const nodes: Node[] = [];
  const added: { value: Value; factor: number }[] = [];
  let sink: Value | undefined;
  let inner = 1;
  let outer = 1;
  let capped = false;
  let v: Value | undefined = start;
  for (let steps = 0; v && steps < 24; steps++) {
    const node: Node | null = v.producer;
    if (!node || !ctx.content.has(v)) return undefined;
    if (isMatMul(node)) return { matmul: node, nodes, inner, cap: capped ? outer : 0, added, sink };
    nodes.push(node);
    const scaled = scalarFactor(ctx, node);
    const content: Value[] = node.inputs.filter((i): i is Value => i !== null && ctx.content.has(i));
    if (scaled && ctx.content.has(scaled.operand)) {
      inner *= scaled.factor;
      v = scaled.operand;
    } else if (node.is('Tanh')) {
      // What multiplied the logits after tanh is the cap; what comes before it is the scale divided by the cap.
      capped = true;
      outer = inner;
      inner = 1;
      v = content[0];
    } else if (node.is('Concat') && content.length === 1 && node.inputs.length === 2 && node.inputs[0] === content[0] && !sink && isLast(ctx, node)) {
      sink = node.inputs[1] ?? undefined;
      v = content[0];
    } else if (node.is('Sub') && subtractsMaximum(node)) {
      // The same softmax, safer in half precision.
      if (node.inputs[1]?.producer) nodes.push(node.inputs[1].producer);
      v = node.inputs[0] ?? undefined;
    } else if (content.length === 1 && node.domain === '' && [...BESIDE_MASKS, ...QUANTIZING].includes(node.opType)) {
      const other = node.inputs.find((i) => i && i !== content[0]);
      if (other && node.is('Add')) added.push({ value: other, factor: inner });
      if (other && node.is('Sub')) added.push({ value: other, factor: node.inputs[0] === content[0] ? -inner : inner });
      v = content[0];
    } else return undefined;
  }
  return undefined;
}

/** From the softmax's output to the product with the values. */
function findWeightedSum(weights: Value): { values: Value | undefined; nodes: Node[] } | undefined {
  const nodes: Node[] = [];
  let v: Value | undefined = weights;
  for (let steps = 0; v && steps < 12; steps++) {
    const uses: { node: Node; index: number }[] = v.uses.filter((u) => !u.node.is('Shape'));
    const product = uses.find((u) => isMatMul(u.node) && u.index === 0);
    if (product) {
      nodes.push(product.node);
      return { values: product.node.inputs[1] ?? undefined, nodes };
    }
    // IsNaN/Where keeps fully masked rows finite; the weights are the Where's other branch.
    const through = uses.find((u) => u.node.domain === '' && ['Cast', 'Identity', 'Dropout', 'Where', 'Reshape', 'Mul', 'Slice', ...QUANTIZING].includes(u.node.opType));
    if (!through) return undefined;
    nodes.push(through.node);
    for (const u of uses) if (u.node.is('IsNaN')) nodes.push(u.node);
    v = through.node.outputs[0] ?? undefined;
  }
  return undefined;
}
