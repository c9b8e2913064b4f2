/**
 * npm run bench: what compiling costs, beside what merely loading and saving costs, and what the rank adds to the graph.
 * All in one run, contenders in turn, medians, as ratios; times are of whole processes, start-up included.
 *
 *   BENCH_RUNS=9     runs of each contender (default 5)
 *   PYTHON=…         interpreter of the peers onnx and onnx-ir (default python3); without them their lines are left out
 *   BENCH_ONLY=large only how compiling grows with a graph
 *   -- latency …     prefill and decode step of original and rewritten models instead (bench/latency.mjs tells its flags)
 *   BENCH_FOLDER=…   where the models go (default the system's temporary folder; 6 GB of real data, 13 GB of holes)
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { availableParallelism, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { unpackWithEmbeddedWeights, unpackWithExternalData } from './graphs.mjs';
import { PADDINGS, writePadded } from './large.mjs';

if (process.argv[2] === 'latency') {
  const { latency } = await import('./latency.mjs');
  latency(process.argv.slice(3));
  process.exit(0);
}

const RUNS = Number(process.env.BENCH_RUNS ?? 5);
const PYTHON = process.env.PYTHON ?? 'python3';
const here = (name) => fileURLToPath(new URL(name, import.meta.url));
const CLI = here('../bin/pdrop-compile.js');
const NODE = [process.execPath, '--import', new URL('at-exit.mjs', import.meta.url).href];
const SIZES = [12_500, 25_000, 50_000, 100_000];
const STAGES = ['--stages', '4', '--lambda', '0.5'];
const TARGET = { seconds: 0.6, megabytes: 150, copy: 1.5, rank: 0.01, packedRank: 0.015 };

const folder = mkdtempSync(join(process.env.BENCH_FOLDER ?? tmpdir(), 'pdrop-bench-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(130));

/** Runs a command to its end: seconds of wall time, and what it measured of itself. */
async function measure(command, outputs) {
  const measured = join(folder, 'measured.json');
  for (const path of [measured, ...outputs]) rmSync(path, { force: true });
  const started = performance.now();
  const child = spawn(command[0], command.slice(1), { env: { ...process.env, BENCH_MEASURED: measured }, stdio: ['ignore', 'ignore', 'pipe'] });
  let complaint = '';
  child.stderr.on('data', (text) => {
    complaint += text;
  });
  const code = await new Promise((resolve, reject) => child.on('error', reject).on('close', resolve));
  const seconds = (performance.now() - started) / 1000;
  if (code !== 0) throw new Error(`${command.join(' ')} ended with ${code}\n${complaint}`);
  const self = existsSync(measured) ? JSON.parse(readFileSync(measured, 'utf8')) : {};
  return { seconds, cpuSeconds: self.cpuMs === undefined ? undefined : self.cpuMs / 1000, megabytes: self.peakBytes === undefined ? undefined : self.peakBytes / 1e6 };
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** Every contender once a round, so that a busy minute hits them all; the first round only warms caches. */
async function race(contenders, rounds) {
  const samples = new Map(contenders.map((c) => [c, []]));
  for (let round = 0; round <= rounds; round++) {
    for (const c of contenders) {
      const sample = await measure(c.command, c.outputs);
      if (round > 0) samples.get(c).push(sample);
    }
  }
  return contenders.map((c) => {
    const all = samples.get(c);
    const of = (key) => (all[0][key] === undefined ? undefined : median(all.map((s) => s[key])));
    return { name: c.name, seconds: of('seconds'), cpuSeconds: of('cpuSeconds'), megabytes: of('megabytes'), fastest: Math.min(...all.map((s) => s.seconds)) };
  });
}

const number = (value, digits, unit) => (value === undefined ? '–' : `${value.toFixed(digits)} ${unit}`);

function table(results, base) {
  const rows = [['', 'time', 'of ours', 'fastest', 'CPU time', 'peak memory', 'of ours']];
  for (const r of results) {
    rows.push([
      r.name,
      number(r.seconds, 2, 's'),
      `${(r.seconds / base.seconds).toFixed(2)} ×`,
      number(r.fastest, 2, 's'),
      number(r.cpuSeconds, 2, 's'),
      number(r.megabytes, 0, 'MB'),
      r.megabytes === undefined || base.megabytes === undefined ? '–' : `${(r.megabytes / base.megabytes).toFixed(2)} ×`,
    ]);
  }
  const widths = rows[0].map((_, i) => Math.max(...rows.map((row) => row[i].length)));
  for (const row of rows) console.log(`  ${row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join('  ')}`);
}

function verdict(what, value, target, show) {
  console.log(`  ${value <= target ? 'met   ' : 'MISSED'}  ${what}: ${show(value)} (target ${show(target)})`);
}

function pythonHas(module) {
  return spawnSync(PYTHON, ['-c', `import ${module}`], { stdio: 'ignore' }).status === 0;
}

/** A report of what would be compiled, nothing written. */
function dryRun(model, ...options) {
  const path = join(folder, 'report.json');
  const run = spawnSync(process.execPath, [CLI, model, ...STAGES, '--dry-run', '--quiet', '--report', path, '--force', ...options], { encoding: 'utf8' });
  if (run.status !== 0) throw new Error(run.stderr);
  return JSON.parse(readFileSync(path, 'utf8'));
}

function rankCost(label, model, target) {
  for (const imageTokens of [576, 2880]) {
    const attention = dryRun(model, '--image-tokens', String(imageTokens));
    // What ranking costs is what the graph would save by choosing tokens evenly: keys of tokens that are then dropped included.
    const uniform = dryRun(model, '--image-tokens', String(imageTokens), '--rank', 'uniform');
    const share = (attention.macs.rewritten - uniform.macs.rewritten) / attention.macs.rewritten;
    const { before, after } = attention.nodes;
    console.log(`  ${label}, ${imageTokens} image tokens: prefill ${(100 * attention.macs.ratio).toFixed(1)} % of the MACs; nodes ${before} → ${after} (+${after - before})`);
    verdict('rank share of prefill MACs', share, target, (v) => `${(100 * v).toFixed(2)} %`);
  }
}

/** Size → time and memory: what is not linear shows as a last column that grows. */
async function growth() {
  console.log('\nHow compiling grows with a graph (a small decoder, padded; one run each)');
  const target = join(folder, 'padded-out.onnx');
  for (const padding of Object.keys(PADDINGS)) {
    const rows = [['count', 'time', 'CPU time', 'peak memory', 'CPU per 1,000']];
    for (const count of padding.startsWith('initializers') ? [...SIZES, 1_000_000] : SIZES) {
      const model = join(folder, 'padded.onnx');
      writePadded(padding, count, model);
      const { seconds, cpuSeconds, megabytes } = await measure([...NODE, CLI, model, '--stages', '2', '--lambda', '0.5', '-o', target, '--quiet'], [target]);
      rows.push([count.toLocaleString('en'), number(seconds, 1, 's'), number(cpuSeconds, 1, 's'), number(megabytes, 0, 'MB'), number((1e6 * cpuSeconds) / count, 0, 'ms')]);
      rmSync(model);
    }
    console.log(`  ${padding}`);
    for (const row of rows) console.log(`    ${row.map((cell) => cell.padStart(14)).join('')}`);
  }
  rmSync(target, { force: true });
}

console.log(`pdrop-compile bench: node ${process.version}, ${availableParallelism()} cores, load ${loadavg()[0].toFixed(1)}, ${RUNS} runs each\n`);

if (process.env.BENCH_ONLY === 'large') {
  await growth();
  process.exit(0);
}

const seven = unpackWithExternalData('llama-7b-ts17', folder);
const out = join(folder, 'out.onnx');
const telling = (model) => [...NODE, CLI, model, ...STAGES, '-o', out];
const compileOf = (model) => [...telling(model), '--quiet'];
const peers = [{ name: 'onnx-proto decode → edit → encode (Node)', command: [...NODE, here('peer-proto.mjs'), seven.model, out], outputs: [out] }];
for (const [library, module] of [['onnx', 'onnx'], ['onnx-ir', 'onnx_ir']]) {
  if (pythonHas(module)) peers.push({ name: `${library} load → edit → save (Python)`, command: [PYTHON, here('peers.py'), library, seven.model, out], outputs: [out] });
  else console.log(`skipped: ${PYTHON} has no module ${module}; PYTHON=… names another interpreter\n`);
}
console.log(`Llama-7B shapes, TorchScript export, ${(seven.weightBytes / 1e9).toFixed(1)} GB of external data (sparse)`);
const external = await race([{ name: 'pdrop-compile --quiet', command: compileOf(seven.model), outputs: [out] }, { name: 'the same, its report printed', command: telling(seven.model), outputs: [out] }, { name: 'node, empty script', command: [...NODE, '-e', '0'], outputs: [] }, ...peers], RUNS);
table(external, external[0]);
for (const [which, { seconds, cpuSeconds, megabytes }] of [['', external[0]], [', report printed', external[1]]]) {
  verdict(`time${which}`, seconds, TARGET.seconds, (v) => `${v.toFixed(2)} s`);
  verdict(`CPU time${which}`, cpuSeconds, TARGET.seconds, (v) => `${v.toFixed(2)} s`);
  verdict(`peak memory${which}`, megabytes, TARGET.megabytes, (v) => `${v.toFixed(0)} MB`);
}

const narrow = unpackWithEmbeddedWeights('llama-0.9b-ts17', folder);
const copy = join(folder, 'copy.onnx');
// cp has ways of not copying (reflinks, holes); where it can be told not to use them, it is.
const plain = ['cp', '--reflink=never', '--sparse=never', narrow.model, copy];
const understood = spawnSync(plain[0], [plain[1], plain[2], here('bench.mjs'), copy], { stdio: 'ignore' }).status === 0;
console.log(`\nThe same decoder, narrower, ${(narrow.bytes / 1e9).toFixed(2)} GB with its weights embedded`);
const embedded = await race(
  [
    { name: 'pdrop-compile', command: compileOf(narrow.model), outputs: [out, copy] },
    { name: 'cp', command: understood ? plain : ['cp', narrow.model, copy], outputs: [out, copy] },
  ],
  Math.min(RUNS, 5),
);
table(embedded, embedded[0]);
verdict('time beside cp', embedded[0].seconds / embedded[1].seconds, TARGET.copy, (v) => `${v.toFixed(2)} ×`);
verdict('peak memory beside external data', embedded[0].megabytes / external[0].megabytes, 1.1, (v) => `${v.toFixed(2)} ×`);
rmSync(narrow.model);
rmSync(copy, { force: true });

console.log('\nWhat the rewritten graph costs');
rankCost('separate projections', seven.model, TARGET.rank);
rmSync(join(folder, 'weights.bin'));
const packed = unpackWithExternalData('llama-7b-genai', folder);
rankCost('packed projections (genai builder)', packed.model, TARGET.packedRank);

await growth();
