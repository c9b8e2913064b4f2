/**
 * Declares honest shapes: lengths that now differ by stage get a symbol of their own, what stopped being
 * true of a declaration is taken out of it (ONNX Runtime plans memory by them). The first stage, the batch and all fixed sizes stay as they were.
 *
 *   in:   present.9.key [batch, 2, past+sequence, 16]
 *   out:  present.9.key [batch, 2, total_length_stage1, 16]
 */
import type { DecoderFacts } from '../src/analyse/facts.js';
import { UNKNOWN_HEAD_DIM } from '../src/analyse/input-sizes.js';
import type { Axis } from '../src/analyse/probes.js';
import { type Dim, extentOf, type Value } from '../src/ir/graph.js';
import { lastLogits } from '../src/rewrite/carried.js';
import { nameOutput } from '../src/rewrite/outputs.js';
import type { Pass, PassContext } from '../src/rewrite/pass.js';
import { DataType } from '../src/ir/graph.js';
import { at, settle } from '../src/ir/settle.js';

export const declare: Pass = {
  name: 'declare',
  summary: 'declare the lengths of each stage',
  run(graph, context) {
    const { facts, stages, plan, results } = context;
    const { probes } = facts;
    let changed = 0;
    let dropped = 0;
    const redeclare = (value: Value | undefined, axis: number, symbol: string): void => {
      const dims = value?.type?.dims;
      if (!value?.type || !dims || axis < 0 || axis >= dims.length || typeof dims[axis] === 'number') return;
      value.type = { elemType: value.type.elemType, dims: dims.map((d, i): Dim => (i === axis ? symbol : d)) };
      value.typeState = 'changed';
      changed++;
    };
    changed += declareSizes(facts);
    const presents = new Set<Value>();
    // Caches of one buffer each, all of one length, stay declared as they were.
    for (const layer of plan.runtime === 'genai' ? [] : facts.attention) {
      const stage = stages.stageOfLayer(layer.index);
      const { past, present } = layer.core;
      const axis = past?.key.tokenAxis ?? 2;
      for (const v of [present?.key, present?.value]) {
        if (!v) continue;
        presents.add(v);
        if (stage > 0) redeclare(v, axis, layer.core.croppedCache ? `window_length_stage${stage}` : `total_length_stage${stage}`);
      }
      for (const v of [past?.key.value, past?.value?.value]) {
        if (v && stage > 0) redeclare(v, axis, layer.core.croppedCache ? `past_window_stage${stage}` : `past_length_stage${stage}`);
      }
    }
    if (plan.runtime === 'genai') {
      lastLogits(graph, context);
      for (const { core } of facts.attention) for (const v of [core.present?.key, core.present?.value]) if (v) presents.add(v);
      presents.add(facts.logits);
    }
    for (const output of graph.graph.outputs) {
      if (presents.has(output) || !facts.content.has(output)) continue;
      const stage = stages.homeOf(output);
      const axes = probes.axes(output);
      if (stage > 0 && axes) axes.forEach((a, i) => (a === 'S' || a === 'T') && redeclare(output, i, `${a === 'S' ? 'sequence' : 'total'}_length_stage${stage}`));
    }
    const stageOf = stagesWithNoOps(context);
    const names: Names = { S: facts.roles.source.type?.dims?.[1] ?? null, T: facts.roles.attentionMask?.type?.dims?.[1] ?? null };
    for (const v of graph.graph.values.values()) {
      if (v.isInput || v.isOutput || v.tensor || !v.type || v.typeState !== 'read') continue;
      // What is made of a later stage's shapes is as long as that stage, content or not.
      const stage = stageOf(v);
      const axes = probes.axes(v);
      // Builders declare a norm's mean as wide as what it is the mean of. A false declaration of the original goes.
      if (axes?.some((a, i) => typeof a === 'number' && typeof v.type?.dims?.[i] === 'number' && v.type.dims[i] !== a)) {
        v.typeState = 'dropped';
        dropped++;
        continue;
      }
      if (stage === 0 || axes?.every((a) => typeof a === 'number' || a === 'B') === true) continue;
      // Rank and fixed extents stay declared: runtimes that infer shapes lean on them where they cannot follow an op.
      if (v.type.dims && (axes ? v.type.dims.length === axes.length : v.producer && results.putBack.has(v.producer))) {
        v.type = { elemType: v.type.elemType, dims: v.type.dims.map((d, i) => (axes ? extent(axes[i], d, names, stage) : typeof d === 'number' ? d : null)) };
        v.typeState = 'changed';
        changed++;
      } else {
        v.typeState = 'dropped';
        dropped++;
      }
    }
    if (changed + dropped > 0) graph.edits++;
    if (plan.probe) {
      results.kept.forEach((v, i) => {
        graph.builder.scope('probe', i + 1);
        const batch = facts.roles.source.type?.dims?.[0] ?? null;
        const out = graph.builder.op('Identity', 'kept', [v]);
        nameOutput(graph, out, `pdrop_kept.${i + 1}`, { elemType: DataType.INT64, dims: [batch, `sequence_length_stage${i + 1}`] });
      });
    }
    return { applied: [`${changed} declarations changed, ${dropped} dropped`], declined: [] };
  },
};

/** The stage a value is in; a no-op that was put back is unknown to the analysis, and is where what it hands on is. */
function stagesWithNoOps({ frames, results }: PassContext): (value: Value) => number {
  const known = new Map<Value, number>();
  return (value) =>
    settle(value, known, (v) => {
      const node = v.producer;
      if (!node || !results.putBack.has(node)) return at(() => frames.stageOf(v));
      const needs = node.reads.filter((i) => i !== null);
      return { needs, make: () => needs.map((i) => known.get(i) as number).find((s) => s !== 0) ?? 0 };
    });
}

/**
 * Exporters leave symbolic what is a number: the head size of caches (`kv_cache_dim`), or all sizes, as symbols named after
 * them ("16"). A loop that makes the first, empty caches reads them off the inputs, so they are declared as what they are.
 */
function declareSizes(facts: DecoderFacts): number {
  const { roles, probes, attention, layers } = facts;
  const caches = new Set(roles.pasts.map((p) => p.value));
  // A cache that is cropped to a window is as long as the window at the probe sizes, and shorter at others.
  const presents = new Map(attention.flatMap(({ core: { present, past } }) => [present?.key, present?.value].map((v) => [v, past?.key.tokenAxis ?? 2])));
  const values = [roles.source, ...caches, ...roles.states, ...presents.keys(), ...layers.flatMap((l) => l.mixer?.renewed ?? [])].filter((v): v is Value => !!v && (v.isInput || v.isOutput));
  let changed = 0;
  for (const v of new Set(values)) {
    const axes = probes.axes(v);
    if (!v.type?.dims || axes?.length !== v.type.dims.length) continue;
    const dims = v.type.dims.map((d, i): Dim => {
      const size = axes[i];
      if (i === 0 || i === presents.get(v) || typeof d === 'number' || typeof size !== 'number' || size === UNKNOWN_HEAD_DIM) return d;
      // Of a cache's axes only the head size is told by what reads it; others that are symbols were guessed.
      const known = v.isOutput || (caches.has(v) && i === 3) || extentOf(d) === size;
      return known ? size : d;
    });
    if (dims.every((d, i) => d === v.type?.dims?.[i])) continue;
    v.type = { elemType: v.type.elemType, dims };
    v.typeState = 'changed';
    changed++;
  }
  return changed;
}

/** What a declaration called the lengths, before. */
interface Names {
  readonly S: Dim;
  readonly T: Dim;
}

/**
 * What is declared of an axis of a value of `stage`. A length gets the stage's name where the exporter had named it as
 * the chunk's or the cache's; what it named otherwise may be another length at other sizes.
 */
function extent(axis: Axis | undefined, declared: Dim, names: Names, stage: number): Dim {
  if (typeof axis === 'number' || axis === 'B') return declared;
  if (axis === 'S' && declared === names.S) return `sequence_length_stage${stage}`;
  return axis === 'T' && declared === names.T ? `total_length_stage${stage}` : null;
}
