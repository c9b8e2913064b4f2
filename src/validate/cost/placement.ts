/** Profiled runs of both models on one prompt: where nodes ran, and the MACs that were executed. */
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { drop, scratchFolder } from '../../disk/temporaries.js';
import type { Graph, Model } from '../../ir/graph.js';
import { argmax, Decoder, type DecoderOptions } from '../models/decoder.js';
import { executedMacs, macsOfEvent } from './executed.js';
import type { ModelFile } from '../models/model.js';
import { placementOf, type Placement, type ProfiledRun, readProfile } from './profile.js';
import type { Provider } from '../running/providers.js';
import type { Sample } from '../feeding/sample.js';
import type { SessionOptions } from '../running/session.js';
import type { Feeds } from '../running/tensor.js';

export interface ProfiledModel {
  readonly prefill: { readonly run: ProfiledRun; readonly feeds: Feeds; readonly placement: Placement; readonly macs: number; readonly uncounted: readonly string[] };
  readonly decode: ProfiledModel['prefill'] | null;
}

/** Runs prompt and one decode step under ORT's profiler, twice each: the second, warm one counts. */
export async function profileModel(file: ModelFile, sample: Sample, options: DecoderOptions & { provider: Provider; optimize?: SessionOptions['optimize'] }): Promise<ProfiledModel> {
  const folder = scratchFolder(tmpdir(), 'profile');
  const decoder = await Decoder.open(file.path, { ...options, caches: file.caches, profilePrefix: join(folder, 'run') });
  try {
    const feeds = decoder.feedsFor(sample);
    const layout = decoder.layout(sample);
    await decoder.prefill(sample, feeds, layout);
    const at = await decoder.prefill(sample, feeds, layout);
    let stepFeeds: Feeds | undefined;
    if (decoder.canGenerate) {
      stepFeeds = await decoder.stepFeeds(at.state, at.logits.map(argmax));
      await decoder.session.run(stepFeeds, { sample: sample.id });
      await decoder.session.run(stepFeeds, { sample: sample.id });
    }
    const runs = readProfile(decoder.session.finishProfile());
    const weights = weightDims(file.model);
    const judge = (run: ProfiledRun | undefined, given: Feeds | undefined): ProfiledModel['prefill'] | null => {
      if (!run || !given) return null;
      const { total, uncounted } = executedMacs(run, weights);
      const macsOf = (e: Parameters<typeof macsOfEvent>[0]): number => {
        const m = macsOfEvent(e, weights);
        return m !== null && m !== 'unknown' ? m.macs : 0;
      };
      return { run, feeds: given, placement: placementOf(run, options.provider, macsOf), macs: total, uncounted };
    };
    const prefill = judge(runs[1] ?? runs[0], feeds);
    if (!prefill) throw new Error('ONNX Runtime profiled no run');
    return { prefill, decode: judge(runs[3], stepFeeds) };
  } finally {
    await decoder.close();
    drop(folder);
  }
}

/** Dims of the weight of a node, for ops whose packed weights the profile leaves out. */
function weightDims(model: Model): (node: string) => readonly number[] | undefined {
  const dims = new Map<string, readonly number[]>();
  const visit = (graph: Graph): void => {
    for (const n of graph.nodes) {
      const w = n.inputs[1]?.tensor;
      if (w && w.dims.length >= 3) dims.set(n.name, w.dims);
      n.subgraphs.forEach(visit);
    }
  };
  visit(model.graph);
  return (node) => dims.get(node);
}
