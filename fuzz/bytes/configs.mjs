/** Damaged files beside the model: config.json, an options file, a plan, a report. They are read, or refused with a code. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { main } from '../../dist/src/cli/main.js';
import { fixtureOf } from '../meaning/subject.mjs';

const CONFIG = {
  architectures: ['LlavaForConditionalGeneration'],
  image_token_index: 32000,
  image_seq_length: 576,
  text_config: { hidden_size: 64, intermediate_size: 96, num_hidden_layers: 8 },
  vision_config: { image_size: 336, patch_size: 14 },
  model: { image_token_id: 7, vision: { image_size: 448, patch_size: 14 } },
};
const OPTIONS = { stages: 3, lambda: 0.5, 'image-mask': 'input', positions: 'compact', rank: 'attention', probe: true, layers: [1, 2], keep: ['0.5', '0.25'], 'image-tokens': 576, 'text-tokens': 64 };
const PLAN = { version: 1, layers: [1, 2], keep: ['0.5', '0.25'], imageMask: { kind: 'input' }, positions: 'compact', rank: 'attention', seed: 0, probe: false };

const ODD = [null, true, false, 0, 1, -1, -0, 2, 1.5, 1e9, 1.5e8, 2 ** 31, 2 ** 53, 1e308, -1e308, 5e-324, '', '0', '1', '-1', '0.5', '1e-9', 'NaN', 'x', '__proto__', '\u0000', '\u001b[31m', '::stop-commands::x', 'span:0:5', 'input-ids:3', 'random:9', 'keep', 'a'.repeat(5000), [], [[]], [null], [0], [1], [1, 1], [2, 1], [1e9], {}, { kind: 'span', start: 0, count: 5 }, { kind: 'x' }, { kind: 'input-ids', id: -1 }, { kind: 'input-ids' }, { __proto__x: 1 }];

/** Changes values, keys and nesting of a JSON value. */
function damage(value, r) {
  const out = structuredClone(value);
  for (let i = 0, n = 1 + r.below(3); i < n; i++) {
    let at = out;
    for (;;) {
      const keys = Object.keys(at);
      if (keys.length === 0) break;
      const key = r.pick(keys);
      if (at[key] !== null && typeof at[key] === 'object' && r.chance(0.6)) {
        at = at[key];
        continue;
      }
      const how = r.next();
      if (how < 0.15) delete at[key];
      else if (how < 0.3) at[r.pick(['x', 'constructor', 'toString', 'version', 'layers', 'image_token_id', 'stages', 'lambda'])] = r.pick(ODD);
      else at[key] = structuredClone(r.pick(ODD));
      break;
    }
  }
  if (r.chance(0.05)) return r.pick(ODD);
  return out;
}

function text(value, r) {
  let json = JSON.stringify(value, null, r.pick([0, 1])) ?? '';
  if (r.chance(0.1)) json = json.slice(0, r.below(json.length + 1));
  if (r.chance(0.05)) json = json.replace(/\d+/, '1e999');
  if (r.chance(0.05)) json = `\ufeff${json}`;
  if (r.chance(0.03)) json = `${'['.repeat(20000)}${json}`;
  if (r.chance(0.05)) {
    const at = r.below(json.length + 1);
    json = `${json.slice(0, at)}${String.fromCharCode(r.below(65536))}${json.slice(at)}`;
  }
  return json;
}

/** Runs the command line in this process, its output thrown away. */
async function quietly(args) {
  const { stdout, stderr } = process;
  const [out, err] = [stdout.write, stderr.write];
  let printed = '';
  stdout.write = () => true;
  stderr.write = (chunk) => {
    printed += chunk;
    return true;
  };
  try {
    return { code: await main(['node', 'pdrop-compile', ...args]), printed };
  } finally {
    stdout.write = out;
    stderr.write = err;
    process.exitCode = 0;
  }
}

export async function runConfigCase(r, folder, note) {
  const kind = r.pick(['config.json', 'genai_config.json', '--config', '--plan']);
  const fixture = await fixtureOf(`${r.pick(['genai-llama-embeds-fp32', 'mobius-llava-decoder'])}/3`);
  const home = join(folder, 'config-case');
  rmSync(home, { recursive: true, force: true });
  mkdirSync(home);
  const model = join(home, 'model.onnx');
  writeFileSync(model, fixture.bytes);
  const given = { 'config.json': CONFIG, 'genai_config.json': CONFIG, '--config': OPTIONS, '--plan': r.chance(0.5) ? PLAN : { plan: PLAN, version: '0' } }[kind];
  const written = text(damage(given, r), r);
  const file = join(home, kind.startsWith('--') ? 'given.json' : kind);
  writeFileSync(file, written);
  const command = kind.startsWith('--') ? [model, kind, file, '--dry-run'] : r.chance(0.3) ? ['inspect', model] : [model, '--stages', '2', '--dry-run'];
  const what = { fixture: fixture.name, kinds: [kind], options: written.slice(0, 300) };
  note('compile');
  const before = process.memoryUsage.rss();
  const started = performance.now();
  let result;
  try {
    result = await quietly(command);
  } catch (error) {
    return { verdict: 'finding', detail: `threw ${error.message}`, stack: error.stack, ...what };
  }
  note('oracle');
  const grown = process.memoryUsage.rss() - before;
  if (grown > 256 * 2 ** 20) return { verdict: 'finding', detail: `memory grew by ${(grown / 2 ** 20).toFixed(0)} MiB`, ...what };
  const took = performance.now() - started;
  if (took > 20_000) return { verdict: 'finding', detail: `took ${took.toFixed(0)} ms`, ...what };
  if (result.code === 0) return { verdict: 'compiled', ...what };
  const code = /error (PD\d{3})/.exec(result.printed)?.[1];
  if ((result.code === 2 || result.code === 3) && code) return { verdict: 'refused', code, ...what };
  return { verdict: 'finding', detail: `exit ${result.code}: ${result.printed.slice(0, 200)}`, ...what };
}
