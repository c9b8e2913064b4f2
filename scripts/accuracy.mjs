#!/usr/bin/env node
/**
 * Accuracy of the shipped LVLM under many schedules, to docs/accuracy.json; then the tables and plots of docs/accuracy.md.
 *
 *   npm run build && node scripts/accuracy.mjs --jobs 2        measures what docs/accuracy.json lacks, then writes
 *   node scripts/accuracy.mjs --jobs 0                          only writes
 *   node scripts/accuracy.mjs --jobs 0 --sweeps keep.json,compact.json     takes in two reports of `sweep` (docs/accuracy.md says how)
 *
 * `sweep` and `validate` ask one question at a time and compare distributions, which for this many schedules takes hours on two
 * cores. Here the library's compile() makes each schedule, and questions are asked in batches (see accuracy-lvlm.mjs). The questions are
 * measured in two halves (pictures 0–63 and 64–127), the first half of every schedule before any second half, and the file
 * is written after each, so that a run can be ended and taken up at any time.
 */
import { fork } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { askModel, bitsOf, isRight, lookAtEval, openLvlm } from './accuracy-lvlm.mjs';
import { writeReport } from './accuracy-report.mjs';

const root = join(import.meta.dirname, '..');
const lvlm = join(root, 'fixtures', 'lvlm');
const decoder = join(lvlm, 'decoder_model_merged.onnx');
const target = join(root, 'docs', 'accuracy.json');
const HALVES = 2;
const HALF = 64;
/** The median question: `<s>`, the image and six tokens. */
const PROMPT = { imageTokens: 144, textTokens: 7 };

const LAMBDAS = ['0.5', '0.3', '0.7', '0.9', '0.4', '0.6', '0.8'];
const RANKS = ['attention', 'uniform', 'random'];
const MORE_RANKS = ['norope', 'change', 'transition', 'diverse', 'balanced', 'attention+grid:0.25', 'norope+grid:0.25'];
/** Schedules that are measured on both halves before the rest is on one. */
const MAIN = /^(original|s4-l0\.5-(attention|uniform|random)(-keep)?|late-4,6-k0\.5,0\.25-attention-keep)$/;

/** What is measured, the most telling first. `-keep` at the end of a name: kept tokens keep their positions. */
function configurations() {
  const all = new Map([['original', { id: 'original' }]]);
  const add = (name, rank, positions, options, more) => {
    const id = `${name}-${rank}${positions === 'keep' ? '-keep' : ''}`;
    if (!all.has(id)) all.set(id, { id, rank, positions, options: { ...options, rank, positions }, ...more });
  };
  const grid = (stages, lambdas, ranks, positions) => {
    for (const lambda of lambdas) for (const rank of ranks) add(`s${stages}-l${lambda}`, rank, positions, { stages, lambda }, { stages, lambda });
  };
  const cut = (layer, keep, ranks, positions) => {
    for (const rank of ranks) add(`cut${layer}-k${keep}`, rank, positions, { layers: [layer], keep: [keep] }, { cut: layer, keep });
  };
  const late = (layers, keep, ranks, positions) => {
    for (const rank of ranks) add(`late-${layers}-k${keep}`, rank, positions, { layers, keep }, { late: layers, keep: keep.join(',') });
  };
  grid(4, ['0.5'], MORE_RANKS, 'keep');
  late([4, 6], ['0.5', '0.25'], RANKS, 'keep');
  grid(4, LAMBDAS, RANKS, 'keep');
  grid(4, LAMBDAS, RANKS, 'compact');
  for (const stages of [2, 6]) grid(stages, LAMBDAS, ['attention'], 'keep');
  for (const keep of ['0.25', '0.5', '0.1', '0.75']) cut(2, keep, ['attention', 'uniform'], 'keep');
  for (const layer of [4, 6, 5, 3, 7, 1]) cut(layer, '0.25', ['attention', 'uniform'], 'keep');
  for (const stages of [2, 6]) grid(stages, LAMBDAS, ['uniform', 'random'], 'keep');
  late([6], ['0'], ['attention'], 'keep');
  late([7], ['0'], ['attention'], 'keep');
  late([5, 6], ['0.5', '0.25'], ['attention', 'uniform'], 'keep');
  for (const stages of [2, 6]) grid(stages, LAMBDAS, ['attention'], 'compact');
  late([4, 6], ['0.5', '0.25'], ['attention'], 'compact');
  for (const keep of ['0.25', '0.5', '0.1', '0.75']) cut(2, keep, ['attention', 'uniform'], 'compact');
  for (const layer of [4, 6, 5, 3, 7, 1, 2]) cut(layer, '0.25', RANKS, 'compact');
  for (const stages of [2, 6]) grid(stages, LAMBDAS, ['uniform', 'random'], 'compact');
  return [...all.values()];
}

/** Random drops the same places of every picture, by its seed: four seeds, each for every fourth picture. */
const SEEDS = 4;
const variants = (c) => (c.rank === 'random' ? Array.from({ length: SEEDS }, (_, s) => ({ suffix: `-${s + 1}`, options: { ...c.options, rank: `random:${s + 1}` }, of: (q) => q.picture % SEEDS === s })) : [{ suffix: '', options: c.options, of: () => true }]);

async function worker() {
  const { compile } = await import('../dist/src/index.js');
  const model = await openLvlm(lvlm);
  const features = await lookAtEval(model, model.questions.map((q) => q.picture));
  const folder = mkdtempSync(join(tmpdir(), 'pdrop-accuracy-'));
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
  process.on('message', async ({ config, half }) => {
    const questions = model.questions.filter((q) => Math.floor(q.picture / HALF) === half);
    const right = new Array(questions.length).fill(false);
    let cost;
    const started = performance.now();
    for (const { suffix, options, of } of variants(config)) {
      const asked = [...questions.keys()].filter((i) => of(questions[i]));
      const path = options ? join(folder, `${config.id}${suffix}.onnx`) : decoder;
      if (options) {
        const { macs, plan } = await compile(decoder, { ...options, ...PROMPT, output: path, force: true });
        cost = { macs: macs.rewritten, originalMacs: macs.original, rankMacs: macs.rank, layers: plan.layers, keep: plan.keep, positions: plan.positions };
      }
      const got = await askModel(model, path, asked.map((i) => questions[i]), features);
      if (options) rmSync(path);
      asked.forEach((i, k) => {
        right[i] = isRight(questions[i], got[k]);
      });
    }
    process.send({ id: config.id, half, cost, right: bitsOf(right), n: right.length, share: right.filter(Boolean).length / right.length, seconds: (performance.now() - started) / 1000 });
  });
  process.on('disconnect', () => process.exit(0));
  process.send('ready');
}

const readResults = () => (existsSync(target) ? JSON.parse(readFileSync(target, 'utf8')) : { schema: 'pdrop-compile/accuracy/1', prompt: PROMPT, results: {} });

async function main() {
  const { values } = parseArgs({ options: { jobs: { type: 'string', default: '2' }, minutes: { type: 'string', default: '240' }, sweeps: { type: 'string' } } });
  const results = readResults();
  const configs = configurations();
  const todo = [];
  const lacking = (config, half) => !results.results[config.id]?.right?.[half];
  for (const main of [true, false]) for (let half = 0; half < HALVES; half++) for (const config of configs) if (MAIN.test(config.id) === main && lacking(config, half)) todo.push({ config, half });
  const jobs = Number(values.jobs);
  const until = Date.now() + Number(values.minutes) * 60_000;
  const save = () => {
    mkdirSync(join(root, 'docs'), { recursive: true });
    const order = new Map(configs.map((c, i) => [c.id, i]));
    const sorted = Object.entries(results.results).sort(([a], [b]) => (order.get(a) ?? 1e9) - (order.get(b) ?? 1e9));
    const { results: _, ...head } = results;
    const text = `{${Object.entries(head).map(([k, v]) => `\n "${k}": ${JSON.stringify(v)},`).join('')}\n "results": {\n${sorted.map(([id, r]) => `  "${id}": ${JSON.stringify(r)}`).join(',\n')}\n }\n}\n`;
    writeFileSync(`${target}.tmp-pdrop-${process.pid}`, text);
    renameSync(`${target}.tmp-pdrop-${process.pid}`, target);
  };
  if (values.sweeps) {
    const points = values.sweeps.split(',').map((path) => {
      const sweep = JSON.parse(readFileSync(path, 'utf8'));
      return { samples: sweep.data.samples, points: sweep.points.map((p) => ({ stages: p.stages, lambda: p.lambda, macsCut: p.macsCut, cacheCut: p.cacheCut, meanKl: p.fidelity.all.kl.mean, sameTop1: p.fidelity.all.sameTop1 })) };
    });
    results.sweeps = { keep: points[0], compact: points[1] };
    save();
  }
  if (jobs > 0 && todo.length > 0) {
    let done = 0;
    const all = todo.length;
    await Promise.all(Array.from({ length: jobs }, () => new Promise((resolve, reject) => {
      const child = fork(fileURLToPath(import.meta.url), ['--worker']);
      const next = () => {
        const unit = Date.now() < until ? todo.shift() : undefined;
        if (unit) child.send(unit);
        else child.disconnect();
      };
      child.on('message', (m) => {
        if (m !== 'ready') {
          const { options: _, ...described } = configs.find((c) => c.id === m.id);
          const old = results.results[m.id];
          results.results[m.id] = { ...described, id: undefined, ...m.cost, right: { ...old?.right, [m.half]: m.right } };
          save();
          console.log(`${++done}/${all} ${m.id} half ${m.half}: ${(100 * m.share).toFixed(1)}% of ${m.n}, ${m.seconds.toFixed(1)} s`);
        }
        next();
      });
      child.on('exit', (code) => (code ? reject(new Error(`a worker ended with ${code}`)) : resolve()));
    })));
  }
  writeReport(root);
}

if (process.argv[2] === '--worker') await worker();
else if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
