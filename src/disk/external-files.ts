/** External data on disk: checking that it is all there, and getting it beside the output (reference, hard link or copy). */
import { spawn } from 'node:child_process';
import { constants, copyFileSync, rmSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { UsageError } from '../diagnostics.js';
import type { Graph, Model, Tensor } from '../ir/graph.js';
import { type ExternalFile, externalFile, requireProper, truncated } from './external-location.js';
import { changed, FileSource } from './files.js';
import { inodeOf } from './target.js';
import type { OutputFile, OutputTransaction } from './transaction.js';

export type { ExternalFile } from './external-location.js';

export type ExternalDataMode = 'auto' | 'reference' | 'link' | 'copy';

/**
 * Finds every file of external data and checks every tensor in them: inside the model's folder, present, and long enough.
 *
 * A link is followed where the file it leads to lies in the model's folder or below, or in the `blobs` of the Hugging
 * Face cache whose snapshot the model is in; `allowLinks` follows all of them.
 *
 * @throws {Refusal} PD103 missing, PD104 outside the folder, PD105 truncated, PD107 no proper place, PD108 a link that leads outside
 */
export function checkExternalData(model: Model, modelPath: string, allowLinks = false): ExternalFile[] {
  const folder = dirname(resolve(modelPath));
  const files = new Map<string, ExternalFile>();
  for (const { name, tensor } of externalTensors(model.graph)) {
    const external = tensor.external as NonNullable<Tensor['external']>;
    const { location, offset, length } = external;
    requireProper(external, tensor.byteLength, name);
    let file = files.get(location);
    if (file === undefined) {
      file = externalFile(folder, location, name, allowLinks);
      files.set(location, file);
    }
    const end = offset + (length ?? tensor.byteLength);
    if (end > file.size) throw truncated(location, file.size, end, name);
  }
  return [...files.values()];
}

/** @throws {UsageError} PD021 when one of the files is not what it was when it was checked */
export function requireUnchanged(files: readonly ExternalFile[]): void {
  for (const file of files) {
    const stat = statSync(file.path, { bigint: true, throwIfNoEntry: false });
    if (!stat) throw changed(file.path, 'it is gone');
    if (inodeOf(file.path) !== file.inode) throw changed(file.path, 'another file has its name');
    if (Number(stat.size) !== file.size) throw changed(file.path, `it has ${stat.size} bytes now, and had ${file.size}`);
    if (stat.mtimeNs !== file.changed) throw changed(file.path, 'it was written to');
  }
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
}

/** What is going to be done with external data. */
export interface DataPlan extends PlacedData {
  /** Writes it under temporary names; the transaction puts it in place. */
  write(progress?: (done: number, total: number) => void): Promise<PlacedData>;
}

/**
 * Announces the external data of a model to the transaction, as files that are read and, for another folder, written.
 *
 * @param mode `auto`: reference in the same folder, else hard link, else copy
 * @throws {UsageError} PD015 the mode does not go with the folder; PD004, PD005, PD019 as the transaction says
 */
export function planExternalData(transaction: OutputTransaction, data: readonly ExternalFile[], modelPath: string, outputPath: string, mode: ExternalDataMode): DataPlan {
  const [from, to] = [modelPath, outputPath].map((p) => dirname(resolve(p))) as [string, string];
  const files = data.map((f) => f.location);
  for (const f of data) transaction.reads(f.path);
  if (data.length === 0) return { mode: 'none', files, write: async () => ({ mode: 'none', files }) };
  if (sameFolder(from, to)) {
    if (mode === 'link' || mode === 'copy') {
      throw new UsageError({
        code: 'PD015',
        message: `--external-data ${mode} needs another folder: in the same one the files would be linked or copied onto themselves`,
        culprit: '--external-data',
        hint: 'use --external-data reference (or auto), or write to another folder with -o',
      });
    }
    return { mode: 'reference', files, write: async () => ({ mode: 'reference', files }) };
  }
  if (mode === 'reference') {
    throw new UsageError({
      code: 'PD015',
      message: '--external-data reference needs the output in the model’s folder: runtimes do not follow data outside it',
      culprit: '--external-data',
      hint: 'use --external-data link or copy, or leave the output beside the model',
    });
  }
  // What is there already under its name stays.
  const missing = data.filter((f) => inodeOf(join(to, f.location)) !== f.inode);
  const outputs = missing.map((f) => ({ file: f, output: transaction.writes(join(to, f.location)) }));
  return {
    mode: mode === 'copy' ? 'copy' : 'link',
    files,
    async write(progress) {
      const total = missing.reduce((n, f) => n + f.size, 0);
      let done = 0;
      let used: 'link' | 'copy' = mode === 'copy' ? 'copy' : 'link';
      for (const { file, output } of outputs) {
        if (used === 'link' && !linked(file, output, mode === 'link')) used = 'copy';
        if (used === 'copy') await copy(file, output, (bytes) => progress?.(done + bytes, total));
        done += file.size;
      }
      return { mode: used, files };
    },
  };
}

/** @throws {UsageError} PD016 when a link is all that is wanted */
function linked(file: ExternalFile, output: OutputFile, only: boolean): boolean {
  try {
    output.linkTo(file.path);
    return true;
  } catch (error) {
    if (!only) return false;
    throw new UsageError(
      { code: 'PD016', message: `cannot hard-link ${output.target.path}: ${(error as Error).message}`, culprit: output.target.path, hint: 'hard links need one file system; use --external-data copy' },
      { cause: error },
    );
  }
}

async function copy(file: ExternalFile, output: OutputFile, progress: (bytes: number) => void): Promise<void> {
  if (reflink(file.path, output)) return progress(file.size);
  const input = new FileSource(file.path);
  try {
    if (input.sparse && !output.target.through && (await copiedWithHoles(file, output.temporary, progress))) return;
    const sink = output.open();
    try {
      const step = 256 * 1024 * 1024;
      for (let at = 0; at < input.size; at += step) {
        await sink.copy(input, at, Math.min(step, input.size - at));
        progress(Math.min(at + step, input.size));
      }
    } finally {
      await sink.close();
    }
  } finally {
    input.close();
  }
}

/**
 * Has the system's cp copy a file with holes: it asks the file system where they are (SEEK_HOLE), which Node cannot. The
 * loop above leaves holes, too, but reads through them: 20 GB of nothing take it as long as 20 GB.
 *
 * @returns false where there is no such cp, or it failed: then nothing is there
 */
async function copiedWithHoles(file: ExternalFile, temporary: string, progress: (bytes: number) => void): Promise<boolean> {
  const child = spawn('cp', ['--sparse=auto', '--', file.path, temporary], { stdio: 'ignore' });
  const stop = (): void => void child.kill();
  process.once('exit', stop);
  const watch = setInterval(() => progress(statSync(temporary, { throwIfNoEntry: false })?.size ?? 0), 200);
  const code = await new Promise<number | null>((resolve) => {
    child.on('error', () => resolve(null)).on('close', resolve);
  });
  clearInterval(watch);
  process.off('exit', stop);
  if (code === 0 && statSync(temporary, { throwIfNoEntry: false })?.size === file.size) return true;
  rmSync(temporary, { force: true });
  return false;
}

/** A copy that shares its blocks with the file, where the file system has such a thing. */
function reflink(file: string, output: OutputFile): boolean {
  if (output.target.through) return false;
  output.adopt();
  try {
    copyFileSync(file, output.temporary, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE_FORCE);
    return true;
  } catch {
    return false;
  }
}

function sameFolder(a: string, b: string): boolean {
  return a === b || (inodeOf(a) !== undefined && inodeOf(a) === inodeOf(b));
}
