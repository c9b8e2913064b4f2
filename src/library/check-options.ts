/**
 * Options of the library's functions: every one by name and kind, so that a slip is told instead of being ignored. Checked by
 * hand, because a JSON Schema validator costs more than compiling a small model takes to start.
 */
import { UsageError } from '../diagnostics.js';
import type { CompileFolderOptions, CompileOptions } from './options.js';
import type { SweepOptions, TuneOptions } from './measure.js';
import { similar } from './similar.js';
import type { Thresholds } from '../validate/findings.js';
import type { ValidateOptions } from '../validate/options.js';

type Kind = 'text' | 'number' | 'whole' | 'yes or no' | 'function' | 'object' | readonly string[] | { readonly listOf: Kind } | { readonly either: readonly Kind[] };
type Kinds<T> = Readonly<Record<keyof T, Kind>>;

const texts: Kind = { listOf: 'text' };
const ratio: Kind = { either: ['text', 'number'] };
/** What `positions` may be is told by the plan (PD001), with the way forward. */
const positionMode: Kind = 'text';
const imageToken: Kind = { either: ['whole', ['negative']] };

/** The compiler sees to it that none is missing here. */
const COMPILE: Kinds<CompileFolderOptions & CompileOptions> = {
  preset: ['paper'], stages: 'number', lambda: ratio, layers: { listOf: 'number' }, keep: { listOf: ratio }, imageMask: 'text', marks: 'object', positions: positionMode, rank: 'text',
  probe: 'yes or no', fix: 'object', controlFlow: 'yes or no', for: ['inference', 'training'], imageTokenId: imageToken, headWeights: 'object', runtime: ['generic', 'transformers.js', 'genai', 'openvino'],
  verify: 'yes or no', stopAfter: 'text', skip: texts, observe: 'function',
  output: 'text', externalData: ['auto', 'reference', 'link', 'copy'], force: 'yes or no', allowExternalLinks: 'yes or no', report: 'text', alsoReads: texts,
  dryRun: 'yes or no', plan: { either: ['text', 'object'] }, embed: 'text', vision: 'text', visionOutput: 'text', imageTokens: 'whole', textTokens: 'whole',
  proved: 'object', measure: 'yes or no', copyFirstBytes: 'number', progress: 'function', only: texts,
};

type Data = Omit<ValidateOptions, 'original' | 'rewritten'>;
const DATA: Kinds<Data> = {
  optimize: ['disabled', 'basic', 'extended', 'all'], data: texts, providers: texts, positions: 'whole', generate: 'whole', eos: { either: ['whole', { listOf: 'whole' }] }, embed: 'text',
  baselines: texts, gates: 'yes or no', gateSamples: 'whole', latency: 'yes or no', repeats: 'whole', warmups: 'whole', memory: 'yes or no', maps: 'whole', seed: 'whole',
  ask: 'object', samples: 'whole', imageTokens: 'whole', configuredImageTokens: 'whole', textTokens: 'whole', dims: 'object', vocab: 'whole', imageTokenId: imageToken, limit: 'whole', shard: 'object',
  keepGoing: 'yes or no', resume: 'yes or no', report: 'text', workDir: 'text', spoolLimitBytes: 'number', curve: 'text', thresholds: 'object',
};

const KINDS = {
  compile: COMPILE,
  validate: { original: 'text', rewritten: 'text', ...DATA } satisfies Kinds<ValidateOptions>,
  sweep: { original: 'text', ...DATA, lambdas: { either: ['text', { listOf: ratio }] }, stages: { listOf: 'whole' }, imageMask: 'text', positionModes: { listOf: ['auto', 'compact', 'keep'] }, rank: 'text' } satisfies Kinds<SweepOptions>,
  tune: {
    original: 'text', ...DATA, targetFlops: 'number', targetCache: 'number', targetKl: 'number', minAccuracy: 'number', ranks: texts, ratios: texts,
    positionModes: { listOf: ['compact', 'keep'] }, mostBoundaries: 'whole', imageMask: 'text', budget: 'number', textSamples: 'object',
  } satisfies Kinds<TuneOptions>,
  thresholds: {
    maxKl: 'number', maxKlP99: 'number', minTop1: 'number', maxPplRatio: 'number', maxDivergent: 'number', minAccuracy: 'number', maxAccuracyDrop: 'number', minFlopsCut: 'number',
    minCacheCut: 'number', minSpeedup: 'number', requireEp: 'number', beatBaselines: 'yes or no',
  } satisfies Kinds<Thresholds>,
} as const;

/** Thresholds that are shares: one of 95 is 0.95 in percent. */
const SHARES = ['minTop1', 'maxDivergent', 'minAccuracy', 'maxAccuracyDrop', 'minFlopsCut', 'minCacheCut', 'requireEp'];

/** @throws {UsageError} PD001 for an option that does not exist, or is not what it should be. */
export function requireOptions(of: 'compile' | 'validate' | 'sweep' | 'tune', options: object): void {
  requireKinds(KINDS[of], options, '');
  const { thresholds } = options as { thresholds?: object };
  if (of === 'compile' || !thresholds) return;
  requireKinds(KINDS.thresholds, thresholds, 'thresholds.');
  for (const name of SHARES) {
    const v = (thresholds as Readonly<Record<string, unknown>>)[name];
    if (typeof v === 'number' && Math.abs(v) > 1) throw wrong(`thresholds.${name} is ${v}: shares go up to 1`, `thresholds.${name}`, v > 1 && v <= 100 ? `give ${v / 100} for ${v}%` : 'give a number from 0 to 1');
  }
}

function requireKinds(kinds: Readonly<Record<string, Kind>>, options: object, prefix: string): void {
  const names = Object.keys(kinds);
  for (const [name, value] of Object.entries(options)) {
    const kind = kinds[name];
    if (kind === undefined) {
      const meant = similar(name, names);
      throw wrong(`there is no option "${prefix}${name}"${meant ? `; did you mean ${prefix}${meant}?` : ''}`, prefix + name, `options are ${names.join(', ')}`);
    }
    if (value !== undefined && !isOf(kind, value)) throw wrong(`${prefix}${name} is ${shown(value)}`, prefix + name, `give ${words(kind)}`);
  }
}

const wrong = (message: string, culprit: string, hint: string): UsageError => new UsageError({ code: 'PD001', message, culprit, hint });

function isOf(kind: Kind, value: unknown): boolean {
  if (typeof kind === 'object') {
    if ('listOf' in kind) return Array.isArray(value) && value.every((v) => isOf(kind.listOf, v));
    if ('either' in kind) return kind.either.some((k) => isOf(k, value));
    return typeof value === 'string' && kind.includes(value);
  }
  switch (kind) {
    case 'text':
      return typeof value === 'string';
    case 'number':
      return typeof value === 'number' && !Number.isNaN(value);
    case 'whole':
      return Number.isSafeInteger(value) && (value as number) >= 0;
    case 'yes or no':
      return typeof value === 'boolean';
    case 'function':
      return typeof value === 'function';
    case 'object':
      return typeof value === 'object' && value !== null && !Array.isArray(value);
  }
}

function words(kind: Kind): string {
  if (typeof kind === 'object') {
    if ('listOf' in kind) return `a list, each ${words(kind.listOf)}`;
    return 'either' in kind ? kind.either.map(words).join(' or ') : `one of ${kind.join(', ')}`;
  }
  return { text: 'text', number: 'a number', whole: 'a whole number from 0', 'yes or no': 'true or false', function: 'a function', object: 'an object' }[kind];
}

function shown(value: unknown): string {
  return typeof value === 'string' ? `"${value.slice(0, 60)}"` : typeof value === 'object' && value !== null ? (Array.isArray(value) ? `[${value.slice(0, 5).map(shown).join(', ')}]` : 'an object') : typeof value === 'function' ? 'a function' : String(value);
}
