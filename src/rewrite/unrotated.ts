/**
 * Queries and keys without their rotary positions.
 *
 * Where the rotary embedding is an op, it is left out. Where it is spelled out (x·cos + rotate_half(x)·sin), every token is
 * rotated as the last valid one is: turning q and k by the same angle leaves q·k as it was without turning.
 */
import { describeNode, Refusal } from '../diagnostics.js';
import type { Node, Value } from '../ir/graph.js';
import { noteCopy } from './copies.js';
import type { Frames } from './frames.js';
import type { LastToken } from './last-token.js';
import { isRotaryOp, isShapeSlot } from './stages.js';
import { at, settle, type Step } from '../ir/settle.js';

/** A value behind the boundary's cut for all tokens of the finished stage, none of them rotated against another. */
export class Unrotated {
  readonly #frames: Frames;
  readonly #last: LastToken;
  readonly #stage: number;
  readonly #memo = new Map<Value, Value>();

  constructor(frames: Frames, last: LastToken, stage: number) {
    this.#frames = frames;
    this.#last = last;
    this.#stage = stage;
  }

  value(value: Value): Value {
    return settle(value, this.#memo, (v) => this.#step(v));
  }

  #step(value: Value): Step<Value, Value> {
    const { stages, facts } = this.#frames;
    if (stages.homeOf(value) <= this.#stage) return at(() => this.#frames.instantiate(value, this.#stage));
    const node = value.producer as Node;
    if (isRotaryOp(node)) {
      const plain = node.inputs[0] as Value;
      return { needs: [plain], make: () => this.#memo.get(plain) as Value };
    }
    if (node.captures.length > 0) throw rotationUnknown(node);
    return { needs: node.inputs.filter((v) => v !== null && facts.content.has(v)) as Value[], make: () => this.#copy(value, node) };
  }

  #copy(value: Value, node: Node): Value {
    const { facts, builder } = this.#frames;
    const inputs = node.inputs.map((v, i) => {
      if (!v) return null;
      if (facts.content.has(v)) return this.#memo.get(v) as Value;
      if (isShapeSlot(node, i)) return this.#frames.instantiate(v, this.#stage);
      const data = this.#last.dataAt(v, node, i);
      if (!data) throw rotationUnknown(node);
      return data;
    });
    return noteCopy(node, builder.clone(node, inputs), this.#memo, value);
  }
}

function rotationUnknown(node: Node): Refusal {
  return new Refusal({
    code: 'PD340',
    message: 'this ranker compares queries and keys without their positions, and how this graph applies them is not understood',
    culprit: describeNode(node),
    hint: 'use --rank attention, change, uniform or random',
  });
}
