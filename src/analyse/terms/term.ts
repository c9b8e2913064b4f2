/**
 * Terms: what floats are when a piece of a graph is evaluated for every weight at once.
 *
 * An op on floats is not computed but written down: equal inputs give the same term, different inputs different ones. Two
 * terms that are the same therefore stand for equal numbers whatever the weights are. Only what steers indices is computed:
 * integers are numbers, and where floats are ordered (a router's TopK) each term has a number drawn for it.
 */

/** One float, or one block of floats: what a tensor holds along its closed axes. */
export class Term {
  constructor(
    readonly id: number,
    /** Drawn in (0, 1): its place among others where terms are ordered. */
    readonly value: number,
  ) {}
}

export type Element = number | Term;

/** What cannot be evaluated: the piece is not proved to do anything. */
export class CannotEvaluate extends Error {}

/** All terms of one trial, shared by its runs. */
export class Terms {
  readonly #known = new Map<string, Term>();

  constructor(
    readonly seed: number,
    /** All rows order alike, so that all tokens choose the same experts. */
    readonly alike: boolean,
  ) {}

  of(key: string): Term {
    let term = this.#known.get(key);
    if (!term) {
      const id = this.#known.size + 1;
      term = new Term(id, this.draw(id));
      this.#known.set(key, term);
    }
    return term;
  }

  /** A number in (0, 1) from an integer and the seed. */
  draw(n: number): number {
    let h = Math.imul(n ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(this.seed + 1, 0xc2b2ae35);
    h = Math.imul(h ^ (h >>> 15), 0x2c1b3c6d);
    h = Math.imul(h ^ (h >>> 12), 0x297a2d39);
    return ((h ^ (h >>> 15)) >>> 0) / 2 ** 32 + 2 ** -33;
  }
}

export function keyOf(e: Element): string {
  return typeof e === 'number' ? `n${e}` : `t${e.id}`;
}

/** Where an element stands in an order. */
export function orderOf(e: Element): number {
  return typeof e === 'number' ? e : e.value;
}
