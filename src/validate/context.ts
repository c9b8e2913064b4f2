/** Everything one validation works on, opened once: structures, plan, data, embeddings, variants, temporary folders. */
import { statSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { type CompileCoreOptions, compileModel, refuseCompiled } from '../compile.js';
import { UsageError } from '../diagnostics.js';
import { FileSource } from '../disk/files.js';
import { drop, leaveSignalsToTheSystem, scratchFolder } from '../disk/temporaries.js';
import type { Plan } from '../plan/plan.js';
import { Asking } from './feeding/asking/index.js';
import { openData } from './feeding/data/index.js';
import { SYNTHETIC_NOTE, syntheticData } from './feeding/data/synthetic.js';
import { fixedNote, laidInto } from './feeding/fixed.js';
import { Decoder } from './models/decoder.js';
import { type Embedder, embedBeside, openEmbedder, standInEmbedder } from './feeding/embed.js';
import { type ModelFile, readModelFile } from './models/model.js';
import type { ValidateOptions } from './options.js';
import { hasPlan, planOf } from './models/plan.js';
import type { Provider } from './running/providers.js';
import type { ModelSummary, ValidateReport } from './result.js';
import type { DataSet } from './feeding/sample.js';
import { runtimeInfo } from './running/session.js';
import { Variants } from './models/variants.js';

export interface Context {
  readonly options: Omit<ValidateOptions, 'rewritten'>;
  readonly original: ModelFile;
  readonly plan: Plan;
  readonly data: DataSet;
  readonly embedder: Embedder | undefined;
  /** False when tokens cannot be turned into embeddings that mean something. */
  readonly textMeans: boolean;
  /** What must be said about the data; null when nothing. */
  readonly note: string | null;
  readonly variants: () => Variants;
  readonly folder: string;
  readonly wants: (index: number) => boolean;
  open(path: string, provider: Provider, extra?: { keepOnDevice?: readonly string[] }): Promise<Decoder>;
  dispose(): Promise<void>;
}

const DEFAULTS = { samples: 4, imageTokens: 64, textTokens: 16, seed: 1 };

/** @throws {UsageError} when a file cannot be read, the rewritten model carries no plan, or there is no data. */
export async function prepare(options: ValidateOptions): Promise<Context & { rewritten: ModelFile }> {
  const original = await readModelFile(options.original);
  const rewritten = await readModelFile(options.rewritten, { analyse: false, caches: original.caches });
  if (hasPlan(original.model)) {
    // The first is no original: the two are in the wrong order, or it was compiled itself.
    if (!hasPlan(rewritten.model)) throw new UsageError({ code: 'PD009', message: `the models are in the wrong order: ${original.name} was written by pdrop-compile, ${rewritten.name} was not`, culprit: original.name, hint: `validate ${options.rewritten} ${options.original}` });
    refuseCompiled(original.model);
  }
  return { ...(await assemble(options, original, planOf(rewritten.model, rewritten.name), rewritten)), rewritten };
}

/** As `prepare`, for an original without a rewritten model: the plan is what the options would give. */
export async function prepareData(options: Omit<ValidateOptions, 'rewritten'>, original: ModelFile, compileOptions: CompileCoreOptions): Promise<Context> {
  const source = new FileSource(options.original);
  try {
    return await assemble(options, original, (await compileModel(source, compileOptions)).plan);
  } finally {
    source.close();
  }
}

async function assemble(options: Omit<ValidateOptions, 'rewritten'>, original: ModelFile, plan: Plan, rewritten?: ModelFile): Promise<Context> {
  leaveSignalsToTheSystem();
  const source = plan.imageMask;
  const prompt = plan.fix && { sizes: plan.fix, source, io: original.io, masked: original.io.mask !== undefined && (rewritten ?? original).io.mask !== undefined };
  const synthetic = {
    samples: options.samples ?? DEFAULTS.samples,
    ...tokensOf(options, plan),
    seed: options.seed ?? DEFAULTS.seed,
    vocab: options.vocab,
    dims: options.dims,
    imageTokenId: source.kind === 'input-ids' ? source.id : undefined,
  };
  const asking = options.ask && new Asking(options.ask, original.io);
  const found = options.data && options.data.length > 0 ? openData(options.data, asking) : syntheticData(original.io, synthetic);
  const data = prompt ? laidInto(found, prompt) : found;
  const embeds = original.io.embeds;
  const path = options.embed ?? (embeds ? embedBeside(options.original) : undefined);
  const hidden = embeds?.dims.at(-1);
  let embedder: Embedder | undefined;
  if (embeds && path) embedder = await openEmbedder(path);
  else if (embeds) embedder = standInEmbedder(typeof hidden === 'number' ? hidden : (original.facts?.hiddenSize ?? 0), options.seed ?? DEFAULTS.seed);
  const textMeans = embedder === undefined || embedder.kind !== 'stand-in';
  const folder = scratchIn(options.workDir);
  let variants: Variants | undefined;
  const limit = options.limit ?? Number.POSITIVE_INFINITY;
  const shard = options.shard;
  const dispose = (): void => {
    variants?.dispose();
    drop(folder);
  };
  return {
    options,
    original,
    plan,
    data,
    embedder,
    textMeans,
    note: [dataNote(data, textMeans), prompt && fixedNote(prompt)].filter(Boolean).join('; ') || null,
    folder,
    wants: (index) => index < limit && (!shard || index % shard.of === shard.index - 1),
    variants: () => {
      variants ??= new Variants(options.original, options.workDir);
      return variants;
    },
    open: (file, provider, extra = {}) => Decoder.open(file, { provider, optimize: options.optimize, imageSource: source, embedder, caches: original.caches, promptsOnly: plan.fix !== undefined, ...extra }),
    async dispose() {
      dispose();
      await embedder?.close();
    },
  };
}

/** How long prompts that are made up are: as long as a graph of fixed shapes has them, where there is one. */
function tokensOf({ imageTokens, configuredImageTokens, textTokens }: Pick<ValidateOptions, 'imageTokens' | 'configuredImageTokens' | 'textTokens'>, { fix, imageMask }: Plan): { imageTokens: number; textTokens: number; before?: number; rows?: number } {
  if (!fix || imageMask.kind !== 'span') return { imageTokens: imageTokens ?? configuredImageTokens ?? DEFAULTS.imageTokens, textTokens: textTokens ?? DEFAULTS.textTokens };
  const image = imageTokens ?? imageMask.count;
  return { imageTokens: image, textTokens: textTokens ?? fix.sequence - image, before: imageMask.start, rows: fix.batch };
}

/** A folder of this run's own, in `workDir`, which is made when it is not there. */
function scratchIn(workDir: string | undefined): string {
  try {
    return scratchFolder(workDir ?? tmpdir(), 'validate');
  } catch (error) {
    throw new UsageError({ code: 'PD003', message: `cannot make a folder in ${workDir ?? tmpdir()}: ${(error as Error).message}`, culprit: workDir ?? tmpdir(), hint: 'choose another folder with --work-dir' }, { cause: error });
  }
}

export function summaryOf(file: ModelFile, original: ModelFile): ModelSummary {
  const vocab = file.io.logits.dims.at(-1);
  return {
    file: file.name,
    bytes: file.bytes,
    dtype: original.precision,
    layers: original.facts?.layers.length ?? new Set(original.io.caches.map((c) => c.layer)).size,
    vocab: typeof vocab === 'number' ? vocab : null,
    hidden: original.facts?.hiddenSize ?? null,
  };
}

export async function machine(): Promise<ValidateReport['machine']> {
  const info = await runtimeInfo();
  const list = cpus();
  return { platform: `${process.platform} ${process.arch}`, cpus: list.length, cpu: list[0]?.model.trim() ?? '', node: process.version, onnxruntime: info.version };
}

function dataNote(data: DataSet, textMeans: boolean): string | null {
  if (data.kind === 'synthetic') return SYNTHETIC_NOTE;
  if (!textMeans) return 'no embeddings of generated tokens: only the prompt’s last position is compared; give --embed <embed_tokens.onnx or table.npy>';
  return null;
}

/** What the records of a partial report depend on. */
export function partialKey(context: Context, options: ValidateOptions): string {
  const { plan } = context;
  const stat = (path: string): string => {
    const s = statSync(path);
    return `${s.size}@${Math.round(s.mtimeMs)}`;
  };
  const { positions, generate, eos, data, seed, samples, imageTokens, configuredImageTokens, textTokens, shard, embed } = options;
  return JSON.stringify([stat(options.original), stat(options.rewritten), plan, positions, generate, eos, data, seed, samples, imageTokens, configuredImageTokens, textTokens, shard, embed]);
}
