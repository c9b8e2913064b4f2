/** What a graph without a decoder is instead, where it can be told: people give the file that lies beside the one that is meant. */
import { DataType, type Graph, type Value } from '../ir/graph.js';
import { Refusal } from '../diagnostics.js';

interface Kind {
  readonly what: string;
  readonly forward: string;
}

const DECODER = 'compile the decoder beside it (decoder_model_merged.onnx, text/model.onnx or model.onnx), or give the whole folder';

const isFloat = (v: Value): boolean => v.type?.elemType === DataType.FLOAT || v.type?.elemType === DataType.FLOAT16 || v.type?.elemType === DataType.BFLOAT16;
const isIds = (v: Value): boolean => v.type?.elemType === DataType.INT64 || v.type?.elemType === DataType.INT32;

export function whatItIs(graph: Graph): Kind | undefined {
  const inputs = graph.inputs.filter((v) => !v.tensor);
  const picture = inputs.find((v) => isFloat(v) && (v.type?.dims?.length === 4 || v.type?.dims?.length === 5) && !/past|cache|state/i.test(v.name));
  const count = (ops: RegExp): number => graph.nodes.filter((n) => ops.test(n.opType)).length;
  const [convolutions, attention] = [count(/^Conv/), count(/Attention$|^Softmax$/)];
  if (picture && attention > 0) return { what: `a vision encoder: it turns pictures (${picture.name}) into features`, forward: `${DECODER}; marks (--image-mask marks) take the vision encoder with --vision` };
  if (picture && convolutions > 0) return { what: `a convolutional network over pictures (${picture.name}), with no attention and no tokens`, forward: 'pdrop-compile drops image tokens between the layers of a language model’s decoder; there are none here' };
  const [ids] = inputs.filter(isIds);
  const lookup = ids?.uses.find(({ node, index }) => index === 1 && node.is('Gather'));
  if (inputs.length <= 2 && lookup && attention === 0 && graph.nodes.length <= 32) return { what: `an embedding graph: it looks up token ids (${ids?.name}) and does nothing else`, forward: `${DECODER}; this file is what --embed takes` };
  const sound = inputs.find((v) => isFloat(v) && /input_features|mel|audio|waveform|speech/i.test(v.name));
  if (sound) return { what: `a graph over sound (${sound.name})`, forward: DECODER };
  return undefined;
}

/** The refusal with the graph named; as it was where nothing is known. */
export function named(refusal: Refusal, graph: Graph): Refusal {
  const kind = whatItIs(graph);
  return kind ? new Refusal({ code: refusal.code, message: `this is ${kind.what}; ${refusal.message}`, culprit: refusal.culprit, hint: kind.forward }, { cause: refusal }) : refusal;
}
