/** Attributes of an operation, read by name: what is not known, or not believed, is refused. */

/** What is wrong with an operation's description; who reads the file says which. */
export class NotFollowed extends Error {}

/** A picture that an operation cannot take, whatever the file says: of a shape of which nothing would be left, or smaller than what is cut out. */
export class UnfitPicture extends Error {}

/** Of a channel: what operations take where a config says nothing. */
export const CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073] as const;
export const CLIP_STD = [0.26862954, 0.26130258, 0.27577711] as const;

export class Attributes {
  readonly #given: ReadonlyMap<string, unknown>;
  readonly #known = new Set<string>();

  constructor(given: Readonly<Record<string, unknown>>) {
    this.#given = new Map(Object.entries(given));
  }

  /** A whole number from `least` to `most`. */
  whole(name: string, otherwise: number, least: number, most: number): number {
    return this.#read(name, otherwise, `a whole number from ${least} to ${most}`, (v): v is number => Number.isInteger(v) && (v as number) >= least && (v as number) <= most);
  }

  /** 0 or 1. */
  flag(name: string, otherwise: boolean): boolean {
    return Number(this.#read<number | boolean>(name, Number(otherwise), '0 or 1', (v): v is number | boolean => v === 0 || v === 1 || typeof v === 'boolean')) === 1;
  }

  /** A positive number that is finite. */
  positive(name: string, otherwise: number): number {
    return this.#read(name, otherwise, 'a positive number', (v): v is number => typeof v === 'number' && Number.isFinite(v) && v > 0);
  }

  /** One of some words. */
  word<T extends string>(name: string, otherwise: T, words: readonly T[]): T {
    return this.#read(name, otherwise, words.map((w) => `"${w}"`).join(' or '), (v): v is T => words.includes(v as T));
  }

  /** Three numbers, one a channel. */
  triple(name: string, otherwise: readonly [number, number, number]): readonly [number, number, number] {
    return this.#read(name, otherwise, 'three numbers', (v): v is [number, number, number] => Array.isArray(v) && v.length === 3 && v.every((n) => typeof n === 'number' && Number.isFinite(n)));
  }

  /** Takes note of an attribute that changes nothing. */
  ignored(name: string): void {
    this.#known.add(name);
  }

  /** @throws {NotFollowed} when there is one that nobody asked for */
  close(): void {
    const left = [...this.#given.keys()].find((name) => !this.#known.has(name));
    if (left !== undefined) throw new NotFollowed(`its attribute "${left}" is not known here`);
  }

  #read<T>(name: string, otherwise: T, want: string, fits: (value: unknown) => value is T): T {
    this.#known.add(name);
    const value = this.#given.has(name) ? this.#given.get(name) : otherwise;
    if (!fits(value)) throw new NotFollowed(`its attribute "${name}" is ${JSON.stringify(value)}, and not ${want}`);
    return value;
  }
}
