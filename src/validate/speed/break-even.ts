/** From which prompt on the rewritten prefill is the faster one, worked out from one prompt's times. */
import type { Latency } from './latency.js';

/**
 * Times grow with the MACs, on top of what a run costs whatever its length (a decode step shows it). What the rewritten
 * prefill took beyond its share of the MACs is the price of dropping; what the MACs save grows with the image tokens.
 * Where both are equal, the rewritten model begins to win.
 *
 * @param imageTokens of the prompt that was timed
 * @param idealSpeedup MACs of the original prefill over those of the rewritten one
 * @returns image tokens; 0: it wins at any length; null: it cannot be told, as where no MACs are saved
 */
export function breakEven(latency: Pick<Latency, 'prefill' | 'decode'>, imageTokens: number, idealSpeedup: number): number | null {
  const [original, rewritten] = [latency.prefill.original.median, latency.prefill.rewritten.median];
  const base = Math.min(latency.decode?.original.median ?? 0, original);
  const ideal = base + (original - base) / idealSpeedup;
  const saved = original - ideal;
  if (!(saved > 0) || !(imageTokens > 0)) return null;
  return Math.max(0, (imageTokens * (rewritten - ideal)) / saved);
}
