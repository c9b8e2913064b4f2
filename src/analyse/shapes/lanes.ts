/**
 * Several evaluations of one graph in one walk: its lanes. What is known of a value is one fact where all lanes hold the same
 * object, and else a fact for each; what a form gives of them is looked up once for all.
 */
import type { Fact } from './types.js';

/** Facts of one value that differ from lane to lane; undefined where the value was not reached. */
export class Varying {
  constructor(readonly facts: readonly (Fact | undefined)[]) {}
}

export type Known = Fact | Varying;

export function inLane(known: Known | undefined, lane: number): Fact | undefined {
  return known instanceof Varying ? known.facts[lane] : known;
}

/** Equal facts of lanes are one object, so that they can be looked up. */
export class Lanes {
  readonly #root: Branching = { next: new Map(), end: undefined };

  constructor(readonly count: number) {}

  /** What is known of a value of which `facts` are known, lane for lane. */
  of(facts: readonly (Fact | undefined)[]): Known {
    const [first] = facts;
    if (first !== undefined && facts.every((f) => f === first)) return first;
    let at = this.#root;
    for (let i = 0; i < facts.length; i++) {
      const fact = facts[i];
      let next = at.next.get(fact);
      if (next === undefined) {
        next = { next: new Map(), end: undefined };
        at.next.set(fact, next);
      }
      at = next;
    }
    at.end ??= new Varying(facts);
    return at.end;
  }
}

interface Branching {
  readonly next: Map<Fact | undefined, Branching>;
  end: Varying | undefined;
}
