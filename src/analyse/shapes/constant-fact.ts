/** What is known of a constant, without decoding it before somebody asks. */
import type { Tensor } from '../../ir/graph.js';
import { holdsElements, tensorElements } from './numbers.js';
import type { Dims, Fact } from './types.js';
import { countOf } from './dims.js';

/** Fact of an initializer: most are weights whose contents nobody asks for, so they are decoded when first read. */
export class ConstantFact implements Fact {
  readonly dtype: number;
  readonly shape: Dims;
  readonly holdsData: boolean;
  #elements: readonly number[] | undefined;
  #key: string | null | undefined;

  constructor(
    private readonly tensor: Tensor,
    readonly limit: number,
  ) {
    this.dtype = tensor.dataType;
    this.shape = tensor.dims;
    this.holdsData = holdsElements(tensor, limit);
  }

  get data(): readonly number[] | undefined {
    if (this.holdsData) this.#elements ??= tensorElements(this.tensor, this.limit);
    return this.#elements;
  }

  get elementCount(): number {
    return countOf(this.shape) as number;
  }

  /** What `make` makes of this fact, made once. */
  key(make: (fact: Fact) => string | null): string | null {
    if (this.#key === undefined) this.#key = make(this);
    return this.#key;
  }
}

/** The fact of a constant, the same one in every evaluation with this limit: its elements are decoded once. */
export function constantFact(tensor: Tensor, limit: number): Fact {
  tensor.facts ??= [];
  const known = tensor.facts as ConstantFact[];
  let fact = known.find((f) => f.limit === limit);
  if (!fact) {
    fact = new ConstantFact(tensor, limit);
    known.push(fact);
  }
  return fact;
}
