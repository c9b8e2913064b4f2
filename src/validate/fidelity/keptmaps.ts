/** Which image tokens stay, sample by sample, from a compile with probes: pictures and the position histogram. */
import type { Decoder } from '../models/decoder.js';
import { probeIndices } from '../gates/kept.js';
import type { KeptReport, KeptSample } from '../result.js';
import type { DataSet } from '../feeding/sample.js';

const BINS = 24;

export interface KeptOptions {
  readonly layers: readonly number[];
  /** Samples in the histogram, and of these as maps. */
  readonly samples: number;
  readonly maps: number;
  readonly wants: (index: number) => boolean;
  readonly skip: ReadonlySet<string>;
  readonly tick?: (done: number) => void;
}

export async function keptReport(data: DataSet, decoder: Decoder, options: KeptOptions): Promise<KeptReport> {
  const kept = options.layers.map(() => new Float64Array(BINS));
  const total = options.layers.map(() => new Float64Array(BINS));
  const samples: KeptSample[] = [];
  let seen = 0;
  for await (const item of data.samples()) {
    if (seen >= options.samples) break;
    if ('fault' in item || !options.wants(item.index) || options.skip.has(item.id)) continue;
    const layout = decoder.layout(item);
    const run = await decoder.prefill(item, undefined, layout, [...decoder.io.probes, decoder.io.logits.name]);
    const indices = probeIndices(decoder, run.outputs);
    const rows = Array.from({ length: layout.rows }, (_, r) => {
      const ordinal = new Map<number, number>();
      for (let t = 0; t < layout.length; t++) if (layout.image[r * layout.length + t] === 1) ordinal.set(t, ordinal.size);
      const perBoundary = indices.map((rowsOf) => (rowsOf[r] ?? []).flatMap((t) => ordinal.get(t) ?? []));
      const n = ordinal.size;
      for (const [b, list] of perBoundary.entries()) {
        const has = new Set(list);
        for (let i = 0; i < n; i++) {
          const bin = Math.min(BINS - 1, Math.floor((i / n) * BINS));
          const [k, t] = [kept[b], total[b]];
          if (t) t[bin] = (t[bin] ?? 0) + 1;
          if (k && has.has(i)) k[bin] = (k[bin] ?? 0) + 1;
        }
      }
      return { imageTokens: n, grids: (item.grids ?? []).filter((g) => g.row === r), kept: perBoundary };
    });
    if (samples.length < options.maps) samples.push({ id: item.id, title: item.title, picture: item.picture?.path, rows });
    options.tick?.(++seen);
  }
  return {
    samples,
    histogram: {
      bins: BINS,
      samples: seen,
      boundaries: options.layers.map((layer, b) => ({ layer, keptShare: Array.from({ length: BINS }, (_, i) => ((total[b]?.[i] ?? 0) === 0 ? 0 : Number(((kept[b]?.[i] ?? 0) / (total[b]?.[i] ?? 1)).toFixed(4)))) })),
    },
  };
}
