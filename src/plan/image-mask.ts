/** How the graph is told which tokens are image tokens. */
import { Refusal, type UsageError } from '../diagnostics.js';
import type { DecoderFacts } from '../analyse/facts.js';
import { imageIdComparedInGraph } from './image-source.js';
import { markType } from './marks.js';
import type { ImageTokenId } from './image-token-id.js';
import type { ImageMaskSource, Marks } from './plan.js';
import { type PlanOptions, usage } from './options.js';

/** Reads `input`, `input-ids:<id>`, `input-ids:negative`, `span:<start>:<count>`, `marks` (with what was proved of them) or `none`. */
export function parseImageMask(text: string, marks?: Marks): ImageMaskSource {
  const wrong = (): UsageError => usage('PD013', `--image-mask ${text} is not understood`, '--image-mask', 'use input, input-ids:<id>, input-ids:negative, span:<start>:<count>, marks or none');
  const [kind, a, b, ...rest] = text.split(':');
  const whole = (t: string | undefined): number => {
    if (t === undefined || !/^\d+$/.test(t)) throw wrong();
    return Number(t);
  };
  if (rest.length > 0) throw wrong();
  if (kind === 'marks' && a === undefined) {
    if (!marks) throw unproved();
    return { kind, channels: marks.channels, bits: marks.bits };
  }
  if ((kind === 'input' || kind === 'none') && a === undefined) return { kind };
  if (kind === 'input-ids' && b === undefined) return { kind, id: a === 'negative' ? a : whole(a) };
  if (kind === 'span') {
    const count = whole(b);
    if (count === 0) throw wrong();
    return { kind, start: whole(a), count };
  }
  throw wrong();
}

export function resolveImageMask(facts: DecoderFacts, options: PlanOptions, warnings: string[]): ImageMaskSource {
  if (options.imageMask !== undefined) {
    const source = parseImageMask(options.imageMask, options.marks);
    if (source.kind === 'marks') requireEmbeds(facts, source);
    if (source.kind === 'input-ids') requireId(facts, source.id, warnings);
    if (source.kind === 'none' && facts.fixedSequence !== 1) warnings.push('with --image-mask none nothing is dropped: every chunk goes through whole; it is for the half of a split pair that only decodes. For prompts with images leave it out, or use input');
    if (source.kind === 'span' && !options.fix) warnings.push(`span:${source.start}:${source.count} marks these tokens in every first prompt that is long enough, also in one without an image`);
    return source;
  }
  if (facts.fixedSequence === 1) return { kind: 'none' };
  // genai feeds input_ids to a decoder that declares them, and no mask.
  if (facts.roles.imageMask || (facts.roles.sourceKind === 'inputs_embeds' && options.runtime !== 'genai')) return { kind: 'input' };
  const id = options.imageTokenId ?? imageIdComparedInGraph(facts);
  if (id !== undefined) return { kind: 'input-ids', id };
  throw new Refusal({
    code: 'PD320',
    message: 'it is not known which tokens are image tokens: the graph takes input_ids, and the image token id was found neither in the graph nor in a config.json or genai_config.json beside it',
    culprit: facts.roles.inputIds?.name,
    hint: 'give it with --image-mask input-ids:<id> (image_token_id or image_token_index of the model’s config), or add an input with --image-mask input; a language model for text only has no image tokens, and nothing to drop',
  });
}

/**
 * An id that no prompt can have would drop nothing, in silence. Where ids are looked up in a table of the graph, ids beyond it fail;
 * elsewhere an image token may be one that the logits do not have.
 *
 * @throws {UsageError} PD013
 */
function requireId(facts: DecoderFacts, id: ImageTokenId, warnings: string[]): void {
  if (id === 'negative') return;
  const rows = facts.roles.inputIds?.uses.flatMap(({ node, index }) => (index === 1 && node.is('Gather') && node.int('axis', 0) === 0 && node.inputs[0]?.tensor?.dims.length === 2 ? (node.inputs[0].tensor.dims[0] ?? []) : []))[0];
  if (rows !== undefined && id >= rows) throw usage('PD013', `there is no token ${id}: the embedding table has ${rows} rows`, '--image-mask', 'give the image_token_id (or image_token_index) of the model’s config.json');
  const vocabulary = facts.logits.type?.dims?.at(-1);
  if (rows === undefined && typeof vocabulary === 'number' && id >= vocabulary) warnings.push(`image token id ${id} is beyond the vocabulary (${vocabulary} logits): where prompts do not have it nothing is dropped; compare it with the model’s config.json`);
}

/** @throws {Refusal} PD602 when marks were asked for and no embedding table was given to hold them to. */
export function unproved(): Refusal {
  return new Refusal({
    code: 'PD602',
    message: 'marks need the embedding graph: it must be proved that no text token’s embedding looks like a marked one',
    culprit: '--image-mask marks',
    hint: 'give --embed embed_tokens.onnx and --vision vision_encoder.onnx (looked for beside the decoder), compile the whole folder, or use --image-mask input',
  });
}

export function requireEmbeds(facts: DecoderFacts, marks: Marks): void {
  if (facts.roles.sourceKind !== 'inputs_embeds') {
    throw new Refusal({
      code: 'PD601',
      message: 'marks are read off inputs_embeds, and this graph takes input_ids',
      culprit: facts.roles.inputIds?.name,
      hint: 'use --image-mask input-ids:<id> (the default where the id is known)',
    });
  }
  markType(facts.probes.dtype(facts.roles.source), facts.roles.source.name);
  const beyond = marks.channels.find((c) => c >= facts.hiddenSize);
  if (beyond !== undefined) throw usage('PD013', `marks in channel ${beyond}, but embeddings are ${facts.hiddenSize} wide`, 'imageMask', 'the plan was made for another model: compile with --image-mask marks instead');
}
