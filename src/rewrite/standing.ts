/** What can be said of a value without making an instance of it: in which stage it is right as it stands, and whether it is fixed. */
import type { Value } from '../ir/graph.js';
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
    const known = this.#naturals.get(value);
    if (known !== undefined) return known === ANY ? undefined : known;
    let stage: number | undefined;
    if (this.#facts.content.has(value)) stage = this.#stages.homeOf(value);
    else if (this.#dependent.has(value)) {
      const node = value.producer;
      if (!node) stage = this.#stageOfPast(value) ?? 0;
      else {
        for (const input of [...node.inputs, ...node.captures]) {
          const s = input ? this.stageOf(input) : undefined;
          if (s === undefined) continue;
          stage = stage === undefined || stage === s ? s : -1;
        }
      }
    }
    this.#naturals.set(value, stage ?? ANY);
    return stage;
  }

  #stageOfPast(value: Value): number | undefined {
    const owner = this.#facts.attention.find((l) => l.core.past?.key.value === value || l.core.past?.value?.value === value);
    return owner && this.#stages.stageOfLayer(owner.index);
  }

  /** True when the value is made of constants and of fixed axes of shapes. */
  isFixed(value: Value): boolean {
    const known = this.#fixed.get(value);
    if (known !== undefined) return known;
    const { probes, content } = this.#facts;
    const node = value.producer;
    let fixed = false;
    if (!this.#dependent.has(value)) fixed = !content.has(value);
    else if (node && node.captures.length === 0 && probes.constant(value) !== undefined) {
      const source = node.inputs[0]?.producer;
      const picksAxis = (node.is('Gather') || node.is('Slice') || node.is('Squeeze')) && source?.is('Shape');
      fixed = node.is('Shape') || picksAxis === true || node.inputs.every((v) => v === null || this.isFixed(v));
    }
    this.#fixed.set(value, fixed);
    return fixed;
  }
}

/** True when the value is not even made of the shape of content: it is there before any layer has run. */
export function isContentFree(value: Value, content: ReadonlySet<Value>): boolean {
  const seen = new Set<Value>();
  // A list, not recursion: a chain may be as long as the graph.
  const pending: Value[] = [value];
  for (let v = pending.pop(); v; v = pending.pop()) {
    if (content.has(v)) return false;
    if (seen.has(v)) continue;
    seen.add(v);
    const node = v.producer;
    if (node) for (const i of [...node.inputs, ...node.captures]) if (i) pending.push(i);
  }
  return true;
}

/** True for the output of a Shape node over content. */
export function isShapeOf(value: Value, content: ReadonlySet<Value>): boolean {
  const node = value.producer;
  return node?.is('Shape') === true && node.inputs[0] != null && content.has(node.inputs[0]);
}
