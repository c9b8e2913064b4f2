/**
 * Runs one model over one sample: logits at the prompt's end and along a given continuation, and greedy generation.
 * While the greedy text equals the continuation both share their runs; where it leaves it, the state branches.
 */
import { argmax, type DecodeState, type Decoder, type StepResult } from '../models/decoder.js';
import type { Sample } from '../feeding/sample.js';
import { type HostTensor, zeros } from '../running/tensor.js';

export interface FollowOptions {
  /** Positions whose logits are wanted: the prompt's last and those after each forced token. At least 1. */
  readonly positions: number;
  /** Greedy tokens to generate. */
  readonly generate: number;
  /** The continuation, [rows][tokens]; undefined: the model's own greedy text is the continuation. */
  readonly forced: readonly (readonly number[])[] | undefined;
  /** Generation of a single row ends here, or at any of several. */
  readonly eos?: number | readonly number[] | undefined;
}

export interface Followed {
  /** [position][row] logits. */
  readonly logits: readonly (readonly Float32Array[])[];
  /** [row][token]. */
  readonly generated: readonly (readonly number[])[];
  /** The greedy tokens of every step made, generated or only followed for the metrics. */
  readonly path: readonly (readonly number[])[];
  readonly prompt: StepResult;
}

export async function follow(decoder: Decoder, sample: Sample, options: FollowOptions): Promise<Followed> {
  const prompt = await decoder.prefill(sample);
  const rows = prompt.state.rows;
  const { forced } = options;
  const ends = options.eos === undefined ? [] : [options.eos].flat();
  const logits: (readonly Float32Array[])[] = [prompt.logits];
  const generated: number[][] = Array.from({ length: rows }, () => []);
  const path: number[][] = Array.from({ length: rows }, () => []);
  const wanted = forced ? Math.min(options.positions, Math.min(...forced.map((f) => f.length)) + 1) : options.positions;
  const positions = decoder.takesSteps ? Math.max(1, wanted) : 1;
  const canStep = decoder.canGenerate;
  let at: { state: DecodeState; logits: readonly Float32Array[] } = prompt;
  let shared = true;
  let branch: DecodeState | undefined;
  const steps = canStep ? Math.max(options.generate, forced ? 0 : positions) : 0;
  for (let i = 0; i < steps; i++) {
    const greedy = at.logits.map(argmax);
    for (const [r, g] of greedy.entries()) {
      path[r]?.push(g);
      if (i < options.generate) generated[r]?.push(g);
    }
    if (shared && forced && logits.length < positions && greedy.some((g, r) => g !== forced[r]?.[i])) {
      shared = false;
      branch = at.state;
    }
    const ended = rows === 1 && ends.includes(greedy[0] as number);
    const more = i + 1 < steps && !ended;
    const forMetrics = shared && logits.length < positions && (forced !== undefined || i + 1 < positions) && !ended;
    if (!more && !forMetrics) break;
    at = await decoder.step(at.state, greedy);
    if (shared && logits.length < positions) logits.push(at.logits);
  }
  let state = branch ?? at.state;
  while (forced && logits.length < positions) {
    const k = logits.length - 1;
    const embeds = sample.labelEmbeds && !canStep ? sliceTokens(sample.labelEmbeds, k) : undefined;
    if (!canStep && !embeds) break;
    const next = await decoder.step(state, forced.map((f) => f[k] ?? 0), embeds);
    logits.push(next.logits);
    state = next.state;
  }
  return { logits, generated, path, prompt };
}

/** Token `k` of [rows, tokens, hidden]; undefined past the end. */
function sliceTokens(t: HostTensor, k: number): HostTensor | undefined {
  const [rows = 0, tokens = 0, hidden = 0] = t.dims;
  if (k >= tokens) return undefined;
  const out = zeros(t.dtype, [rows, 1, hidden]);
  for (let r = 0; r < rows; r++) (out.data as Float32Array).set((t.data as Float32Array).subarray((r * tokens + k) * hidden, (r * tokens + k + 1) * hidden), r * hidden);
  return out;
}
