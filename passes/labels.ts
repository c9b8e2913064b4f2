/**
 * Of a training forward: labels go with the tokens that are kept.
 *
 *   in:   logits [batch, kept, vocab]
 *   out:  and kept_labels [batch, kept], gathered from the input labels [batch, sequence]
 */
import { DataType } from '../src/ir/graph.js';
import { TRAINING } from '../src/analyse/added-names.js';
import { addInput } from '../src/rewrite/inputs.js';
import { nameOutput } from '../src/rewrite/outputs.js';
import type { Pass } from '../src/rewrite/pass.js';

export const labels: Pass = {
  name: 'labels',
  summary: 'in a training forward, give back the labels of the kept tokens',
  run(graph, context) {
    const { facts, plan, frames, builder: b } = context;
    if (!plan.training) return { applied: ['no labels: nothing is trained'], declined: [] };
    const stage = plan.layers.length;
    b.scope('labels', stage);
    const given = addInput(graph, context, TRAINING.labels, DataType.INT64, 2);
    const batch = facts.roles.source.type?.dims?.[0] ?? null;
    nameOutput(graph, b.gatherElements('kept', given, frames.placesIn(stage), 1), TRAINING.kept, { elemType: DataType.INT64, dims: [batch, `sequence_length_stage${stage}`] });
    return { applied: [`${TRAINING.kept}: labels of the tokens after boundary ${stage}`], declined: [] };
  },
};
