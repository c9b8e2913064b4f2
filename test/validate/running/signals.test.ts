/** Signals end validate, sweep and tune within a second, whatever onnxruntime is at, and leave nothing behind. */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { encodeModel, float32, graphOf, int64, loadModel, node } from '../../support/proto.js';
import { planArgs } from '../../support/run.js';
import { cli } from '../../support/cli.js';
import { temporaryFolder } from '../support.js';

const CLI = join(import.meta.dirname, '../../../bin/pdrop-compile.js');
const folder = temporaryFolder();
const name = 'llama-ts17-sdpa';
/** Products of 3000 × 3000 matrices: more than a minute of them. */
const PRODUCTS = 60;
const SIZE = 3000;

/** The fixture with a lot of work in front of its logits: done in each run, or while the session is made (constants are folded). */
function slow(when: 'run' | 'creation'): Uint8Array {
  const model = loadModel(name);
  const graph = graphOf(model);
  const logits = 'logits';
  for (const n of graph.node ?? []) n.output = (n.output ?? []).map((o) => (o === logits ? 'slow/logits' : o));
  const nodes = [
    node('Shape', ['inputs_embeds'], ['slow/shape']),
    node('Mul', ['slow/shape', 'slow/zeros'], ['slow/nothing']),
    node('Slice', ['slow/nothing', 'slow/from', 'slow/to'], ['slow/pair']),
    node('Add', ['slow/pair', 'slow/size'], ['slow/sizes']),
    node('ConstantOfShape', [when === 'run' ? 'slow/sizes' : 'slow/size'], ['slow/0']),
    ...Array.from({ length: PRODUCTS }, (_, i) => node('MatMul', [`slow/${i}`, `slow/${i}`], [`slow/${i + 1}`])),
    node('ReduceMax', [`slow/${PRODUCTS}`], ['slow/end'], { keepdims: 0 }),
    node('Mul', ['slow/end', 'slow/zero'], ['slow/none']),
    node('Add', ['slow/logits', 'slow/none'], [logits]),
  ];
  graph.node?.push(...nodes);
  graph.initializer?.push(int64('slow/zeros', [0, 0, 0]), int64('slow/from', [0]), int64('slow/to', [2]), int64('slow/size', [SIZE, SIZE]), float32('slow/zero', [0], []));
  return encodeModel(model);
}

interface Ended {
  readonly signal: NodeJS.Signals | null;
  readonly code: number | null;
  readonly milliseconds: number;
  readonly said: string;
}

/** Sends a signal some time after the start, or as soon as something holds; what does not end by it is ended. */
function killed(args: readonly string[], signal: NodeJS.Signals, when: number | ((pid: number) => boolean)): Promise<Ended> {
  const child = spawn(process.execPath, [CLI, ...args], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, TMPDIR: join(folder, 'tmp') } });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (d: Buffer) => (said += d.toString()));
  let sent = Number.NaN;
  const send = (): void => {
    sent = performance.now();
    child.kill(signal);
    setTimeout(() => child.kill('SIGKILL'), 10_000).unref();
  };
  const look = (): void => {
    if (typeof when === 'number' || child.exitCode !== null) return;
    if (when(child.pid as number)) send();
    else setImmediate(look);
  };
  if (typeof when === 'number') setTimeout(send, when);
  else look();
  return new Promise((resolve) => child.on('exit', (code, by) => resolve({ signal: by, code, milliseconds: performance.now() - sent, said })));
}

/** What commands make for a moment: in the temporary folder, and beside the models. */
function leftovers(): string[] {
  return [folder, join(folder, 'tmp'), join(folder, 'work')].flatMap((f) => readdirSync(f)).filter((n) => n.includes('pdrop-'));
}

async function gone(): Promise<string[]> {
  for (let i = 0; i < 50 && leftovers().length > 0; i++) await sleep(100);
  return leftovers();
}

describe('signals', () => {
  beforeAll(async () => {
    for (const f of ['tmp', 'work']) mkdirSync(join(folder, f));
    for (const when of ['run', 'creation'] as const) {
      writeFileSync(join(folder, `${when}.onnx`), slow(when));
      const { code, err } = await cli('compile', join(folder, `${when}.onnx`), '-o', join(folder, `${when}-made.onnx`), ...planArgs(name));
      expect(code, err).toBe(0);
    }
  }, 120_000);

  const commands = {
    validate: (when: string) => ['validate', join(folder, `${when}.onnx`), join(folder, `${when}-made.onnx`), '--work-dir', join(folder, 'work')],
    sweep: (when: string) => ['sweep', join(folder, `${when}.onnx`), '--work-dir', join(folder, 'work')],
    tune: (when: string) => ['tune', join(folder, `${when}.onnx`), '--target-flops', '0.7', '--work-dir', join(folder, 'work')],
  };
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  // Analysis, and then what takes a minute.
  const moments = [500, 5000];
  const cases = Object.entries(commands).flatMap(([command, args], c) =>
    (['run', 'creation'] as const).flatMap((when, w) => moments.map((after, m) => ({ command, when, after: after + 170 * c + 90 * w, signal: signals[(c + w + m) % 3] as NodeJS.Signals, args: args(when) }))),
  );

  // Handlers that are taken off lose what has been noticed and not handled: making a process takes long enough.
  it.runIf(process.platform === 'linux')('that arrive while the process that tidies up is made are not lost', { timeout: 120_000 }, async () => {
    for (let i = 0; i < 4; i++) {
      const ended = await killed([...commands.tune('creation'), '--samples', '2'], 'SIGINT', (pid) => existsSync(`/proc/${pid}/task/${pid}/children`) && readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8') !== '');
      expect(ended.signal, `exit ${ended.code}: ${ended.said}`).toBe('SIGINT');
      expect(ended.milliseconds).toBeLessThan(1000);
      expect(await gone()).toEqual([]);
    }
  });

  it.each(cases)('$signal ends $command (slow $when) after $after ms', { timeout: 60_000 }, async ({ args, signal, after }) => {
    const ended = await killed([...args, '--samples', '2'], signal, after);
    expect(ended.signal, `exit ${ended.code}: ${ended.said}`).toBe(signal);
    expect(ended.milliseconds).toBeLessThan(1000);
    expect(await gone()).toEqual([]);
  });
});
