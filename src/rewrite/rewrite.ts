/** Runs the passes over an analysed graph, and checks it between them when asked to. */
import { InternalError } from '../diagnostics.js';
import { type Graph, isRead, type Node, type Value } from '../ir/graph.js';
import { verifyGraph } from '../ir/verify.js';
import type { DecoderFacts } from '../analyse/facts.js';
import type { Plan } from '../plan/plan.js';
import { rankNeeds } from '../plan/ranks.js';
import { Builder } from './builder.js';
import { GraphEditor } from './editor.js';
import { Frames } from './frames.js';
import type { Pass, PassContext, PassOutcome } from './pass.js';
import { positionValues } from './positions.js';
import { assignStages, type Stages } from './stages.js';
import { now } from '../clock.js';

export interface PassRun extends PassOutcome {
  readonly name: string;
  readonly milliseconds: number;
  readonly nodesBefore: number;
  readonly nodesAfter: number;
  readonly changed: boolean;
}

export interface RewriteResult {
  readonly runs: readonly PassRun[];
  readonly stages: Stages;
  /** Nodes of the rank subgraphs that are in the result. */
  readonly rankNodes: ReadonlySet<Node>;
  readonly addedNodes: number;
  readonly addedInputs: readonly string[];
}

export interface RewriteOptions {
  /** Verify the graph after every pass. */
  readonly verify?: boolean | undefined;
  readonly stopAfter?: string | undefined;
  readonly skip?: readonly string[] | undefined;
  /** Called after every pass (dumps for debugging). */
  readonly observe?: ((run: PassRun, graph: Graph) => void) | undefined;
}

/** onnxruntime 1.30 dies while it fuses quantized ops of a graph that has some of them inside a branch (test/rewrite/quantized.test.ts). */
const quantizesActivations = ({ graph }: DecoderFacts): boolean => graph.nodes.some((n) => n.is('QuantizeLinear'));

/** Initializers without a reader, no-ops that were looked through included. */
function idleInitializers({ graph, noOps }: DecoderFacts): Set<Value> {
  const idle = new Set(graph.initializers.filter((v) => !isRead(v)));
  for (const n of noOps.detached) for (const v of n.reads) if (v) idle.delete(v);
  return idle;
}

/** Rewrites `facts.graph` in place. */
export function rewrite(facts: DecoderFacts, plan: Plan, passes: readonly Pass[], options: RewriteOptions = {}): RewriteResult {
  const { graph, model } = facts;
  const stages = assignStages(facts, plan.layers, rankNeeds(plan.rank, 'keys') && plan.imageMask.kind !== 'none');
  const builder = new Builder(model);
  const kept = plan.positions === 'keep' ? positionValues(facts) : new Set<never>();
  const form = plan.imageMask.kind === 'none' ? 'whole' : plan.controlFlow === false || plan.runtime === 'genai' || plan.fix || plan.training || quantizesActivations(facts) ? 'flat' : 'branches';
  const frames = new Frames(facts, stages, builder, { positions: plan.positions, positionValues: kept, form });
  const editor = new GraphEditor(graph, builder);
  const context: PassContext = { facts, plan, stages, builder, frames, idle: idleInitializers(facts), results: { kept: [], inputs: [], rankNodes: new Set(), putBack: new Set(), pinned: new Map() } };
  const runs: PassRun[] = [];
  const before = new Set([...graph.nodes, ...facts.noOps.detached]);
  for (const pass of passes) {
    if (options.skip?.includes(pass.name)) continue;
    const started = now();
    const nodesBefore = graph.nodes.length;
    const editsBefore = editor.edits;
    const outcome = pass.run(editor, context);
    const pending = builder.created.length;
    const run: PassRun = {
      ...outcome,
      name: pass.name,
      milliseconds: now() - started,
      nodesBefore,
      nodesAfter: graph.nodes.length + pending,
      changed: pending > 0 || editor.edits !== editsBefore,
    };
    runs.push(run);
    if (options.verify) {
      // A copy with what is pending, so that checking between passes does not disturb them.
      const problems = verifyGraph(graph, { extra: builder.created, order: pending === 0 });
      if (problems[0]) throw new InternalError(`after pass ${pass.name}: ${problems[0].reason}`, problems[0].culprit);
    }
    options.observe?.(run, graph);
    if (options.stopAfter === pass.name) break;
  }
  if (builder.created.length > 0) editor.sort();
  for (const [domain, version] of [['com.microsoft', 1]] as const) {
    if (!model.opsets.has(domain) && graph.nodes.some((n) => n.domain === domain)) model.opsets.set(domain, version);
  }
  const inGraph = new Set(graph.nodes);
  return {
    runs,
    stages,
    rankNodes: new Set([...context.results.rankNodes].filter((n) => inGraph.has(n))),
    addedNodes: graph.nodes.filter((n) => !before.has(n)).length,
    addedInputs: context.results.inputs.map((v) => v.name),
  };
}
