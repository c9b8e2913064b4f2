/**
 * A model file → IR, read sparsely: messages are scanned field by field, payloads are skipped and stay spans of
 * the source, and every record remembers its own bytes so that it can be written back unchanged.
 */
import { Refusal } from '../diagnostics.js';
import { isFloat } from '../ir/data-type.js';
import { type Graph, type Model, type Node, SMALL_TENSOR_BYTES, type Tensor } from '../ir/graph.js';
import { LocalFunctions } from './branch-functions.js';
import { type ByteSource, type Piece, WindowedSource } from './bytes.js';
import { Decoded, decodeOpset } from './decode.js';
import { fieldAt, WHOLE_RECORD_BYTES } from './elide.js';
import { foreignFormat } from './foreign.js';
import { MODEL } from './proto.js';
import { KnownNodes } from './known-nodes.js';
import { readGraph } from './read-graph.js';
import type { ModelRecord } from './records.js';
import { decodeEntry } from './tensor.js';
import { type Field, fieldOf, LENGTH_DELIMITED, malformed, VARINT } from './wire.js';

/** ModelProto but for its graph. */
class ModelFields {
  irVersion = 0;
  producer = '';
  readonly opsets = new Map<string, number>();
  readonly metadata = new Map<string, string>();

  take(field: Field): void {
    if (field.number === MODEL.irVersion && field.wire === VARINT) this.irVersion = Number(field.integer());
    if (field.wire !== LENGTH_DELIMITED) return;
    switch (field.number) {
      case MODEL.producerName:
        this.producer = field.text();
        break;
      case MODEL.opsetImport:
        this.opsets.set(...decodeOpset(field.payload));
        break;
      case MODEL.metadataProps:
        this.metadata.set(...decodeEntry(field.payload, (f) => f.text()));
        break;
    }
  }
}

/**
 * Reads a model.
 *
 * @param source the model file's bytes; only what is needed of it is read, and it must stay readable until the
 *   model has been written.
 * @param made the model that these bytes were written from: what was written as it had been read is not decoded again
 * @throws {Refusal} PD101 when the bytes are not a complete ONNX model.
 */
export async function readModel(source: ByteSource, made?: Model): Promise<Model> {
  const windowed = new WindowedSource(source);
  const segments: { field: number; piece: Piece }[] = [];
  const fields = new ModelFields();
  const locations = new Set<string>();
  const functions = new LocalFunctions();
  const decoded = (made?.record as ModelRecord | undefined)?.decoded ?? new Decoded();
  let graph: Graph | undefined;
  if (source.size === 0) throw malformed('it is empty', 0);
  const foreign = foreignFormat(await windowed.load(0, Math.min(64, source.size)));
  if (foreign) throw new Refusal({ code: 'PD101', message: `the file is not an ONNX model: it is ${foreign.what}`, hint: foreign.hint });
  for (let at = 0; at < source.size; ) {
    const f = await fieldAt(windowed, at, source.size);
    const length = f.end - f.start;
    if (f.number === MODEL.graph && f.wire === LENGTH_DELIMITED) {
      if (graph) throw malformed('there are two graphs', at);
      graph = await readGraph({ source: windowed, start: f.dataStart, end: f.end, held: false, parent: null, owner: null, depth: 0, decoded, known: made && new KnownNodes(made.graph) }, locations);
      segments.push({ field: f.number, piece: { offset: f.start, length } });
    } else if (length > WHOLE_RECORD_BYTES) {
      segments.push({ field: f.number, piece: { offset: f.start, length } });
    } else {
      const record = (await windowed.load(f.start, length)).slice();
      segments.push({ field: f.number, piece: record });
      fields.take(fieldOf(record));
    }
    if (f.number === MODEL.functions && f.wire === LENGTH_DELIMITED) await functions.take(windowed, f);
    at = f.end;
  }
  const { irVersion, producer, opsets, metadata } = fields;
  if (!graph || irVersion === 0 || opsets.size === 0) {
    throw new Refusal({
      code: 'PD101',
      message: `the file is not an ONNX model: it has no ${!graph ? 'graph' : irVersion === 0 ? 'IR version' : 'opset import'}`,
      hint: 'give the .onnx file of the decoder (not a tokenizer, a config, an ORT-format .ort file or an external data file)',
    });
  }
  await functions.expand(graph, decoded, locations);
  if (!opsets.has(CONTRIB) && uses(graph, CONTRIB)) opsets.set(CONTRIB, 1);
  refuseIncomplete(graph, opsets);
  await readSmallExternal(graph, source);
  return { irVersion, opsets, graph, metadata, producer, functions: functions.names, externalLocations: [...locations], record: { source, segments, decoded } satisfies ModelRecord };
}

/** Of floats that steer shapes there are few in a tensor: a scale, the four of a Resize. */
const FLOATS_THAT_STEER = 16;

/**
 * Constants that shapes are made of, where they are external data as well (`size_threshold=0`): integers of up to
 * SMALL_TENSOR_BYTES and a few floats. Weights stay where they are.
 */
async function readSmallExternal(graph: Graph, source: ByteSource): Promise<void> {
  if (!source.external) return;
  const load = async (tensor: Tensor, culprit: string): Promise<Tensor> => {
    const { external, byteLength, dataType, dims } = tensor;
    if (!external || tensor.data || byteLength > SMALL_TENSOR_BYTES || byteLength === 0) return tensor;
    if (isFloat(dataType) && dims.reduce((a, b) => a * b, 1) > FLOATS_THAT_STEER) return tensor;
    // What is known of it without its data is not known of it.
    return { ...tensor, data: await source.external?.(external, byteLength, culprit), facts: undefined };
  };
  for (const v of graph.initializers) if (v.tensor?.external) v.tensor = await load(v.tensor, v.name);
  for (let i = 0; i < graph.nodes.length; i++) {
    const n = graph.nodes[i] as Node;
    if (n.attributes.size > 0) for (const [name, a] of n.attributes) if (a.kind === 'tensor' && a.value.external) n.completeAttribute(name, { kind: 'tensor', value: await load(a.value, n.name) });
    if (n.subgraphs.length > 0) for (const g of n.subgraphs) await readSmallExternal(g, source);
  }
}

/**
 * ONNX Runtime's own ops. It imports them by itself where a model does not, and Olive's OrtTransformersOptimization saves such models; there
 * is one version. What is written has the import.
 */
export const CONTRIB = 'com.microsoft';

function uses(graph: Graph, domain: string): boolean {
  return graph.nodes.some((node) => node.domain === domain || node.subgraphs.some((g) => uses(g, domain)));
}

/** Opset imports may stand at the end of the file: a file cut off between fields looks whole but lacks them. So may a Cast lack its type, and a Constant have one that it cannot have. */
function refuseIncomplete(graph: Graph, opsets: ReadonlyMap<string, number>): void {
  for (let i = 0; i < graph.nodes.length; i++) {
    const node = graph.nodes[i] as Node;
    if (!opsets.has(node.domain)) {
      throw new Refusal({
        code: 'PD102',
        message: `the graph uses ops of "${node.domain || 'ai.onnx'}" without importing an opset of it`,
        culprit: node.name || node.opType,
        hint: 'the file may be cut off, or was edited: download or export it again',
      });
    }
    if (node.is('Cast') && !(node.int('to', 0) > 0)) {
      // A declared type would hide it from ONNX Runtime, and a copy of the node has none.
      throw new Refusal({ code: 'PD102', message: 'a Cast does not say to what type', culprit: node.name || node.opType, hint: 'export the model again' });
    }
    if (node.is('Constant')) refuseOddConstant(node);
    if (node.subgraphs.length > 0) for (const g of node.subgraphs) refuseIncomplete(g, opsets);
  }
}

function refuseOddConstant(node: Node): void {
  // ONNX Runtime does not look at them in a graph, and does in a local function, where branches may go (a find of the fuzzer).
  if (node.inputs.length > 0) throw new Refusal({ code: 'PD102', message: 'a Constant has inputs', culprit: node.name || node.opType, hint: 'the graph is not valid ONNX; export it again or run onnx.checker on it' });
  for (const [name, attribute] of node.attributes) {
    const kind = CONSTANT_KINDS.get(name);
    if (kind === undefined || attribute.kind === kind) continue;
    // ONNX Runtime takes it in some places and dies of it in others (a find of the fuzzer).
    throw new Refusal({ code: 'PD102', message: `attribute "${name}" of a Constant is not of the type that the op asks for`, culprit: node.name || node.opType, hint: 'the graph is not valid ONNX; export it again or run onnx.checker on it' });
  }
}

const CONSTANT_KINDS: ReadonlyMap<string, string> = new Map([['value', 'tensor'], ['value_int', 'int'], ['value_ints', 'ints'], ['value_float', 'float'], ['value_floats', 'floats'], ['value_string', 'string'], ['value_strings', 'strings']]);
