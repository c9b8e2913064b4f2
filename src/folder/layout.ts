/** What a folder of a model is: whose layout, which graphs are the decoder, the embeddings and the vision encoder. */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { Refusal, UsageError } from '../diagnostics.js';
import { readRegularText } from '../disk/small-files.js';

export type Runtime = 'generic' | 'transformers.js' | 'genai' | 'openvino';
export type LayoutKind = 'transformers.js' | 'genai' | 'optimum' | 'monolithic';

/** A graph of the folder. */
export interface Part {
  /** Path within the folder, with slashes. */
  readonly file: string;
  /** What the file name says of its precision: '' for float32, else fp16, q4, q4f16, int8, … */
  readonly precision: string;
}

export interface FolderLayout {
  readonly root: string;
  readonly kind: LayoutKind;
  readonly runtime: Runtime;
  readonly decoders: readonly Part[];
  readonly embeds: readonly Part[];
  readonly visions: readonly Part[];
  /** All files of the folder, hidden ones left out, sorted. */
  readonly files: readonly string[];
}

/** In this order: a merged decoder stands for the pair of graphs it was merged from. */
const DECODERS = ['decoder_model_merged', 'decoder_model', 'decoder_with_past_model', 'language_model', 'decoder', 'model'] as const;

/** How deep graphs are looked for: the folder and its sub-folders, as onnx/. */
const DEPTH = 2;

/** Models in other forms, which are to be exported first. */
function otherModel(files: readonly string[]): { readonly what: string; readonly hint: string } | undefined {
  const has = (end: RegExp): boolean => files.some((f) => end.test(f));
  if (has(/\.safetensors(\.index\.json)?$|pytorch_model.*\.bin$/)) return { what: 'a checkpoint: weights without a graph', hint: 'export it to ONNX first (optimum-cli export onnx, torch.onnx.export or the onnxruntime-genai model builder), or download an ONNX export' };
  if (has(/openvino.*\.xml$|\.xml$/)) return { what: 'an OpenVINO model', hint: 'give the folder of the ONNX export it was made from' };
  if (has(/\.gguf$/)) return { what: 'a GGUF file', hint: 'export the decoder to ONNX from the original checkpoint' };
  return undefined;
}

/**
 * Recognises the layout of a folder.
 *
 * @throws {UsageError} PD002 when it cannot be read
 * @throws {Refusal} PD607 without a decoder, PD608 with two, PD609 when genai_config.json names files that are not there
 */
export function recogniseFolder(root: string): FolderLayout {
  const files = listFiles(root);
  const graphs = files.filter((f) => f.endsWith('.onnx') && f.split('/').length <= DEPTH);
  if (files.includes('genai_config.json')) return genaiLayout(root, files);
  const found = DECODERS.map((name) => ({ name, parts: partsOf(graphs, name) })).filter((d) => d.parts.length > 0);
  const merged = found.some((d) => d.name === 'decoder_model_merged');
  const chosen = found.filter((d) => !(merged && (d.name === 'decoder_model' || d.name === 'decoder_with_past_model')));
  const kinds = new Set(chosen.map((d) => (d.name.startsWith('decoder_') ? 'decoder' : d.name)));
  if (chosen.length === 0) {
    const other = graphs.length === 0 ? otherModel(files) : undefined;
    throw new Refusal({
      code: 'PD607',
      message: graphs.length === 0 ? `the folder holds no ONNX graph${other ? `, but ${other.what}` : ''}` : 'the folder holds no decoder graph that is known by its name',
      culprit: graphs.slice(0, 6).join(', ') || root,
      hint: other?.hint ?? 'known are onnx/decoder_model_merged*.onnx (transformers.js, optimum), genai_config.json (onnxruntime-genai) and model*.onnx; or give the decoder file itself',
    });
  }
  const decoders = chosen.flatMap((d) => d.parts);
  const places = new Set(decoders.map((p) => dirname(p.file)));
  if (kinds.size > 1 || places.size > 1) {
    throw new Refusal({
      code: 'PD608',
      message: 'the folder holds more than one decoder',
      culprit: decoders.map((p) => p.file).join(', '),
      hint: 'leave one of them in the folder (variants of one decoder differ only in what follows its name: _fp16, _q4, …), or give the decoder file itself',
    });
  }
  const [place] = places as Set<string>;
  const here = graphs.filter((f) => dirname(f) === place);
  const kind: LayoutKind = chosen[0]?.name === 'model' ? 'monolithic' : place === '.' ? 'optimum' : 'transformers.js';
  return {
    root,
    kind,
    runtime: kind === 'transformers.js' ? 'transformers.js' : 'generic',
    decoders,
    embeds: [...partsOf(here, 'embed_tokens'), ...partsOf(here, 'embeddings'), ...partsOf(here, 'embedding')],
    visions: [...partsOf(here, 'vision_encoder'), ...partsOf(here, 'vision_model'), ...partsOf(here, 'vision')],
    files,
  };
}

/** `name.onnx` and `name_<precision>.onnx`, without what pdrop-compile itself wrote there. */
function partsOf(graphs: readonly string[], name: string): Part[] {
  return graphs.flatMap((file) => {
    const match = new RegExp(`^${name}(?:_((?:fp|q|int|uint|bnb|bf|quantized)\\w*))?\\.onnx$`).exec(basename(file));
    return match ? [{ file, precision: match[1] ?? '' }] : [];
  });
}

function genaiLayout(root: string, files: readonly string[]): FolderLayout {
  const config = readJson(join(root, 'genai_config.json'), 'genai_config.json') as { model?: Record<string, { filename?: unknown } | undefined> };
  const part = (name: string): Part[] => {
    const filename = config.model?.[name]?.filename;
    if (filename === undefined) return [];
    if (typeof filename !== 'string' || !files.includes(filename)) {
      throw new Refusal({
        code: 'PD609',
        message: `genai_config.json names the ${name} "${String(filename)}", which is not in the folder`,
        culprit: `model.${name}.filename`,
        hint: 'download or build the folder again; all graphs lie beside genai_config.json',
      });
    }
    return [{ file: filename, precision: '' }];
  };
  const decoders = part('decoder');
  if (decoders.length === 0) {
    throw new Refusal({ code: 'PD607', message: 'genai_config.json names no decoder', culprit: 'model.decoder.filename', hint: 'build the folder with the onnxruntime-genai model builder, or give the decoder file itself' });
  }
  return { root, kind: 'genai', runtime: 'genai', decoders, embeds: part('embedding'), visions: part('vision'), files };
}

/** @throws {UsageError} PD610 when the file is not JSON. */
export function readJson(path: string, name: string): unknown {
  try {
    return JSON.parse(readRegularText(path));
  } catch (error) {
    throw new UsageError({ code: 'PD610', message: `cannot read ${name}: ${(error as Error).message}`, culprit: path, hint: 'download or export the folder again' }, { cause: error });
  }
}

function listFiles(root: string): string[] {
  const found: string[] = [];
  const visit = (folder: string): void => {
    for (const name of readdirSync(join(root, folder)).sort()) {
      if (name.startsWith('.')) continue;
      const path = folder ? `${folder}/${name}` : name;
      const full = join(root, path);
      // A link that leads nowhere is reported by what needs it.
      if (!existsSync(full)) continue;
      if (statSync(full).isDirectory()) visit(path);
      else found.push(path);
    }
  };
  try {
    visit('');
  } catch (error) {
    throw new UsageError({ code: 'PD002', message: `cannot read ${root}: ${(error as Error).message}`, culprit: root, hint: 'check the path and its permissions' }, { cause: error });
  }
  return found;
}
