/**
 * npm run bench -- latency: prefill and decode step of an original and of what is made of it, interleaved, on this
 * machine's CPU; decoders of given shapes with random weights, made into a temporary folder.
 *
 *   --shapes 0.3b,1b   --types float32,int4   --image-tokens 576,2880   --text-tokens 64
 *   --stages 4   --lambda 0.5   --repeats 5   --warmups 1   --out latency.md   (default: only printed)
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const here = (name) => fileURLToPath(new URL(name, import.meta.url));
const SHAPES = {
  '0.3b': { layers: 24, hidden: 1024, heads: 16, 'kv-heads': 4, mlp: 2816, vocab: 32000 },
  '1b': { layers: 22, hidden: 2048, heads: 32, 'kv-heads': 4, mlp: 5632, vocab: 32000 },
  tiny: { layers: 8, hidden: 128, heads: 4, 'kv-heads': 2, mlp: 256, vocab: 500 },
};

export function latency(argv) {
  const { values: o } = parseArgs({
    args: argv,
    options: {
      shapes: { type: 'string', default: '0.3b,1b' },
      types: { type: 'string', default: 'float32,int4' },
      'image-tokens': { type: 'string', default: '576,2880' },
      'text-tokens': { type: 'string', default: '64' },
      stages: { type: 'string', default: '4' },
      lambda: { type: 'string', default: '0.5' },
      repeats: { type: 'string', default: '5' },
      warmups: { type: 'string', default: '1' },
      out: { type: 'string' },
    },
  });
  const list = (name) => o[name].split(',').map((x) => x.trim()).filter(Boolean);
  for (const s of list('shapes')) if (!SHAPES[s]) throw new Error(`--shapes: ${s} is none of ${Object.keys(SHAPES).join(', ')}`);
  const folder = mkdtempSync(join(process.env.BENCH_FOLDER ?? tmpdir(), 'pdrop-latency-'));
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(130));
  const run = (...args) => execFileSync(process.execPath, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  const cli = here('../bin/pdrop-compile.js');

  const rows = [];
  for (const shape of list('shapes')) {
    for (const type of list('types')) {
      const work = join(folder, `${shape}-${type}`);
      mkdirSync(work);
      const [model, compiled, report] = ['model.onnx', 'compiled.onnx', 'report.json'].map((f) => join(work, f));
      run(here('../scripts/gpu/make-decoder.mjs'), '--out', model, '--dtype', type, '--pool-mib', '256', ...Object.entries(SHAPES[shape]).flatMap(([k, v]) => [`--${k}`, String(v)]));
      run(cli, 'compile', model, '-o', compiled, '--stages', o.stages, '--lambda', o.lambda, '--quiet');
      for (const tokens of list('image-tokens')) {
        const before = loadavg()[0];
        try {
          run(cli, 'validate', model, compiled, '--image-tokens', tokens, '--text-tokens', o['text-tokens'], '--samples', '1', '--no-gates', '--continue', '1', '--no-memory', '--maps', '0', '--repeats', o.repeats, '--warmups', o.warmups, '--report', report, '--no-resume');
        } catch (error) {
          // A finding is a result too.
          if (error.status !== 1) throw error;
        }
        const { latency: l, placement } = JSON.parse(readFileSync(report, 'utf8')).providers[0];
        const row = rowOf(`${shape} ${type}`, tokens, l, placement, Math.max(before, loadavg()[0]));
        rows.push(row);
        console.log(row.join('  '));
      }
      rmSync(work, { recursive: true });
    }
  }
  const head = ['decoder', 'image tokens', 'prefill, ms', 'speed-up', 'of the ideal', 'decode step, ms', 'speed-up', 'of the ideal', 'kernels of prefill', 'of a decode step', 'break-even, image tokens', 'load'];
  const table = [head, head.map(() => '---'), ...rows].map((r) => `| ${r.join(' | ')} |`).join('\n');
  const text = `${cpus()[0]?.model ?? 'unknown CPU'}, ${availableParallelism()} threads, node ${process.version}; ${o.stages} stages, λ ${o.lambda}, ${o['text-tokens']} text tokens; medians of ${o.repeats} (quartiles)\n\n${table}\n`;
  if (o.out) writeFileSync(o.out, text);
  console.log(`\n${text}`);
}

function rowOf(name, tokens, l, placement, load) {
  const ms = (x) => `${x.median.toFixed(1)} (${x.p25.toFixed(1)}–${x.p75.toFixed(1)})`;
  const pair = (p) => `${ms(p.original)} → ${ms(p.rewritten)}`;
  const kernels = (phase) => (placement ? `${placement.original[phase].executed.kernels} → ${placement.rewritten[phase].executed.kernels}` : '–');
  const share = (v) => (v === null || v === undefined ? '–' : `${(100 * v).toFixed(0)}%`);
  return [name, tokens, pair(l.prefill), `${l.prefill.speedup.toFixed(2)}×`, share(l.achievedPrefill), pair(l.decode), `${l.decode.speedup.toFixed(2)}×`, share(l.achievedDecode), kernels('prefill'), kernels('decode'), l.breakEven === null ? '–' : l.breakEven.toFixed(0), load.toFixed(1)];
}
