/** One op as its handler sees it. */
import type { Node, Value } from '../../ir/graph.js';
import { CannotEvaluate, Term, type Terms } from './term.js';
import type { Tensor } from './tensor.js';

/** What evaluates the values of one run. */
export interface Run {
  readonly terms: Terms;
  readonly opset: number;
  value(v: Value): Tensor;
  dtype(v: Value): number;
  /** Made of initializers only. */
  isWeight(v: Value): boolean;
  /** A number that something is compared with, when it is larger than anything the run counts. */
  noteLimit(limit: number): void;
}

export type Handler = (call: Call) => readonly Tensor[];

export class Call {
  constructor(
    readonly node: Node,
    private readonly run: Run,
  ) {}

  get terms(): Terms {
    return this.run.terms;
  }

  get opset(): number {
    return this.run.opset;
  }

  /** Input `i`. */
  tensor(i: number): Tensor {
    const t = this.optional(i);
    if (!t) throw new CannotEvaluate('an input is missing');
    return t;
  }

  optional(i: number): Tensor | undefined {
    const v = this.node.inputs[i];
    return v ? this.run.value(v) : undefined;
  }

  /** All inputs that are there. */
  tensors(): Tensor[] {
    return this.node.inputs.flatMap((v) => (v ? [this.run.value(v)] : []));
  }

  dtypeOfInput(i: number): number {
    const v = this.node.inputs[i];
    return v ? this.run.dtype(v) : 0;
  }

  isWeight(v: Value): boolean {
    return this.run.isWeight(v);
  }

  noteLimits(t: Tensor): void {
    for (const e of t.data) if (!(e instanceof Term)) this.run.noteLimit(e);
  }
}
