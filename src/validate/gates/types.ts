/** What a gate found. A gate tells one kind of fault from the others. */
export type GateName = 'identity' | 'text-only' | 'counts' | 'order' | 'text-kept' | 'choice' | 'decode' | 'reproduction';

export interface GateResult {
  readonly gate: GateName;
  readonly status: 'passed' | 'failed' | 'skipped';
  /** One sentence for people. */
  readonly detail: string;
  /** Largest relative difference seen, where the gate compares numbers. */
  readonly difference?: number | undefined;
  readonly bound?: number | undefined;
  /** The tensor or sample at fault. */
  readonly culprit?: string | undefined;
}

/** What each gate proves, in one line; for reports and documentation. */
export const GATE_MEANING: Readonly<Record<GateName, string>> = {
  identity: 'compiled with nothing to drop (λ = 1), the graph gives what the original gives: the rewriting itself is right for this model',
  'text-only': 'the rewritten model itself, on prompts without image tokens, gives what the original gives',
  counts: 'every layer stores, and the logits have, exactly the tokens the schedule says',
  order: 'kept tokens keep their order',
  'text-kept': 'text, padding and the last token are never dropped',
  choice: 'the image tokens kept are those a fresh compile of the original keeps',
  decode: 'from the same caches, decode steps equal those of a fresh compile: positions, masks and caches',
  reproduction: 'all outputs equal those of a fresh compile of the original with the plan the model carries',
};
