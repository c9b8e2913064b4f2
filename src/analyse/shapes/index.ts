/**
 * Concrete abstract interpretation of a graph: sizes of every value, and contents of those that steer sizes.
 *
 * Given sizes for the graph's inputs, nodes are walked in topological order; each op has a handler that derives
 * dtype, shape and (for small values) contents of its outputs. What depends on data is null, an op without a handler
 * gives outputs of unknown rank: nothing throws. Facts that contradict each other are collected.
 */

import type { Graph, Node, Value } from '../../ir/graph.js';
import { Evaluator } from './evaluator.js';
import { inLane } from './lanes.js';
import { Memo } from './memo.js';
import type { Dims, Fact, ShapeBindings, ShapeConflict, ShapeFacts } from './types.js';

export { Memo } from './memo.js';
export type { Dims, Fact, InputBinding, ShapeBindings, ShapeConflict, ShapeFacts } from './types.js';

/**
 * Evaluates `graph` at the sizes (and contents) of `bindings`.
 *
 * Subgraphs: the branch an If takes is evaluated with the values it captures; when the condition is not known both
 * are, and what they agree on holds. Bodies of Loop and Scan are not entered; their outputs have unknown rank.
 */
export function evaluateShapes(graph: Graph, bindings: ShapeBindings): ShapeFacts {
  return evaluateLanes(graph, [bindings])[0] as ShapeFacts;
}

/**
 * Evaluates `graph` at each of `bindings`, as `evaluateShapes` does, in one walk where their limits are the same.
 *
 * @param memo what evaluations at the same limits have worked out, and where this one adds to it
 */
export function evaluateLanes(graph: Graph, bindings: readonly ShapeBindings[], memo = new Memo()): ShapeFacts[] {
  const [first] = bindings;
  if (first === undefined) return [];
  if (bindings.every((b) => b.dataLimit === first.dataLimit && b.floatLimit === first.floatLimit)) {
    const evaluator = new Evaluator(graph, bindings, memo);
    evaluator.enter(graph, true);
    evaluator.walk(graph);
    evaluator.done();
    if (bindings.length === 1 || !evaluator.exhausted) return bindings.map((_, lane) => new Lane(evaluator, lane));
  }
  // Together they may hold as much as one alone: where that is not enough, each goes by itself.
  return bindings.map((b) => evaluateShapes(graph, b));
}

/** What one evaluation has found. */
class Lane implements ShapeFacts {
  readonly unknownOps: ReadonlyMap<string, number>;
  readonly conflicts: readonly ShapeConflict[];
  readonly takenBranches: ReadonlyMap<Node, Graph>;
  readonly exhausted: boolean;

  constructor(
    private readonly evaluator: Evaluator,
    private readonly lane: number,
  ) {
    this.unknownOps = evaluator.unknownOps[lane] as Map<string, number>;
    this.conflicts = evaluator.conflicts[lane] as ShapeConflict[];
    this.takenBranches = evaluator.takenBranches[lane] as Map<Node, Graph>;
    this.exhausted = evaluator.exhausted;
  }

  get(value: Value): Fact | undefined {
    return inLane(this.evaluator.known(value), this.lane);
  }

  shape(value: Value): Dims | null {
    return this.get(value)?.shape ?? null;
  }

  scalar(value: Value): number | undefined {
    const data = this.get(value)?.data;
    return data?.length === 1 ? data[0] : undefined;
  }

  ints(value: Value): readonly number[] | undefined {
    return this.get(value)?.data;
  }
}
