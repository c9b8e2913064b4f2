/** Names of what a compiled graph has beside the model's own. */
import type { Graph } from '../ir/graph.js';

/** Name of the input that marks image tokens in a compiled graph: bool [batch, sequence]. */
export const IMAGE_TOKEN_MASK = 'image_token_mask';

/**
 * What a training forward takes and gives besides: int64 [batch], index of the token that ranks (the last of the instruction);
 * int64 [batch, sequence]; int64 [batch, kept], the labels of the tokens that are left.
 */
export const TRAINING = { query: 'query_index', labels: 'labels', kept: 'kept_labels' } as const;

/** Whether a graph was compiled for training. The names of its inputs alone do not say: a model may take `labels` itself. */
export const isTrainingForward = (graph: Graph): boolean => graph.outputs.some((v) => v.name === TRAINING.kept);

/** States in which a graph for onnxruntime-genai carries what its stages have dropped; genai finds them by these names. */
export const CARRIED = { conv: ['past_key_values.0.conv_state', 'present.0.conv_state'], recurrent: ['past_key_values.0.recurrent_state', 'present.0.recurrent_state'] } as const;

/** Name of the value that a compiled graph reads off marked embeddings: bool [batch, sequence]. */
export const IS_MARKED = 'pdrop/image-tokens/is_marked:0';
