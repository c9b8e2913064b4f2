/** Two folders, compiled one out of the other: which files of them `validate` works on. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { UsageError } from '../diagnostics.js';
import { objectOf, readModelConfig } from '../disk/model-config.js';
import { isFolder } from '../disk/target.js';
import type { AskFiles } from '../validate/feeding/asking/index.js';
import { type Part, readJson, recogniseFolder } from './layout.js';

type Json = Readonly<Record<string, unknown>>;

export interface FolderPair {
  readonly original: string;
  readonly rewritten: string;
  readonly embed: string | undefined;
  /** Tokens that end an answer, any of them. */
  readonly eos: readonly number[] | undefined;
  readonly ask: AskFiles;
  /** Variants of the decoder that are in both folders and not looked at. */
  readonly others: readonly string[];
}

/**
 * @param only precision of the decoder, as file names have it; default: the first that both folders have
 * @throws {UsageError | Refusal} PD607–PD610 for folders that are not understood, PD611 when they have no decoder in common
 */
export function filesOfFolders(input: string, output: string, only?: string): FolderPair {
  for (const [path, other] of [[input, output], [output, input]] as const) {
    if (!isFolder(path)) throw new UsageError({ code: 'PD002', message: `${path} is no folder, and ${other} is one`, culprit: path, hint: 'give two folders, or two decoder files' });
  }
  const layout = recogniseFolder(input);
  const name = (p: Part): string => p.precision || 'fp32';
  const both = layout.decoders.filter((p) => existsSync(join(output, p.file)));
  const part = both.find((p) => only === undefined || name(p) === only);
  if (!part) {
    throw new UsageError({
      code: 'PD611',
      message: only === undefined ? `${output} has none of the decoders of ${input}` : `there is no decoder of precision "${only}" in both folders`,
      culprit: only === undefined ? output : '--only',
      hint: both.length > 0 ? `there are: ${both.map(name).join(', ')}` : `compile it first: pdrop-compile ${input} -o ${output}`,
    });
  }
  // Graphs of the decoder's own precision first: they were exported together.
  const beside = (parts: readonly Part[]): string | undefined => {
    const found = parts.find((p) => p.precision === part.precision) ?? parts.find((p) => p.precision === '') ?? parts[0];
    return found && join(input, found.file);
  };
  const original = join(input, part.file);
  const config = readModelConfig(original);
  const at = (file: string): string | undefined => (existsSync(join(input, file)) ? join(input, file) : undefined);
  const embed = beside(layout.embeds);
  return {
    original,
    rewritten: join(output, part.file),
    embed,
    eos: eosOf(input),
    ask: {
      folder: input,
      vision: beside(layout.visions),
      embed,
      tokenizer: join(input, 'tokenizer.json'),
      tokenizerConfig: at('tokenizer_config.json'),
      preprocessor: join(input, 'preprocessor_config.json'),
      imageTokenId: config.imageTokenId,
      imageTokens: config.imageTokens,
    },
    others: both.filter((p) => p !== part).map(name),
  };
}

/** The tokens that end an answer, where the folder's runtime reads them. */
function eosOf(folder: string): readonly number[] | undefined {
  const [genai, generation] = ['genai_config.json', 'generation_config.json'].map((name): Json => {
    const path = join(folder, name);
    return (existsSync(path) && objectOf(readJson(path, name))) || {};
  });
  const eos = objectOf(genai?.model)?.eos_token_id ?? generation?.eos_token_id;
  const ids = [eos].flat().filter((id): id is number => Number.isInteger(id));
  return ids.length > 0 ? ids : undefined;
}
