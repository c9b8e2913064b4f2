/**
 * For runtimes that keep all caches in buffers of one maximum length (onnxruntime-genai): how long a stage's past is
 * does not show in a cache's shape. The past of the first stage is what the attention mask is longer than the chunk; how
 * much later stages have dropped is carried from run to run in a pair of states that the runtime manages anyway.
 *
 *   past_key_values.0.conv_state int64 [B, 1, m] ─ Max(·, 0) ─┬─ P_i = len(mask) − S − dropped_i
 *                                                              └─ + dropped in this chunk ─ present.0.conv_state
 */
import { Refusal } from '../diagnostics.js';
import { CARRIED } from '../analyse/added-names.js';
import { DataType, type Dim, Value } from '../ir/graph.js';
import type { GraphEditor } from './editor.js';
import type { PassContext } from './pass.js';

/** @throws {Refusal} PD612 for graphs whose attention reads lengths off caches */
export function carryDropped(graph: GraphEditor, { facts, plan, builder: b, frames, results }: PassContext): void {
  const { roles } = facts;
  const other = facts.layers.find((l) => !l.core?.seqlensK || !l.core.past);
  if (!roles.attentionMask || other) {
    throw new Refusal({
      code: 'PD612',
      message: 'onnxruntime-genai keeps caches in buffers of one maximum length, and this graph reads lengths off its caches',
      culprit: other?.core?.anchor.name ?? other?.mixer?.states[0]?.name ?? 'attention_mask',
      hint: 'build the decoder with the onnxruntime-genai model builder (GroupQueryAttention); for other graphs use --runtime generic and a loop of your own',
    });
  }
  const batch: Dim = (roles.sourceKind === 'inputs_embeds' ? roles.source : roles.inputIds)?.type?.dims?.[0] ?? 'batch_size';
  const declare = (name: string, elemType: number, dims: readonly Dim[]): Value => {
    if (graph.graph.values.has(name)) {
      throw new Refusal({ code: 'PD312', message: `the graph already has a value named "${name}"`, culprit: name, hint: 'hybrid models with recurrent states of their own cannot carry these counts: use --runtime generic' });
    }
    const value = new Value(name);
    value.type = { elemType, dims };
    graph.graph.values.set(name, value);
    return value;
  };
  const give = (name: string, of: Value, dims: readonly Dim[]): void => {
    graph.graph.values.delete(of.name);
    of.name = name;
    graph.graph.values.set(name, of);
    of.type = { elemType: DataType.INT64, dims };
    graph.addOutput(of);
  };
  const count = plan.layers.length;
  const conv = declare(CARRIED.conv[0], DataType.INT64, [batch, 1, count]);
  const recurrent = declare(CARRIED.recurrent[0], DataType.INT64, [batch, 1, 1, 1]);
  for (const v of [conv, recurrent]) {
    graph.addInput(v);
    results.inputs.push(v);
  }
  // Input and output share memory: everything reads one node's output, which the new state depends on.
  const state = b.op('Max', 'carried', [conv, b.int(0)]);
  frames.lengths.setCarried(b.gather('carried_row', b.gather('carried_first', state, b.int(0), 0), b.int(0), 0));
  const { dropped } = frames.drops;
  // A row of its own for each batch entry, all alike: a batch drops evenly.
  give(CARRIED.conv[1], b.op('Add', 'carried_on', [state, dropped]), [batch, 1, count]);
  give(CARRIED.recurrent[1], b.op('Max', 'carried_companion', [recurrent, b.int(0)]), [batch, 1, 1, 1]);
}

/** What may stand between the head's product and the logits: soft-cap, scale, conversion. */
const AFTER_HEAD: readonly string[] = ['Cast', 'Mul', 'Div', 'Tanh', 'Identity', 'Add'];

/**
 * The logits of each row's last valid token alone, [B, 1, vocab]: genai reads nothing else, and preallocates by that 1.
 * The head is computed for one token a row.
 *
 * @throws {Refusal} PD613 when the head is not a product with a weight
 */
export function lastLogits(graph: GraphEditor, { facts, plan, builder: b, frames }: PassContext): void {
  const stage = plan.layers.length;
  b.scope('last-logits');
  let node = facts.logits.producer;
  for (let steps = 0; node && AFTER_HEAD.includes(node.opType) && steps < 8; steps++) node = node.inputs.find((v) => v && facts.content.has(v))?.producer ?? null;
  const hidden = node?.inputs[0];
  if (!node || !hidden || !(node.is('MatMul') || node.is('MatMulNBits', 'com.microsoft'))) {
    throw new Refusal({
      code: 'PD613',
      message: 'the product that makes the logits was not found: it cannot be computed for the last token alone',
      culprit: facts.logits.name,
      hint: 'build the decoder with the onnxruntime-genai model builder, or use --runtime generic',
    });
  }
  const { last } = frames.tokens(stage);
  const length1 = frames.lengths.chunk(stage);
  const row = b.op('Add', 'row', [last as Value, b.op('Mul', 'row_offset', [frames.chunk.rows, length1])]);
  const one = b.gather('hidden', b.reshape('hidden_rows', hidden, [-1, facts.hiddenSize]), row, 0);
  graph.setInput(node, 0, one);
  const { logits } = facts;
  const dims = logits.type?.dims;
  if (logits.type && dims) {
    logits.type = { elemType: logits.type.elemType, dims: dims.map((d, i) => (i === 1 ? 1 : d)) };
    logits.typeState = 'changed';
  }
}
