/** Hidden states before and after the finished layer, and its parts, as rankers compare them. */
import { Refusal } from '../../src/diagnostics.js';
import { DataType, type Value } from '../../src/ir/graph.js';
import type { Layer } from '../../src/analyse/facts.js';
import type { RankSite } from './ranker.js';

export interface Residuals {
  /** float32 [B, S_j, hidden] each: before the finished layer, after its attention (when that can be told), after it. */
  readonly entry: Value;
  readonly middle: Value | undefined;
  readonly exit: Value;
}

/** @throws {Refusal} PD341: the residual stream is not one value there. */
export function residuals({ context, layer, stage }: RankSite): Residuals {
  const { builder: b, facts, frames } = context;
  const finished = facts.layers[layer.index - 1] as Layer;
  const float = (value: Value, label: string): Value => {
    const here = frames.instantiate(value, stage);
    return facts.probes.dtype(value) === DataType.FLOAT ? here : b.cast(label, here, DataType.FLOAT);
  };
  const { residual: entry, middle } = finished;
  const { residual: exit } = layer;
  if (!entry || !exit) {
    throw new Refusal({
      code: 'PD341',
      message: `this ranker compares hidden states before and after layer ${finished.index}, and the graph has no value that holds them ${entry ? 'after' : 'before'} it`,
      culprit: layer.cut.node?.name ?? layer.cut.values[0]?.name,
      hint: 'use --rank attention, norope, uniform or random, or other layers with --layers',
    });
  }
  return { entry: float(entry, 'entry'), middle: middle && float(middle, 'middle'), exit: float(exit, 'exit') };
}

/** [B, S, hidden] → [B, S]: Euclidean length. */
export function norm({ context: { builder: b } }: RankSite, label: string, x: Value): Value {
  return b.op('Sqrt', `${label}_norm`, [b.reduce('ReduceSum', `${label}_square`, b.op('Mul', `${label}_squared`, [x, x]), [2], false)]);
}
