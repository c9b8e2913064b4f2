/** Which file a tensor in external data means, and whether it may be read. */
import { realpathSync, statSync } from 'node:fs';
import { basename, dirname, isAbsolute, join, normalize, relative, resolve, sep } from 'node:path';
import { Refusal } from '../diagnostics.js';
import type { Tensor } from '../ir/graph.js';

/** A file of external data as it was found. */
export interface ExternalFile {
  /** As the model names it: relative to the model's folder. */
  readonly location: string;
  /** The file itself, behind all links. */
  readonly path: string;
  readonly size: number;
  readonly inode: string | undefined;
  readonly changed: bigint;
}

/** The location that was looked at last, and was proper: a model's thousands of tensors are in one file. */
let proper: string | undefined;

/** @throws {Refusal} PD107 when no file can have such a place */
export function requireProper({ location, offset, length }: NonNullable<Tensor['external']>, byteLength: number, culprit: string): void {
  const wrong =
    location !== proper && (location === '' || /^\.?[/\\]*$/.test(normalize(location)) || location.includes('\0')) ? `has the location "${location}"`
    : !Number.isSafeInteger(offset) || offset < 0 ? 'has no proper offset'
    : length !== undefined && (!Number.isSafeInteger(length) || length < 0) ? 'has no proper length'
    : !Number.isSafeInteger(offset + (length ?? byteLength)) ? `lies at offset ${offset}, length ${length ?? byteLength}`
    : length !== undefined && length < byteLength ? `has ${length} bytes of data, but its dimensions and type take ${byteLength}`
    : undefined;
  if (wrong === undefined) {
    proper = location;
    return;
  }
  throw new Refusal({ code: 'PD107', message: `a tensor in external data ${wrong}`, culprit, hint: 'the model file is damaged: download or export it again' });
}

/**
 * The file of external data at `location`.
 *
 * @throws {Refusal} PD103 missing, PD104 outside the folder, PD107 no file, PD108 a link that leads outside
 */
export function externalFile(folder: string, location: string, culprit: string, allowLinks: boolean): ExternalFile {
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
  let real: string;
  try {
    real = realpathSync(path);
  } catch {
    throw new Refusal({
      code: 'PD103',
      message: `external data file "${location}" is missing`,
      culprit,
      hint: `put it beside the model (it was looked for in the model’s folder); a model of this kind is the .onnx file and its data files together`,
    });
  }
  if (!allowLinks && !isHeldBy(real, folder)) throw leadsOut(location, real, culprit);
  const stat = statSync(real, { bigint: true });
  if (!stat.isFile()) throw new Refusal({ code: 'PD107', message: `external data "${location}" is not a file`, culprit, hint: 'put the file of the weights there' });
  return { location, path: real, size: Number(stat.size), inode: `${stat.dev}:${stat.ino}`, changed: stat.mtimeNs };
}

/** Whether a file, by its real path, is in a folder or below it, or in the cache that the folder is a snapshot of. */
export function isHeldBy(real: string, folder: string): boolean {
  return isBelow(real, realpathSync(folder)) || isBlobOfSnapshot(real, folder);
}

export function leadsOut(file: string, real: string, culprit = file): Refusal {
  return new Refusal({
    code: 'PD108',
    message: `"${file}" is a link that leads out of the model’s folder, to ${real}`,
    culprit,
    hint: 'a model from elsewhere could get at any of your files this way; if the link is yours, use --allow-external-links',
  });
}

function isBelow(path: string, folder: string): boolean {
  const inside = relative(folder, path);
  return inside !== '' && inside !== '..' && !inside.startsWith(`..${sep}`) && !isAbsolute(inside);
}

/** `models--org--name/snapshots/<revision>/…` → `models--org--name/blobs/<hash>`: how Hugging Face's cache keeps files. */
function isBlobOfSnapshot(real: string, folder: string): boolean {
  for (const start of [folder, realpathSync(folder)]) {
    for (let at = start; dirname(at) !== at; at = dirname(at)) {
      if (basename(dirname(at)) !== 'snapshots') continue;
      const blobs = join(dirname(dirname(at)), 'blobs');
      try {
        if (dirname(real) === realpathSync(blobs)) return true;
      } catch {
        // No such cache.
      }
    }
  }
  return false;
}

export function truncated(location: string, size: number, end: number, culprit: string): Refusal {
  return new Refusal({
    code: 'PD105',
    message: `external data file "${location}" has ${size} bytes, but a tensor in it ends at ${end}`,
    culprit,
    hint: 'the file is truncated or belongs to another model: download or export it again',
  });
}
