/**
 * Weights of rank `heads` by ablation: how much worse the answers become when one attention head has no say in a boundary's ranking
 * (HAWK weighs heads by an offline ablation; what is ablated here is the head's vote, not the head).
 */

/** One boundary, ranked with these weights. */
export interface Ablated {
  readonly layer: number;
  readonly keep: string;
  readonly weights: readonly number[];
}

/**
 * @param boundaries where the chosen schedule drops, and what it leaves
 * @param headsOf attention heads of a layer
 * @param damageOf mean KL (nats) of a single boundary under such weights
 * @param timeIsLeft asked before each boundary: those that are not reached weigh all heads alike
 * @returns a weight in [0, 1] for each head, one list a boundary, the largest of each 1
 */
export async function ablateHeads(boundaries: readonly Omit<Ablated, 'weights'>[], headsOf: (layer: number) => number, damageOf: (one: Ablated) => Promise<number>, timeIsLeft: () => boolean): Promise<number[][]> {
  const all: number[][] = [];
  for (const boundary of boundaries) {
    const alike = new Array<number>(headsOf(boundary.layer)).fill(1);
    if (alike.length < 2 || !timeIsLeft()) {
      all.push(alike);
      continue;
    }
    const together = await damageOf({ ...boundary, weights: alike });
    const worse: number[] = [];
    for (let head = 0; head < alike.length; head++) worse.push(Math.max(0, (await damageOf({ ...boundary, weights: alike.with(head, 0) })) - together));
    const most = Math.max(...worse);
    all.push(most > 0 ? worse.map((w) => Number((w / most).toFixed(4))) : alike);
  }
  return all;
}
