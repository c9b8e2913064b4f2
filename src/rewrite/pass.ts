/** The contract of a pass, and what passes share while they run. */
import type { Node, Value } from '../ir/graph.js';
import type { DecoderFacts } from '../analyse/facts.js';
import type { Plan } from '../plan/plan.js';
import type { Builder } from './builder.js';
import type { Frames } from './frames.js';
import type { Stages } from './stages.js';
import type { GraphEditor } from './editor.js';

/** What a pass did, as data. Whether the graph changed is computed by the runner, not claimed here. */
export interface PassOutcome {
  /** One line for each thing done. */
  readonly applied: readonly string[];
  /** Things left undone, with the node and the reason. */
  readonly declined: readonly { readonly node?: Node | undefined; readonly reason: string }[];
}

export interface PassContext {
  readonly facts: DecoderFacts;
  readonly plan: Plan;
  readonly stages: Stages;
  readonly builder: Builder;
  readonly frames: Frames;
  /** Initializers that nothing read in the model as it came: they stay. */
  readonly idle: ReadonlySet<Value>;
  /** Results of earlier passes that later ones need. */
  readonly results: PassResults;
}

export interface PassResults {
  /** Kept indices into the chunk, int64 [batch, S_i], one per boundary; empty unless the plan asks for a probe. */
  kept: Value[];
  /** Graph inputs that were added. */
  inputs: Value[];
  /** Nodes of the rank subgraphs: the share of them in the cost is reported. */
  rankNodes: Set<Node>;
  /** No-ops of the model that stand in the graph again: the analysis, its probes included, has not seen them. */
  putBack: ReadonlySet<Node>;
  /** Nodes of a selection, with its boundary: they run there, also when only later boundaries read them. */
  pinned: Map<Node, number>;
}

export interface Pass {
  /** Stamped, with the boundary, into every node the pass makes. */
  readonly name: string;
  /** One line, shown by --explain. */
  readonly summary: string;
  run(graph: GraphEditor, context: PassContext): PassOutcome;
}
