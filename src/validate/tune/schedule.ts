/**
 * From single-boundary damages to a schedule: boundaries and cumulative ratios of least summed damage under a cost.
 *
 * The damage of going from ratio r to r' < r before layer l is taken as max(0, s_l(r') − s_l(r)): what the tokens between
 * the two lose by leaving there. Layers that were not measured are interpolated;
 * no boundary stands before the first that was.
 */

export interface Damages {
  readonly layers: number;
  /** Ratios, descending, all below 1. */
  readonly ratios: readonly string[];
  /** By layer, by ratio: mean KL in nats. */
  readonly at: ReadonlyMap<number, ReadonlyMap<string, number>>;
}

export interface Schedule {
  readonly layers: readonly number[];
  readonly keep: readonly string[];
  /** Summed damages: a guess at the joint one, for choosing only. */
  readonly damage: number;
}

/** s_l(r) by linear interpolation between measured layers; behind the last one, its own; undefined before the first one. */
export function damageAt(damages: Damages, layer: number, ratio: string): number | undefined {
  let below: readonly [number, number] | undefined;
  let above: readonly [number, number] | undefined;
  for (const [l, byRatio] of damages.at) {
    const s = byRatio.get(ratio);
    if (s === undefined) continue;
    if (l <= layer && (!below || l > below[0])) below = [l, s];
    if (l >= layer && (!above || l < above[0])) above = [l, s];
  }
  // Early layers cost most: nothing is said of those before the first that was measured.
  if (!below) return undefined;
  if (!above) return below[1];
  if (below[0] === above[0]) return below[1];
  return below[1] + ((above[1] - below[1]) * (layer - below[0])) / (above[0] - below[0]);
}

const BUCKETS = 400;

/**
 * The schedule of least damage whose mean share of tokens over the layers is at most `budget`, by dynamic programming over
 * (layer, ratio, boundaries, cost); undefined when none is that cheap.
 *
 * @param share of the tokens a layer sees when this share of the image tokens is left
 */
export function chooseSchedule(damages: Damages, budget: number, share: (ratio: string) => number, mostBoundaries: number): Schedule | undefined {
  const ratios = ['1', ...damages.ratios];
  const cost = ratios.map((r) => Math.round((share(r) * BUCKETS) / damages.layers));
  const limit = Math.floor(budget * BUCKETS);
  interface Way {
    damage: number;
    layers: readonly number[];
    keep: readonly string[];
  }
  // By ratio and boundaries used, by cost so far.
  let states = new Map<number, Way>();
  const key = (ratio: number, used: number, spent: number): number => (ratio * 64 + used) * 4096 + spent;
  if ((cost[0] as number) <= limit) states.set(key(0, 0, cost[0] as number), { damage: 0, layers: [], keep: [] });
  for (let layer = 1; layer < damages.layers; layer++) {
    const next = new Map<number, Way>();
    const offer = (at: number, damage: number, make: () => Way): void => {
      const had = next.get(at);
      if (!had || damage < had.damage) next.set(at, make());
    };
    for (const [at, way] of states) {
      const spent = at % 4096;
      const used = Math.floor(at / 4096) % 64;
      const from = Math.floor(at / 4096 / 64);
      for (let to = from; to < ratios.length; to++) {
        const total = spent + (cost[to] as number);
        if (total > limit) continue;
        if (to === from) {
          offer(key(to, used, total), way.damage, () => way);
          continue;
        }
        if (used === mostBoundaries) break;
        const after = damageAt(damages, layer, ratios[to] as string);
        const before = from === 0 ? 0 : damageAt(damages, layer, ratios[from] as string);
        if (after === undefined || before === undefined) continue;
        const damage = way.damage + Math.max(0, after - before);
        offer(key(to, used + 1, total), damage, () => ({ damage, layers: [...way.layers, layer], keep: [...way.keep, ratios[to] as string] }));
      }
    }
    states = next;
  }
  let best: Way | undefined;
  for (const way of states.values()) if (way.layers.length > 0 && (!best || way.damage < best.damage)) best = way;
  return best && { layers: best.layers, keep: best.keep, damage: best.damage };
}

/** The first layer from which on dropping all image tokens does no more damage than `least`; undefined when there is none. */
export function horizon(damages: Damages, least: number): number | undefined {
  const measured = [...damages.at].filter(([, byRatio]) => byRatio.has('0')).sort((a, b) => a[0] - b[0]);
  let found: number | undefined;
  for (let i = measured.length - 1; i >= 0; i--) {
    const [layer, byRatio] = measured[i] as (typeof measured)[number];
    if ((byRatio.get('0') as number) > least) break;
    found = layer;
  }
  return found;
}

/** All layers a boundary can stand before, coarse ones first: middle, quarters, eighths, … */
export function coarseFirst(layers: number): number[] {
  const order: number[] = [];
  for (let step = 2; order.length < layers - 1; step *= 2) {
    for (let i = 1; i < step; i += 2) {
      const layer = Math.round((i * layers) / step);
      if (layer >= 1 && layer < layers && !order.includes(layer)) order.push(layer);
    }
    if (step > 4 * layers) for (let l = 1; l < layers; l++) if (!order.includes(l)) order.push(l);
  }
  return order;
}
