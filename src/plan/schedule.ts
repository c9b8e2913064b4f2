/** Where tokens are dropped and how many stay: before which layers, at which cumulative ratios. */
import { formatRatio, isLess, parseRatio, powRatio } from '../cost/keep.js';
import { Refusal } from '../diagnostics.js';
import type { DecoderFacts } from '../analyse/facts.js';
import { requireWholeKeys, withWholeKeys } from './shared-keys.js';
import { type PlanOptions, usage } from './options.js';

export function resolveLayers(facts: DecoderFacts, options: PlanOptions, ranked: boolean, warnings: string[]): number[] {
  const count = facts.layers.length;
  if (options.layers && options.stages !== undefined && options.stages !== options.layers.length + 1) {
    throw usage('PD011', `--stages ${options.stages} and --layers ${options.layers.join(',')} contradict each other`, '--stages', 'give one of the two');
  }
  if (options.layers) {
    options.layers.forEach((l, i) => {
      if (!Number.isInteger(l) || l < 1) throw usage('PD011', `--layers: ${l} is not a layer tokens can be dropped before`, '--layers', 'layers are counted from 0; the first that can see fewer tokens is 1');
      if (i > 0 && l <= (options.layers?.[i - 1] as number)) throw usage('PD011', `--layers must ascend: ${options.layers?.join(',')}`, '--layers', 'list each layer once, in ascending order');
      if (l >= count) {
        throw new Refusal({ code: 'PD314', message: `there is no layer ${l}: the decoder has ${count} (0 … ${count - 1})`, culprit: '--layers', hint: `choose layers below ${count}` });
      }
    });
    if (options.layers.length === 0) throw usage('PD011', '--layers is empty', '--layers', 'give at least one layer');
    if (ranked) for (const l of options.layers) requireAttention(facts, l);
    requireWholeKeys(facts, options.layers, ranked);
    return [...options.layers];
  }
  const stages = options.stages ?? 4;
  if (!Number.isInteger(stages) || stages < 2) throw usage('PD011', `--stages ${stages}: at least 2 stages are needed to drop anything`, '--stages', 'use a whole number from 2 to the number of layers');
  if (stages > count) {
    throw new Refusal({ code: 'PD314', message: `${stages} stages are more than the decoder has layers (${count})`, culprit: '--stages', hint: `use at most ${count} stages` });
  }
  const even = Array.from({ length: stages - 1 }, (_, i) => Math.floor(((i + 1) * count) / stages));
  return withWholeKeys(facts, ranked ? beforeAttention(facts, even, warnings) : even, ranked, warnings);
}

/** @throws {Refusal} PD326: a layer without attention has nothing to rank with */
function requireAttention(facts: DecoderFacts, layer: number): void {
  if (facts.layers[layer]?.core) return;
  throw new Refusal({
    code: 'PD326',
    message: `layer ${layer} has no attention to rank tokens with: it mixes them by convolution or recurrence`,
    culprit: '--layers',
    hint: `drop before one of the layers that have attention (${facts.attention.map((l) => l.index).filter((l) => l > 0).join(', ')}), or rank without it: --rank uniform`,
  });
}

/** Each boundary at the next layer that has attention; those of a hybrid's other layers move down. */
function beforeAttention(facts: DecoderFacts, wanted: readonly number[], warnings: string[]): number[] {
  const layers: number[] = [];
  for (const b of wanted) {
    const next = facts.attention.find((l) => l.index >= b && l.index > (layers.at(-1) ?? 0))?.index;
    if (next === undefined) {
      throw new Refusal({
        code: 'PD314',
        message: `${wanted.length + 1} stages are more than this hybrid's attention layers allow: there is none left to rank with for a boundary at layer ${b}`,
        culprit: '--stages',
        hint: `use fewer stages, or give --layers out of ${facts.attention.map((l) => l.index).filter((l) => l > 0).join(', ')}`,
      });
    }
    if (next !== b) warnings.push(`the boundary before layer ${b} is moved to layer ${next}: layer ${b} has no attention to rank with`);
    layers.push(next);
  }
  return layers;
}

export function resolveKeep(boundaries: number, options: PlanOptions): string[] {
  if (options.keep && options.lambda !== undefined) throw usage('PD012', '--keep and --lambda both say how much is kept', '--keep', 'give one of the two');
  if (options.keep) {
    const ratios = options.keep.map((k) => parseRatio(String(k)));
    if (ratios.length !== boundaries) throw usage('PD012', `--keep has ${ratios.length} ratios for ${boundaries} boundaries`, '--keep', 'give one cumulative ratio for each boundary');
    ratios.forEach((r, i) => {
      const before = ratios[i - 1];
      if (before && isLess(before, r)) throw usage('PD012', `--keep must not increase: ${options.keep?.join(',')}`, '--keep', 'ratios are cumulative: shares of the original image tokens that are left');
    });
    return ratios.map(formatRatio);
  }
  const text = String(options.lambda ?? '0.5');
  const lambda = parseRatio(text);
  if (lambda.num === 0n) throw usage('PD010', '--lambda 0 is outside (0, 1]', '--lambda', 'to drop all image tokens at a boundary use --keep with 0');
  return Array.from({ length: boundaries }, (_, i) => formatRatio(powRatio(lambda, i + 1)));
}
