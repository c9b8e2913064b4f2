/** A report with everything in it, and with awkward things: two providers, tiles, a batch, fallbacks, faults, hostile names. */
import { fidelityOf, type SampleRecord } from '../../src/validate/fidelity/records.js';
import { type CurvePoint, type KeptSample, type LayerCost, type ProviderReport, REPORT_SCHEMA, type ValidateReport } from '../../src/validate/result.js';
import { spread } from '../../src/validate/fidelity/statistics.js';

/** A small seeded generator (mulberry32), 0 to 1. */
function generator(seed: number): () => number {
  let a = seed;
  return () => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

export const HOSTILE = '</script><img src=x onerror="alert(1)"> & "quotes" \u2028';
/** A red pixel. */
export const PIXEL = 'data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC';

const advantage = (mean: number, standardError: number) => ({ own: 0.05, baseline: 0.05 + mean, mean, standardError, low: mean - 2 * standardError, high: mean + 2 * standardError, samples: 14 });

const LAYERS = 32;
const BOUNDARIES = [8, 16, 24];
const KEEP = ['0.5', '0.25', '0.125'];

function record(index: number): SampleRecord {
  const random = generator(index + 1);
  const candidate = (scale: number): SampleRecord['candidates'][string] => {
    const kl = Array.from({ length: 16 }, () => Number((scale * 10 ** (-3 + 2.5 * random())).toPrecision(7)));
    return {
      rows: 1,
      kl,
      top1: kl.map((v) => (v < 0.05 ? 1 : 0)),
      dp: kl.map(() => Number(((random() - 0.55) * 0.1).toPrecision(7))),
      nll: kl.map(() => [1 + random(), 1.1 + random()] as const),
      generated: [[1, 2, 3]],
      firstDivergent: [index % 3 === 0 ? null : 2],
      divergentShare: [index % 3 === 0 ? 0 : 1 / 3],
    };
  };
  return {
    id: `sample-${index}`,
    index,
    title: index === 0 ? HOSTILE : `What is in picture ${index}?`,
    tokens: { length: 2944, rows: 1, image: [2880] },
    generated: [[1, 2, 4]],
    answers: [[[1, 2]]],
    candidates: { rewritten: candidate(1), uniform: candidate(0.6), 'random:7': candidate(2) },
  };
}

function provider(name: string, seed: number): ProviderReport {
  const random = generator(seed);
  const samples = Array.from({ length: 14 }, (_, i) => record(i + seed));
  const times = (ms: number): ReturnType<typeof spread> => spread(Array.from({ length: 10 }, () => ms * (0.95 + 0.1 * random())));
  const [o, r, od, rd] = [times(237), times(124.9), times(31.2), times(24.8)];
  const gpu = name !== 'cpu';
  const executed = gpu ? { kernels: 1320, launches: 1411, copies: 28, syncs: 3 } : { kernels: 1348, launches: 0, copies: 0, syncs: 0 };
  const placed = { nodes: 1348, executed, nodeShare: gpu ? 0.912 : 1, timeShare: gpu ? 0.9987 : 1, macShare: gpu ? 0.99972 : 1, fellBack: gpu ? [{ op: 'TopK', provider: 'CPUExecutionProvider', nodes: 3, microseconds: 412, floats: true }, { op: 'Gather', provider: 'CPUExecutionProvider', nodes: 96, microseconds: 61, floats: false }] : [] };
  return {
    provider: name,
    gates: [
      { gate: 'identity', status: 'passed', detail: 'λ = 1, 2 samples, prompt and 2 decode steps: equal bit for bit', difference: 0, bound: 1e-5 },
      { gate: 'text-only', status: 'skipped', detail: 'the prompt has no text to put in place of the image' },
      { gate: 'choice', status: 'failed', detail: `token 41 is kept where a fresh compile keeps 40 ${HOSTILE}`, culprit: 'present.8.key' },
      { gate: 'decode', status: 'passed', detail: 'equal within 2.1e-6', difference: 2.1e-6, bound: 1e-5 },
    ],
    control: gpu ? 3.4e-4 : null,
    fidelity: fidelityOf(samples, 'rewritten'),
    baselines: [
      { rank: 'uniform', fidelity: fidelityOf(samples, 'uniform'), klAdvantage: advantage(-0.0132, 0.0021), answerAdvantage: null },
      { rank: 'random:7', fidelity: fidelityOf(samples, 'random:7'), klAdvantage: advantage(0.0337, 0.0058), answerAdvantage: null },
    ],
    placement: { original: { prefill: placed, decode: placed }, rewritten: { prefill: placed, decode: null } },
    latency: {
      prefill: { original: o, rewritten: r, speedup: o.median / r.median, uncertainty: 0.0312 },
      decode: { original: od, rewritten: rd, speedup: od.median / rd.median, uncertainty: 0.02 },
      warmups: 2,
      idealPrefill: 2.02,
      idealDecode: 1.19,
      achievedPrefill: o.median / r.median / 2.02,
      achievedDecode: od.median / rd.median / 1.19,
      breakEven: 87.25,
    },
    memory: { original: { loaded: 13_510_000_000, peak: 15_900_000_000 }, rewritten: null, note: gpu ? 'host memory only; what the device holds is not in it' : null },
    samples,
    faults: gpu ? [] : [{ id: HOSTILE, index: 99, code: 'PD510', message: 'input "inputs_embeds" has shape [1, 7, 64]', culprit: 'inputs_embeds', hint: 'check the sample' }],
    notes: gpu ? ['placement could not be measured on decode'] : [],
  };
}

function layer(index: number): LayerCost {
  const stage = BOUNDARIES.filter((b) => b <= index).length;
  const tokens = 64 + Math.ceil(2880 * [1, 0.5, 0.25, 0.125][stage]!);
  return { layer: index, stage, tokens: { original: 2944, rewritten: tokens }, macs: { original: 650_117_120 * 1000, rewritten: Math.round((650_117_120 * 1000 * tokens) / 2944) }, cacheBytes: { original: 2944 * 16384, rewritten: tokens * 16384 } };
}

/** A thumbnail of 24 × 24 and 2 × 2 tiles of 24 × 24: 2,880 tokens, as LLaVA-NeXT lays a square picture out. */
const GRIDS = [
  { rows: 24, columns: 24, first: 0, row: 0, area: [0, 0, 1, 1] as const },
  ...[0, 1, 2, 3].map((t) => ({ rows: 24, columns: 24, first: 576 * (t + 1), row: 0, area: [(t % 2) / 2, Math.floor(t / 2) / 2, ((t % 2) + 1) / 2, (Math.floor(t / 2) + 1) / 2] as const })),
];

function keptSample(index: number, picture: string | undefined): KeptSample {
  const random = generator(50 + index);
  const row = (imageTokens: number, grids: KeptSample['rows'][number]['grids']): KeptSample['rows'][number] => {
    const order = Array.from({ length: imageTokens }, (_, i) => ({ i, score: random() + 0.4 * Math.sin(i / 90) })).sort((a, b) => b.score - a.score).map((o) => o.i);
    return { imageTokens, grids, kept: KEEP.map((k) => order.slice(0, Math.floor(imageTokens * Number(k))).sort((a, b) => a - b)) };
  };
  if (index === 2) return { id: 'batch', title: 'Two prompts at once, one without a layout', rows: [row(144, [{ rows: 12, columns: 12, first: 0, row: 0, area: [0, 0, 1, 1] }]), row(100, [])] };
  return { id: `sample-${index}`, title: index === 0 ? HOSTILE : 'What does the sign say?', ...(picture === undefined ? {} : { picture }), rows: [index === 0 ? row(2880, GRIDS) : row(576, [GRIDS[0]!])] };
}

function points(all: ProviderReport): CurvePoint[] {
  return [2, 4].flatMap((stages) => ['0.3', '0.5', '0.7', '0.9'].map((lambda, i) => {
    const macsCut = (stages === 4 ? 0.66 : 0.36) * (1 - i * 0.25);
    const f = all.fidelity!;
    const scale = 10 ** (macsCut * 3 - 2);
    return { stages, lambda, positions: 'compact' as const, layers: stages === 4 ? BOUNDARIES : [16], keep: stages === 4 ? KEEP : ['0.5'], macs: Math.round(2.08e13 * (1 - macsCut)), macsCut, cacheCut: macsCut * 0.9, fidelity: { ...f, all: { ...f.all!, sameTop1: 1 - 0.2 * macsCut, kl: { ...f.all!.kl, mean: f.all!.kl.mean * scale } } }, baselines: [{ rank: 'uniform', fidelity: { ...f, all: { ...f.all!, kl: { ...f.all!.kl, mean: f.all!.kl.mean * scale * 1.7 } } }, klAdvantage: null, answerAdvantage: null }] };
  }));
}

/** Everything at once. */
export function fullReport(): ValidateReport {
  const cpu = provider('cpu', 3);
  const count = (graph: number, rank: number, executed: number | null = graph): NonNullable<ValidateReport['cost']>['prefill']['original'] => ({ graph, executed, parts: { decoder: graph * 0.97, lmHead: graph * 0.01, rank, other: graph * 0.02 - rank }, elementOps: graph / 900, uncounted: rank > 0 ? ['com.example.Mystery'] : [] });
  const layers = Array.from({ length: LAYERS }, (_, i) => layer(i));
  return {
    schema: REPORT_SCHEMA,
    tool: { name: 'pdrop-compile', version: '0.0.0-test' },
    machine: { platform: 'linux x64', cpus: 16, cpu: 'Example processor', node: 'v20.0.0', onnxruntime: '1.30.0' },
    original: { file: 'llava-next-7b-decoder-with-a-rather-long-name-merged-q4f16.onnx', bytes: 13_476_000_000, dtype: 'float16', layers: LAYERS, vocab: 32064, hidden: 4096 },
    rewritten: { file: 'llava-next-7b-decoder-with-a-rather-long-name-merged-q4f16.pdrop.onnx', bytes: 13_476_300_000, dtype: 'float16', layers: LAYERS, vocab: 32064, hidden: null, plan: { version: 1, layers: BOUNDARIES, keep: KEEP, imageMask: { kind: 'input-ids', id: 32000 }, positions: 'compact', rank: 'attention', seed: 0, probe: false } },
    data: { kind: 'json', source: HOSTILE, samples: 14, failed: 1, resumed: 3, note: 'no embeddings of generated tokens' },
    shard: { index: 1, of: 4 },
    settings: { positions: 16, generate: 32, embeddings: 'model', gateSamples: 2 },
    providers: [cpu, provider('webgpu', 40)],
    cost: { at: { sample: 'sample-0', rows: 1, tokens: 2944, imageTokens: 2880 }, paper: { original: 2.08e13, rewritten: 9.46e12, cut: 1 - 9.46 / 20.8 }, prefill: { original: count(2.08e13, 0), rewritten: count(1.03e13, 4.1e8), cut: 1 - 1.03 / 2.08, idealSpeedup: 2.08 / 1.03 }, decode: { original: count(7.1e9, 0, null), rewritten: count(6.9e9, 0), cut: 1 - 6.9 / 7.1, idealSpeedup: 7.1 / 6.9 }, rankShare: 4.1e8 / 1.03e13, countsDiffer: 2e-5, cacheBytes: { original: 1.54e9, rewritten: 7.4e8, cut: 1 - 7.4 / 15.4 }, layers },
    kept: { samples: [keptSample(0, 'pixel.png'), keptSample(1, 'pixel.png'), keptSample(2, undefined), keptSample(3, 'missing.png')], histogram: { bins: 24, samples: 14, boundaries: BOUNDARIES.map((b, k) => ({ layer: b, keptShare: Array.from({ length: 24 }, (_, i) => Number((Number(KEEP[k]) * (0.6 + (0.8 * i) / 23)).toFixed(4))) })) } },
    words: { join: 'bytes', pieces: { 1: 'Ġtwo', 2: 'Ġdogs', 3: HOSTILE, 4: 'Ġcats' } },
    curve: { points: points(cpu), chosen: 5 },
    thresholds: [
      { name: 'mean KL divergence', option: '--max-kl', provider: 'cpu', limit: 0.03, actual: cpu.fidelity?.all?.kl.mean ?? null, met: false },
      { name: 'cut in prefill FLOPs', option: '--min-flops-cut', provider: null, limit: 0.4, actual: 1 - 1.03 / 2.08, met: true },
      { name: 'task accuracy', option: '--min-accuracy', provider: 'webgpu', limit: 0.9, actual: null, met: false },
    ],
    findings: ['The ranker LOSES to uniform dropping at equal cost on cpu: mean KL 0.0402 against 0.0270, paired difference -0.0132 ± 0.0021. Ranking buys nothing on this data.', HOSTILE],
    verdict: 'failed',
  };
}

/** As little as a report can hold. */
export function bareReport(): ValidateReport {
  const full = fullReport();
  return { ...full, data: { kind: 'synthetic', source: 'seed 1', samples: 0, failed: 0, resumed: 0, note: 'synthetic feeds: accuracy on random prompts means little' }, shard: null, providers: [{ ...provider('cpu', 1), gates: [], control: null, fidelity: null, baselines: [], placement: null, latency: null, memory: null, samples: [], faults: [], notes: [] }], cost: null, kept: null, words: null, curve: null, thresholds: [], findings: [], verdict: 'passed' };
}
