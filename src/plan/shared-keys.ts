/**
 * Layers that use the keys and values of an earlier layer again (Gemma 3n, Gemma 4 E-series) must see the tokens that layer saw: no
 * boundary may stand between the two.
 */
import { Refusal } from '../diagnostics.js';
import type { DecoderFacts } from '../analyse/facts.js';

/** The first layer behind a boundary before `layer` whose keys would be of the stage before it. */
function torn(facts: DecoderFacts, layer: number): { readonly reader: number; readonly owner: number } | undefined {
  const found = facts.layers.find((l) => l.keysOf !== undefined && l.keysOf < layer && layer <= l.index);
  return found && { reader: found.index, owner: found.keysOf as number };
}

function allowed(facts: DecoderFacts, ranked: boolean): number[] {
  return facts.layers.map((l) => l.index).filter((l) => l > 0 && !torn(facts, l) && (!ranked || facts.layers[l]?.core));
}

/** @throws {Refusal} PD322 */
export function requireWholeKeys(facts: DecoderFacts, layers: readonly number[], ranked: boolean): void {
  for (const layer of layers) {
    const shared = torn(facts, layer);
    if (!shared) continue;
    throw new Refusal({
      code: 'PD322',
      message: `layer ${shared.reader} attends with the keys and values of layer ${shared.owner}: a boundary before layer ${layer} would leave it keys of tokens that were dropped`,
      culprit: '--layers',
      hint: `drop before layers out of ${allowed(facts, ranked).join(', ')}: the layers that share keys and values then stand in one stage`,
    });
  }
}

/** The boundaries as they are, or, where keys would be torn from their readers, as many over the layers that may be dropped before, the last of them as late as possible. */
export function withWholeKeys(facts: DecoderFacts, wanted: number[], ranked: boolean, warnings: string[]): number[] {
  const cut = wanted.find((l) => torn(facts, l));
  if (cut === undefined) return wanted;
  const free = allowed(facts, ranked);
  if (free.length < wanted.length) {
    throw new Refusal({
      code: 'PD314',
      message: `${wanted.length + 1} stages are more than shared keys and values allow: tokens can be dropped before layers ${free.join(', ') || '(none)'} only`,
      culprit: '--stages',
      hint: `use at most ${free.length + 1} stages`,
    });
  }
  const layers = wanted.map((_, i) => free[Math.floor(((i + 1) * free.length) / wanted.length) - 1] as number);
  const { reader, owner } = torn(facts, cut) as { reader: number; owner: number };
  warnings.push(`boundaries before layers ${wanted.join(', ')} are moved to ${layers.join(', ')}: later layers (the first is ${reader}) attend with the keys and values of layer ${owner}`);
  return layers;
}
