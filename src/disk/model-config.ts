/** What the configuration files beside a model say about its image tokens. */
import { existsSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import type { ImageTokenId } from '../plan/image-token-id.js';
import { MOST_JSON_BYTES, readRegularText } from './small-files.js';

export interface ModelConfig {
  /** Ids that stand for an image token in input_ids. */
  readonly imageTokenId: ImageTokenId | undefined;
  /** Image tokens of one picture, as far as the vision tower's sizes tell. */
  readonly imageTokens: number | undefined;
  /** Width of the MLP. */
  readonly mlp: number | undefined;
  /** What in those files was not used, and why. */
  readonly warnings: readonly string[];
}

const ID_KEYS = ['image_token_id', 'image_token_index', 'img_context_token_id'];

const MOST_CONFIG_BYTES = 16 * 1024 * 1024;

/** Largest numbers that are believed: costs are counted at these sizes, and a file may state any. */
const LIMITS = { id: 2 ** 31 - 1, pixels: 65_536, tokens: 65_536, width: 2 ** 24 } as const;

type Json = Readonly<Record<string, unknown>>;

/** Reads config.json and genai_config.json beside the model or one folder up (Hugging Face repositories keep graphs in onnx/). */
export function readModelConfig(modelPath: string): ModelConfig {
  const folder = dirname(resolve(modelPath));
  const found: { imageTokenId?: ImageTokenId | undefined; imageTokens?: number | undefined; mlp?: number | undefined } = {};
  const warnings: string[] = [];
  for (const dir of [folder, dirname(folder)]) {
    for (const name of ['config.json', 'genai_config.json']) {
      const path = join(dir, name);
      const config = existsSync(path) ? readJson(path, warnings) : undefined;
      if (!config) continue;
      /** The number if it is a whole one in its range; what is not is left out and said. */
      const whole = (value: number | undefined, least: number, most: number, what: string): number | undefined => {
        if (value === undefined) return undefined;
        if (Number.isInteger(value) && value >= least && value <= most) return value;
        warnings.push(`${basename(path)} beside the model: ${what} is ${value}, not a whole number from ${least} to ${most}; it is not used`);
        return undefined;
      };
      const vision = objectOf(config.vision_config);
      const size = whole(vision && search(vision, ['image_size']), 1, LIMITS.pixels, 'image_size');
      const patch = whole(vision && search(vision, ['patch_size']), 1, LIMITS.pixels, 'patch_size');
      found.imageTokenId ??= whole(search(config, ID_KEYS), 0, LIMITS.id, 'the image token id');
      if (name === 'genai_config.json') found.imageTokenId ??= genaiImageToken(config, dir, warnings);
      found.imageTokens ??= whole(typeof config.image_seq_length === 'number' ? config.image_seq_length : undefined, 1, LIMITS.tokens, 'image_seq_length');
      if (size && patch) found.imageTokens ??= whole(Math.floor(size / patch) ** 2, 1, LIMITS.tokens, 'the number of patches');
      found.mlp ??= whole(search(objectOf(config.text_config) ?? config, ['intermediate_size']), 1, LIMITS.width, 'intermediate_size');
    }
    if (found.imageTokenId !== undefined) break;
  }
  return { imageTokenId: found.imageTokenId, imageTokens: found.imageTokens, mlp: found.mlp, warnings };
}

/**
 * What onnxruntime-genai's processors put for each token of a picture, by model.type of genai_config.json, where the file does not say
 * image_token_id (its src/models/*_processor.cpp): an id, all negative ones, or the token of a name.
 */
const GENAI_IMAGE_TOKENS: Readonly<Record<string, ImageTokenId | { readonly token: string }>> = {
  phi3v: 'negative',
  phi4mm: 200010,
  gemma3: { token: '<image_soft_token>' },
  gemma4: { token: '<|image|>' },
  mistral3: { token: '[IMG]' },
  qwen2_5_vl: { token: '<|image_pad|>' },
  fara: { token: '<|image_pad|>' },
  qwen3_vl: { token: '<|image_pad|>' },
  qwen3_5: { token: '<|image_pad|>' },
  qwen3_5_moe: { token: '<|image_pad|>' },
};

function genaiImageToken(config: Json, folder: string, warnings: string[]): ImageTokenId | undefined {
  const type = objectOf(config.model)?.type;
  const known = typeof type === 'string' && Object.hasOwn(GENAI_IMAGE_TOKENS, type) ? GENAI_IMAGE_TOKENS[type] : undefined;
  if (typeof known !== 'object') return known;
  const path = join(folder, 'tokenizer.json');
  const tokenizer = existsSync(path) ? readJson(path, warnings, MOST_JSON_BYTES) : undefined;
  const added: readonly unknown[] = Array.isArray(tokenizer?.added_tokens) ? tokenizer.added_tokens : [];
  const token = added.find((t): t is { id: number } => (t as Json | null)?.content === known.token);
  return Number.isInteger(token?.id) && (token as { id: number }).id >= 0 ? token?.id : undefined;
}

function readJson(path: string, warnings: string[], mostBytes = MOST_CONFIG_BYTES): Json | undefined {
  try {
    const json = objectOf(JSON.parse(readRegularText(path, mostBytes)));
    if (json) return json;
    throw new Error('it is not a JSON object');
  } catch (error) {
    warnings.push(`${basename(path)} beside the model is not used: ${(error as Error).message}`);
    return undefined;
  }
}

/** Undefined for what is no object of JSON. */
export function objectOf(value: unknown): Json | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Json) : undefined;
}

/** First number under one of the keys, at the top or in a nested object (`model`, `vision`, `text_config`). */
function search(object: Json, keys: readonly string[], depth = 0): number | undefined {
  for (const key of keys) if (typeof object[key] === 'number') return object[key] as number;
  if (depth >= 2) return undefined;
  for (const key of Object.keys(object)) {
    const inner = objectOf(object[key]);
    const found = inner && search(inner, keys, depth + 1);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** The configuration files that are read for a model, as far as they are there. */
export function configsBeside(modelPath: string): string[] {
  const folder = dirname(resolve(modelPath));
  return [folder, dirname(folder)].flatMap((dir) => ['config.json', 'genai_config.json'].map((name) => join(dir, name))).filter((path) => existsSync(path));
}
