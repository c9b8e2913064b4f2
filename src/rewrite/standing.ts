/** What can be said of a value without making an instance of it: in which stage it is right as it stands, and whether it is fixed. */
import type { Value } from '../ir/graph.js';
import { at, settle, type Step } from '../ir/settle.js';
import type { DecoderFacts } from '../analyse/facts.js';
import type { Stages } from './stages.js';

/** Marks values that are right in every stage. */
const ANY = -2;

export class Standing {
  readonly #facts: DecoderFacts;
  readonly #stages: Stages;
  readonly #dependent: ReadonlySet<Value>;
  readonly #naturals = new Map<Value, number>();
  readonly #fixed = new Map<Value, boolean>();
  readonly #contentFree = new Map<Value, boolean>();

  constructor(facts: DecoderFacts, stages: Stages, dependent: ReadonlySet<Value>) {
    this.#facts = facts;
    this.#stages = stages;
    this.#dependent = dependent;
  }

  /**
   * The one stage in which a value is right as it stands: its inputs are the stage's own. `undefined`: in every stage;
   * -1: in none (it mixes stages, as a mask that reads its width from the first layer's cache and its length from the last's).
   */
  stageOf(value: Value): number | undefined {
    const stage = settle(value, this.#naturals, (v) => this.#stageStep(v));
    return stage === ANY ? undefined : stage;
  }

  #stageStep(value: Value): Step<Value, number> {
    if (this.#facts.content.has(value)) return at(() => this.#stages.homeOf(value));
    if (!this.#dependent.has(value)) return at(() => ANY);
    const node = value.producer;
    if (!node) return at(() => this.#stageOfPast(value) ?? 0);
    const needs = node.reads.filter((v) => v !== null);
    const make = (): number => {
      let stage = ANY;
      for (const v of needs) {
        const s = this.#naturals.get(v) as number;
        if (s !== ANY) stage = stage === ANY || stage === s ? s : -1;
      }
      return stage;
    };
    return { needs, make };
  }

  #stageOfPast(value: Value): number | undefined {
    const owner = this.#facts.attention.find((l) => l.core.past?.key.value === value || l.core.past?.value?.value === value);
    return owner && this.#stages.stageOfLayer(owner.index);
  }

  /** True when the value is made of constants and of fixed axes of shapes. */
  isFixed(value: Value): boolean {
    return settle(value, this.#fixed, (v) => this.#fixedStep(v));
  }

  #fixedStep(value: Value): Step<Value, boolean> {
    const { probes, content } = this.#facts;
    if (!this.#dependent.has(value)) return at(() => !content.has(value));
    const node = value.producer;
    if (!node || node.captures.length > 0 || probes.constant(value) === undefined) return at(() => false);
    const picksAxis = (node.is('Gather') || node.is('Slice') || node.is('Squeeze')) && node.inputs[0]?.producer?.is('Shape');
    if (node.is('Shape') || picksAxis) return at(() => true);
    const needs = node.inputs.filter((v) => v !== null);
    return { needs, make: () => needs.every((v) => this.#fixed.get(v)) };
  }

  /** True when the value is not even made of the shape of content: it is there before any layer has run. */
  isContentFree(value: Value): boolean {
    return settle(value, this.#contentFree, (v) => {
      if (this.#facts.content.has(v)) return at(() => false);
      const needs = v.producer ? [...v.producer.inputs, ...v.producer.captures].filter((i) => i !== null) : [];
      return { needs, make: () => needs.every((i) => this.#contentFree.get(i)) };
    });
  }
}

/** True for the output of a Shape node over content. */
export function isShapeOf(value: Value, content: ReadonlySet<Value>): boolean {
  const node = value.producer;
  return node?.is('Shape') === true && node.inputs[0] != null && content.has(node.inputs[0]);
}
