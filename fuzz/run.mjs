/**
 * Fuzzing the compiler: `npm run fuzz -- --seed N --minutes M [--fixture name] [--only SEED]`.
 *
 * Each case is one mutant of a small fixture. What must hold:
 *   - no internal error, no exception that is not a diagnostic, no case that takes longer than the limit;
 *   - the same mutant compiles to the same bytes twice;
 *   - if onnxruntime loads the mutant, it loads what the compiler makes of it;
 *   - compiled with every keep ratio 1, it computes what the mutant computes.
 * A finding prints the seed that makes it again.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import ort from 'onnxruntime-node';
import { compileModel, writeCompiled } from '../dist/src/compile.js';
import { PdropError, Refusal, UsageError } from '../dist/src/diagnostics.js';
import { MemorySink, MemorySource } from '../dist/src/onnx/bytes.js';
import { feedsFor } from './feeds.mjs';
import { mutate, random } from './mutate.mjs';

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    minutes: { type: 'string', default: '1' },
    cases: { type: 'string' },
    fixture: { type: 'string', multiple: true },
    only: { type: 'string' },
    save: { type: 'string' },
  },
});

const FIXTURES = (values.fixture ?? ['llama-ts17-sdpa', 'llama-dynamo18-eager', 'genai-llama-fp32', 'qwen3-dynamo23-sdpa', 'tf-llava-mono', 'gemma2-ts17', 'qwen2-ts17-noposids', 'llama-ts17-8bit', 'genai-llama-mha-fp16', 'gemma3-dynamo23', 'qwen2.5-vl-dynamo18', 'mobius-llava-decoder', 'genai-qwen3-fp32', 'mistral-dynamo19-sliding', 'phi-ts17', 'tf-llava-mono-cache']).filter((name) => existsSync(pathOf(name)));
function pathOf(name) {
  return fileURLToPath(new URL(`../fixtures/${name}/model.onnx`, import.meta.url));
}

const SLOW_MS = 5000;
const quiet = { logSeverityLevel: 4, graphOptimizationLevel: 'disabled' };

const originals = new Map();
function original(name) {
  let bytes = originals.get(name);
  if (!bytes) {
    bytes = new Uint8Array(readFileSync(pathOf(name)));
    originals.set(name, bytes);
  }
  return bytes;
}

async function compileBytes(bytes, options) {
  const compiled = await compileModel(new MemorySource(bytes), options);
  const sink = new MemorySink();
  await writeCompiled(compiled, sink);
  return { bytes: sink.bytes(), plan: compiled.plan, facts: compiled.facts };
}

async function load(bytes) {
  try {
    return { session: await ort.InferenceSession.create(bytes, quiet) };
  } catch (error) {
    return { error: String(error.message).split('\n')[0] };
  }
}

async function outputs(session, feeds) {
  try {
    return { out: await session.run(feeds) };
  } catch (error) {
    return { error: String(error.message).split('\n')[0].slice(0, 300) };
  }
}

/** Runs one case; returns what went wrong, or what happened. */
async function run(seed) {
  const r = random(seed);
  const name = r.pick(FIXTURES);
  const { bytes, log } = mutate(original(name), seed);
  const options = { imageMask: 'input', stages: 2 + r.below(3), rank: r.pick(['attention', 'attention', 'uniform', 'random:3']), positions: r.pick(['auto', 'auto', 'keep']), probe: r.chance(0.3) };
  const what = `${name}: ${log.join(', ')} (${JSON.stringify(options)})`;
  if (values.save) writeFileSync(values.save, bytes);
  const started = performance.now();
  let made;
  try {
    made = await compileBytes(bytes, options);
    const again = await compileBytes(bytes, options);
    if (Buffer.compare(made.bytes, again.bytes) !== 0) return { bad: 'two runs give different bytes', what };
  } catch (error) {
    if (error instanceof Refusal || error instanceof UsageError) return { ok: error.code, what };
    if (error instanceof PdropError) return { bad: `${error.code} ${error.message} (${error.culprit ?? ''})`, what, stack: error.stack };
    return { bad: `threw ${error.message}`, what, stack: error.stack };
  } finally {
    const took = performance.now() - started;
    if (took > SLOW_MS) console.log(`slow: seed ${seed} took ${(took / 1000).toFixed(1)} s: ${what}`);
  }
  const before = await load(bytes);
  if (!before.session) return { ok: 'compiled; onnxruntime refuses the mutant', what };
  const after = await load(made.bytes);
  if (!after.session) return { bad: `onnxruntime loads the mutant but not the result: ${after.error}`, what };
  const whole = await compileBytes(bytes, { ...options, keep: made.plan.layers.map(() => '1'), probe: false });
  const same = await load(whole.bytes);
  if (!same.session) return { bad: `onnxruntime does not load the result with keep 1: ${same.error}`, what };
  const { feeds, extra, now } = feedsFor(ort, before.session, seed);
  const a = await outputs(before.session, feeds);
  if (!a.out) return { ok: 'compiled; onnxruntime cannot run the mutant', what };
  const b = await outputs(same.session, { ...feeds, ...extra });
  if (!b.out) return { bad: `with keep 1 it does not run (${JSON.stringify(now)}): ${b.error}`, what };
  for (const key of before.session.outputNames) {
    const [x, y] = [a.out[key], b.out[key]];
    const gap = distance(x, y);
    if (gap > 1e-4) return { bad: `with keep 1 output ${key} differs by ${gap} of its range (${JSON.stringify(now)})`, what };
  }
  const c = await outputs(after.session, { ...feeds, ...extra });
  if (!c.out) return { bad: `it does not run (${JSON.stringify(now)}): ${c.error}`, what };
  return { ok: 'compiled and equal', what };
}

/** Largest difference relative to the range; NaN equals NaN. */
function distance(x, y) {
  if (x.dims.join() !== y.dims.join()) return `shape ${x.dims} → ${y.dims}`;
  if (x.type !== 'float32') return 0;
  let low = Infinity;
  let high = -Infinity;
  let most = 0;
  for (let i = 0; i < x.data.length; i++) {
    const [p, q] = [x.data[i], y.data[i]];
    if (Number.isFinite(p)) {
      low = Math.min(low, p);
      high = Math.max(high, p);
    }
    if (Object.is(p, q) || (Number.isNaN(p) && Number.isNaN(q)) || p === q) continue;
    const d = Math.abs(p - q);
    if (!(d <= most)) most = d;
  }
  return Number.isNaN(most) ? Infinity : most / Math.max(high - low, 1e-6);
}

const counts = new Map();
let bad = 0;
const base = Number(values.seed) * 1_000_000;
const until = performance.now() + Number(values.minutes) * 60_000;
const most = values.cases ? Number(values.cases) : Infinity;
if (values.only) {
  console.log(JSON.stringify(await run(Number(values.only)), null, 2).replaceAll('\\n', '\n'));
} else {
  let n = 0;
  for (; n < most && performance.now() < until; n++) {
    const result = await run(base + n);
    if (result.bad) {
      bad++;
      console.log(`seed ${base + n}: ${result.bad}\n  ${result.what}${result.stack ? `\n  ${result.stack.split('\n').slice(1, 4).join('\n  ').trim()}` : ''}`);
    }
    const key = result.ok ?? 'FINDING';
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  console.log(`${n} cases, ${bad} findings`);
  for (const [key, count] of [...counts].sort((p, q) => q[1] - p[1])) console.log(`${String(count).padStart(6)}  ${key}`);
  process.exitCode = bad > 0 ? 1 : 0;
}
