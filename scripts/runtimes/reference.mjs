/** What onnxruntime-node makes of a graph: the tokens and kept indices every other runtime is compared with. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as ort from 'onnxruntime-node';
import { compile } from '../../dist/src/index.js';

const ARRAYS = { float32: Float32Array, float16: Uint16Array, int64: BigInt64Array, int32: Int32Array, bool: Uint8Array };

/**
 * A case: the chunks of a fixture's first scenario (a prompt with an image, then decode steps), as files that any
 * runtime can be given. Caches are carried by who runs it.
 *
 * @param options of the compiler, beside the fixture's plan
 */
export async function makeCase(root, fixture, folder, options = {}) {
  const info = JSON.parse(readFileSync(join(root, 'fixtures', fixture, 'fixture.json'), 'utf8'));
  const golden = readFileSync(join(root, 'fixtures', fixture, 'golden.bin'));
  const original = join(root, 'fixtures', fixture, 'model.onnx');
  const out = join(folder, fixture);
  mkdirSync(out, { recursive: true });
  const compiled = join(out, 'compiled.onnx');
  const scenario = info.scenarios[0];
  const plan = info.plans[scenario.plan];
  const report = await compile(original, { output: compiled, force: true, layers: plan.layers, keep: plan.keep, positions: plan.positions, imageMask: plan.imageMask, probe: true, ...options });
  const session = await ort.InferenceSession.create(original, { logSeverityLevel: 4 });
  const declared = new Set(session.inputNames);
  await session.release();
  const parts = [];
  let at = 0;
  const steps = scenario.runs.map((run) => ({
    carry: run.carry,
    feeds: Object.entries(run.feeds).map(([name, ref]) => {
      const bytes = golden.subarray(ref.offset, ref.offset + ref.bytes);
      const feed = { name, dtype: ref.dtype, shape: ref.shape, offset: at, bytes: ref.bytes };
      parts.push(bytes);
      at += ref.bytes;
      return feed;
    }),
  }));
  const made = {
    fixture,
    original,
    compiled,
    inputs: [...declared],
    caches: info.cache.filter((c) => c.past !== null && declared.has(c.past)).map((c) => ({ past: c.past, present: c.present })),
    cacheShape: [info.kv_heads, 0, info.head_dim],
    half: info.dtype === 'float16',
    steps,
    plan: report.plan,
  };
  writeFileSync(join(out, 'feeds.bin'), Buffer.concat(parts));
  writeFileSync(join(out, 'case.json'), JSON.stringify(made, null, 1));
  return { ...made, folder: out };
}

/**
 * Runs a case in onnxruntime-node or, with the same API, onnxruntime-web.
 *
 * @returns {Promise<{tokens: number[], kept: number[][], logits?: number[]}>} the likeliest token after each chunk; the prompt's kept indices, a boundary each; with `logits` those of each chunk's last token
 */
export async function runCase(runtime, model, made, { logits: withLogits = false, ...options } = {}) {
  const session = await runtime.InferenceSession.create(model, options);
  const feedsFile = readFileSync(join(made.folder, 'feeds.bin'));
  const tokens = [];
  const logits = [];
  let kept = [];
  let previous;
  for (const [index, step] of made.steps.entries()) {
    const feeds = {};
    for (const f of step.feeds) {
      if (!session.inputNames.includes(f.name)) continue;
      const bytes = new Uint8Array(feedsFile.subarray(f.offset, f.offset + f.bytes)).slice();
      feeds[f.name] = tensorOf(runtime, f.dtype, bytes, f.shape);
    }
    const batch = step.feeds.find((f) => f.name === 'inputs_embeds' || f.name === 'input_ids').shape[0];
    for (const { past, present } of made.caches) {
      if (feeds[past]) continue;
      feeds[past] = step.carry && previous ? previous[present] : tensorOf(runtime, made.half ? 'float16' : 'float32', new Uint8Array(0), [batch, ...made.cacheShape]);
    }
    const outputs = await session.run(feeds);
    if (index === 0) kept = session.outputNames.filter((n) => n.startsWith('pdrop_kept.')).map((n) => Array.from(outputs[n].data, Number));
    tokens.push(likeliest(outputs.logits));
    if (withLogits) logits.push(...lastRow(outputs.logits));
    previous = outputs;
  }
  await session.release();
  return withLogits ? { tokens, kept, logits } : { tokens, kept };
}

/** Fixtures with goldens that run on the CPU. */
export function everyFixture(root) {
  const folder = join(root, 'fixtures');
  return readdirSync(folder).filter((n) => existsSync(join(folder, n, 'golden.bin')) && (JSON.parse(readFileSync(join(folder, n, 'fixture.json'), 'utf8')).execution_provider ?? 'cpu') === 'cpu').sort();
}

/** Largest difference of two lists of numbers (null: not finite), relative to the range of the second. */
export function apart(got, want) {
  let [low, high, most] = [Infinity, -Infinity, got.length === want.length ? 0 : Infinity];
  for (const [i, w] of want.entries()) {
    low = Math.min(low, w);
    high = Math.max(high, w);
    most = Math.max(most, got[i] === null ? Infinity : Math.abs(w - got[i]));
  }
  return most / (high - low);
}

export function tensorOf(runtime, dtype, bytes, shape) {
  let data = new ARRAYS[dtype](bytes.buffer);
  if (dtype === 'float16' && globalThis.Float16Array) data = new globalThis.Float16Array(bytes.buffer);
  return new runtime.Tensor(dtype, data, shape);
}

/** Index of the largest logit of the first row's last token. */
export function likeliest(logits) {
  const values = lastRow(logits);
  return values.indexOf(Math.max(...values));
}

function lastRow(logits) {
  const [, rows, vocab] = logits.dims;
  const raw = logits.data.subarray((rows - 1) * vocab, rows * vocab);
  return logits.type === 'float16' && raw instanceof Uint16Array ? Array.from(raw, half) : Array.from(raw, Number);
}

function half(bits) {
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  const magnitude = exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15);
  return bits & 0x8000 ? -magnitude : magnitude;
}
