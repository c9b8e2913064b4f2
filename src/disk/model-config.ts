/** What the configuration files beside a model say about its image tokens. */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';

export interface ModelConfig {
  /** Id that stands for an image token in input_ids. */
  readonly imageTokenId: number | undefined;
  /** Image tokens of one picture, as far as the vision tower's sizes tell. */
  readonly imageTokens: number | undefined;
  /** Width of the MLP. */
  readonly mlp: number | undefined;
}

const ID_KEYS = ['image_token_id', 'image_token_index', 'img_context_token_id'];

/** Reads config.json and genai_config.json beside the model or one folder up (Hugging Face repositories keep graphs in onnx/). */
export function readModelConfig(modelPath: string): ModelConfig {
  const folder = dirname(resolve(modelPath));
  const found: { imageTokenId?: number; imageTokens?: number; mlp?: number } = {};
  for (const dir of [folder, dirname(folder)]) {
    for (const name of ['config.json', 'genai_config.json']) {
      const path = join(dir, name);
      if (!existsSync(path)) continue;
      let config: Record<string, unknown>;
      try {
        config = JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>;
      } catch {
        continue;
      }
      const id = search(config, ID_KEYS);
      if (id !== undefined && Number.isInteger(id) && id >= 0) found.imageTokenId ??= id;
      const vision = config.vision_config as Record<string, unknown> | undefined;
      const size = vision && search(vision, ['image_size']);
      const patch = vision && search(vision, ['patch_size']);
      if (typeof config.image_seq_length === 'number') found.imageTokens ??= config.image_seq_length;
      if (size && patch) found.imageTokens ??= Math.floor(size / patch) ** 2;
      const text = (config.text_config ?? config) as Record<string, unknown>;
      const mlp = search(text, ['intermediate_size']);
      if (mlp !== undefined) found.mlp ??= mlp;
    }
    if (found.imageTokenId !== undefined) break;
  }
  return { imageTokenId: found.imageTokenId, imageTokens: found.imageTokens, mlp: found.mlp };
}

/** First number under one of the keys, at the top or in a nested object (`model`, `vision`, `text_config`). */
function search(object: Record<string, unknown>, keys: readonly string[], depth = 0): number | undefined {
  for (const key of keys) if (typeof object[key] === 'number') return object[key] as number;
  if (depth >= 2) return undefined;
  for (const value of Object.values(object)) {
    if (value && typeof value === 'object' && !Array.isArray(value)) {
      const found = search(value as Record<string, unknown>, keys, depth + 1);
      if (found !== undefined) return found;
    }
  }
  return undefined;
}
