/** Configs of a folder that say which processor and which chat template are its own. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { UsageError } from '../../../diagnostics.js';
import { readRegularText } from '../../../disk/small-files.js';

export type Config = Readonly<Record<string, unknown>>;

/** Empty where the folder has no such file. @throws {UsageError} PD610 when it is no JSON */
export function configOf(folder: string, file: string): Config {
  const path = join(folder, file);
  if (!existsSync(path)) return {};
  try {
    const json: unknown = JSON.parse(readRegularText(path));
    return typeof json === 'object' && json !== null ? (json as Config) : {};
  } catch (error) {
    throw new UsageError({ code: 'PD610', message: `cannot read ${file}: ${(error as Error).message}`, culprit: path, hint: 'download or export the folder again' }, { cause: error });
  }
}

/** The class of the folder's processor, wherever transformers wrote it: 5 no longer writes it where transformers.js looks. */
export function processorClass(folder: string): string | undefined {
  return ['preprocessor_config.json', 'processor_config.json', 'tokenizer_config.json'].map((file) => configOf(folder, file).processor_class).find((name) => typeof name === 'string') as string | undefined;
}

/** The folder's chat template: of tokenizer_config.json (the default one of several), else of a file of its own. */
export function templateOf(folder: string): string | undefined {
  const { chat_template: given } = configOf(folder, 'tokenizer_config.json');
  const text = Array.isArray(given) ? (given as { name?: unknown; template?: unknown }[]).find((t) => t?.name === 'default')?.template : given;
  if (typeof text === 'string') return text;
  const jinja = join(folder, 'chat_template.jinja');
  if (existsSync(jinja)) return readRegularText(jinja);
  const { chat_template: other } = configOf(folder, 'chat_template.json');
  return typeof other === 'string' ? other : undefined;
}
