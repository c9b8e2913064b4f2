/** Gates on which tokens stay: counts, order, text, choice. They read the rewritten model's caches, not its claims. */
import type { Plan } from '../../plan/plan.js';
import type { Decoder, StepResult } from '../models/decoder.js';
import type { CacheSlot } from '../running/io.js';
import { scheduleFor, stageOfLayer } from '../models/plan.js';
import type { Layout } from '../feeding/prompt.js';
import type { Sample } from '../feeding/sample.js';
import { at, type HostTensor } from '../running/tensor.js';
import { judgeKept, matchRows, type TokenRows, tokenRows } from './rows.js';
import type { GateName, GateResult } from './types.js';

export interface KeptEvidence {
  readonly sample: Sample;
  readonly layout: Layout;
  readonly plan: Plan;
  readonly original: { readonly decoder: Decoder; readonly run: StepResult };
  readonly rewritten: { readonly decoder: Decoder; readonly run: StepResult };
  /** A fresh compile with probes. */
  readonly fresh: { readonly decoder: Decoder; readonly run: StepResult };
  /** Rows count as equal up to this share of their norm. */
  readonly tolerance: number;
}

/** [boundary][row][kept]: indices into the chunk, from the probe outputs. */
export function probeIndices(decoder: Decoder, outputs: ReadonlyMap<string, HostTensor>): number[][][] {
  return decoder.io.probes.map((name) => {
    const t = outputs.get(name);
    const [rows = 0, kept = 0] = t?.dims ?? [];
    return Array.from({ length: rows }, (_, r) => Array.from({ length: kept }, (_, i) => (t ? at(t, r * kept + i) : 0)));
  });
}

const passed = (gate: GateName, detail: string): GateResult => ({ gate, status: 'passed', detail });
const failed = (gate: GateName, detail: string, culprit: string): GateResult => ({ gate, status: 'failed', detail, culprit });

/** Lengths against the schedule, in plain integers. */
export function countsGate(e: KeptEvidence): GateResult {
  const schedule = scheduleFor(e.plan, e.layout);
  const { length, past } = e.layout;
  for (const slot of e.rewritten.decoder.io.caches) {
    if (slot.tokenAxis < 0) continue;
    const full = e.original.run.outputs.get(slot.present)?.dims[slot.tokenAxis];
    // Caches the exporter crops or keeps at one size say nothing about the schedule.
    if (full !== past + length) continue;
    const stage = stageOfLayer(e.plan, slot.layer);
    const want = past + (schedule.stageTokens[stage] ?? length);
    const got = e.rewritten.run.outputs.get(slot.present)?.dims[slot.tokenAxis];
    if (got !== want) return failed('counts', `sample ${e.sample.id}: layer ${slot.layer} (stage ${stage}) stores ${got} tokens where the schedule says ${want}`, slot.present);
  }
  const name = e.rewritten.decoder.io.logits.name;
  const full = e.original.run.outputs.get(name)?.dims[1];
  const want = e.plan.runtime === 'genai' ? 1 : full === length ? schedule.stageTokens.at(-1) : full;
  const got = e.rewritten.run.outputs.get(name)?.dims[1];
  if (got !== want) return failed('counts', `sample ${e.sample.id}: logits for ${got} tokens where the schedule says ${want}`, name);
  return passed('counts', `tokens a stage: ${schedule.stageTokens.join(', ')}`);
}

interface Source {
  readonly label: string;
  readonly rows: (run: StepResult, batchRow: number) => TokenRows | undefined;
}

/** What shows the tokens of stage `i`: the values of its first cached layer, or the logits where nothing is cached. */
function sourceOf(e: KeptEvidence, stage: number, stages: number): Source | undefined {
  const slot = e.rewritten.decoder.io.caches.find((c: CacheSlot) => c.kind === 'value' && c.tokenAxis > 0 && stageOfLayer(e.plan, c.layer) === stage && c.layer === e.plan.layers[stage - 1]);
  if (slot) {
    return {
      label: slot.present,
      rows: (run, r) => {
        const t = run.outputs.get(slot.present);
        if (!t) return undefined;
        const all = tokenRows(t, r, slot.tokenAxis);
        const past = e.layout.past;
        return past === 0 ? all : undefined;
      },
    };
  }
  const name = e.rewritten.decoder.io.logits.name;
  if (stage !== stages - 1) return undefined;
  return {
    label: name,
    rows: (run, r) => {
      const t = run.outputs.get(name);
      return t && t.dims.length === 3 && (t.dims[1] ?? 0) > 1 ? tokenRows(t, r, 1) : undefined;
    },
  };
}

/** Order, text and choice, boundary by boundary, until one is wrong: later stages build on earlier ones. */
export function keptGates(e: KeptEvidence): GateResult[] {
  const kept = probeIndices(e.fresh.decoder, e.fresh.run.outputs);
  const own = probesAreSound(kept, e);
  if (own) return [own];
  const stages = kept.length + 1;
  const seen: string[] = [];
  for (let b = 0; b < kept.length; b++) {
    const source = sourceOf(e, b + 1, stages);
    if (!source) continue;
    for (let r = 0; r < e.layout.rows; r++) {
      const expected = kept[b]?.[r] ?? [];
      const found = source.rows(e.rewritten.run, r);
      if (!found) continue;
      const isImage = (t: number): boolean => e.layout.image[r * e.layout.length + t] === 1;
      // At the first boundary the original itself shows every token, kept or not.
      const whole = b === 0 && source.label !== e.rewritten.decoder.io.logits.name ? source.rows(e.original.run, r) : undefined;
      const reference = whole ?? source.rows(e.fresh.run, r);
      if (!reference) continue;
      const recovered = whole
        ? matchRows(found, whole, expected, e.tolerance)
        : matchRows(found, reference, expected.map((_, i) => i), e.tolerance).map((i) => (i < 0 ? -1 : (expected[i] ?? -1)));
      const verdict = judgeKept(recovered, expected, (t) => !isImage(t));
      const where = `sample ${e.sample.id}, boundary ${b + 1} (layer ${e.plan.layers[b]}), row ${r}`;
      const results: GateResult[] = [];
      if (verdict.lost.length > 0) results.push(failed('text-kept', `${where}: ${verdict.lost.length} token${verdict.lost.length > 1 ? 's' : ''} that must stay ${verdict.lost.length > 1 ? 'are' : 'is'} gone: position ${verdict.lost.slice(0, 5).join(', ')}`, source.label));
      const [first] = verdict.disorder;
      if (first) results.push(failed('order', `${where}: token ${first[0]} stands before token ${first[1]}; kept tokens must keep their order`, source.label));
      if (verdict.otherChoice.length > 0) results.push(failed('choice', `${where}: ${verdict.otherChoice.length} of the kept image tokens are others than a fresh compile keeps (position ${verdict.otherChoice.slice(0, 5).join(', ')} should be there)`, source.label));
      else if (verdict.unknown > 0 && results.length === 0) results.push(failed('choice', `${where}: ${verdict.unknown} cached tokens equal none that a fresh compile keeps`, source.label));
      if (results.length > 0) return fill(results, `not reached: boundary ${b + 1} is wrong already`);
    }
    seen.push(source.label);
  }
  if (seen.length === 0) return (['order', 'text-kept', 'choice'] as const).map((gate) => ({ gate, status: 'skipped', detail: 'the graph shows no token rows: no value caches, and logits for one token' }));
  const detail = `read off ${seen.join(', ')}`;
  return [passed('order', detail), passed('text-kept', detail), passed('choice', detail)];
}

function fill(results: GateResult[], reason: string): GateResult[] {
  for (const gate of ['order', 'text-kept', 'choice'] as const) {
    if (!results.some((r) => r.gate === gate)) results.push({ gate, status: 'skipped', detail: reason });
  }
  return results;
}

/** The fresh compile's own probes must obey semantics.md, or comparing with it proves nothing. */
function probesAreSound(kept: readonly (readonly (readonly number[])[])[], e: KeptEvidence): GateResult | undefined {
  const { length, image, rows } = e.layout;
  for (const [b, perRow] of kept.entries()) {
    for (let r = 0; r < rows; r++) {
      const tokens = perRow[r] ?? [];
      const set = new Set(tokens);
      const before = b === 0 ? undefined : new Set(kept[b - 1]?.[r]);
      const fault = tokens.some((t, i) => i > 0 && t <= (tokens[i - 1] ?? -1)) ? 'are not ascending'
        : Array.from({ length }, (_, t) => t).some((t) => image[r * length + t] !== 1 && !set.has(t)) ? 'miss a text token'
          : before && tokens.some((t) => !before.has(t)) ? 'hold a token dropped earlier'
            : undefined;
      if (fault) return failed(fault.includes('text') ? 'text-kept' : 'order', `sample ${e.sample.id}: the kept indices of a fresh compile ${fault} at boundary ${b + 1}: this is a bug of pdrop-compile`, e.fresh.decoder.io.probes[b] ?? '');
    }
  }
  return undefined;
}
