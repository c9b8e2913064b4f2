/** The ways to rank, and what each needs of the graph. How each is computed is told by its file in passes/rankers. */

/**
 * What a ranker reads:
 * - `keys`: the keys of the layer behind the boundary, so their projection stays in the finished stage;
 * - `residual`: the hidden states before and after the finished layer;
 * - `constant`: nothing of the model.
 */
export type RankNeed = 'keys' | 'residual' | 'constant';

export const RANKS = {
  attention: { needs: ['keys'] },
  norope: { needs: ['keys'] },
  heads: { needs: ['keys'] },
  change: { needs: ['residual'] },
  transition: { needs: ['keys', 'residual'] },
  diverse: { needs: ['keys'] },
  balanced: { needs: ['keys'] },
  uniform: { needs: ['constant'] },
  random: { needs: ['constant'] },
} as const satisfies Record<string, { readonly needs: readonly RankNeed[] }>;

export type RankMethod = keyof typeof RANKS;

export function rankNeeds(rank: RankMethod, need: RankNeed): boolean {
  return (RANKS[rank].needs as readonly RankNeed[]).includes(need);
}
