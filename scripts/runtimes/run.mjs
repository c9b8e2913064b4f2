#!/usr/bin/env node
/**
 * npm run test:runtimes: runs unmodified runtimes on compiled folders and graphs and compares tokens and kept indices
 * with onnxruntime-node. What is needed is installed into out/runtimes; the table goes to docs/runtimes.md.
 *
 *   npm run test:runtimes [-- --only transformers.js,onnxruntime-web,openvino,onnxruntime-genai,loops,tools,web-page] [--fixtures A,B for tools and openvino] [--no-write]
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import * as ort from 'onnxruntime-node';
import { compile, compileFolder } from '../../dist/src/index.js';
import { pyramidDrop } from '../../dist/src/transformers.js';
import { lvlmRequests, layOutLvlm } from './lvlm.mjs';
import { genaiPictures } from './genai-pictures.mjs';
import { converse, layOutGenai, takeIds, untilEnd } from './genai.mjs';
import { NPM, npmInstall } from './install.mjs';
import { loopCases, nodeLoop, pythonLoop } from './loops.mjs';
import { apart, everyFixture, makeCase, runCase } from './reference.mjs';
import { prompt, SIZE, standIn } from './stand-in.mjs';
import { tools } from './tools.mjs';
import { writeBlock } from './table.mjs';
import * as transformersJs from './transformersjs.mjs';

const { values: o } = parseArgs({ options: { only: { type: 'string' }, write: { type: 'boolean', default: true }, questions: { type: 'string', default: '22' }, fixtures: { type: 'string' } }, allowNegative: true });
const root = join(import.meta.dirname, '..', '..');
const home = join(root, 'out', 'runtimes');
const NEW_TOKENS = 6;
/** Versions this table is made with; NPM's are in install.mjs. */
const PYPI = { openvino: '2026.4.0', 'onnxruntime-genai': '0.18.0', onnxruntime: '1.32.0', onnx: '1.23.2', onnxslim: '0.1.98', sympy: '1.14.0', onnxscript: '0.7.2' };

const GRAPHS = [
  'llama-ts17-sdpa', 'gemma2-ts17', 'gemma3-dynamo23', 'phi-ts17', 'qwen2-dynamo20-sdpa', 'qwen3-dynamo23-sdpa', 'qwen2.5-vl-dynamo18', 'llama-ts17-ids',
  'genai-llama-fp32', 'genai-qwen3-fp32', 'llama-dynamo24-sdpa', 'tf-llama-ort-rotary',
];
const FOLDERS = ['llama-ts17-sdpa', 'gemma2-ts17', 'phi-ts17', 'granite-ts16', 'olmo2-dynamo20', 'qwen2-ts17-noposids', 'gemma3-dynamo23', 'phi3-ts15', 'qwen3-dynamo23-sdpa', 'llama-ts17-logits-to-keep'];
/** Of these also with --image-mask input, fed by pdrop-compile/transformers. */
const ADAPTED = ['llama-ts17-sdpa', 'gemma3-dynamo23', 'llama-ts17-logits-to-keep'];

const GENAI = ['genai-llama-fp32', 'genai-llama-int4', 'genai-llama-embeds-fp32', 'genai-llama-fp16', 'genai-gemma2-fp32', 'genai-phi-fp32', 'genai-qwen3-fp32', 'genai-phi3-longrope-fp32'];

mkdirSync(home, { recursive: true });
const rows = [];
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
const wanted = (name) => !o.only || o.only.split(',').includes(name);

/** One row of the table; `error` where a side did not run. */
function note(runtime, model, original, compiled, change) {
  const row = { runtime, model, original: original.error ?? same(original.got, original.want), compiled: compiled.error ?? same(compiled.got, compiled.want), change };
  rows.push(row);
  const word = (x) => (x === true ? 'same' : x === false ? 'DIFFERENT' : x);
  console.log(`${runtime.padEnd(18)} ${model.padEnd(28)} original: ${word(row.original)}; compiled: ${word(row.compiled)}`);
}

async function attempt(run) {
  try {
    return await run();
  } catch (error) {
    return { error: error.message.split('\n')[0].slice(0, 160) };
  }
}

/** Path of a Python that has the packages of PyPI. */
export function pythonWith(names) {
  const venv = join(home, 'python');
  const python = join(venv, 'bin', 'python');
  if (!existsSync(python) && spawnSync('python3', ['-m', 'venv', venv], { stdio: 'inherit' }).status !== 0) throw new Error('python3 -m venv failed');
  const missing = names.filter((n) => spawnSync(python, ['-c', `import importlib.metadata as m; assert m.version("${n}") == "${PYPI[n]}"`]).status !== 0);
  if (missing.length > 0 && spawnSync(python, ['-m', 'pip', 'install', '--quiet', ...missing.map((n) => `${n}==${PYPI[n]}`)], { stdio: 'inherit' }).status !== 0) throw new Error(`pip install ${missing.join(' ')} failed`);
  return python;
}

async function transformers() {
  const library = await transformersJs.load(npmInstall(root));
  const name = `transformers.js ${NPM['@huggingface/transformers']}`;
  const both = async (folder, requests, adapt) => {
    const want = await transformersJs.reference(folder, requests, NEW_TOKENS);
    return attempt(async () => ({ got: await transformersJs.generate(library, folder, requests, NEW_TOKENS, adapt), want }));
  };
  /** The form with an input, and the adapter that feeds it. */
  const adapted = async (label, folder, requests, options) => {
    const input = `${folder}-input`;
    await compileFolder(folder, { ...options, imageMask: 'input', output: input, force: true, probe: true });
    note(name, `${label}, --image-mask input`, await both(folder, requests), await both(input, requests, pyramidDrop), 'calls pyramidDrop(model)');
  };
  for (const fixture of FOLDERS) {
    const info = JSON.parse(readFileSync(join(root, 'fixtures', fixture, 'fixture.json'), 'utf8'));
    const folder = join(home, 'folders', fixture);
    const plan = info.plans[info.scenarios[0].plan];
    standIn(folder, join(root, 'fixtures', fixture, 'model.onnx'), info);
    const requests = [{ ...prompt(info), size: SIZE }];
    const original = await both(folder, requests);
    // As the golden's plan has them (compact, but for a few), and as a user gets them who asks for nothing.
    for (const [positions, label] of [[plan.positions, fixture], [undefined, `${fixture}, positions by default`]]) {
      await compileFolder(folder, { layers: plan.layers, keep: plan.keep, positions, output: `${folder}-pdrop`, force: true, probe: true, measure: false });
      note(name, label, original, await both(`${folder}-pdrop`, requests), 'nothing');
    }
    if (ADAPTED.includes(fixture)) await adapted(fixture, folder, requests, { layers: plan.layers, keep: plan.keep, positions: plan.positions });
  }
  const folder = layOutLvlm(root, join(home, 'folders', 'lvlm'));
  await compileFolder(folder, { lambda: 0.5, positions: 'keep', output: `${folder}-pdrop`, force: true, probe: true });
  const requests = lvlmRequests(root, Number(o.questions));
  note(name, `lvlm, ${requests.length} questions`, await both(folder, requests), await both(`${folder}-pdrop`, requests), 'nothing');
  await adapted(`lvlm, ${requests.length} questions`, folder, requests, { lambda: 0.5, positions: 'keep' });
}

async function cases() {
  const made = [];
  for (const fixture of GRAPHS) made.push(await makeCase(root, fixture, join(home, 'cases')));
  return made;
}

const change = (made) => (made.plan.imageMask.kind === 'input' ? 'feeds image_token_mask' : 'nothing');

async function web(made) {
  const require = createRequire(join(npmInstall(root), 'package.json'));
  const runtime = await import(pathToFileURL(require.resolve('onnxruntime-web')).href);
  runtime.env.wasm.numThreads = 1;
  runtime.env.logLevel = 'error';
  for (const c of made) {
    const side = async (model) => ({ want: await runCase(ort, model, c, { logSeverityLevel: 4 }), ...(await attempt(async () => ({ got: await runCase(runtime, model, c, { executionProviders: ['wasm'] }) }))) });
    note(`onnxruntime-web ${NPM['onnxruntime-web']} wasm`, c.fixture, await side(c.original), await side(c.compiled), change(c));
  }
}

/** How far logits in OpenVINO may be from onnxruntime-node's, of their range. */
const NEAR = { float32: 1e-5, half: 1e-2 };

/** OpenVINO on every fixture of the CPU. */
async function openvino() {
  const made = [];
  for (const fixture of o.fixtures?.split(',') ?? everyFixture(root)) made.push(await makeCase(root, fixture, join(home, 'cases'), { runtime: 'openvino' }));
  const results = openvinoResults(pythonWith(['openvino']), made);
  let most = { difference: 0 };
  for (const [i, c] of made.entries()) {
    const side = async (which) => {
      const { logits, ...got } = results[i][which];
      if (got.error) return got;
      const { logits: expected, ...want } = await runCase(ort, c[which], c, { logSeverityLevel: 4, logits: true });
      const difference = apart(logits, expected);
      console.log(`  ${c.fixture} ${which}: logits differ by ${difference.toExponential(1)} of their range`);
      const near = difference <= NEAR[c.half ? 'half' : 'float32'];
      if (which === 'compiled' && !c.half && near && difference > most.difference) most = { difference, fixture: c.fixture };
      return { want: { ...want, near: true }, got: { ...got, near } };
    };
    note(`OpenVINO ${PYPI.openvino}, --runtime openvino`, c.fixture, await attempt(() => side('original')), await attempt(() => side('compiled')), change(c));
  }
  if (most.fixture && o.write) writeBlock(root, 'openvino', `In OpenVINO, logits of float32 graphs as compiled differ from onnxruntime-node's by at most ${most.difference.toExponential(1)} of their range (${most.fixture}).`);
}

/** One process for as many cases as it survives. */
function openvinoResults(python, made) {
  const results = [];
  while (results.length < made.length) {
    const run = spawnSync(python, [join(import.meta.dirname, 'openvino_cases.py'), ...made.slice(results.length).map((c) => c.folder)], { encoding: 'utf8', maxBuffer: 1 << 28 });
    results.push(...run.stdout.trim().split('\n').filter(Boolean).map((line) => JSON.parse(line)));
    if (results.length < made.length) {
      const error = `it ends the process: ${run.signal ?? run.status}`;
      results.push({ original: { error }, compiled: { error } });
    }
  }
  return results;
}

async function genai() {
  const python = pythonWith(['onnxruntime-genai']);
  const work = join(home, 'genai');
  mkdirSync(work, { recursive: true });
  for (const fixture of GENAI) {
    const info = JSON.parse(readFileSync(join(root, 'fixtures', fixture, 'fixture.json'), 'utf8'));
    const id = info.image_token_id ?? info.vocab - 8;
    const model = { ...info, image_token_id: id };
    const original = join(work, `${fixture}.onnx`);
    takeIds(join(root, 'fixtures', fixture, 'model.onnx'), info, original);
    const image = new Array(24).fill(id);
    const [one, two] = [[1, 5, 9, ...image, 17, 23, 31, 44], [1, 7, 3, 2, ...image, 11, 12, 13]];
    const requests = [{ prompts: [one], rewind: true, count: NEW_TOKENS }, { prompts: [one, two], count: NEW_TOKENS }, { prompts: [one], second: [[9, 8, ...image, 33, 21]], count: NEW_TOKENS }];
    const ask = async (folder, plain) => {
      layOutGenai(folder.path, folder.decoder, model);
      writeFileSync(join(work, 'request.json'), JSON.stringify(requests.map((r) => ({ ...r, folder: folder.path }))));
      const run = spawnSync(python, [join(import.meta.dirname, 'genai_cases.py'), join(work, 'request.json')], { encoding: 'utf8' });
      const got = run.stdout.trim().split('\n').map((line) => JSON.parse(line || '{"error":"it ended early"}'));
      const want = [];
      for (const r of requests) want.push(untilEnd(await converse(plain, model, r), model));
      return got.find((g) => g.error) ?? { got: got.map((g) => untilEnd(g.answers, model)), want };
    };
    for (const positions of ['compact', 'keep']) {
      const options = { stages: 3, positions, imageMask: `input-ids:${id}`, force: true };
      const [generic, own] = [join(work, `${fixture}-generic.onnx`), join(work, `${fixture}-genai.onnx`)];
      await compile(original, { ...options, output: generic });
      await compile(original, { ...options, runtime: 'genai', output: own });
      note(`onnxruntime-genai ${PYPI['onnxruntime-genai']}`, `${fixture}, ${positions}`, await attempt(() => ask({ path: join(work, 'original'), decoder: original }, original)), await attempt(() => ask({ path: join(work, 'compiled'), decoder: own }, generic)), 'nothing');
    }
  }
  for (const { name, original, compiled } of await genaiPictures({ root, work, python })) note(`onnxruntime-genai ${PYPI['onnxruntime-genai']}`, name, original, compiled, 'nothing');
}

/** The loops of docs/running.md. */
async function loops() {
  const made = await loopCases(root, join(home, 'loops'));
  const versions = { Node: JSON.parse(readFileSync(createRequire(import.meta.url).resolve('onnxruntime-node/package.json'), 'utf8')).version, Python: PYPI.onnxruntime };
  const got = { Node: await nodeLoop(root, made), Python: pythonLoop(root, made, pythonWith(['onnxruntime']), home) };
  for (const [language, version] of Object.entries(versions)) {
    for (const [i, c] of made.entries()) {
      const tokens = got[language][i];
      // There is no such loop for the original: the goldens are of the reference.
      note(`onnxruntime ${version}, the ${language} loop of running.md`, c.fixture, { got: 1, want: 1 }, typeof tokens === 'string' ? { error: tokens } : { got: tokens, want: c.want }, 'feeds image_token_mask where the graph takes it');
    }
  }
  rmSync(join(home, 'loops'), { recursive: true, force: true });
}

/** The page of examples/web in headless Chromium. */
function webPage() {
  npmInstall(root);
  const run = spawnSync('npx', ['vitest', 'run', 'test/web-page.test.ts', '--reporter=json'], { cwd: root, encoding: 'utf8', maxBuffer: 1 << 26 });
  const json = JSON.parse(run.stdout.slice(run.stdout.indexOf('{"numTotal')));
  const passed = json.numPassedTests > 0 && json.numFailedTests === 0;
  note(`examples/web: onnxruntime-web ${NPM['onnxruntime-web']} wasm in Chromium`, 'lvlm, compiled in the page', { got: 1, want: 1 }, json.numPassedTests === 0 && json.numFailedTests === 0 ? { error: 'skipped: no Chromium' } : { got: passed, want: true }, 'nothing');
}

if (wanted('onnxruntime-genai')) await genai();
if (wanted('web-page')) webPage();
if (wanted('tools')) await tools({ root, home, python: pythonWith(['onnxruntime', 'onnx', 'onnxslim', 'sympy', 'onnxscript']), rows, write: o.write, fixtures: o.fixtures?.split(',') });
if (wanted('loops')) await loops();
if (wanted('transformers.js')) await transformers();
if (wanted('onnxruntime-web')) await web(await cases());
if (wanted('openvino')) await openvino();

// A compiled graph has to run and agree wherever its original does.
const failed = rows.filter((r) => r.original === true && r.compiled !== true);
if (o.write) writeTable();

/** One row for all models of a runtime that went alike; rows of runtimes that were not run now stay as they are. */
function writeTable() {
  const words = (x) => (x === true ? 'yes' : x === false ? 'no' : 'does not run');
  const groups = new Map();
  for (const r of rows.filter((x) => !x.tool)) {
    const tail = `${words(r.original)} | ${typeof r.compiled === 'string' ? 'no' : 'yes'} | ${words(r.compiled)} | ${r.change} |`;
    const key = `${r.runtime}|${tail}`;
    if (!groups.has(key)) groups.set(key, { runtime: r.runtime, models: [], tail });
    groups.get(key).models.push(r.model);
  }
  const made = [...groups.values()].map((g) => `| ${g.runtime} | ${g.models.length}: ${g.models.join('; ')} | ${g.tail}`);
  const path = join(root, 'docs', 'runtimes.md');
  const text = readFileSync(path, 'utf8');
  const kindOf = (line) => line.slice(2).split(' | ')[0].replace(/[\d.]+/, '');
  const now = new Set(made.map(kindOf));
  const old = (/<!-- table:start -->\n([\s\S]*?)<!-- table:end -->/.exec(text)?.[1] ?? '').split('\n').filter((line) => /^\| (?!runtime)/.test(line) && !now.has(kindOf(line)));
  const head = ['| runtime | models | original runs, same tokens | compiled runs | same tokens and kept indices | what the user changes |', '|---|---|---|---|---|---|'];
  writeFileSync(path, text.replace(/<!-- table:start -->[\s\S]*<!-- table:end -->/, `<!-- table:start -->\n${[...head, ...[...made, ...old].sort()].join('\n')}\n<!-- table:end -->`));
}

rmSync(join(home, 'cases'), { recursive: true, force: true });
console.log(`${rows.length - failed.length} passed, ${failed.length} failed`);
process.exitCode = failed.length > 0 ? 1 : 0;
