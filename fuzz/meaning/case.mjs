/**
 * One meaning-preserving case: a real export, spelled otherwise by a few mutations, compiled with the same plan.
 *
 * `equal`: it computes what the compiled original computes, the kept indices to the last one. `refused`: with a code.
 * `finding`: it compiles and does not run, or computes something else; or an exception that is no diagnostic.
 * `harness`: the mutant itself does not run or is not the original: the mutation is wrong, and the case proves nothing.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compileModel, writeCompiled } from '../../dist/src/compile.js';
import { PdropError, Refusal, UsageError } from '../../dist/src/diagnostics.js';
import { compile } from '../../dist/src/index.js';
import { MemorySink, MemorySource } from '../../dist/src/onnx/bytes.js';
import { distance, open } from '../fixtures.mjs';
import { encode } from '../proto.mjs';
import { BLOCK, caseSeed, random } from '../random.mjs';
import { writeExternal } from './external.mjs';
import { KINDS } from './kinds/index.mjs';
import { fixtureNames, fixtureOf, subjectOf } from './subject.mjs';

const names = fixtureNames();
/** Exports of thousands of small nodes take several times as long: they get a share of the cases, not their number’s worth. */
const light = names.filter((name) => !/-ts1\d|-mono|tokentypes|mha/.test(name));
/** Outputs of unmutated models, as they are and compiled, by what they depend on. */
const known = new Map();

/** What a case does, as data: it can be printed, replayed and made smaller. */
/** `again` counts drawings: mutations that find no site are drawn anew, later ones on another fixture. */
export async function specOf(seed, number, { fixtures, kinds = KINDS } = {}, again = 0) {
  // What is compared with is made once for a block of cases.
  const r = random(caseSeed(seed, Math.floor(number / BLOCK) + 0x40000000 + (again < ELSEWHERE ? 0 : again * 0x100000)));
  const name = r.pick(fixtures ?? (r.chance(0.7) ? light : names));
  const whole = name.includes('/') || r.chance(0.15) ? name : `${name}/4`;
  const fixture = await fixtureOf(whole);
  const { info } = fixture;
  const scenario = r.pick(info.scenarios.filter((s) => s.plan in info.plans && fixture.runsUncompiled(s)));
  const given = info.plans[scenario.plan];
  const plan = r.chance(0.6) ? given : { ...given, ...schedule(r, info.layers), rank: r.pick(['attention', 'attention', 'attention', 'uniform', 'random:7']) };
  const level = r.chance(0.2) ? 'all' : 'disabled';
  const own = random(caseSeed(seed, number) + again);
  const count = own.chance(0.6) ? 1 : 1 + own.below(own.chance(0.2) ? 12 : 5);
  const steps = Array.from({ length: count }, () => ({ kind: own.pick(kinds).name, seed: own.below(2 ** 31) }));
  return { fixture: whole, scenario: info.scenarios.indexOf(scenario), steps, plan: optionsOf(plan), level };
}

const ELSEWHERE = 10;

function schedule(r, count) {
  const layers = r
    .shuffle(Array.from({ length: count - 1 }, (_, i) => i + 1))
    .slice(0, 1 + r.below(Math.min(3, count - 1)))
    .sort((a, b) => a - b);
  const keep = layers.map(() => r.below(101)).sort((a, b) => b - a).map((k) => String(k / 100));
  return { layers, keep };
}

const optionsOf = ({ layers, keep, positions, imageMask, rank = 'attention' }) => ({ layers: [...layers], keep: [...keep], positions, imageMask, rank, probe: true });

/** Applies the steps; those that find no site are left out. */
async function build(spec) {
  const subject = await subjectOf(spec.fixture);
  const applied = [];
  for (const step of spec.steps) {
    const kind = KINDS.find((k) => k.name === step.kind);
    if (!kind) throw new Error(`no kind "${step.kind}"`);
    subject.r = random(step.seed);
    const site = kind.apply(subject);
    if (site !== undefined) applied.push({ step, kind, site });
  }
  return { subject, applied };
}

async function compileBytes(bytes, options) {
  const compiled = await compileModel(new MemorySource(bytes), options);
  const sink = new MemorySink();
  await writeCompiled(compiled, sink);
  return sink.bytes();
}

async function outputs(model, level, fixture, scenario, renamed) {
  const session = await open(model, level);
  try {
    return await fixture.run(session, scenario, renamed);
  } finally {
    await session.release();
  }
}

async function remembered(key, make) {
  let value = known.get(key);
  if (value === undefined) {
    value = await make();
    // Fixtures and plans repeat, random schedules do not.
    if (known.size > 400) known.delete(known.keys().next().value);
    known.set(key, value);
  }
  return value;
}

const shortened = (error) => String(error?.message ?? error).split('\n')[0].slice(0, 300);

/** Runs a spec. `note(phase)` is told what is being done, so that a crash of the process can be placed. */
export async function runSpec(spec, note = () => {}) {
  note('mutate');
  const { subject, applied } = await build(spec);
  // Its optimizer computes quantized products its own way, in the mutant too: nothing to compare with.
  const level = applied.some((a) => a.kind.plain) ? 'disabled' : spec.level;
  const what = { kinds: applied.map((a) => a.kind.name), sites: applied.map((a) => `${a.kind.name}: ${a.site}`), fixture: spec.fixture };
  if (applied.length === 0) return { verdict: 'no site', ...what };
  const fixture = await fixtureOf(spec.fixture);
  const full = fixture.info.scenarios[spec.scenario];
  const scenario = { ...full, runs: full.runs.slice(0, 2) };
  const folder = subject.external ? mkdtempSync(join(tmpdir(), 'pdrop-fuzz-')) : undefined;
  try {
    const base = subject.base ? encode(subject.base) : undefined;
    const bytes = folder ? undefined : encode(subject.model);
    const path = folder ? writeExternal(subject.model, folder, subject.external) : undefined;
    const exact = applied.every((a) => a.kind.exact);

    note('original');
    const key = base ? undefined : `${spec.fixture} ${spec.scenario} ${level}`;
    const original = () => outputs(base ?? fixture.bytes, level, fixture, scenario);
    const expected = key ? await remembered(key, original) : await original();
    let found;
    try {
      found = await outputs(path ?? bytes, level, fixture, scenario, subject.renamed);
    } catch (error) {
      return { verdict: 'harness', detail: `the mutant does not run: ${shortened(error)}`, ...what };
    }
    const drift = furthest(expected, found, subject.renamed);
    if (!(drift.gap <= (exact && level === 'disabled' && fixture.tolerance < 1e-3 ? 1e-5 : fixture.tolerance))) return { verdict: 'harness', detail: `the mutant computes something else: ${drift.at} by ${drift.gap}`, ...what };

    note('compile original');
    const plain = async () => {
      const made = await compileBytes(base ?? fixture.bytes, spec.plan);
      note('run compiled original');
      return outputs(made, level, fixture, scenario);
    };
    let wanted;
    try {
      wanted = key ? await remembered(`${key} ${JSON.stringify(spec.plan)}`, plain) : await plain();
    } catch (error) {
      // The plan does not fit the fixture (a decode-only graph, a sliding cache): nothing to compare with.
      if (error instanceof Refusal) return { verdict: 'no plan', detail: `${error.code} ${error.message}`, ...what };
      return { verdict: 'finding', detail: `the unmutated fixture: ${shortened(error)}`, ...what };
    }

    note('compile');
    let made;
    try {
      if (folder) {
        made = join(folder, 'compiled.onnx');
        await compile(path, { ...spec.plan, output: made });
      } else made = await compileBytes(bytes, spec.plan);
    } catch (error) {
      // A sound graph that fails the compiler's own check was not understood rightly.
      if (error.code === 'PD330') return { verdict: 'finding', detail: `${error.code} ${error.message}`, ...what };
      if (error instanceof Refusal || error instanceof UsageError) return { verdict: 'refused', code: error.code, detail: `${error.code} ${error.message} (${error.culprit ?? ''})`, ...what };
      if (error instanceof PdropError) return { verdict: 'finding', detail: `${error.code} ${error.message} (${error.culprit ?? ''})`, ...what };
      return { verdict: 'finding', detail: `threw ${shortened(error)}`, stack: error.stack, ...what };
    }
    note('run');
    let got;
    try {
      got = await outputs(made, level, fixture, scenario, subject.renamed);
    } catch (error) {
      return { verdict: 'finding', detail: `it compiles but does not run: ${shortened(error)}`, ...what };
    }
    const kept = furthest(wanted, got, subject.renamed, /^pdrop_kept/);
    if (kept.gap !== 0 && half(fixture) && (await isTie(base ?? fixture.bytes, spec, level, fixture, scenario))) return { verdict: 'unproven', detail: `a tie in half precision: ${kept.at} ${kept.gap}`, ...what };
    if (kept.gap !== 0) return { verdict: 'finding', detail: `other tokens are kept: ${kept.at} ${kept.gap}`, ...what };
    const apart = furthest(wanted, got, subject.renamed);
    if (!(apart.gap <= fixture.tolerance)) return { verdict: 'finding', detail: `it computes something else: ${apart.at} by ${apart.gap}`, ...what };
    return { verdict: 'equal', bits: apart.gap === 0, ...what };
  } finally {
    if (folder) rmSync(folder, { recursive: true, force: true });
  }
}

/** onnxruntime computes a half-precision graph in float32 on the CPU, and rounds where a node stands in between: a no-op is none. */
const half = (fixture) => fixture.info.dtype === 'float16';

/** Whether the unmutated graph keeps other tokens, too, when its embeddings change by as much as they were rounded. */
async function isTie(bytes, spec, level, fixture, scenario) {
  const session = await open(await compileBytes(bytes, spec.plan), level);
  try {
    const wanted = await fixture.run(session, scenario);
    const r = random(1);
    const rounded = (name, tensor) => {
      if (!/embeds/.test(name) || tensor.type !== 'float16') return tensor;
      const bits = new Uint16Array(tensor.data.buffer, tensor.data.byteOffset, tensor.data.length);
      // A unit in the last place, up or down, of numbers that are not 0 (padding) and stay finite.
      for (let i = 0; i < bits.length; i++) if (bits[i] & 0x7fff) bits[i] += r.below(3) - 1;
      return tensor;
    };
    for (let again = 0; again < 8; again++) if (furthest(wanted, await fixture.run(session, scenario, undefined, rounded), new Map(), /^pdrop_kept/).gap !== 0) return true;
    return false;
  } finally {
    await session.release();
  }
}

/** The output of any run that is furthest from what it should be; shapes and types that differ count as furthest. */
function furthest(wanted, got, renamed, only) {
  let worst = { gap: 0, at: '' };
  for (const [i, run] of wanted.entries()) {
    for (const [name, tensor] of Object.entries(run)) {
      if (only && !only.test(name)) continue;
      const gap = distance(tensor, got[i]?.[renamed.get(name) ?? name]);
      if (typeof gap === 'string') return { gap, at: `run ${i}, ${name}` };
      if (!(gap <= worst.gap)) worst = { gap, at: `run ${i}, ${name}` };
    }
  }
  return worst;
}

/** A case by its seed and number. Kinds that find no site in this fixture are drawn anew. */
export async function runCase(seed, number, { note, ...options } = {}) {
  let spec;
  let result;
  for (let again = 0; again < 20; again++) {
    spec = await specOf(seed, number, options, again);
    try {
      result = await runSpec(spec, note);
    } catch (error) {
      result = { verdict: 'harness', detail: `the harness threw ${error.message}`, stack: error.stack, kinds: spec.steps.map((s) => s.kind), fixture: spec.fixture };
    }
    if (result.verdict !== 'no site' && result.verdict !== 'no plan') break;
    if (result.verdict === 'no plan') again = Math.max(again, ELSEWHERE - 1);
  }
  return { ...result, spec };
}
