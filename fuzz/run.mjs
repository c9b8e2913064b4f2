/**
 * Fuzzing the compiler: `npm run fuzz -- --time SECONDS --seed N [--kind bytes|meaning|faults|validate]`.
 *
 * A case is named by its kind, the seed and a number: `--kind K --seed N --only NUMBER` runs it alone, and `--reduce` makes a
 * meaning-preserving one smaller. Cases run in child processes that are watched: a crash, a hang and a leak are findings too.
 * Exit: 0 nothing found, 1 findings (or a case that proves nothing because the harness is wrong).
 */
import { fork } from 'node:child_process';
import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { BLOCK, following } from './random.mjs';

const { values } = parseArgs({
  options: {
    time: { type: 'string', default: '60' },
    seed: { type: 'string', default: '1' },
    kind: { type: 'string', multiple: true },
    cases: { type: 'string' },
    from: { type: 'string', default: '0' },
    jobs: { type: 'string', default: '1' },
    fixture: { type: 'string', multiple: true },
    only: { type: 'string' },
    reduce: { type: 'boolean', default: false },
    spec: { type: 'string' },
    log: { type: 'string' },
    json: { type: 'boolean', default: false },
    save: { type: 'string' },
  },
});

/**
 * Processor time one case may take, in milliseconds, the reading of its fixture included; ten times that by the clock,
 * since the machine may be busy. Faults wait for processes of their own.
 */
const LIMIT_MS = { bytes: 15_000, meaning: 30_000, faults: 30_000, validate: 30_000 };
const ALL = ['bytes', 'meaning', 'faults', 'validate'];
/** Phases in which onnxruntime runs a damaged model: what happens to the process there is not the compiler's doing. */
const FOREIGN = /^(load mutant|run mutant|original)$/;

const kinds = values.kind ?? ALL;
for (const k of kinds) if (!ALL.includes(k)) throw new Error(`--kind ${k}: one of ${ALL.join(', ')}`);
const options = { ...(values.fixture ? { fixtures: values.fixture } : {}), ...(values.save ? { save: values.save } : {}) };
const seed = Number(values.seed);

if (values.only !== undefined || values.spec !== undefined) {
  const { runCase, runSpec } = await import(`./${kinds[0]}/case.mjs`);
  const found = values.spec ? { spec: JSON.parse(values.spec), ...(await runSpec(JSON.parse(values.spec))) } : await runCase(seed, Number(values.only), options);
  console.log(JSON.stringify(found, null, 2).replaceAll('\\n', '\n'));
  if (values.reduce && found.spec) {
    const { reduce } = await import('./meaning/reduce.mjs');
    const small = await reduce(found.spec, console.log);
    console.log(JSON.stringify(small, null, 2));
    console.log(`npm run fuzz -- --kind meaning --spec '${JSON.stringify(small.spec)}'`);
  }
  process.exit(['finding', 'harness'].includes(found.verdict) ? 1 : 0);
}

const summary = {};
for (const kind of kinds) summary[kind] = await campaign(kind, (Number(values.time) * 1000) / kinds.length);
report(summary);

/** Runs cases until time or number is up; starts a child anew where one dies. */
async function campaign(kind, milliseconds) {
  const folder = mkdtempSync(join(tmpdir(), 'pdrop-fuzz-'));
  const jobs = Number(values.jobs);
  const until = performance.now() + milliseconds;
  const most = values.cases ? Number(values.cases) : Number.POSITIVE_INFINITY;
  const totals = { cases: 0, verdicts: {}, codes: {}, findings: [], kinds: {}, fixtures: {}, seconds: 0 };
  const started = performance.now();
  await Promise.all(Array.from({ length: jobs }, (_, job) => stream(job)));
  totals.seconds = (performance.now() - started) / 1000;
  rmSync(folder, { recursive: true, force: true });
  return totals;

  async function stream(job) {
    let next = Number(values.from) + job * BLOCK;
    const state = join(folder, `state-${job}`);
    for (let stillborn = 0; performance.now() < until && totals.cases < most && stillborn < 3; ) {
      writeFileSync(state, ''.padEnd(60));
      const after = await life(state, next);
      // A process that dies before its first case says nothing about the compiler.
      stillborn = after === next ? stillborn + 1 : 0;
      next = after;
    }
  }

  /** One child's life: until it is done, dies or hangs. @returns the number to go on with. */
  function life(state, first) {
    const child = fork(fileURLToPath(new URL('child.mjs', import.meta.url)), [JSON.stringify([kind, state, seed, first, jobs, options])], {
      execArgv: ['--max-old-space-size=1536'],
      stdio: ['ignore', 'inherit', 'pipe', 'ipc'],
    });
    let stderr = '';
    child.stderr.on('data', (chunk) => {
      stderr = (stderr + chunk).slice(-2000);
    });
    let expected = first;
    let heard = performance.now();
    let spent = 0;
    let ended;
    return new Promise((resolve) => {
      child.on('message', ({ number, result }) => {
        expected = following(number, jobs);
        heard = performance.now();
        spent = processorTime(child.pid);
        if (ended) return;
        note(totals, kind, number, result);
        if (performance.now() >= until || totals.cases >= most) stop('done');
      });
      const watch = setInterval(() => {
        if (performance.now() - heard > 10 * LIMIT_MS[kind] || processorTime(child.pid) - spent > LIMIT_MS[kind]) stop('hangs');
        // The first case of a child loads and cuts fixtures; later ones may not hold up the end.
        else if (performance.now() >= until + 5000) stop('done');
      }, 500);
      const stop = (why) => {
        ended ??= why;
        child.kill('SIGKILL');
      };
      child.on('exit', (code, signal) => {
        clearInterval(watch);
        const [number, phase] = readState(state, expected);
        if (ended !== 'done' && phase === '') {
          note(totals, kind, first, { verdict: 'harness', detail: `a process does not start: exit ${code}`, stack: stderr, kinds: [] });
          return resolve(first);
        }
        if (ended !== 'done') {
          const how = ended ?? `${signal ?? `exit ${code}`}`;
          const what = `the process ${ended ? 'hangs' : 'dies'} in "${phase}" (${how})`;
          note(totals, kind, number, FOREIGN.test(phase) ? { verdict: 'unproven', detail: what, kinds: [] } : { verdict: 'finding', detail: what, stack: stderr, kinds: [] });
        }
        resolve(following(number, jobs));
      });
    });
  }
}

/** Milliseconds a process has computed; 0 where the system does not tell. */
function processorTime(pid) {
  try {
    const [user, system] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ').slice(11, 13).map(Number);
    return (user + system) * 10;
  } catch {
    return 0;
  }
}

function readState(path, otherwise) {
  const [number, ...phase] = readFileSync(path, 'utf8').trim().split(' ');
  return [number === '' ? otherwise : Number(number), phase.join(' ')];
}

function note(totals, kind, number, result) {
  totals.cases++;
  const count = (table, key) => {
    table[key] = (table[key] ?? 0) + 1;
  };
  count(totals.verdicts, result.verdict);
  if (result.code) count(totals.codes, result.code);
  // Rates by mutation come from the cases with one alone.
  if (kind === 'meaning' && result.kinds?.length === 1) {
    totals.kinds[result.kinds[0]] ??= {};
    totals.fixtures[result.fixture] ??= {};
    count(totals.kinds[result.kinds[0]], result.code ?? result.verdict);
    count(totals.fixtures[result.fixture], result.code ? 'refused' : result.verdict);
  }
  const line = { kind, seed, number, ...result };
  if (values.log) appendFileSync(values.log, `${JSON.stringify(line)}\n`);
  if (result.verdict !== 'finding' && result.verdict !== 'harness') return;
  totals.findings.push(line);
  if (!values.json) console.log(`${result.verdict} --kind ${kind} --seed ${seed} --only ${number}: ${result.detail}\n  ${result.fixture ?? ''} ${(result.sites ?? result.kinds ?? []).join('; ')}${result.stack ? `\n  ${result.stack.split('\n').slice(0, 4).join('\n  ')}` : ''}`);
}

function report(all) {
  if (values.json) console.log(JSON.stringify(all));
  else {
    for (const [kind, t] of Object.entries(all)) {
      const verdicts = Object.entries(t.verdicts).sort((a, b) => b[1] - a[1]).map(([k, n]) => `${n} ${k}`);
      console.log(`${kind}: ${t.cases} cases in ${t.seconds.toFixed(0)} s: ${verdicts.join(', ')}${Object.keys(t.codes).length > 0 ? ` (${Object.entries(t.codes).map(([k, n]) => `${k} ${n}`).join(', ')})` : ''}`);
      const refused = Object.entries(t.kinds).map(([k, row]) => [k, Object.entries(row).filter(([v]) => v.startsWith('PD')).reduce((n, [, c]) => n + c, 0), Object.values(row).reduce((a, b) => a + b, 0)]);
      for (const [k, no, of] of refused.filter(([, no]) => no > 0).sort((a, b) => b[1] / b[2] - a[1] / a[2])) console.log(`  ${String(no).padStart(4)} of ${String(of).padStart(4)} refused: ${k}`);
    }
  }
  process.exitCode = Object.values(all).some((t) => t.findings.length > 0) ? 1 : 0;
}
