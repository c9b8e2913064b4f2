/** Roots as a stage sees them: its own caches, and where the attention mask starts. */
import type { DecoderFacts, PastInput } from '../analyse/facts.js';
import { DataType, type Value } from '../ir/graph.js';
import type { Builder } from './builder.js';
import { noCache } from './lengths.js';
import type { Stages } from './stages.js';

/**
 * A cache of another stage is replaced by one of stage `j`, of the same sizes but for its length: an exporter may read lengths from any layer. Of latent attention, where both
 * caches make keys, which of the two is called the keys' may differ from layer to layer.
 */
export function pastOfStage({ facts, stages }: { readonly facts: DecoderFacts; readonly stages: Stages }, past: PastInput, j: number): Value {
  const { attention: layers, probes } = facts;
  const owner = layers.find((l) => l.core.past?.key.value === past.value || l.core.past?.value?.value === past.value);
  if (owner && stages.stageOfLayer(owner.index) === j) return past.value;
  const isValue = owner !== undefined && owner.core.past?.value?.value === past.value;
  const inStage = layers.filter((l) => l.core.past && stages.stageOfLayer(l.index) === j);
  const alike = inStage.find((l) => l.core.croppedCache === (owner?.core.croppedCache ?? false)) ?? inStage.find((l) => !l.core.croppedCache);
  if (!alike) throw noCache(j, past.value);
  const caches = [alike, ...inStage].flatMap((l) => {
    const { key, value } = l.core.past ?? {};
    return (isValue ? [value, key] : [key, value]).flatMap((c) => c?.value ?? []);
  });
  const sizes = probes.axes(past.value)?.join();
  return caches.find((c) => probes.axes(c)?.join() === sizes) ?? (caches[0] as Value);
}

/** The first column of the attention mask, of which a cut mask must keep the kind. */
export class MaskStart {
  readonly #facts: DecoderFacts;
  readonly #builder: Builder;
  #first: Value | undefined;
  #valid: Value | undefined;
  #nonePadded: Value | undefined;

  constructor(facts: DecoderFacts, builder: Builder) {
    this.#facts = facts;
    this.#builder = builder;
  }

  /** bool [B, 1]: true where the row's attention mask starts with a valid token, false where it starts with padding. */
  valid(): Value {
    this.#valid ??= this.#builder.cast('mask_first_valid', this.#column(), DataType.BOOL);
    return this.#valid;
  }

  /** bool scalar: true when no row's attention mask starts with padding. */
  nonePadded(): Value {
    const b = this.#builder;
    this.#nonePadded ??= b.cast('none_starts_padded', b.op('ReduceMin', 'mask_first_least', [this.#column()], { keepdims: { kind: 'int', value: 0 } }), DataType.BOOL);
    return this.#nonePadded;
  }

  #column(): Value {
    if (!this.#first) {
      const b = this.#builder;
      const mask = this.#facts.roles.attentionMask as Value;
      const first = b.slice('mask_first', mask, b.ints([0]), b.ints([1]), 1);
      this.#first = this.#facts.probes.dtype(mask) === DataType.BOOL ? b.cast('mask_first_number', first, DataType.INT64) : first;
    }
    return this.#first;
  }
}
