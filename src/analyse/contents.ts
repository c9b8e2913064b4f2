/**
 * Contents of the inputs that steer lengths in a compiled graph: masks and ids. Without them the lengths of later
 * stages depend on data and nothing behind the first boundary has a known size.
 */
import { DataType, type Graph, type Value } from '../ir/graph.js';
import { anImageToken, anotherToken } from '../plan/image-token-id.js';
import type { ImageMaskSource } from '../plan/plan.js';
import { IMAGE_TOKEN_MASK, IS_MARKED, isTrainingForward, TRAINING } from './added-names.js';
import type { InputRoles } from './facts.js';

/** Which tokens of a chunk are valid and which are image tokens; row r, token t. */
export interface TokenPattern {
  readonly valid: (row: number, token: number) => boolean;
  readonly image: (row: number, token: number) => boolean;
}

export const TEXT_ONLY: TokenPattern = { valid: () => true, image: () => false };

/** Elements of a mask that are followed at most. */
const MOST_CONTENTS = 1 << 22;

/** Adds contents to bindings of sizes; those of other inputs are left alone. */
export function withContents(
  graph: Graph,
  roles: InputRoles,
  shapes: ReadonlyMap<Value, readonly (number | null)[]>,
  source: ImageMaskSource,
  pattern: TokenPattern,
): Map<Value, { shape: number[]; data?: number[] }> {
  const bindings = new Map([...shapes].map(([v, shape]): [Value, { shape: number[]; data?: number[] }] => [v, { shape: [...shape] as number[] }]));
  const fill = (value: Value | undefined, at: (row: number, column: number, width: number) => number): void => {
    const binding = value && bindings.get(value);
    if (!binding || binding.shape.length !== 2) return;
    const [rows, width] = binding.shape as [number, number];
    // A file may declare a batch of 10⁹: then lengths stay unknown.
    if (!(rows * width <= MOST_CONTENTS)) return;
    binding.data = Array.from({ length: rows * width }, (_, i) => at(Math.floor(i / width), i % width, width));
  };
  const anchor = roles.sourceKind === 'inputs_embeds' ? roles.source : roles.inputIds;
  const sequence = (anchor && shapes.get(anchor)?.[1]) ?? 0;
  fill(roles.attentionMask, (r, c, width) => (c < width - sequence || pattern.valid(r, c - (width - sequence)) ? 1 : 0));
  // Ranked by the last token, as when it is asked instead of trained.
  const query = isTrainingForward(graph) ? graph.inputs.find((v) => v.name === TRAINING.query) : undefined;
  const asked = query && bindings.get(query);
  if (asked?.shape.length === 1 && (asked.shape[0] as number) <= MOST_CONTENTS) asked.data = new Array(asked.shape[0] as number).fill(Math.max(0, sequence - 1));
  if (source.kind === 'input-ids') {
    const [image, other] = [anImageToken(source.id), anotherToken(source.id)];
    const ids = roles.inputIds ?? graph.inputs.find((v) => v.name === 'input_ids');
    fill(ids, (r, c) => (pattern.image(r, c) ? image : other));
  }
  if (source.kind === 'input') {
    const mask = roles.imageMask ?? graph.inputs.find((v) => v.name === IMAGE_TOKEN_MASK && v.type?.elemType === DataType.BOOL);
    fill(mask, (r, c) => (pattern.image(r, c) ? 1 : 0));
  }
  if (source.kind === 'marks') {
    // What is in the embeddings is not known; what the graph reads off them is what the pattern says.
    const marked = graph.values.get(IS_MARKED);
    const [rows, length] = shapes.get(roles.source) ?? [];
    if (marked && rows && length) {
      bindings.set(marked, { shape: [rows, length] });
      fill(marked, (r, c) => (pattern.image(r, c) ? 1 : 0));
    }
  }
  return bindings;
}
