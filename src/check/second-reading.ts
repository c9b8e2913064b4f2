/**
 * A model read a second time, by another reader: onnx-proto decodes it without its payloads, and what it says is held against what
 * we read. A field that one of the two misreads, repairs or leaves out shows as a difference.
 */
import type { onnx } from 'onnx-proto';
import { DataType } from '../ir/data-type.js';
import type { AttributeValue, Graph, Model, Node, Tensor, TensorType, Value } from '../ir/graph.js';
import type { ByteSource } from '../onnx/bytes.js';
import { BRANCH_DOMAIN } from '../onnx/branch-functions.js';
import { normaliseDomain } from '../onnx/decode.js';
import { withoutPayloads } from '../onnx/elide.js';
import { AttributeType, DataLocation } from '../onnx/proto.js';
import { CONTRIB } from '../onnx/read.js';

/** Problems listed; a reader that is off by one field is wrong everywhere. */
const MOST_PROBLEMS = 50;

type Whole = onnx.TensorProto['int64Data'][number];

/** @returns what the two readings do not agree on */
export async function compareWithSecondReading(source: ByteSource, model: Model): Promise<string[]> {
  const { onnx } = (await import('onnx-proto')).default;
  const bytes = await withoutPayloads(source);
  let second: onnx.ModelProto;
  try {
    // A Buffer's text is decoded as a TextDecoder would.
    second = onnx.ModelProto.decode(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
  } catch (error) {
    return [`onnx-proto cannot read it: ${(error as Error).message}`];
  }
  const comparison = new Comparison();
  comparison.model(model, second);
  return comparison.problems;
}

class Comparison {
  readonly problems: string[] = [];

  model(ours: Model, theirs: onnx.ModelProto): void {
    this.#same('IR version', ours.irVersion, Number(theirs.irVersion));
    this.#same('producer', ours.producer, theirs.producerName);
    const imports = new Map(theirs.opsetImport.map((o) => [normaliseDomain(o.domain ?? ''), Number(o.version ?? 0)]));
    // Read as imported where it is used: nothing that a file says.
    if (!imports.has(CONTRIB) && ours.opsets.get(CONTRIB) === 1) imports.set(CONTRIB, 1);
    this.#same('opset imports', [...ours.opsets], [...imports]);
    this.#same('metadata', [...ours.metadata], [...new Map(theirs.metadataProps.map((e) => [e.key ?? '', e.value ?? '']))]);
    this.#same('functions', ours.functions.length, theirs.functions.length);
    this.#graph('the graph', ours.graph, { ...theirs.graph, node: branchesInPlace(theirs) });
  }

  #graph(where: string, ours: Graph, theirs: onnx.IGraphProto): void {
    this.#same(`name of ${where}`, ours.name, theirs.name ?? '');
    this.#list(`nodes of ${where}`, ours.nodes, theirs.node, (node, proto) => this.#node(where, node, proto));
    this.#list(`initializers of ${where}`, ours.initializers, theirs.initializer, (value, proto) => {
      this.#same(`name of an initializer of ${where}`, value.name, proto.name ?? '');
      if (value.tensor) this.#tensor(`initializer "${value.name}"`, value.tensor, proto);
    });
    this.#list(`inputs of ${where}`, ours.inputs, theirs.input, (value, proto) => this.#declaration('input', value, proto));
    this.#list(`outputs of ${where}`, ours.outputs, theirs.output, (value, proto) => this.#declaration('output', value, proto));
    const declared = new Set<string>();
    for (const proto of theirs.valueInfo ?? []) {
      const name = proto.name ?? '';
      const value = ours.values.get(name);
      if (!value) this.#differ(`a type is declared for "${name}", which we did not read`);
      // Of several declarations the first counts.
      else if (!value.isInput && !value.isOutput && !declared.has(name)) this.#declaration('value', value, proto);
      declared.add(name);
    }
  }

  #node(where: string, ours: Node, theirs: onnx.INodeProto): void {
    const names = (values: readonly (Value | null)[]): string[] => values.map((v) => v?.name ?? '');
    const what = `node "${ours.name || ours.opType}" of ${where}`;
    this.#same(`name of ${what}`, ours.name, theirs.name ?? '');
    this.#same(`op of ${what}`, [ours.domain, ours.opType], [normaliseDomain(theirs.domain ?? ''), theirs.opType ?? '']);
    this.#same(`inputs of ${what}`, names(ours.inputs), theirs.input ?? []);
    this.#same(`outputs of ${what}`, names(ours.outputs), theirs.output ?? []);
    this.#same(`number of attributes of ${what}`, ours.attributes.size, theirs.attribute?.length ?? 0);
    for (const proto of theirs.attribute ?? []) {
      const name = proto.name ?? '';
      const attribute = ours.attributes.get(name);
      if (!attribute) this.#differ(`${what} has an attribute "${name}", which we did not read`);
      else this.#attribute(`attribute "${name}" of ${what}`, attribute, proto);
    }
  }

  #attribute(what: string, ours: AttributeValue, theirs: onnx.IAttributeProto): void {
    // IR versions before 3 may leave the type out.
    const type = theirs.type ? KINDS[theirs.type] ?? 'other' : ours.kind;
    if (type !== ours.kind) {
      this.#differ(`${what} holds: ${ours.kind} and ${type}`);
      return;
    }
    switch (ours.kind) {
      case 'int':
        this.#same(what, String(ours.value), String(theirs.i ?? 0));
        break;
      case 'float':
        this.#same(what, ours.value, theirs.f ?? 0);
        break;
      case 'string':
        this.#same(what, ours.value, textOf(theirs.s));
        break;
      case 'ints':
        this.#same(what, ours.value.map(String), (theirs.ints ?? []).map(String));
        break;
      case 'floats':
        this.#same(what, ours.value, theirs.floats ?? []);
        break;
      case 'strings':
        this.#same(what, ours.value, (theirs.strings ?? []).map(textOf));
        break;
      case 'tensor':
        this.#tensor(what, ours.value, theirs.t ?? {});
        break;
      case 'graph':
        this.#graph(what, ours.value, theirs.g ?? {});
        break;
    }
  }

  #tensor(what: string, ours: Tensor, theirs: onnx.ITensorProto): void {
    this.#same(`type of ${what}`, ours.dataType, theirs.dataType ?? 0);
    this.#same(`dimensions of ${what}`, ours.dims, (theirs.dims ?? []).map(Number));
    const entries = Object.fromEntries((theirs.externalData ?? []).map((e) => [e.key ?? '', e.value ?? '']));
    const { location = '', offset = '0', length } = entries;
    const external = theirs.dataLocation === DataLocation.EXTERNAL ? [location, offset, length] : [];
    this.#same(`external data of ${what}`, ours.external ? [ours.external.location, String(ours.external.offset), ours.external.length?.toString()] : [], external);
    if (ours.data) this.#same(`payload of ${what}`, hex(ours.data), hex(theirs.rawData?.length ? theirs.rawData : typedPayload(theirs)));
  }

  #declaration(kind: string, ours: Value, theirs: onnx.IValueInfoProto): void {
    this.#same(`name of an ${kind}`, ours.name, theirs.name ?? '');
    const type = theirs.type?.tensorType;
    // An input handed through as an output is what its input says it is.
    if (!type || (kind === 'output' && ours.isInput)) return;
    const dims = type.shape ? (type.shape.dim ?? []).map(dimension) : undefined;
    this.#same(`type of ${kind} "${ours.name}"`, ours.type, { elemType: type.elemType ?? 0, dims } satisfies TensorType);
  }

  #list<Ours, Theirs>(what: string, ours: readonly Ours[], theirs: readonly Theirs[] | null | undefined, compare: (ours: Ours, theirs: Theirs) => void): void {
    this.#same(`number of ${what}`, ours.length, theirs?.length ?? 0);
    ours.forEach((o, i) => {
      const t = theirs?.[i];
      if (t !== undefined) compare(o, t);
    });
  }

  #same(what: string, ours: unknown, theirs: unknown): void {
    const [a, b] = [text(ours), text(theirs)];
    if (a !== b) this.#differ(`${what}: ${shortened(a)} and ${shortened(b)}`);
  }

  #differ(problem: string): void {
    if (this.problems.length < MOST_PROBLEMS) this.problems.push(problem);
  }
}

/** The nodes of a graph, with the If of a local function in the place of its call (src/onnx/branch-functions.ts). */
function branchesInPlace({ graph, functions }: onnx.ModelProto): onnx.INodeProto[] {
  const branches = new Map(functions.filter((f) => f.domain === BRANCH_DOMAIN).map((f) => [f.name, f]));
  const same = (a: readonly string[] | null | undefined, b: readonly string[] | null | undefined): boolean => text(a ?? []) === text(b ?? []);
  return (graph?.node ?? []).map((node) => {
    const branch = node.domain === BRANCH_DOMAIN ? branches.get(node.opType) : undefined;
    return branch?.node?.length === 1 && same(node.input, branch.input) && same(node.output, branch.output) ? (branch.node[0] as onnx.INodeProto) : node;
  });
}

const KINDS: Readonly<Record<number, AttributeValue['kind']>> = {
  [AttributeType.FLOAT]: 'float',
  [AttributeType.INT]: 'int',
  [AttributeType.STRING]: 'string',
  [AttributeType.TENSOR]: 'tensor',
  [AttributeType.GRAPH]: 'graph',
  [AttributeType.FLOATS]: 'floats',
  [AttributeType.INTS]: 'ints',
  [AttributeType.STRINGS]: 'strings',
};

/** JSON has no NaN, no infinities and no negative zero. */
function text(value: unknown): string {
  return JSON.stringify(value, (_, v: unknown) => (typeof v === 'number' && (!Number.isFinite(v) || Object.is(v, -0)) ? `number ${Object.is(v, -0) ? '-0' : v}` : v)) ?? 'nothing';
}

function shortened(value: string): string {
  return value.length > 80 ? `${value.slice(0, 77)}…` : value;
}

function textOf(bytes: Uint8Array | null | undefined): string {
  return bytes ? new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes) : '';
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex');
}

function dimension({ dimValue, dimParam }: onnx.TensorShapeProto.IDimension): number | string | null {
  if (dimParam) return dimParam;
  if (dimValue === null || dimValue === undefined || Number(dimValue) < 0 || !Number.isSafeInteger(Number(dimValue))) return null;
  return Number(dimValue);
}

/** The typed fields as the raw payload they stand for. */
function typedPayload(proto: onnx.ITensorProto): Uint8Array {
  const big = (list: readonly Whole[] | null | undefined): bigint[] => (list ?? []).map((v) => BigInt(v.toString()));
  const elements = ((): ArrayBufferView => {
    switch (proto.dataType) {
      case DataType.FLOAT:
        return Float32Array.from(proto.floatData ?? []);
      case DataType.DOUBLE:
        return Float64Array.from(proto.doubleData ?? []);
      case DataType.INT64:
        return BigInt64Array.from(big(proto.int64Data));
      case DataType.UINT64:
        return BigUint64Array.from(big(proto.uint64Data));
      case DataType.UINT32:
        return Uint32Array.from(proto.uint64Data ?? [], Number);
      case DataType.INT32:
        return Int32Array.from(proto.int32Data ?? []);
      case DataType.INT8:
      case DataType.UINT8:
      case DataType.BOOL:
        return Uint8Array.from(proto.int32Data ?? []);
      default:
        return Uint16Array.from(proto.int32Data ?? []);
    }
  })();
  return new Uint8Array(elements.buffer, elements.byteOffset, elements.byteLength);
}
