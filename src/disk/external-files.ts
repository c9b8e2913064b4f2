/** External data on disk: checking that it is all there, and getting it beside the output (reference, hard link or copy). */
import { existsSync, linkSync, mkdirSync, realpathSync, rmSync, statSync } from 'node:fs';
import { dirname, isAbsolute, join, normalize, relative, resolve, sep } from 'node:path';
import { Refusal, UsageError } from '../diagnostics.js';
import { AtomicFileSink, FileSource } from './files.js';
import type { Graph, Model, Tensor } from '../ir/graph.js';

export type ExternalDataMode = 'auto' | 'reference' | 'link' | 'copy';

/**
 * Checks every external tensor of the model: inside the model's folder, present, and long enough.
 *
 * @throws {Refusal} PD103 missing, PD104 outside the folder, PD105 truncated.
 */
export function checkExternalData(model: Model, modelPath: string): void {
  const folder = dirname(resolve(modelPath));
  const sizes = new Map<string, number>();
  for (const { name, tensor } of externalTensors(model.graph)) {
    const { location, offset, length } = tensor.external as NonNullable<Tensor['external']>;
    let size = sizes.get(location);
    if (size === undefined) {
      size = sizeOf(folder, location, name);
      sizes.set(location, size);
    }
    const end = offset + (length ?? tensor.byteLength);
    if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(end) || offset < 0 || end < offset) {
      throw new Refusal({
        code: 'PD105',
        message: `a tensor says it lies at offset ${offset}, length ${length ?? tensor.byteLength} of "${location}"`,
        culprit: name,
        hint: 'the model file is damaged: download or export it again',
      });
    }
    if (end > size) {
      throw new Refusal({
        code: 'PD105',
        message: `external data file "${location}" has ${size} bytes, but a tensor in it ends at ${end}`,
        culprit: name,
        hint: 'the file is truncated or belongs to another model: download or export it again',
      });
    }
  }
}

function sizeOf(folder: string, location: string, culprit: string): number {
  const path = resolve(folder, location);
  const inside = relative(folder, path);
  if (isAbsolute(location) || inside.startsWith('..') || isAbsolute(inside) || normalize(location).split(sep).includes('..')) {
    throw new Refusal({
      code: 'PD104',
      message: `external data "${location}" lies outside the model’s folder`,
      culprit,
      hint: 'such paths are not followed, for safety: move the data beside the model and save the model again',
    });
  }
  if (!existsSync(path)) {
    throw new Refusal({
      code: 'PD103',
      message: `external data file "${location}" is missing`,
      culprit,
      hint: `put it beside the model (it was looked for in the model’s folder); a model of this kind is the .onnx file and its data files together`,
    });
  }
  return statSync(path).size;
}

function* externalTensors(graph: Graph): Generator<{ name: string; tensor: Tensor }> {
  for (const v of graph.initializers) if (v.tensor?.external) yield { name: v.name, tensor: v.tensor };
  for (const n of graph.nodes) {
    for (const a of n.attributes.values()) if (a.kind === 'tensor' && a.value.external) yield { name: n.name, tensor: a.value };
    for (const g of n.subgraphs) yield* externalTensors(g);
  }
}

export interface PlacedData {
  readonly mode: 'none' | 'reference' | 'link' | 'copy';
  readonly files: readonly string[];
  /** Takes back what was placed, when a later step fails. */
  undo(): void;
}

/**
 * Brings the external data of a model to its output's folder.
 *
 * @param mode `auto`: reference in the same folder, else hard link, else copy
 */
export async function placeExternalData(
  locations: readonly string[],
  modelPath: string,
  outputPath: string,
  mode: ExternalDataMode,
  force: boolean,
  progress?: (done: number, total: number) => void,
): Promise<PlacedData> {
  const from = dirname(resolve(modelPath));
  const to = dirname(resolve(outputPath));
  if (locations.length === 0) return { mode: 'none', files: [], undo: () => {} };
  if (from === to) {
    if (mode === 'link' || mode === 'copy') {
      throw new UsageError({
        code: 'PD015',
        message: `--external-data ${mode} needs another folder: in the same one the files would be linked or copied onto themselves`,
        culprit: '--external-data',
        hint: 'use --external-data reference (or auto), or write to another folder with -o',
      });
    }
    return { mode: 'reference', files: locations, undo: () => {} };
  }
  if (mode === 'reference') {
    throw new UsageError({
      code: 'PD015',
      message: '--external-data reference needs the output in the model’s folder: runtimes do not follow data outside it',
      culprit: '--external-data',
      hint: 'use --external-data link or copy, or leave the output beside the model',
    });
  }
  const made: string[] = [];
  const undo = (): void => {
    for (const path of made) rmSync(path, { force: true });
  };
  const total = locations.reduce((n, l) => n + statSync(join(from, l)).size, 0);
  let done = 0;
  let used: 'link' | 'copy' = mode === 'copy' ? 'copy' : 'link';
  try {
    for (const location of locations) {
      // Hubs keep data behind relative links: what is linked or copied is the data itself.
      const source = realpathSync(join(from, location));
      const target = join(to, location);
      if (existsSync(target)) {
        if (sameFile(source, target)) continue;
        if (!force) {
          throw new UsageError({ code: 'PD004', message: `${target} exists and is another file`, culprit: target, hint: 'use --force to replace it, or write to an empty folder' });
        }
      }
      mkdirSync(dirname(target), { recursive: true });
      if (used === 'link') {
        try {
          if (existsSync(target)) rmSync(target);
          linkSync(source, target);
          made.push(target);
          continue;
        } catch (error) {
          if (mode === 'link') {
            throw new UsageError(
              { code: 'PD016', message: `cannot hard-link ${target}: ${(error as Error).message}`, culprit: target, hint: 'hard links need one file system; use --external-data copy' },
              { cause: error },
            );
          }
          used = 'copy';
        }
      }
      await copyFile(source, target, (bytes) => progress?.(done + bytes, total));
      made.push(target);
      done += statSync(source).size;
    }
  } catch (error) {
    undo();
    throw error;
  }
  return { mode: used, files: locations, undo };
}

function sameFile(a: string, b: string): boolean {
  const x = statSync(a);
  const y = statSync(b);
  return x.ino === y.ino && x.dev === y.dev;
}

async function copyFile(source: string, target: string, progress: (bytes: number) => void): Promise<void> {
  const input = new FileSource(source);
  const sink = new AtomicFileSink(target);
  try {
    const step = 256 * 1024 * 1024;
    for (let at = 0; at < input.size; at += step) {
      await sink.copy(input, at, Math.min(step, input.size - at));
      progress(Math.min(at + step, input.size));
    }
    sink.commit();
  } catch (error) {
    sink.abort();
    throw error;
  } finally {
    input.close();
  }
}
