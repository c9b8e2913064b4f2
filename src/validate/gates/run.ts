/** Runs the gates in the order in which they tell causes apart. */
import type { Plan } from '../../plan/plan.js';
import { argmax, type Decoder, type StepResult } from '../models/decoder.js';
import { SampleFault } from '../running/faults.js';
import type { ImageSource } from '../feeding/prompt.js';
import type { Sample } from '../feeding/sample.js';
import { release } from '../running/session.js';
import type { HostTensor } from '../running/tensor.js';
import { compareOutputs, compareTensors, type Difference, NO_DIFFERENCE, worse } from './compare.js';
import type { Bound } from './bound.js';
import { countsGate, type KeptEvidence, keptGates } from './kept.js';
import type { GateName, GateResult } from './types.js';
import { textOnly } from './variants.js';

export interface GateSetup {
  readonly plan: Plan;
  readonly source: ImageSource;
  readonly samples: readonly Sample[];
  /** Decode steps compared after each prompt; 0 where the graph takes none. */
  readonly steps: number;
  readonly bound: Bound;
  readonly original: Decoder;
  readonly rewritten: Decoder;
  /** Opens the original compiled with nothing to drop. */
  readonly openIdentity: () => Promise<Decoder>;
  /** Opens a fresh compile of the original with the same plan and probes. */
  readonly openFresh: () => Promise<Decoder>;
  readonly tick?: (gate: GateName) => void;
}

export async function runGates(setup: GateSetup): Promise<GateResult[]> {
  const results: GateResult[] = [];
  setup.tick?.('identity');
  results.push(await withDecoder('identity', setup.openIdentity, async (identity) => equalRuns('identity', setup, { reference: setup.original, other: identity, samples: setup.samples, what: 'λ = 1' })));
  setup.tick?.('text-only');
  results.push(setup.plan.fix ? { gate: 'text-only', status: 'skipped', detail: 'a graph of fixed shapes drops as many tokens of every prompt' } : await textOnlyGate(setup));
  setup.tick?.('choice');
  const rest = await withFresh(setup);
  results.push(...rest);
  return results;
}

async function withDecoder(gate: GateName, open: () => Promise<Decoder>, work: (d: Decoder) => Promise<GateResult>): Promise<GateResult> {
  let decoder: Decoder | undefined;
  try {
    decoder = await open();
    return await work(decoder);
  } catch (error) {
    if (error instanceof SampleFault) throw error;
    return { gate, status: 'failed', detail: `the original cannot be compiled or run for this gate: ${(error as Error).message}` };
  } finally {
    await decoder?.close();
  }
}

function outputNames(a: Decoder, b: Decoder): string[] {
  const own = new Set(b.session.outputs.map((o) => o.name));
  return a.session.outputs.map((o) => o.name).filter((n) => own.has(n) && !a.io.probes.includes(n));
}

function verdict(gate: GateName, d: Difference, bound: Bound, what: string): GateResult {
  if (d.shapes) return { gate, status: 'failed', detail: `${what}: ${d.shapes}`, culprit: d.tensor };
  const ok = d.relative <= bound.value;
  const how = d.bitEqual ? 'bit for bit' : `within ${d.relative.toExponential(1)} (bound ${bound.value.toExponential(1)}: ${bound.from})`;
  return {
    gate,
    status: ok ? 'passed' : 'failed',
    detail: ok ? `${what}: equal ${how}` : `${what}: "${d.tensor}" differs by ${d.relative.toExponential(2)}, the bound is ${bound.value.toExponential(1)} (${bound.from})`,
    difference: d.relative,
    bound: bound.value,
    ...(ok ? {} : { culprit: d.tensor }),
  };
}

/** Two models that must say the same of some samples. */
interface Runs {
  readonly reference: Decoder;
  readonly other: Decoder;
  readonly samples: readonly Sample[];
  readonly what: string;
}

/** How a run of `other` is compared with one of `reference`: where only the last token has logits (`--runtime genai`), by those. */
function differenceOf(reference: Decoder, other: Decoder): (b: StepResult, a: StepResult) => Difference {
  const names = outputNames(reference, other);
  const { name, dims } = other.io.logits;
  if (dims[1] !== 1 || reference.io.logits.dims[1] === 1) return (b, a) => compareOutputs(b.outputs, a.outputs, names);
  const others = names.filter((n) => n !== name);
  const row = (data: Float32Array): HostTensor => ({ dtype: 'float32', dims: [data.length], data });
  return (b, a) => b.logits.reduce((worst, logits, r) => worse(worst, compareTensors(row(logits), row(a.logits[r] as Float32Array), name)), compareOutputs(b.outputs, a.outputs, others));
}

/** Prompt and decode steps of both models, each through its own caches, with the reference's greedy tokens. */
async function equalRuns(gate: GateName, setup: GateSetup, { reference, other, samples, what }: Runs): Promise<GateResult> {
  const difference = differenceOf(reference, other);
  let worst = NO_DIFFERENCE;
  let at = '';
  const note = (d: Difference, where: string): void => {
    if (d.relative > worst.relative) at = where;
    worst = worse(worst, d);
  };
  for (const sample of samples) {
    let a = await reference.prefill(sample);
    let b = await other.prefill(sample);
    note(difference(b, a), `${sample.id}, prompt`);
    for (let s = 0; s < setup.steps && worst.shapes === undefined; s++) {
      const tokens = a.logits.map(argmax);
      const [pa, pb] = [a, b];
      a = await reference.step(a.state, tokens);
      b = await other.step(b.state, tokens);
      release(pa.outputs.values());
      release(pb.outputs.values());
      note(difference(b, a), `${sample.id}, decode step ${s + 1}`);
    }
  }
  const n = samples.length;
  return verdict(gate, worst, setup.bound, `${what}, ${n} sample${n === 1 ? '' : 's'}, prompt${setup.steps > 0 ? ` and ${setup.steps} decode steps` : ''}${worst.relative > setup.bound.value ? ` (first at ${at})` : ''}`);
}

async function textOnlyGate(setup: GateSetup): Promise<GateResult> {
  const gate = 'text-only';
  const samples: Sample[] = [];
  let reason = '';
  for (const sample of setup.samples) {
    const made = textOnly(sample, setup.rewritten.io, setup.rewritten.layout(sample), setup.source);
    if (typeof made === 'string') reason = made;
    else samples.push(made);
  }
  if (samples.length === 0) return { gate, status: 'skipped', detail: reason };
  return equalRuns(gate, setup, { reference: setup.original, other: setup.rewritten, samples, what: 'prompts without image tokens' });
}

async function withFresh(setup: GateSetup): Promise<GateResult[]> {
  let fresh: Decoder;
  try {
    fresh = await setup.openFresh();
  } catch (error) {
    const detail = `the original cannot be compiled again with the plan the model carries: ${(error as Error).message}`;
    return [{ gate: 'reproduction', status: 'failed', detail }];
  }
  try {
    const gates = new Map<GateName, GateResult>();
    // The first failure of a gate is what is reported; a pass only when no sample failed it.
    const add = (r: GateResult): void => {
      const had = gates.get(r.gate);
      if (!had || (had.status !== 'failed' && (r.status === 'failed' || had.status === 'skipped'))) gates.set(r.gate, r);
    };
    const names = outputNames(setup.rewritten, fresh);
    let decode = NO_DIFFERENCE;
    let prompts = NO_DIFFERENCE;
    for (const sample of setup.samples) {
      const layout = setup.rewritten.layout(sample);
      const o = await setup.original.prefill(sample);
      const r = await setup.rewritten.prefill(sample);
      const f = await fresh.prefill(sample);
      const evidence: KeptEvidence = {
        sample,
        layout,
        plan: setup.plan,
        original: { decoder: setup.original, run: o },
        rewritten: { decoder: setup.rewritten, run: r },
        fresh: { decoder: fresh, run: f },
        tolerance: Math.max(1e-3, 4 * setup.bound.value),
      };
      add(countsGate(evidence));
      for (const g of keptGates(evidence)) add(g);
      prompts = worse(prompts, compareOutputs(r.outputs, f.outputs, names));
      if (setup.steps > 0) decode = worse(decode, await decodeDifference(setup, fresh, r, names));
    }
    if (setup.steps === 0) add({ gate: 'decode', status: 'skipped', detail: 'a graph of fixed shapes takes no decode step' });
    else add(verdict('decode', decode, setup.bound, `${setup.steps} decode steps from the rewritten model's own caches, against a fresh compile`));
    add(verdict('reproduction', prompts, setup.bound, 'all outputs on the prompts, against a fresh compile'));
    return (['counts', 'order', 'text-kept', 'choice', 'decode', 'reproduction'] as const).flatMap((g) => gates.get(g) ?? []);
  } finally {
    await fresh.close();
  }
}

/** Both models step from the *rewritten* model's state, so that only decoding itself is compared. */
async function decodeDifference(setup: GateSetup, fresh: Decoder, prompt: StepResult, names: readonly string[]): Promise<Difference> {
  let worst = NO_DIFFERENCE;
  let at = prompt;
  for (let s = 0; s < setup.steps; s++) {
    const tokens = at.logits.map(argmax);
    const r = await setup.rewritten.step(at.state, tokens);
    const f = await fresh.step(at.state, tokens);
    worst = worse(worst, compareOutputs(r.outputs, f.outputs, names));
    at = r;
  }
  return worst;
}
