/** Graphs that cannot be analysed, or in which no layers were found: each by its reason, with the way forward. */
import { describeNode, Refusal } from '../diagnostics.js';
import type { Graph, Model, Node, Value } from '../ir/graph.js';
import { leadingTo } from './completeness.js';
import type { Probes } from './probes.js';
import { RULES } from './token-rules/index.js';

export function cyclic(node: Node): Refusal {
  return new Refusal({
    code: 'PD102',
    message: 'the graph has a cycle: a value depends on itself',
    culprit: describeNode(node),
    hint: 'the graph is not valid ONNX; export it again or run onnx.checker on it',
  });
}

/** Model-local functions are fine where they only spell out an op that is known anyway (a portable fallback). */
export function refuseFunctions(model: Model, probes: Probes): void {
  if (model.functions.length === 0) return;
  const local = new Set(model.functions);
  const unknown = probes.facts[0].unknownOps;
  const used = model.graph.nodes.find((n) => local.has(`${n.domain}:${n.opType}`) && unknown.has(n.domain ? `${n.domain}.${n.opType}` : n.opType));
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
export function refuseUnknownOps({ graph, content, logits }: { graph: Graph; content: ReadonlySet<Value>; logits: Value }, probes: Probes): void {
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

export function refuseOldOpset(model: Model): void {
  const opset = model.opsets.get('') ?? 0;
  if (opset >= OLDEST_OPSET) return;
  throw new Refusal({
    code: 'PD317',
    message: `opset ${opset} is older than what is added to the graph needs (${OLDEST_OPSET})`,
    culprit: 'opset_import',
    hint: 'export with opset 14 or newer, or convert the model with onnx.version_converter',
  });
}

export function mergedDecoder(graph: Graph): Refusal | undefined {
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

export function noLayers(graph: Graph, found: number, declines: readonly { node: Node; reason: string }[]): Refusal {
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
