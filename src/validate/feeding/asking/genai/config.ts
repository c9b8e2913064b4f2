/** genai_config.json: what of it says how pictures and texts reach the decoder. */
import { join } from 'node:path';
import { objectOf } from '../../../../disk/model-config.js';
import { configOf } from '../configs.js';

type Json = Readonly<Record<string, unknown>>;

export interface GenaiModel {
  /** As the file has it: it chooses genai's processor. */
  readonly type: string;
  /** Most tokens of a prompt. */
  readonly contextLength: number;
  /** Path of the file that says how pictures are prepared. */
  readonly transforms: string;
  /** Name of the vision encoder's input for what the processor calls so. */
  visionInput(name: string): string;
  /** Names of graph inputs and outputs. */
  readonly features: string;
  readonly embedding: { readonly ids: string; readonly features: string; readonly embeds: string };
  /** Pixels on a side of a patch, and patches on a side of what becomes one token. */
  readonly patchSize: number;
  readonly mergeSize: number;
  /** Tokens that places of pictures are told by, where positions depend on them. */
  readonly tokens: { readonly image: number | undefined; readonly visionStart: number | undefined; readonly pad: number | undefined };
}

/** The defaults are genai's. @throws {UsageError} PD610 when the file is no JSON */
export function readGenaiModel(folder: string): GenaiModel {
  const model = objectOf(configOf(folder, 'genai_config.json').model) ?? {};
  const [vision, embedding] = [objectOf(model.vision) ?? {}, objectOf(model.embedding) ?? {}];
  const text = (object: Json, key: string, otherwise: string): string => (typeof object[key] === 'string' ? (object[key] as string) : otherwise);
  const whole = (key: string): number | undefined => (Number.isInteger(model[key]) ? (model[key] as number) : undefined);
  const size = (key: string, otherwise: number): number => (Number.isInteger(vision[key]) && (vision[key] as number) > 0 ? (vision[key] as number) : otherwise);
  const inputs = objectOf(vision.inputs) ?? {};
  const embeddingInputs = objectOf(embedding.inputs) ?? {};
  return {
    type: text(model, 'type', ''),
    contextLength: whole('context_length') ?? Number.POSITIVE_INFINITY,
    transforms: join(folder, text(vision, 'config_filename', 'processor_config.json')),
    visionInput: (name) => text(inputs, name, name),
    features: text(objectOf(vision.outputs) ?? {}, 'image_features', 'image_features'),
    embedding: {
      ids: text(embeddingInputs, 'input_ids', 'input_ids'),
      features: text(embeddingInputs, 'image_features', 'image_features'),
      embeds: text(objectOf(embedding.outputs) ?? {}, 'inputs_embeds', 'inputs_embeds'),
    },
    patchSize: size('patch_size', 14),
    mergeSize: size('spatial_merge_size', 2),
    tokens: { image: whole('image_token_id'), visionStart: whole('vision_start_token_id'), pad: whole('pad_token_id') },
  };
}
