/**
 * Opens a data set: a .json/.jsonl/.npz file, a folder of such files, an ONNX `test_data_set_N` folder or a folder of
 * them, several paths one after another. Samples are read one at a time, in a stable order.
 */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { UsageError } from '../../../diagnostics.js';
import { MOST_DATA_BYTES, readRegularFile, readRegularText } from '../../../disk/small-files.js';
import { badSample, SampleFault } from '../../running/faults.js';
import type { Asking } from '../asking/index.js';
import type { DataSet, Sample } from '../sample.js';
import { schemaComplaint, schemaOf } from '../../../disk/schemas.js';
import type { HostTensor } from '../../running/tensor.js';
import { isAsked, type JsonSample, jsonSamples, toSample } from './json.js';
import { parseNpz } from './npy.js';
import { parseTensorProto } from './tensor_pb.js';

type Item = { readonly kind: 'onnx' | 'npz' | 'json'; readonly path: string; readonly label: string };

const natural = new Intl.Collator('en', { numeric: true }).compare;

/** Everything `path` holds, without reading it. */
function items(path: string, root: string): Item[] {
  const label = relative(root, path) || basename(path);
  if (!existsSync(path)) throw new UsageError({ code: 'PD006', message: `there is no data at ${path}`, culprit: '--data', hint: 'give a folder or a file; see docs/validate.md for the formats' });
  if (statSync(path).isDirectory()) {
    const names = readdirSync(path).filter((n) => !n.startsWith('.')).sort(natural);
    if (names.some((n) => /^input_\d+\.pb$/.test(n))) return [{ kind: 'onnx', path, label }];
    const bases = new Set(names.filter((n) => n.endsWith('.npz')).map((n) => n.slice(0, -4)));
    return names.flatMap((n) => {
      const full = join(path, n);
      if (statSync(full).isDirectory()) return /^test_data_set_/.test(n) || readdirSync(full).some((f) => /^input_\d+\.pb$/.test(f)) ? items(full, root) : [];
      if (n.endsWith('.npz')) return items(full, root);
      // name.json beside name.npz annotates it.
      if (/\.(json|jsonl|ndjson)$/.test(n) && !bases.has(n.replace(/\.\w+$/, ''))) return items(full, root);
      return [];
    });
  }
  if (path.endsWith('.npz')) return [{ kind: 'npz', path, label }];
  if (/\.(json|jsonl|ndjson)$/.test(path)) return [{ kind: 'json', path, label }];
  throw new UsageError({ code: 'PD006', message: `${path} is not a data file`, culprit: '--data', hint: 'data are .npz, .json, .jsonl or folders of test_data_set_N/input_K.pb' });
}

/** @throws {UsageError} PD006 when a path does not exist or holds no sample files. */
export function openData(paths: readonly string[], asking?: Asking): DataSet {
  const all = paths.flatMap((p) => items(p, existsSync(p) && statSync(p).isDirectory() ? p : dirname(p)));
  const first = all[0];
  if (!first) throw new UsageError({ code: 'PD006', message: `no samples in ${paths.join(', ')}`, culprit: '--data', hint: 'data are .npz, .json, .jsonl or folders of test_data_set_N/input_K.pb' });
  return {
    kind: first.kind,
    source: paths.map((p) => basename(p)).join(', '),
    count: all.some((i) => i.kind === 'json') ? undefined : all.length,
    async *samples() {
      let index = 0;
      for (const item of all) {
        if (item.kind === 'json') {
          for await (const { json, position } of jsonSamples(item.path)) {
            const id = `${item.label}#${position}`;
            yield await guarded(id, index++, item, () => {
              if (json instanceof Error) throw json;
              const where = { folder: dirname(item.path), source: item.path, id, index: index - 1 };
              return isAsked(json) ? asked(json, where, asking) : toSample(json, where);
            });
          }
        } else yield await guarded(item.label, index++, item, () => (item.kind === 'npz' ? npzSample(item, index - 1) : onnxSample(item, index - 1)));
      }
    },
  };
}

/** A question: what the folder's own graphs make of it. */
async function asked(json: JsonSample, where: { folder: string; source: string; id: string; index: number }, asking: Asking | undefined): Promise<Sample> {
  const id = json.id ?? where.id;
  if (!asking) {
    throw new SampleFault({ code: 'PD518', message: `sample ${id} is a text, and only a folder says how it is tokenized and where pictures go`, culprit: id, hint: 'validate folders: pdrop-compile validate ./in ./out --data …; or give "inputs"' });
  }
  const { inputs, answers, question, grids } = await asking.ask(id, json, (path) => resolve(where.folder, path));
  const pictures = json.image === undefined ? [] : [json.image].flat();
  const title = json.title ?? `${question}${json.answer === undefined ? '' : ` → ${[json.answer].flat()[0]}`}`;
  return toSample(
    {
      ...json,
      inputs: {},
      title,
      ...(answers && !json.answers ? { answers } : {}),
      ...(pictures.length === 1 && json.picture === undefined ? { picture: pictures[0] as string } : {}),
      ...(grids && !json.images ? { images: grids } : {}),
    },
    { ...where, feeds: new Map(inputs) },
  );
}

type Yielded = Sample | { readonly fault: Error; readonly id: string; readonly index: number; readonly source: string };

async function guarded(id: string, index: number, item: Item, make: () => Sample | Promise<Sample>): Promise<Yielded> {
  try {
    return await make();
  } catch (error) {
    const fault = error instanceof Error && 'exitCode' in error ? error : badSample(id, (error as Error).message, 'check the file', error);
    return { fault, id, index, source: item.path };
  }
}

/** Annotations beside a sample: labels, answers, picture, grids. */
function annotation(path: string): JsonSample {
  if (!existsSync(path)) return { inputs: {} };
  const json = { inputs: {}, ...(JSON.parse(readRegularText(path)) as Partial<JsonSample>) };
  const check = schemaOf('data');
  if (!check(json)) throw badSample(path, schemaComplaint(check), 'see schemas/data.schema.json');
  return json;
}

function npzSample(item: Item, index: number): Sample {
  const feeds = parseNpz(readRegularFile(item.path, MOST_DATA_BYTES));
  return toSample(annotation(item.path.replace(/\.npz$/, '.json')), { folder: dirname(item.path), source: item.path, id: item.label.replace(/\.npz$/, ''), index, feeds });
}

async function onnxSample(item: Item, index: number): Promise<Sample> {
  const feeds = new Map<string, HostTensor>();
  for (const file of readdirSync(item.path).filter((n) => /^input_\d+\.pb$/.test(n)).sort(natural)) {
    try {
      const { name, tensor } = await parseTensorProto(readRegularFile(join(item.path, file), MOST_DATA_BYTES));
      if (name === '') throw new Error('the tensor has no name; store the input name in TensorProto.name');
      feeds.set(name, tensor);
    } catch (error) {
      throw badSample(item.label, `${file}: ${(error as Error).message}`, 'write it with onnx.numpy_helper.from_array(array, name)', error);
    }
  }
  return toSample(annotation(join(item.path, 'sample.json')), { folder: item.path, source: item.path, id: item.label, index, feeds });
}
