/** What to try where something fell short, one sentence each: a failed run should not end with a figure alone. */
import type { ValidateReport } from './result.js';

const LESS = 'drop less: a larger --lambda, fewer --stages, or boundaries deeper in the model (--layers)';
const POSITIONS = 'try the other --positions mode and --rank attention+grid:0.25';
const LOSS = ['--max-kl', '--max-kl-p99', '--min-top1', '--max-ppl-ratio', '--max-divergent', '--min-accuracy', '--max-accuracy-drop'];

export function nextSteps(r: ValidateReport): string[] {
  const out: string[] = [];
  const failed = new Set(r.providers.flatMap((p) => p.gates.filter((g) => g.status === 'failed').map((g) => g.gate)));
  const missed = r.thresholds.filter((t) => !t.met);
  const has = (...options: string[]): boolean => missed.some((t) => options.includes(t.option));
  if (failed.has('identity')) out.push('Gate identity failed: the rewriting is wrong for this model, whatever is dropped. Do not ship it; report the graph with what `pdrop-compile inspect --json` prints.');
  else if (failed.size > 0) out.push('Gates failed although identity holds: compile the original again with this version, and validate what it writes; the file at hand is something else.');
  const undecided = missed.filter((t) => t.actual === null);
  if (undecided.length > 0) out.push(`${undecided.map((t) => t.option).join(', ')}: nothing could be compared. ${undecided.some((t) => /accuracy|divergent/.test(t.option)) ? 'Give --generate, and samples with answers.' : undecided.some((t) => t.option === '--max-ppl-ratio') ? 'Give samples with labels.' : 'See the notes on what was not measured.'}`);
  const lost = missed.filter((t) => t.actual !== null && LOSS.includes(t.option));
  if (lost.length > 0) {
    const mode = r.rewritten.plan.positions === 'compact' ? 'compile with --positions keep, which most models bear better' : POSITIONS;
    out.push(`${lost.map((t) => t.option).join(', ')}: too much is lost. First ${mode}; then ${LESS}; \`pdrop-compile sweep\` shows the curve, and \`pdrop-compile tune\` finds a schedule for a target.`);
  }
  if (has('--beat-baselines')) out.push('--beat-baselines: choosing tokens without looking does as well. Try other rankers (`pdrop-compile tune --ranks attention,balanced,diverse`), or compile with --rank uniform, which costs nothing.');
  if (has('--min-flops-cut', '--min-cache-cut')) out.push('--min-flops-cut, --min-cache-cut: drop more or earlier: a smaller --lambda, or boundaries nearer the input (--layers). With few image tokens in a prompt there is little to cut.');
  if (has('--min-speedup')) out.push('--min-speedup: compare with what the MACs allow. Small models and short prompts spend their time on launching nodes; measure on the machine and with prompts of the size in use, and repeat (--repeats 30).');
  if (has('--require-ep')) out.push('--require-ep: nodes fell back to another provider: the placement table names them, and `pdrop-compile doctor` says what the provider needs.');
  for (const f of r.providers.flatMap((p) => p.faults).slice(0, 3)) out.push(`Sample ${f.id}: ${f.hint}.`);
  return out;
}
