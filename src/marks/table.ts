/**
 * The embedding graph as what it is: a table of one row a token id. What stands between the table and the graph's
 * output is followed exactly, so that the rows are what the decoder will be fed; anything else is refused.
 */
import { describeNode, Refusal } from '../diagnostics.js';
import { DataType, type Model, type Node, type Tensor, type Value } from '../ir/graph.js';
import { fromHalf } from '../ir/half.js';
import { roundHalf } from '../analyse/shapes/numbers.js';
import { type MarkType, markType } from '../plan/marks.js';
import { type ExternalOpener, payloadOf } from '../onnx/payload.js';

export interface EmbeddingTable {
  /** Token ids. */
  readonly rows: number;
  readonly hidden: number;
  /** Type of the embeddings as the graph gives them. */
  readonly type: MarkType;
  /** Embeddings of `count` token ids from `first` on: [count · hidden]. */
  read(first: number, count: number): Promise<Float32Array>;
}

/** Conversions and factors, each worked out for every element of the table; a graph has two or three. */
const MOST_STEPS = 64;

const INTS: readonly number[] = [DataType.INT64, DataType.INT32];

/**
 * Finds the table in a graph that turns token ids into embeddings.
 *
 * @throws {Refusal} PD604 when the graph is something else, or does more than looking up, scaling by a constant and converting
 */
export async function embeddingTable(model: Model, external: ExternalOpener): Promise<EmbeddingTable> {
  const { graph } = model;
  const ids = graph.inputs.filter((v) => !v.tensor && INTS.includes(v.type?.elemType ?? 0));
  const output = graph.outputs.find((v) => v.type?.dims === undefined || v.type.dims.length === 3);
  if (ids.length === 0 || !output) throw notUnderstood('it does not turn token ids into embeddings', graph.inputs[0]?.name);
  const type = markType(output.type?.elemType, output.name);
  const steps: ((x: number) => number)[] = [rounding(output.type?.elemType)];
  let value: Value = throughMerge(output);
  for (;;) {
    const node = value.producer;
    if (steps.length > MOST_STEPS) throw notUnderstood(`embeddings go through more than ${MOST_STEPS} conversions`, value.name);
    if (!node) throw notUnderstood('its output does not come from a table', value.name);
    if (node.is('Identity')) value = node.inputs[0] as Value;
    else if (node.is('Cast')) {
      steps.unshift(rounding(node.int('to', 0)));
      value = node.inputs[0] as Value;
    } else if (node.is('Mul') || node.is('Div')) {
      const [a, b] = node.inputs as [Value, Value];
      const at = scalarOf(b) !== undefined ? 0 : scalarOf(a) !== undefined && node.is('Mul') ? 1 : -1;
      const factor = at < 0 ? undefined : scalarOf((at === 0 ? b : a) as Value);
      if (factor === undefined) throw notUnderstood('embeddings are multiplied by something that is not a constant', describeNode(node));
      const round = rounding(typeOf(b) ?? typeOf(a));
      steps.unshift(node.is('Mul') ? (x) => round(x * factor) : (x) => round(x / factor));
      value = (at === 0 ? a : b) as Value;
    } else if (node.is('DequantizeLinear') && node.inputs[0]?.producer?.is('Gather')) {
      const lookup = node.inputs[0].producer;
      return gathered({ model, external }, lookup, type, steps, scaleOf(node));
    } else if (node.is('Gather')) return gathered({ model, external }, node, type, steps, undefined);
    else if (node.is('GatherBlockQuantized', 'com.microsoft')) return blockwise(model, node, type, steps, external);
    else throw notUnderstood('embeddings go through something else than a lookup, a constant factor and conversions', describeNode(node));
  }
}

/** Where image features are merged in the graph: the side the text comes from. The features themselves may only be moved. */
function throughMerge(output: Value): Value {
  let value = output;
  for (;;) {
    const node = value.producer;
    if (!node || !(node.is('ScatterND') || node.is('Where') || node.is('ScatterElements'))) return value;
    const [first, second, third] = node.inputs as (Value | null)[];
    const sides = node.is('Where') ? [second, third] : [first, third];
    const features = sides.find((v) => v && movedInput(v));
    const text = sides.find((v) => v && v !== features);
    if (!features || !text) throw notUnderstood('image features are changed on their way into the embeddings', describeNode(node));
    value = text;
  }
}

/** True when the value is a float graph input, moved about but not changed. */
function movedInput(value: Value): boolean {
  for (let v: Value | null | undefined = value, i = 0; v && i < 16; v = v.producer?.inputs[0], i++) {
    if (v.isInput && !v.tensor) return !INTS.includes(v.type?.elemType ?? 0);
    if (!v.producer || !['Reshape', 'Squeeze', 'Unsqueeze', 'Gather', 'GatherND', 'GatherElements', 'Slice', 'Flatten', 'Identity', 'Expand', 'Concat'].includes(v.producer.opType)) return false;
  }
  return false;
}

function notUnderstood(reason: string, culprit: string | undefined): Refusal {
  return new Refusal({
    code: 'PD604',
    message: `the embedding graph cannot be held against marks: ${reason}`,
    culprit,
    hint: 'marks need the plain lookup graph (embed_tokens.onnx) whose output reaches the decoder as it is; without one use --image-mask input',
  });
}

const asFloat = Math.fround;

function rounding(elemType: number | undefined): (x: number) => number {
  return elemType === DataType.FLOAT16 ? roundHalf : asFloat;
}

function typeOf(value: Value | null): number | undefined {
  return value?.tensor?.dataType ?? value?.type?.elemType;
}

/** Elements of a small constant: initializer or Constant node, through Cast and Identity. */
function constantOf(value: Value | null): Tensor | undefined {
  for (let v = value; v; ) {
    if (v.tensor) return v.tensor;
    const node: Node | null = v.producer;
    if (node?.is('Constant')) for (const a of node.attributes.values()) if (a.kind === 'tensor') return a.value;
    if (!node || !(node.is('Identity') || node.is('Cast'))) return undefined;
    v = node.inputs[0] as Value | null;
  }
  return undefined;
}

function scalarOf(value: Value | null): number | undefined {
  const tensor = constantOf(value);
  if (!tensor?.data || tensor.dims.some((d) => d !== 1)) return undefined;
  return decoderOf(tensor.dataType)?.(tensor.data, 0);
}

/** Element `i` of a raw payload. */
function decoderOf(dataType: number): ((bytes: Uint8Array, i: number) => number) | undefined {
  const view = (b: Uint8Array): DataView => new DataView(b.buffer, b.byteOffset, b.byteLength);
  switch (dataType) {
    case DataType.FLOAT:
      return (b, i) => view(b).getFloat32(4 * i, true);
    case DataType.FLOAT16:
      return (b, i) => fromHalf(view(b).getUint16(2 * i, true));
    case DataType.INT8:
      return (b, i) => ((b[i] as number) << 24) >> 24;
    case DataType.UINT8:
      return (b, i) => b[i] as number;
    default:
      return undefined;
  }
}

interface Scale {
  readonly scale: number;
  readonly zero: number;
}

function scaleOf(node: Node): Scale {
  const scale = scalarOf(node.inputs[1] ?? null);
  const zero = node.inputs[2] ? scalarOf(node.inputs[2]) : 0;
  if (scale === undefined || zero === undefined) throw notUnderstood('the table is quantized with more than one scale', describeNode(node));
  return { scale, zero };
}

async function gathered({ model, external }: { model: Model; external: ExternalOpener }, node: Node, type: MarkType, steps: readonly ((x: number) => number)[], quantized: Scale | undefined): Promise<EmbeddingTable> {
  let value = node.inputs[0] as Value;
  let scale = quantized;
  const before: ((x: number) => number)[] = [];
  while (!value.tensor && value.producer && (value.producer.is('Cast') || value.producer.is('Identity') || (value.producer.is('DequantizeLinear') && !scale))) {
    if (before.length > MOST_STEPS) throw notUnderstood(`its table goes through more than ${MOST_STEPS} conversions`, value.name);
    if (value.producer.is('Cast')) before.unshift(rounding(value.producer.int('to', 0)));
    if (value.producer.is('DequantizeLinear')) scale = scaleOf(value.producer);
    value = value.producer.inputs[0] as Value;
  }
  const { tensor } = value;
  const payload = await payloadOf(model, value, external);
  const decode = tensor && decoderOf(tensor.dataType);
  if (!tensor || !payload || !decode || tensor.dims.length !== 2 || node.int('axis', 0) !== 0) throw notUnderstood('its table is not a plain tensor [vocabulary, hidden]', describeNode(node));
  const [rows, hidden] = tensor.dims as [number, number];
  const size = tensor.byteLength / (rows * hidden);
  const all = [...before, ...steps];
  return {
    rows,
    hidden,
    type,
    async read(first, count) {
      const bytes = await payload.read(first * hidden * size, count * hidden * size);
      const out = new Float32Array(count * hidden);
      for (let i = 0; i < out.length; i++) {
        let x = decode(bytes, i);
        if (scale) x = asFloat((x - scale.zero) * scale.scale);
        for (const step of all) x = step(x);
        out[i] = x;
      }
      return out;
    },
  };
}

/** GatherBlockQuantized: rows of 4- or 8-bit numbers with a scale (and a zero point) for each block of the row. */
async function blockwise(model: Model, node: Node, type: MarkType, steps: readonly ((x: number) => number)[], external: ExternalOpener): Promise<EmbeddingTable> {
  const [data, , scales, zeros] = node.inputs as (Value | null)[];
  const block = node.int('block_size', 128);
  const odd = (why: string): Refusal => notUnderstood(why, describeNode(node));
  if (!data?.tensor || !scales?.tensor || (zeros && !zeros.tensor)) throw odd('its table is not a plain tensor');
  if (node.int('gather_axis', 0) !== 0 || data.tensor.dims.length !== 2) throw odd('its table is not [vocabulary, hidden]');
  const packed = data.tensor.dataType === DataType.UINT8;
  const bits = packed ? node.int('bits', 4) : [21, 22].includes(data.tensor.dataType) ? 4 : 8;
  const signed = data.tensor.dataType === DataType.INT4 || data.tensor.dataType === DataType.INT8;
  const rows = data.tensor.dims[0] as number;
  const hidden = (data.tensor.dims[1] as number) * (packed && bits === 4 ? 2 : 1);
  const blocks = scales.tensor.dims[1] as number;
  const payload = await payloadOf(model, data, external);
  const scalePayload = await payloadOf(model, scales, external);
  const zeroPayload = zeros ? await payloadOf(model, zeros, external) : undefined;
  const decodeScale = decoderOf(scales.tensor.dataType);
  if (!payload || !scalePayload || !decodeScale || (zeros && !zeroPayload) || blocks !== Math.ceil(hidden / block)) throw odd('its table cannot be read');
  const scaleSize = scales.tensor.byteLength / (rows * blocks);
  const zeroRow = zeroPayload ? zeroPayload.size / rows : 0;
  const element = (bytes: Uint8Array, start: number, i: number): number => {
    const raw = bits === 4 ? ((bytes[start + (i >> 1)] as number) >> (4 * (i & 1))) & 15 : (bytes[start + i] as number);
    return signed && raw >= 2 ** (bits - 1) ? raw - 2 ** bits : raw;
  };
  // Unsigned packed numbers without zero points lie around the middle of their range.
  const middle = packed ? 2 ** (bits - 1) : 0;
  const round = rounding(scales.tensor.dataType);
  const rowBytes = (hidden * bits) / 8;
  return {
    rows,
    hidden,
    type,
    async read(first, count) {
      const bytes = await payload.read(first * rowBytes, count * rowBytes);
      const scaleBytes = await scalePayload.read(first * blocks * scaleSize, count * blocks * scaleSize);
      const zeroBytes = await zeroPayload?.read(first * zeroRow, count * zeroRow);
      const out = new Float32Array(count * hidden);
      for (let r = 0; r < count; r++) {
        for (let i = 0; i < hidden; i++) {
          const b = Math.floor(i / block);
          const zero = zeroBytes ? element(zeroBytes, r * zeroRow, b) : middle;
          let x = round(asFloat((element(bytes, r * rowBytes, i) - zero) * decodeScale(scaleBytes, r * blocks + b)));
          for (const step of steps) x = step(x);
          out[r * hidden + i] = x;
        }
      }
      return out;
    },
  };
}

