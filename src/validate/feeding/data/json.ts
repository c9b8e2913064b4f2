/** Samples in JSON and JSON Lines (schemas/data.schema.json). */
import { createReadStream } from 'node:fs';
import { resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { MOST_DATA_BYTES, readRegularFile, readRegularText } from '../../../disk/small-files.js';
import { badSample } from '../../running/faults.js';
import type { PatchGrid, Sample } from '../sample.js';
import { schemaComplaint, schemaOf } from '../../../disk/schemas.js';
import { type Dtype, elementCount, fromBytes, fromNumbers, type HostTensor } from '../../running/tensor.js';
import { parseNpy, parseNpz } from './npy.js';

type JsonTensor =
  | readonly unknown[]
  | number
  | boolean
  | { readonly data: readonly unknown[]; readonly dtype?: Dtype; readonly shape?: readonly number[] }
  | { readonly base64: string; readonly dtype: Dtype; readonly shape: readonly number[] }
  | { readonly file: string };

/** A turn of a conversation, as chat templates take it; each image part stands for the next picture of the sample. */
export interface Message {
  readonly role: string;
  readonly content: string | readonly ({ readonly type: 'text'; readonly text: string } | { readonly type: 'image' })[];
}

/** A sample as the schema has it. */
export interface JsonSample {
  readonly id?: string;
  readonly title?: string;
  readonly inputs?: Readonly<Record<string, JsonTensor>>;
  /** A question about pictures, for folders: paths beside the file, and what is asked. */
  readonly image?: string | readonly string[];
  /** A question, put into the folder's chat template where it has one. */
  readonly text?: string;
  /** The whole prompt, as it is. */
  readonly prompt?: string;
  readonly messages?: readonly Message[];
  readonly answer?: string | readonly string[];
  readonly labels?: readonly number[] | readonly (readonly number[])[];
  readonly label_embeds?: JsonTensor;
  readonly answers?: readonly (readonly number[])[];
  readonly picture?: string;
  readonly images?: readonly { readonly rows: number; readonly columns: number; readonly start?: number; readonly row?: number; readonly area?: readonly [number, number, number, number] }[];
}

/** No tensor has more; a file may nest as deep as it is long. */
const MOST_AXES = 64;

const loose = new WeakSet<HostTensor>();

/** True for tensors whose element type was guessed from JSON numbers: they are cast to what the model declares. */
export function isLoose(tensor: HostTensor): boolean {
  return loose.has(tensor);
}

/** One tensor. @throws {Error} with the reason. */
export function parseJsonTensor(value: JsonTensor, folder: string): HostTensor {
  if (typeof value === 'object' && 'file' in value) {
    const [file, array] = value.file.split(/:(?=[^:/\\]*$)/);
    const bytes = readRegularFile(resolve(folder, file ?? ''), MOST_DATA_BYTES);
    if (array === undefined) return parseNpy(bytes);
    const found = parseNpz(bytes).get(array);
    if (!found) throw new Error(`${file} has no array "${array}"`);
    return found;
  }
  if (typeof value === 'object' && 'base64' in value) return fromBytes(value.dtype, value.shape, Buffer.from(value.base64, 'base64'));
  const nested = typeof value === 'object' && 'data' in value ? value.data : value;
  const dims: number[] = [];
  const flat: number[] = [];
  let allIntegers = true;
  let allBooleans = true;
  const visit = (v: unknown, depth: number): void => {
    if (Array.isArray(v)) {
      if (depth === MOST_AXES) throw new Error(`arrays are nested deeper than ${MOST_AXES} levels`);
      if (dims[depth] === undefined) dims[depth] = v.length;
      else if (dims[depth] !== v.length) throw new Error('the nested arrays are not rectangular');
      for (const e of v) visit(e, depth + 1);
    } else {
      if (typeof v !== 'number' && typeof v !== 'boolean') throw new Error(`${typeof v === 'object' && v !== null ? 'an object' : JSON.stringify(v)} is not a number`);
      if (depth !== dims.length) throw new Error('the nested arrays are not rectangular');
      if (typeof v !== 'boolean') allBooleans = false;
      if (typeof v === 'number' && !Number.isInteger(v)) allIntegers = false;
      flat.push(Number(v));
    }
  };
  visit(nested, 0);
  const given = typeof value === 'object' && 'data' in value ? value : undefined;
  const shape = given?.shape ?? dims;
  if (elementCount(shape) !== flat.length) throw new Error(`${flat.length} values where shape [${shape.join(', ')}] needs ${elementCount(shape)}`);
  const tensor = fromNumbers(given?.dtype ?? (allBooleans && flat.length > 0 ? 'bool' : allIntegers ? 'int64' : 'float32'), shape, flat);
  if (!given?.dtype) loose.add(tensor);
  return tensor;
}

/** A sample of a checked document; `inputs` found elsewhere (.npz, .pb) come in `feeds`. */
export function toSample(json: JsonSample, where: { folder: string; source: string; id: string; index: number; feeds?: Map<string, HostTensor> }): Sample {
  const id = json.id ?? where.id;
  const feeds = new Map(where.feeds);
  for (const [name, value] of Object.entries(json.inputs ?? {})) {
    try {
      feeds.set(name, parseJsonTensor(value, where.folder));
    } catch (error) {
      throw badSample(id, `input "${name}": ${(error as Error).message}`, 'see schemas/data.schema.json', error);
    }
  }
  const images = json.images ?? [];
  const seen = new Map<number, number>();
  const grids = images.map((g): PatchGrid => {
    const row = g.row ?? 0;
    const first = seen.get(row) ?? 0;
    seen.set(row, first + g.rows * g.columns);
    return { rows: g.rows, columns: g.columns, first, row, area: g.area ?? [0, 0, 1, 1] };
  });
  if (images.length > 0 && images.every((g) => g.start !== undefined)) deriveImageMask(images as readonly { rows: number; columns: number; start: number; row?: number }[], feeds);
  let labelEmbeds: HostTensor | undefined;
  if (json.label_embeds !== undefined) {
    try {
      labelEmbeds = parseJsonTensor(json.label_embeds, where.folder);
    } catch (error) {
      throw badSample(id, `label_embeds: ${(error as Error).message}`, 'see schemas/data.schema.json', error);
    }
  }
  const labels = json.labels && json.labels.length > 0 ? (Array.isArray(json.labels[0]) ? (json.labels as number[][]) : [json.labels as number[]]) : undefined;
  return {
    id,
    index: where.index,
    source: where.source,
    feeds,
    labels,
    labelEmbeds,
    answers: json.answers ? [json.answers] : undefined,
    picture: json.picture === undefined ? undefined : { path: resolve(where.folder, json.picture) },
    grids: grids.length > 0 ? grids : undefined,
    title: json.title,
  };
}

function deriveImageMask(images: readonly { rows: number; columns: number; start: number; row?: number }[], feeds: Map<string, HostTensor>): void {
  const tokens = feeds.get('inputs_embeds') ?? feeds.get('input_ids');
  if (feeds.has('image_token_mask') || !tokens) return;
  const [rows = 1, length = 0] = tokens.dims;
  const data = new Uint8Array(rows * length);
  for (const g of images) data.fill(1, (g.row ?? 0) * length + g.start, (g.row ?? 0) * length + Math.min(length, g.start + g.rows * g.columns));
  feeds.set('image_token_mask', { dtype: 'bool', dims: [rows, length], data });
}

/** Documents of a file: a .json file's samples, or a .jsonl file's lines, one at a time. */
export async function* jsonSamples(path: string): AsyncGenerator<{ json: JsonSample | Error; position: number }> {
  const check = schemaOf('data');
  const wrong = (reason: string, position: number): { json: Error; position: number } => ({
    json: badSample(`${path}#${position}`, reason, 'see schemas/data.schema.json and docs/validate.md'),
    position,
  });
  if (/\.(jsonl|ndjson)$/i.test(path)) {
    let position = 0;
    for await (const line of createInterface({ input: createReadStream(path), crlfDelay: Number.POSITIVE_INFINITY })) {
      if (line.trim() === '') continue;
      let parsed: unknown;
      try {
        parsed = JSON.parse(line);
      } catch (error) {
        yield wrong(`line ${position + 1} is not JSON: ${(error as Error).message}`, position++);
        continue;
      }
      if (check(parsed) && isSample(parsed)) yield { json: parsed, position: position++ };
      else yield wrong(`line ${position + 1}: ${schemaComplaint(check)}`, position++);
    }
    return;
  }
  let document: unknown;
  try {
    document = JSON.parse(readRegularText(path, MOST_DATA_BYTES));
  } catch (error) {
    yield wrong(`not JSON: ${(error as Error).message}`, 0);
    return;
  }
  // Samples are checked one by one, so that a bad one does not lose the others.
  const list = Array.isArray(document) ? document : Array.isArray((document as { samples?: unknown }).samples) ? (document as { samples: unknown[] }).samples : [document];
  for (const [position, one] of list.entries()) {
    if (check(one) && isSample(one)) yield { json: one, position };
    else yield wrong(`sample ${position}: ${schemaComplaint(check)}`, position);
  }
}

function isSample(value: unknown): value is JsonSample {
  return typeof value === 'object' && value !== null && ('inputs' in value || isAsked(value as JsonSample));
}

/** True for samples that a folder's own graphs make inputs of. */
export function isAsked({ text, prompt, messages }: JsonSample): boolean {
  return text !== undefined || prompt !== undefined || messages !== undefined;
}
