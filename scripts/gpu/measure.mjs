#!/usr/bin/env node
/**
 * Latency against FLOPs on a device: makes a decoder of a given shape (or takes one), compiles it, runs `validate` at
 * each prompt size on each provider, and prints the table for docs/gpu.md.
 *
 *   node scripts/gpu/measure.mjs --ep webgpu,cuda --image-tokens 576,2880 --out gpu-report      # 7B-shaped, fp16
 *   node scripts/gpu/measure.mjs --ep webgpu --image-tokens 24 --text-tokens 6 --shape small --out small-report
 *
 * Options: --model <file> instead of a made one; --lambda, --stages, --text-tokens, --repeats, --warmups, --work <folder>.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

const here = import.meta.dirname;
const { values: o } = parseArgs({
  options: {
    ep: { type: 'string', default: 'webgpu' },
    'image-tokens': { type: 'string', default: '576,2880' },
    'text-tokens': { type: 'string', default: '64' },
    shape: { type: 'string', default: '7b' },
    model: { type: 'string' },
    lambda: { type: 'string', default: '0.5' },
    stages: { type: 'string', default: '4' },
    repeats: { type: 'string', default: '20' },
    warmups: { type: 'string', default: '3' },
    work: { type: 'string', default: 'gpu-work' },
    out: { type: 'string', default: 'gpu-report' },
  },
});
const SHAPES = {
  '7b': ['--dtype', 'float16'],
  small: ['--layers', '8', '--hidden', '256', '--heads', '8', '--kv-heads', '8', '--mlp', '688', '--vocab', '1000', '--dtype', 'float32', '--pool-mib', '16'],
};
const shape = SHAPES[o.shape];
if (!shape) throw new Error(`--shape is one of ${Object.keys(SHAPES).join(', ')}`);
const pdrop = (...args) => execFileSync(process.execPath, [join(here, '..', '..', 'bin', 'pdrop-compile.js'), ...args], { stdio: 'inherit' });

mkdirSync(o.work, { recursive: true });
mkdirSync(o.out, { recursive: true });
const model = o.model ?? join(o.work, `${o.shape}.onnx`);
if (!existsSync(model)) execFileSync(process.execPath, [join(here, 'make-decoder.mjs'), '--out', model, ...shape], { stdio: 'inherit' });
const compiled = join(o.work, `${o.shape}.pdrop.onnx`);
pdrop('compile', model, '-o', compiled, '--stages', o.stages, '--lambda', o.lambda, '--force');

const rows = [];
const gaps = [];
const counts = [];
for (const tokens of o['image-tokens'].split(',')) {
  for (const ep of o.ep.split(',')) {
    const report = join(o.out, `${ep}-${tokens}.json`);
    const args = ['validate', model, compiled, '--ep', ep, '--image-tokens', tokens, '--text-tokens', o['text-tokens'], '--samples', '1', '--gate-samples', '1', '--continue', '2', '--maps', '0', '--repeats', o.repeats, '--warmups', o.warmups, '--report', report, '--no-resume'];
    console.log(`\n$ pdrop-compile ${args.join(' ')}`);
    try {
      pdrop(...args);
    } catch (error) {
      // A missed gate is a result too; anything else ends here.
      if (error.status !== 1) throw error;
    }
    const { readFileSync } = await import('node:fs');
    const r = JSON.parse(readFileSync(report, 'utf8'));
    const p = r.providers[0];
    const l = p.latency;
    const ms = (x) => `${x.median.toFixed(1)} (${x.p25.toFixed(1)}–${x.p75.toFixed(1)})`;
    const gates = p.gates.every((g) => g.status !== 'failed') ? 'passed' : p.gates.filter((g) => g.status === 'failed').map((g) => g.gate).join(', ');
    rows.push([ep, tokens, gates, ms(l.prefill.original), ms(l.prefill.rewritten), `${l.prefill.speedup.toFixed(2)}×`, `${l.idealPrefill.toFixed(2)}×`, `${(100 * l.achievedPrefill).toFixed(0)}%`, l.decode ? `${ms(l.decode.original)} → ${ms(l.decode.rewritten)}` : '–', `${(100 * (p.placement?.rewritten.prefill.macShare ?? 0)).toFixed(1)}%`]);
    for (const phase of ['prefill', 'decode']) {
      const [before, after] = ['original', 'rewritten'].map((which) => p.placement?.[which][phase]?.executed);
      if (before && after) counts.push([ep, tokens, phase, ...['kernels', 'launches', 'copies', 'syncs'].map((what) => `${before[what]} → ${after[what]}`)]);
    }
    for (const which of ['original', 'rewritten']) {
      const b = p.placement?.[which].prefill.breakdown;
      if (b) gaps.push([ep, tokens, which, b.source, ...[b.linear, b.attention, b.dropping, b.other, b.outside].map((v) => (v / 1000).toFixed(1))]);
    }
  }
}
const markdown = (head, body) => [`| ${head.join(' | ')} |`, `| ${head.map(() => '---').join(' | ')} |`, ...body.map((r) => `| ${r.join(' | ')} |`)].join('\n');
const text = [
  markdown(['provider', 'image tokens', 'gates', 'prefill original, ms', 'rewritten, ms', 'speed-up', 'MACs allow', 'achieved', 'decode step, ms', 'MACs on the provider'], rows),
  '',
  'What was executed, original → rewritten:',
  '',
  markdown(['provider', 'image tokens', 'run', 'kernels', 'launched on the device', 'copies', 'waits for the device'], counts),
  '',
  'Where the time of one profiled prefill goes, ms:',
  '',
  markdown(['provider', 'image tokens', 'model', 'measured on', 'products', 'attention', 'dropping', 'other', 'outside'], gaps),
  '',
].join('\n');
writeFileSync(join(o.out, 'table.md'), text);
console.log(`\n${text}`);
