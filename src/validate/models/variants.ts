/**
 * Variants of the original compiled on the fly: nothing dropped, probes added, other ranks, other schedules. They are
 * written beside the original, so that its external data is found without copying gigabytes, and removed afterwards.
 */
import { accessSync, constants, linkSync, mkdirSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { type CompileCoreOptions, compileModel, writeCompiled } from '../../compile.js';
import { UsageError } from '../../diagnostics.js';
import { FileSink, FileSource } from '../../disk/files.js';
import { newTag } from '../../disk/owner.js';
import { sweep, temporaryName } from '../../disk/stale.js';
import { begun, drop, scratchFolder } from '../../disk/temporaries.js';
import type { Plan } from '../../plan/plan.js';

export interface Variant {
  readonly path: string;
  readonly plan: Plan;
}

export class Variants {
  readonly #original: string;
  readonly #folder: string;
  readonly #made = new Map<string, Promise<Variant>>();
  readonly #files = new Set<string>();
  readonly #linked = new Set<string>();
  readonly #away: boolean;

  /** `folder`: where variants go; by default beside the original. Elsewhere external data is hard-linked there. */
  constructor(original: string, folder?: string) {
    this.#original = original;
    this.#away = folder !== undefined;
    this.#folder = dirname(original);
    try {
      if (folder === undefined) accessSync(this.#folder, constants.W_OK);
      else this.#folder = scratchFolder(folder, 'variants');
      if (this.#away) this.#files.add(this.#folder);
      else sweep(this.#folder);
    } catch (error) {
      throw new UsageError({ code: 'PD003', message: `cannot write to ${this.#folder}, where variants of the original go for gates and baselines`, culprit: this.#folder, hint: 'give --work-dir <folder> on the same file system, or leave out what needs them with --no-gates and --baselines none' }, { cause: error });
    }
  }

  /** The original with this plan; made once a name. */
  replay(name: string, plan: Plan): Promise<Variant> {
    return this.#make(name, { planToReplay: plan });
  }

  /** The original with options as the command line has them. */
  compile(name: string, options: CompileCoreOptions): Promise<Variant> {
    return this.#make(name, options);
  }

  #make(name: string, options: CompileCoreOptions): Promise<Variant> {
    let made = this.#made.get(name);
    if (!made) {
      made = this.#write(name, options);
      this.#made.set(name, made);
    }
    return made;
  }

  async #write(name: string, options: CompileCoreOptions): Promise<Variant> {
    const path = temporaryName(join(this.#folder, `${basename(this.#original, '.onnx')}.${name.replace(/[^\w.-]/g, '_')}`), 'tmp', newTag(), '.onnx');
    const source = new FileSource(this.#original);
    try {
      const compiled = await compileModel(source, options);
      if (this.#away) this.#link(compiled.model.externalLocations);
      begun(path);
      this.#files.add(path);
      const sink = new FileSink(path);
      try {
        await writeCompiled(compiled, sink);
      } finally {
        sink.close();
      }
      return { path, plan: compiled.plan };
    } finally {
      source.close();
    }
  }

  #link(locations: readonly string[]): void {
    for (const location of locations) {
      const target = join(this.#folder, location);
      if (this.#linked.has(target)) continue;
      mkdirSync(dirname(target), { recursive: true });
      try {
        linkSync(join(dirname(this.#original), location), target);
      } catch (error) {
        throw new UsageError({ code: 'PD003', message: `external data cannot be linked into ${this.#folder}: ${(error as Error).message}`, culprit: location, hint: 'choose a --work-dir on the file system of the model' }, { cause: error });
      }
      this.#linked.add(target);
    }
  }

  /** Removes one variant's file when nothing needs it any more. */
  drop(variant: Variant): void {
    drop(variant.path);
    for (const [name, made] of this.#made) void made.then((v) => v === variant && this.#made.delete(name));
  }

  /** Removes everything that was made; safe to call more than once. */
  dispose(): void {
    for (const f of this.#files) drop(f);
    this.#files.clear();
    this.#made.clear();
  }
}
