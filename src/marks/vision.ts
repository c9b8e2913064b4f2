/** The vision encoder with marked features: its own graph, and a few element-wise nodes before its output. */
import { describeNode, Refusal } from '../diagnostics.js';
import type { Model, Value } from '../ir/graph.js';
import { verifyGraph } from '../ir/verify.js';
import { InternalError } from '../diagnostics.js';
import { isFloat } from '../ir/data-type.js';
import { layoutModel, type WriteChanges, writePieces } from '../onnx/write.js';
import type { ByteSink, Piece } from '../onnx/bytes.js';
import { Builder } from '../rewrite/builder.js';
import { GraphEditor } from '../rewrite/editor.js';
import { markFeatures } from '../rewrite/marks.js';
import { type MarkType, markType } from '../plan/marks.js';
import type { Marks } from '../plan/plan.js';
import { VERSION } from '../version.js';

/** metadata_props key of a vision encoder whose features are marked. */
export const MARKS_METADATA = 'pdrop.marks';

export interface MarkedVision {
  readonly model: Model;
  /** The output whose rows are marked. */
  readonly output: string;
  readonly type: MarkType;
  readonly pieces: readonly Piece[];
  readonly byteLength: number;
}

/**
 * Marks the rows of a vision encoder's image features.
 *
 * @param hidden width of the decoder's embeddings: the output with this last dimension is the one that is marked
 * @throws {Refusal} PD316 when they are marked already, PD606 when the graph has no such output, or more than one
 */
export function markVisionEncoder(model: Model, marks: Marks, hidden: number): MarkedVision {
  if (model.metadata.has(MARKS_METADATA)) {
    throw new Refusal({ code: 'PD316', message: 'this vision encoder has been marked by pdrop-compile already', culprit: MARKS_METADATA, hint: 'compile the original files' });
  }
  const output = featuresOf(model, hidden);
  const type = markType(output.type?.elemType, output.name);
  const builder = new Builder(model);
  const editor = new GraphEditor(model.graph, builder);
  const node = output.producer;
  if (!node || output.capturedBy.length > 0) {
    throw new Refusal({ code: 'PD606', message: 'the image features are not computed by a node of the main graph', culprit: output.name, hint: 'export the vision encoder without control flow around its output, or use --image-mask input' });
  }
  builder.scope('marks');
  // The output keeps its name; what computes it now computes a value before it.
  const plain = builder.newValue(`pdrop/marks/${output.name}`);
  plain.producer = node;
  plain.outputIndex = output.outputIndex;
  node.outputs[output.outputIndex] = plain;
  for (const use of [...output.uses]) editor.setInput(use.node, use.index, plain);
  const made = markFeatures(builder, plain, hidden, marks, type);
  const last = made.producer;
  if (!last) throw new InternalError('marked features have no producer');
  model.graph.values.delete(made.name);
  last.outputs[0] = output;
  output.producer = last;
  output.outputIndex = 0;
  editor.sort();
  const problem = verifyGraph(model.graph)[0];
  if (problem) throw new InternalError(`after marking: ${problem.reason}`, problem.culprit);
  const changes: WriteChanges = {
    metadata: new Map([
      ['pdrop.version', VERSION],
      [MARKS_METADATA, JSON.stringify(marks)],
    ]),
  };
  return { model, output: output.name, type, ...layoutModel(model, changes) };
}

/** Streams a marked vision encoder. */
export async function writeMarked(marked: MarkedVision, sink: ByteSink): Promise<void> {
  await writePieces(marked.model, marked.pieces, sink);
}

/** The image features: the float output as wide as the decoder's embeddings. */
function featuresOf(model: Model, hidden: number): Value {
  const { graph } = model;
  const floats = graph.outputs.filter((v) => isFloat(v.type?.elemType) && (v.type?.dims === undefined || v.type.dims.length >= 2));
  const wide = floats.filter((v) => v.type?.dims?.at(-1) === hidden);
  const open = floats.filter((v) => typeof v.type?.dims?.at(-1) !== 'number');
  const candidates = wide.length > 0 ? wide : open;
  const named = candidates.filter((v) => /^(image_(features|embeds)|pixel_features)$/.test(v.name));
  const output = candidates.length === 1 ? candidates[0] : named.length === 1 ? named[0] : undefined;
  if (output) return output;
  throw new Refusal({
    code: 'PD606',
    message: candidates.length === 0 ? `the vision encoder has no output ${hidden} wide, as the decoder's embeddings are` : `the vision encoder has ${candidates.length} outputs that may be the image features`,
    culprit: graph.outputs.map((v) => v.name).join(', ') || (graph.nodes[0] && describeNode(graph.nodes[0])),
    hint: 'give the vision encoder (with its projector) whose features replace the image tokens’ embeddings, or use --image-mask input',
  });
}
