/**
 * One case of `validate`, `sweep` or `tune`: a damaged data set, configuration, original or rewritten model. It ends by a code of
 * its own (0 to 4), not by a bug's; and a rewritten model that computes something else does not pass.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import ort from 'onnxruntime-node';
import { main } from '../../dist/src/cli/main.js';
import { compile } from '../../dist/src/index.js';
import { mutate } from '../bytes/mutate.mjs';
import { distance, open } from '../fixtures.mjs';
import { caseSeed, random } from '../random.mjs';
import { npz, tensorProto } from './files.mjs';

const folder = mkdtempSync(join(tmpdir(), 'pdrop-fuzz-validate-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));

const NAME = 'llama-ts17-ids';
const IMAGE = 16;
let prepared;

/** The intact models and samples, made once a process. */
async function prepare() {
  const source = new URL(`../../fixtures/${NAME}/`, import.meta.url);
  const original = readFileSync(new URL('model.onnx', source));
  const plan = JSON.parse(readFileSync(new URL('fixture.json', source), 'utf8')).plans.default;
  const image = Number(plan.imageMask.split(':')[1]);
  const path = join(folder, 'intact.onnx');
  writeFileSync(path, original);
  const made = join(folder, 'made.onnx');
  await compile(path, { output: made, layers: plan.layers, keep: plan.keep, imageMask: plan.imageMask, positions: plan.positions, force: true });
  const word = (i) => (i * 37 + 5) % 128 === image ? 0 : (i * 37 + 5) % 128;
  const prompt = [word(1), word(2), ...new Array(IMAGE).fill(image), ...Array.from({ length: 6 }, (_, i) => word(i + 3))];
  const samples = [0, 1].map((k) => ({ id: `q${k}`, inputs: { input_ids: [prompt.map((t, i) => (t === image ? t : (t + k * i) % 128 === image ? 0 : (t + k * i) % 128))] }, labels: [word(7), word(8), word(9)], answers: [[word(7)]], images: [{ rows: 4, columns: 4 }] }));
  return { original, made: readFileSync(made), samples, imageMask: plan.imageMask };
}

const ODD = [null, true, -1, 0, 1.5, 1e308, -1e308, 2 ** 53, 1e9, '', 'x', '\u0000', '../../../etc/passwd', '99999999999999999999', [], {}, [[]], [[[[[[[[1]]]]]]]], [null], { dtype: 'int64', shape: [-1], data: [] }, { dtype: 'float16', shape: [1e9, 1e9], data: [1] }, { dtype: 'string', data: ['a'] }, { file: 'gone.npy' }, { file: '.' }, { base64: '!!', dtype: 'int64', shape: [3] }, { dtype: 'int64', shape: [1, 2.5], data: [1] }];

/** One value somewhere in a JSON tree is replaced, removed, doubled or renamed. */
function mutateJson(r, root) {
  const tree = structuredClone(root);
  const spots = [];
  const pending = [tree];
  for (let o = pending.pop(); o !== undefined; o = pending.pop()) {
    for (const key of Object.keys(o)) {
      spots.push([o, key]);
      if (typeof o[key] === 'object' && o[key] !== null) pending.push(o[key]);
    }
  }
  const [holder, key] = r.pick(spots);
  const how = r.below(5);
  if (how === 0) holder[Array.isArray(holder) ? holder.length : `${key}x`] = holder[key];
  else if (how === 1) {
    if (Array.isArray(holder)) holder.splice(Number(key), 1);
    else delete holder[key];
  } else if (how === 2) holder[key] = [holder[key]];
  else holder[key] = r.pick(ODD);
  return tree;
}

function mutateBytes(r, bytes) {
  const out = Buffer.from(bytes);
  for (let i = 1 + r.below(3); i > 0; i--) {
    const at = r.below(out.length);
    if (r.chance(0.2)) return out.subarray(0, at);
    out[at] = r.chance(0.5) ? r.below(256) : r.pick([0, 1, 0x7f, 0x80, 0xff, 0x22, 0x5b, 0x7b, 0x2d]);
  }
  return out;
}

/** A damaged data set, in one of the forms that there are. */
function damagedData(r, where, samples) {
  const form = r.pick(['json', 'json', 'lines', 'text', 'npz', 'pb', 'annotation', 'deep']);
  const ids = BigInt64Array.from(samples[0].inputs.input_ids[0].map(BigInt));
  const dims = [1, ids.length];
  const file = join(where, form === 'npz' || form === 'annotation' ? 'a.npz' : 'data.jsonl');
  const lines = (list) => list.map((s) => JSON.stringify(s)).join('\n');
  if (form === 'json' || form === 'lines') {
    let sample = samples[0];
    for (let i = 1 + r.below(2); i > 0; i--) sample = mutateJson(r, sample);
    writeFileSync(file, lines(form === 'lines' ? [samples[1], sample] : [sample]));
  } else if (form === 'text') writeFileSync(file, mutateBytes(r, Buffer.from(lines(samples))));
  else if (form === 'deep') writeFileSync(file, lines(samples).replace('[[', '['.repeat(r.pick([3, 1000, 100_000]))));
  else if (form === 'npz') writeFileSync(file, mutateBytes(r, npz({ input_ids: { dims, data: ids } })));
  else if (form === 'annotation') {
    writeFileSync(file, npz({ input_ids: { dims, data: ids } }));
    writeFileSync(join(where, 'a.json'), r.chance(0.5) ? mutateBytes(r, Buffer.from(JSON.stringify({ ...samples[0], inputs: {} }))) : JSON.stringify(mutateJson(r, samples[0])));
    return { form, path: where };
  } else {
    const set = join(where, 'test_data_set_0');
    mkdirSync(set);
    writeFileSync(join(set, 'input_0.pb'), mutateBytes(r, tensorProto('input_ids', dims, ids)));
    return { form, path: where };
  }
  return { form, path: file };
}

/** Runs the command line here; exit code and what it said, or what it threw. */
async function command(args) {
  let said = '';
  const { stdout, stderr } = process;
  const kept = [stdout.write, stderr.write];
  stdout.write = stderr.write = (chunk) => {
    said += chunk;
    return true;
  };
  try {
    return { code: await main(['node', 'pdrop-compile', ...args]), said };
  } catch (error) {
    return { error, said };
  } finally {
    [stdout.write, stderr.write] = kept;
    process.exitCode = 0;
  }
}

/** How far two models are from each other on the intact sample; undefined where one of them does not run. */
async function difference(a, b, sample) {
  try {
    const outputs = [];
    for (const bytes of [a, b]) {
      const session = await open(bytes);
      const ids = sample.inputs.input_ids[0];
      const feeds = {};
      for (const name of session.inputNames) {
        if (name === 'input_ids') feeds[name] = new ort.Tensor('int64', BigInt64Array.from(ids.map(BigInt)), [1, ids.length]);
        else if (name === 'attention_mask') feeds[name] = new ort.Tensor('int64', new BigInt64Array(ids.length).fill(1n), [1, ids.length]);
        else if (name === 'position_ids') feeds[name] = new ort.Tensor('int64', BigInt64Array.from(ids.map((_, i) => BigInt(i))), [1, ids.length]);
        else feeds[name] = new ort.Tensor('float32', new Float32Array(0), [1, session.inputMetadata.find((m) => m.name === name).shape[1], 0, session.inputMetadata.find((m) => m.name === name).shape[3]]);
      }
      outputs.push((await session.run(feeds)).logits);
      await session.release();
    }
    return distance(outputs[0], outputs[1]);
  } catch {
    return undefined;
  }
}

export async function runCase(seed, number, { note = () => {}, save } = {}) {
  prepared ??= await prepare();
  const { original, made, samples, imageMask } = prepared;
  const r = random(caseSeed(seed, number));
  const what = r.pick(['data', 'data', 'data', 'rewritten', 'rewritten', 'original', 'config']);
  const which = what === 'rewritten' ? 'validate' : r.pick(['validate', 'validate', 'sweep', 'tune']);
  const where = save ?? join(folder, 'case');
  rmSync(where, { recursive: true, force: true });
  mkdirSync(join(where, 'data'), { recursive: true });
  let kinds = [what];
  let data = join(where, 'data', 'data.jsonl');
  writeFileSync(data, samples.map((s) => JSON.stringify(s)).join('\n'));
  let [first, second] = [original, made];
  if (what === 'data') {
    rmSync(data);
    const damaged = damagedData(r, join(where, 'data'), samples);
    data = damaged.path;
    kinds = [`data: ${damaged.form}`];
  } else if (what === 'config') {
    const config = { image_token_index: 3, image_seq_length: 16, text_config: { hidden_size: 32, eos_token_id: 2 }, vision_config: { image_size: 336, patch_size: 14 } };
    writeFileSync(join(where, r.pick(['config.json', 'genai_config.json'])), r.chance(0.5) ? JSON.stringify(mutateJson(r, config)) : mutateBytes(r, Buffer.from(JSON.stringify(config))));
  } else {
    const { bytes, log } = mutate(Uint8Array.from(what === 'rewritten' ? made : original), r.below(2 ** 31));
    if (what === 'rewritten') second = bytes;
    else first = bytes;
    kinds = log.map((l) => `${what}: ${l}`);
  }
  writeFileSync(join(where, 'model.onnx'), first);
  writeFileSync(join(where, 'made.onnx'), second);
  const [model, rewritten] = [join(where, 'model.onnx'), join(where, 'made.onnx')];
  const synthetic = what === 'config' || (what !== 'data' && r.chance(0.2));
  const shared = [...(synthetic ? ['--samples', '1'] : ['--data', data]), '--continue', '2', ...(r.chance(0.2) ? ['--keep-going'] : []), '--json', '--work-dir', where];
  const args = {
    validate: ['validate', model, rewritten, '--no-latency', '--no-memory', '--maps', '0', '--baselines', 'none', ...(what === 'rewritten' || r.chance(0.1) ? ['--gate-samples', '1'] : ['--no-gates']), ...shared],
    sweep: ['sweep', model, '--lambda', '0.5', '--stages', '2', '--image-mask', imageMask, ...shared],
    tune: ['tune', model, '--target-flops', '0.8', '--ratios', '0.5', '--ranks', 'uniform', '--boundaries', '1', '--budget', '5s', '--image-mask', imageMask, ...shared],
  }[which];
  // What onnxruntime does with a damaged model may take the process down; with damaged data it may not.
  note(what === 'data' || what === 'config' ? which : 'run mutant');
  const { code, said, error } = await command(args);
  const about = { fixture: NAME, kinds, options: args.slice(0, 1).concat(args.slice(3)).join(' ').replaceAll(where, '.') };
  if (error) return { verdict: 'finding', detail: `threw ${error.message}`, stack: error.stack, ...about };
  if (![0, 1, 2, 3, 4].includes(code)) return { verdict: 'finding', detail: `exit ${code}: ${said.slice(-400)}`, ...about };
  if (code !== 0) return { verdict: code === 1 ? 'failed' : 'refused', ...about, code: /"code": ?"(PD\d+)"/.exec(said)?.[1] ?? /error (PD\d+)/.exec(said)?.[1] ?? `exit ${code}` };
  if (what === 'rewritten') {
    note('run mutant');
    const gap = await difference(made, second, samples[0]);
    if (gap === undefined) return { verdict: 'finding', detail: 'it passes, and does not run', ...about };
    if (!(gap <= 1e-2)) return { verdict: 'finding', detail: `it passes, and its logits differ by ${gap}`, ...about };
  }
  return { verdict: 'passed', ...about };
}
