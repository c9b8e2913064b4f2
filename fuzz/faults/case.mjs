/**
 * One fault: the command line, ended or hindered at a random moment. Whatever happens, the model is whole: the new one or
 * what was there before; its data belongs to it; nothing else in the folder has changed; what is left over is swept by the next
 * run, which succeeds.
 */
import { spawn } from 'node:child_process';
import { chmodSync, closeSync, cpSync, existsSync, mkdirSync, mkdtempSync, openSync, readdirSync, renameSync, rmSync, statSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Fixture } from '../fixtures.mjs';
import { decode, encode, rawTensor } from '../proto.mjs';
import { caseSeed, random } from '../random.mjs';
import { contents, isTemporary, settled } from './folder.mjs';

const BIN = fileURLToPath(new URL('../../bin/pdrop-compile.js', import.meta.url));
const MODEL = 'model.onnx';
const DATA = 'weights.bin';
const home = mkdtempSync(join(tmpdir(), 'pdrop-fuzz-faults-'));
process.on('exit', () => rmSync(home, { recursive: true, force: true }));

/** Megabytes of weights: enough that writing takes a while, also on a fast disk. */
const WEIGHTS = 8 * 2 ** 20;
const LARGE = 300 * 2 ** 20;
const OPTIONS = [
  ['--stages', '2'],
  ['--stages', '2', '--lambda', '0.25'],
];

const sources = new Map();
const expected = new Map();

/** The source of a layout, made once: embedded weights, embedded and large, or external. */
async function source(layout) {
  if (sources.has(layout)) return sources.get(layout);
  const fixture = await new Fixture('genai-llama-embeds-fp32').sliced(4);
  const model = decode(fixture.bytes);
  const folder = join(home, `source-${layout}`);
  mkdirSync(folder);
  const size = layout === 'large' ? LARGE : WEIGHTS;
  const payload = new Uint8Array(size);
  for (let i = 0; i < size; i += 4096) payload[i] = i >> 12;
  const t = rawTensor('padding', 2, layout === 'external' ? new Uint8Array(0) : payload, [size]);
  if (layout === 'external') {
    t.dataLocation = 1;
    t.externalData = [{ key: 'location', value: DATA }, { key: 'offset', value: '0' }, { key: 'length', value: String(size) }];
    writeFileSync(join(folder, DATA), payload);
  }
  model.graph.initializer.push(t);
  writeFileSync(join(folder, MODEL), encode(model));
  sources.set(layout, folder);
  return folder;
}

/** What a whole run writes for a layout and options: the digest of the model. */
async function whole(layout, options) {
  const key = `${layout} ${options}`;
  if (!expected.has(key)) {
    const out = mkdtempSync(join(home, 'whole-'));
    const from = await source(layout);
    const started = performance.now();
    const { code, printed } = await cli([join(from, MODEL), '-o', join(out, MODEL), '--quiet', ...options]).done;
    if (code !== 0) throw new Error(`a run without a fault exits ${code}: ${printed}`);
    expected.set(key, { model: contents(out).get(MODEL), milliseconds: performance.now() - started });
    rmSync(out, { recursive: true });
  }
  return expected.get(key);
}

function cli(args, { shell, ...spawnOptions } = {}) {
  const child = shell ? spawn('bash', ['-c', `${shell}; exec "$0" "$@"`, process.execPath, BIN, ...args], spawnOptions) : spawn(process.execPath, [BIN, ...args], spawnOptions);
  let printed = '';
  const hear = (chunk) => {
    printed = (printed + chunk).slice(-4000);
  };
  child.stdout.on('data', hear);
  child.stderr.on('data', hear);
  const started = performance.now();
  const done = new Promise((resolve) => child.on('close', (code, signal) => resolve({ code, signal, printed, milliseconds: performance.now() - started })));
  return { child, done };
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** A random moment: anywhere in the run, or while something is being written. */
async function moment(r, run, out, milliseconds) {
  let over = false;
  run.done.then(() => {
    over = true;
  });
  if (r.chance(0.35)) return sleep(r.next() * milliseconds * 1.1);
  const started = performance.now();
  while (!over && performance.now() - started < milliseconds * 4 && !(existsSync(out) && readdirSync(out).some(isTemporary))) await sleep(1);
  return sleep(r.next() ** 2 * 80);
}

/** What stands in the output's folder before the run. */
function prepare(r, layout, force) {
  const out = mkdtempSync(join(home, 'out-'));
  writeFileSync(join(out, 'notes.txt'), 'mine');
  writeFileSync(join(out, '.hidden'), 'mine too');
  writeFileSync(join(out, 'weights.bin.bak'), 'a copy');
  if (r.chance(0.3)) mkdirSync(join(out, 'folder'));
  if (force) {
    writeFileSync(join(out, MODEL), 'the old model');
    if (layout === 'external') writeFileSync(join(out, DATA), 'the old data');
  }
  return out;
}

/** old, new, absent, or what else. */
function stateOf(found, before, name, fresh) {
  const now = found.get(name);
  if (now === undefined) return before.has(name) ? 'gone' : 'old';
  if (now === before.get(name)) return 'old';
  return fresh.has(now) ? 'new' : 'torn';
}

/** What is wrong with a folder after a fault. `finished`: the run said it had succeeded. */
function problems(out, before, layout, fresh, data, { finished = false, temporaries = false } = {}) {
  const found = contents(out);
  const wrong = [];
  const model = stateOf(found, before, MODEL, fresh);
  const weights = layout === 'external' ? stateOf(found, before, DATA, new Set([data])) : 'old';
  if (!['old', 'new'].includes(model)) wrong.push(`the model is ${model}`);
  if (!['old', 'new'].includes(weights)) wrong.push(`the data is ${weights}`);
  if (layout === 'external' && model === 'new' && weights !== 'new') wrong.push(`the model is new, its data ${weights}`);
  if (layout === 'external' && before.has(MODEL) && model === 'old' && weights !== 'old') wrong.push(`the model is old, its data ${weights}`);
  if (finished && model !== 'new') wrong.push('it says it succeeded, but the model is not the new one');
  for (const [name, was] of before) if (name !== MODEL && name !== DATA && found.get(name) !== was) wrong.push(`${name} has changed`);
  for (const name of found.keys()) {
    if (before.has(name) || name === MODEL || (name === DATA && layout === 'external')) continue;
    if (!(temporaries && isTemporary(name))) wrong.push(`${name} is left`);
  }
  return { wrong, model, weights, left: [...found.keys()].filter(isTemporary) };
}

const finding = (detail, what) => ({ verdict: 'finding', detail, ...what });

/** After a fault an undisturbed run must succeed and clean up. */
async function recovers(args, out, before, layout, fresh, data, force) {
  const again = await cli(force ? args : [...args, '--force']).done;
  if (again.code !== 0) return `the next run exits ${again.code}: ${again.printed.slice(0, 300)}`;
  const { wrong } = problems(out, before, layout, fresh, data, { finished: true });
  return wrong.length > 0 ? `after the next run: ${wrong.join('; ')}` : undefined;
}

const FAULTS = {
  async kill(r) {
    const signal = r.pick(['SIGKILL', 'SIGKILL', 'SIGTERM', 'SIGINT']);
    const layout = r.pick(['embedded', 'embedded', 'external', 'external', 'external', ...(r.chance(0.15) ? ['large'] : [])]);
    const force = r.chance(0.5);
    const options = OPTIONS[0];
    const { model, milliseconds } = await whole(layout, options);
    const from = await source(layout);
    const mode = layout === 'external' ? ['--external-data', r.pick(['copy', 'copy', 'link', 'auto'])] : [];
    const out = prepare(r, layout, force);
    const what = { kinds: [`kill ${signal}`], options: [layout, force ? 'over an old model' : 'new', ...mode].join(' ') };
    try {
      const before = contents(out);
      const data = contents(from).get(DATA);
      const args = [join(from, MODEL), '-o', join(out, MODEL), '--quiet', ...options, ...mode, ...(force ? ['--force'] : [])];
      const run = cli(args);
      await moment(r, run, out, milliseconds);
      const sent = performance.now();
      const alive = run.child.kill(signal) && run.child.exitCode === null;
      const twice = signal === 'SIGINT' && r.chance(0.2) && sleep(5).then(() => run.child.kill(signal));
      const end = await run.done;
      await twice;
      const took = performance.now() - sent;
      const finished = end.code === 0;
      if (alive && !finished && signal !== 'SIGKILL' && ![130, 143].includes(end.code) && end.signal !== signal) return finding(`${signal}: exit ${end.code} ${end.signal}: ${end.printed.slice(0, 200)}`, what);
      if (signal !== 'SIGKILL' && took > 10_000) return finding(`${signal}: it took ${took.toFixed(0)} ms to end`, what);
      const fresh = new Set([model]);
      if (signal !== 'SIGKILL') await settled(out);
      const after = problems(out, before, layout, fresh, data, { finished, temporaries: signal === 'SIGKILL' });
      // Killed between two files that belong together: the journal says so, and the next run takes them back.
      if (after.wrong.length > 0 && signal === 'SIGKILL' && after.left.some((name) => name.includes('.placing-pdrop'))) {
        const trouble = await recovers(args, out, before, layout, fresh, data, force);
        return trouble ? finding(trouble, what) : { verdict: 'taken back', ...what };
      }
      if (after.wrong.length > 0) return finding(after.wrong.join('; '), what);
      if (contents(from).size !== (layout === 'external' ? 2 : 1)) return finding('the source’s folder has changed', what);
      if (after.left.length > 0 || r.chance(0.1)) {
        const trouble = await recovers(args, out, before, layout, fresh, data, force);
        if (trouble) return finding(trouble, what);
      }
      return { verdict: finished ? 'finished' : 'whole', ...what, left: after.left.length };
    } finally {
      rmSync(out, { recursive: true, force: true });
    }
  },

  /** Too little room, too few file descriptors, no permission to write. */
  async limits(r) {
    const how = r.pick(['file size', 'file size', 'disk', 'descriptors', 'read-only']);
    const layout = r.pick(['embedded', 'external']);
    const force = r.chance(0.5);
    const options = OPTIONS[0];
    const { model } = await whole(layout, options);
    const from = await source(layout);
    const out = prepare(r, layout, force);
    const what = { kinds: [how], options: `${layout} ${force ? 'over an old model' : 'new'}` };
    let mounted;
    try {
      let target = out;
      let shell;
      let extra = {};
      if (how === 'file size') shell = `ulimit -f ${1 + r.below((WEIGHTS / 1024) * 1.2)}`;
      if (how === 'descriptors') shell = `ulimit -n ${8 + r.below(40)}`;
      if (how === 'read-only') {
        if (process.getuid() === 0) {
          for (const folder of [home, from, ...readdirSync(from).map((f) => join(from, f))]) chmodSync(folder, statSync(folder).isDirectory() ? 0o755 : 0o644);
          extra = { uid: 65534, gid: 65534 };
        }
        chmodSync(out, 0o555);
      }
      if (how === 'disk') {
        const size = Math.ceil((WEIGHTS * (0.1 + 1.5 * r.next())) / 4096) * 4096;
        const tmpfs = join(out, 'tmpfs');
        mkdirSync(tmpfs);
        const mount = await command('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', tmpfs]);
        if (mount !== 0) return { verdict: 'not possible here', ...what };
        mounted = tmpfs;
        target = tmpfs;
        if (force) writeFileSync(join(target, MODEL), 'the old model');
        if (force && layout === 'external') writeFileSync(join(target, DATA), 'the old data');
      }
      const before = contents(target);
      const data = contents(from).get(DATA);
      const args = [join(from, MODEL), '-o', join(target, MODEL), '--quiet', ...options, ...(layout === 'external' ? ['--external-data', 'copy'] : []), ...(force ? ['--force'] : [])];
      const end = await cli(args, { shell, ...extra }).done;
      if (how === 'read-only') chmodSync(out, 0o755);
      const finished = end.code === 0;
      // Too few descriptors for Node itself: it ends before the first line of ours.
      const ours = /error PD\d{3}/.test(end.printed);
      const unopened = /EMFILE: too many open files, open '[^']*bin\/pdrop-compile\.js'/.test(end.printed);
      if (!finished && !ours && how === 'descriptors' && (unopened || !/pdrop|dist\/src/.test(end.printed))) return { verdict: 'node does not start', ...what };
      if (!finished && !(ours && [2, 3].includes(end.code))) return finding(`exit ${end.code} ${end.signal ?? ''}: ${end.printed.slice(0, 300)}`, what);
      const after = problems(target, before, layout, new Set([model]), data, { finished });
      return after.wrong.length > 0 ? finding(after.wrong.join('; '), what) : { verdict: finished ? 'finished' : 'refused', ...(finished ? {} : { code: /PD\d{3}/.exec(end.printed)[0] }), ...what };
    } finally {
      if (mounted) await command('umount', [mounted]);
      rmSync(out, { recursive: true, force: true });
    }
  },

  /** The source shrinks, goes, or is written to while it is read. */
  async source(r) {
    const how = r.pick(['shrinks', 'shrinks', 'is emptied', 'is removed', 'is renamed', 'is overwritten', 'grows']);
    const layout = r.pick(['embedded', 'external', ...(r.chance(0.2) ? ['large'] : [])]);
    const options = OPTIONS[0];
    const { model, milliseconds } = await whole(layout, options);
    const from = mkdtempSync(join(home, 'shaky-'));
    const original = await source(layout);
    cpSync(original, from, { recursive: true });
    const force = r.chance(0.5);
    const out = prepare(r, layout, force);
    const what = { kinds: [`the source ${how}`], options: `${layout} ${force ? 'over an old model' : 'new'}` };
    try {
      const before = contents(out);
      const data = contents(from).get(DATA);
      const victim = join(from, layout === 'external' && r.chance(0.7) ? DATA : MODEL);
      const args = [join(from, MODEL), '-o', join(out, MODEL), '--quiet', ...options, ...(layout === 'external' ? ['--external-data', 'copy'] : []), ...(force ? ['--force'] : [])];
      const run = cli(args);
      await moment(r, run, out, milliseconds);
      const { size } = statSync(victim);
      if (how === 'shrinks') truncateSync(victim, r.below(size));
      else if (how === 'is emptied') truncateSync(victim, 0);
      else if (how === 'is removed') rmSync(victim);
      else if (how === 'is renamed') renameSync(victim, `${victim}.away`);
      else {
        const fd = openSync(victim, 'r+');
        writeSync(fd, Buffer.alloc(100, 7), 0, 100, how === 'grows' ? size : r.below(size));
        closeSync(fd);
      }
      const end = await Promise.race([run.done, sleep(60_000).then(() => undefined)]);
      if (!end) {
        run.child.kill('SIGKILL');
        return finding('it hangs', what);
      }
      const finished = end.code === 0;
      if (!finished && !(/error PD\d{3}/.test(end.printed) && [2, 3].includes(end.code))) return finding(`exit ${end.code} ${end.signal ?? ''}: ${end.printed.slice(0, 300)}`, what);
      const copied = contents(out).get(DATA);
      // What has grown before it was read is copied as it was then.
      const grown = how === 'grows' && contents(from).get(DATA);
      const after = problems(out, before, layout, new Set([model]), grown && copied === grown ? grown : data, { finished });
      // Bytes that change under a reader are read before or after: only what is not the source at any moment is torn.
      if (finished && how === 'is overwritten' && after.wrong.length > 0) return { verdict: 'unproven', detail: `overwritten while it was read (${copied === data ? 'model' : 'data'})`, ...what };
      return after.wrong.length > 0 ? finding(after.wrong.join('; '), what) : { verdict: finished ? 'finished' : 'refused', ...(finished ? {} : { code: /PD\d{3}/.exec(end.printed)[0] }), ...what };
    } finally {
      rmSync(out, { recursive: true, force: true });
      rmSync(from, { recursive: true, force: true });
    }
  },

  /** Two runs write the same output at the same time. */
  async race(r) {
    const layout = r.pick(['embedded', 'external']);
    const force = r.chance(0.5);
    const from = await source(layout);
    const both = [await whole(layout, OPTIONS[0]), await whole(layout, OPTIONS[1])];
    const out = prepare(r, layout, force);
    const what = { kinds: ['two at once'], options: `${layout} ${force ? '--force' : ''}` };
    try {
      const before = contents(out);
      const data = contents(from).get(DATA);
      const start = (options) => cli([join(from, MODEL), '-o', join(out, MODEL), '--quiet', ...options, ...(layout === 'external' ? ['--external-data', r.pick(['copy', 'auto'])] : []), ...(force ? ['--force'] : [])]).done;
      const first = start(OPTIONS[0]);
      await sleep(r.chance(0.5) ? 0 : r.below(60));
      const ends = await Promise.all([first, start(OPTIONS[1])]);
      for (const end of ends) if (end.code !== 0 && !(/error PD\d{3}/.test(end.printed) && end.code === 2)) return finding(`exit ${end.code}: ${end.printed.slice(0, 300)}`, what);
      const won = ends.flatMap((end, i) => (end.code === 0 ? [i] : []));
      if (won.length === 0) return finding(`both failed: ${ends.map((e) => e.printed.slice(0, 150)).join(' | ')}`, what);
      if (!force && won.length > 1) return finding('without --force both say they succeeded', what);
      const after = problems(out, before, layout, new Set(won.map((i) => both[i].model)), data, { finished: true });
      return after.wrong.length > 0 ? finding(after.wrong.join('; '), what) : { verdict: 'whole', ...what };
    } finally {
      rmSync(out, { recursive: true, force: true });
    }
  },
};

function command(name, args) {
  return new Promise((resolve) => spawn(name, args, { stdio: 'ignore' }).on('close', resolve).on('error', () => resolve(-1)));
}

export async function runCase(seed, number, { note = () => {}, faults } = {}) {
  const r = random(caseSeed(seed, number));
  const name = r.pick(faults ?? ['kill', 'kill', 'kill', 'kill', 'kill', 'limits', 'limits', 'source', 'source', 'race']);
  note(name);
  return { fixture: 'genai-llama-embeds-fp32', ...(await FAULTS[name](r)) };
}
