/**
 * What the shape evaluator is given, and what it finds out about values.
 */

import type { Graph, Node, Value } from '../../ir/graph.js';

/** Sizes of a value's dimensions; null is a size that depends on data (or on an unbound symbol). */
export type Dims = readonly (number | null)[];

/** What is known about one value at the bound sizes. */
export interface Fact {
  /** ONNX `TensorProto.DataType` number, 0 when unknown. */
  readonly dtype: number;
  /** Sizes, or null when not even the rank is known. */
  readonly shape: Dims | null;
  /** All elements, flat and row-major, when every one is known. Booleans are 0 and 1. */
  readonly data?: readonly number[] | undefined;
  /**
   * For integer and boolean values of which only some elements are known: the elements, NaN for the unknown ones.
   * It keeps `Concat(B, S, -1, D)` useful as a Reshape target when S depends on data. Never set beside `data`.
   */
  readonly partial?: readonly number[] | undefined;
}

/** Sizes, and possibly contents, of one graph input. */
export interface InputBinding {
  readonly shape: readonly number[];
  /** Flat, row-major contents, for inputs that steer shapes (masks, ids). Length is the product of `shape`. */
  readonly data?: readonly number[] | undefined;
  /** Type, where the value declares none: a piece of a graph may start anywhere. */
  readonly dtype?: number | undefined;
}

/** What `evaluateShapes` evaluates at. */
export interface ShapeBindings {
  /** Sizes of graph inputs. An input that is missing falls back to its declared type; its symbols are unknown sizes. */
  readonly inputs: ReadonlyMap<Value, InputBinding>;
  /** Contents of integers and booleans are followed for values of up to this many elements. Default 4096. */
  readonly dataLimit?: number | undefined;
  /** The same for floats, of which little more than scalars ever steers a size. Default 256. */
  readonly floatLimit?: number | undefined;
}

/** Two facts about the graph that cannot both be true, such as a MatMul whose inner sizes differ. */
export interface ShapeConflict {
  /** The node that found it; null when a binding contradicts a declared input. */
  readonly node: Node | null;
  readonly reason: string;
}

/** Result of `evaluateShapes`. */
export interface ShapeFacts {
  /** What is known about `value`; undefined for values the evaluator never reached (a branch not taken, a loop body). */
  get(value: Value): Fact | undefined;
  /** Sizes of `value`, or null when the rank is unknown. */
  shape(value: Value): Dims | null;
  /** The only element of a one-element value, when known. */
  scalar(value: Value): number | undefined;
  /** All elements of an integer value, when known. */
  ints(value: Value): readonly number[] | undefined;
  /** Ops without a handler, as `domain.Op` or `Op`, with the number of nodes. */
  readonly unknownOps: ReadonlyMap<string, number>;
  readonly conflicts: readonly ShapeConflict[];
  /** Contents were too many to be followed to the end: sizes that depend on them are not known. */
  readonly exhausted: boolean;
  /** For each If whose condition is known: the branch that runs. */
  readonly takenBranches: ReadonlyMap<Node, Graph>;
}
