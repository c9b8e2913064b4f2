/**
 * One byte case: a damaged model compiles or is refused by code, in bounded time and memory; what compiles is accepted by
 * the tool's own check and, where onnxruntime loads and runs the mutant, equals it with every keep ratio 1.
 */
import { writeFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import ort from 'onnxruntime-node';
import { compileModel, writeCompiled } from '../../dist/src/compile.js';
import { PdropError, Refusal, UsageError } from '../../dist/src/diagnostics.js';
import { check, compile } from '../../dist/src/index.js';
import { MemorySink, MemorySource } from '../../dist/src/onnx/bytes.js';
import { distance, fixtureNames, open } from '../fixtures.mjs';
import { fixtureOf } from '../meaning/subject.mjs';
import { caseSeed, random } from '../random.mjs';
import { runConfigCase } from './configs.mjs';
import { feedsFor } from './feeds.mjs';
import { mutate } from './mutate.mjs';

const names = fixtureNames();
/** Graphs of few, large ops take a fraction of the time: most cases are made of them, so that there can be many. */
const small = names.filter((name) => /^(genai|mobius)-/.test(name) && !/mha/.test(name));
const folder = mkdtempSync(join(tmpdir(), 'pdrop-fuzz-bytes-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));

/** Resident memory a case may add; the models are below a megabyte. */
const MEMORY_BYTES = 512 * 2 ** 20;

async function compileBytes(bytes, options) {
  const compiled = await compileModel(new MemorySource(bytes), options);
  const sink = new MemorySink();
  await writeCompiled(compiled, sink);
  return { bytes: sink.bytes(), plan: compiled.plan };
}

const shortened = (error) => String(error?.message ?? error).split('\n')[0].slice(0, 300);

async function attempt(run) {
  try {
    return { value: await run() };
  } catch (error) {
    return { error };
  }
}

/** By code, or a finding. */
function verdictOf(error, what) {
  if (error instanceof Refusal || error instanceof UsageError) return { verdict: 'refused', code: error.code, ...what };
  if (error instanceof PdropError) return { verdict: 'finding', detail: `${error.code} ${error.message} (${error.culprit ?? ''})`, stack: error.stack, ...what };
  return { verdict: 'finding', detail: `threw ${shortened(error)}`, stack: error?.stack, ...what };
}

export async function runCase(seed, number, { note = () => {}, fixtures, save } = {}) {
  const r = random(caseSeed(seed, number));
  if (r.chance(0.1)) return runConfigCase(r, folder, note);
  const fixture = await fixtureOf(`${r.pick(fixtures ?? (r.chance(0.9) ? small : names))}/2`);
  const { bytes, log } = mutate(fixture.bytes, r.below(2 ** 31));
  if (save) writeFileSync(save, bytes);
  const options = { imageMask: 'input', stages: 2, rank: r.pick(['attention', 'attention', 'uniform', 'random:3']), positions: r.pick(['auto', 'auto', 'keep']), probe: r.chance(0.3) };
  const what = { fixture: fixture.name, kinds: log, options };
  const before = process.memoryUsage.rss();
  note('compile');
  const made = await attempt(() => compileBytes(bytes, options));
  note('oracle');
  const grown = process.memoryUsage.rss() - before;
  if (grown > MEMORY_BYTES) return { verdict: 'finding', detail: `memory grew by ${(grown / 2 ** 20).toFixed(0)} MiB`, ...what };
  if (made.error) return verdictOf(made.error, what);

  if (r.chance(0.05)) {
    const again = await attempt(() => compileBytes(bytes, options));
    if (again.error || Buffer.compare(made.value.bytes, again.value.bytes) !== 0) return { verdict: 'finding', detail: 'two runs give different bytes', ...what };
  }
  // What compiles is checked by the compiler itself; a share of it is read back and checked from the file.
  const path = join(folder, 'compiled.onnx');
  writeFileSync(path, made.value.bytes);
  const deep = r.chance(0.2);
  if (!deep) return { verdict: 'compiled', ...what };
  note('check');
  const checked = await attempt(() => check(path));
  const problems = checked.error ? [`${checked.error.code ?? 'threw'} ${shortened(checked.error)}`] : checked.value.checks.flatMap((c) => c.problems);
  if (problems.length > 0) {
    // What writes a file checks it first: a refusal there is as good as one here.
    const input = join(folder, 'model.onnx');
    writeFileSync(input, bytes);
    const whole = await attempt(() => compile(input, { ...options, output: join(folder, 'out.onnx'), force: true }));
    if (!whole.error) return { verdict: 'finding', detail: `compiled, but its own check says: ${problems[0]}`, ...what };
    return verdictOf(whole.error, what);
  }
  // The rest needs a session: a run of a mutant may take the process down, and that is not the compiler's doing.
  note('load mutant');
  const original = await attempt(() => open(bytes));
  if (original.error) return { verdict: 'compiled', detail: 'onnxruntime does not load the mutant', ...what };
  note('load compiled');
  const after = await attempt(() => open(made.value.bytes));
  if (after.error) return { verdict: 'finding', detail: `onnxruntime loads the mutant but not the result: ${shortened(after.error)}`, ...what };
  const whole = await attempt(() => compileBytes(bytes, { ...options, keep: made.value.plan.layers.map(() => '1'), probe: false }));
  if (whole.error) return { verdict: 'finding', detail: `with keep 1: ${shortened(whole.error)}`, ...what };
  const same = await attempt(() => open(whole.value.bytes));
  if (same.error) return { verdict: 'finding', detail: `onnxruntime does not load the result with keep 1: ${shortened(same.error)}`, ...what };
  try {
    const { feeds, extra, now } = feedsFor(ort, original.value, fixture, r);
    note('run mutant');
    const a = await attempt(() => original.value.run(feeds));
    if (a.error) return { verdict: 'unproven', detail: `onnxruntime cannot run the mutant: ${shortened(a.error)}`, ...what };
    note('run compiled');
    const b = await attempt(() => same.value.run({ ...feeds, ...extra }));
    if (b.error) return { verdict: 'finding', detail: `with keep 1 it does not run (${JSON.stringify(now)}): ${shortened(b.error)}`, ...what };
    for (const key of original.value.outputNames) {
      const gap = distance(a.value[key], b.value[key]);
      if (!(gap <= Math.max(fixture.tolerance, 1e-4))) return { verdict: 'finding', detail: `with keep 1 output ${key} differs by ${gap} (${JSON.stringify(now)})`, ...what };
    }
    const c = await attempt(() => after.value.run({ ...feeds, ...extra }));
    if (c.error) return { verdict: 'finding', detail: `it does not run (${JSON.stringify(now)}): ${shortened(c.error)}`, ...what };
    return { verdict: 'equal', ...what };
  } finally {
    for (const s of [original.value, after.value, same.value]) await s.release();
  }
}
