/** Tools that people run on files: where the original passes, does what is compiled of it? The work is tools.py's. */
import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { compile } from '../../dist/src/index.js';
import { readBlock, writeBlock } from './table.mjs';

/** Of each exporter, with tables, masks and biases of different kinds; a fixture takes a minute. */
const FIXTURES = ['genai-llama-fp32', 'llama-dynamo18-eager', 'bloom-ts17', 'genai-llama-int4', 'llama-ts17-sdpa', 'gemma2-ts17', 'qwen2-dynamo20-sdpa', 'mobius-llava-decoder'];

/** @param rows one is added for each tool: whether --no-control-flow passes wherever the original does */
export async function tools({ root, home, python, rows, write, fixtures = FIXTURES }) {
  const work = join(home, 'tools');
  mkdirSync(work, { recursive: true });
  const made = [];
  for (const fixture of fixtures) {
    const info = JSON.parse(readFileSync(join(root, 'fixtures', fixture, 'fixture.json'), 'utf8'));
    const original = join(root, 'fixtures', fixture, 'model.onnx');
    const { layers, keep, positions, imageMask } = info.plans[info.scenarios[0].plan];
    const models = { original };
    for (const [form, options] of Object.entries({ compiled: {}, flat: { controlFlow: false } })) {
      models[form] = join(work, `${fixture}-${form}.onnx`);
      await compile(original, { layers, keep, positions, imageMask, ...options, output: models[form], force: true });
    }
    made.push({ fixture, models, heads: info.heads, hidden: info.hidden_size });
  }
  writeFileSync(join(work, 'request.json'), JSON.stringify(made));
  const results = [];
  // In a folder of its own: some of them leave files where they run.
  const run = spawn(python, [join(import.meta.dirname, 'tools.py'), join(work, 'request.json')], { cwd: work, stdio: ['ignore', 'pipe', 'ignore'] });
  for await (const line of createInterface({ input: run.stdout })) {
    const result = JSON.parse(line);
    results.push(result);
    console.log(describe(result));
  }
  if (results.length !== made.length) throw new Error(`tools ended early, after ${results.at(-1)?.fixture}`);
  for (const tool of Object.keys(results[0].tools)) {
    rows.push({ runtime: 'tools', model: tool, original: true, compiled: results.every((r) => !r.tools[tool].original.ok || r.tools[tool].flat.ok), tool: true });
  }
  console.log(tableOf(results));
  if (write) {
    // Rows of fixtures that were not run now stay as they are.
    const [head, rule, ...made] = tableOf(results).split('\n');
    const nameOf = (row) => row.split(' | ')[0].slice(2);
    const now = new Set(made.map(nameOf));
    const old = readBlock(root, 'tools').split('\n').filter((row) => FIXTURES.includes(nameOf(row)) && !now.has(nameOf(row)));
    writeBlock(root, 'tools', [head, rule, ...[...made, ...old].sort((a, b) => FIXTURES.indexOf(nameOf(a)) - FIXTURES.indexOf(nameOf(b)))].join('\n'));
  }
  rmSync(work, { recursive: true });
}

/** @param results what tools.py printed, a case each */
export function tableOf(results) {
  const tools = Object.keys(results[0].tools);
  const lines = [`| fixture | ${tools.join(' | ')} |`, `|---|${tools.map(() => '---|').join('')}`];
  for (const r of results) lines.push(`| ${r.fixture} | ${tools.map((tool) => cell(r.tools[tool])).join(' | ')} |`);
  return lines.join('\n');
}

const fusedOf = (side) => Object.values(side.fused ?? {}).reduce((a, b) => a + b, 0);

/** Norms with the addition before them: what fails first where a tool knows no shapes. */
const skipNormsOf = (side) => Object.entries(side.fused ?? {}).reduce((sum, [name, n]) => sum + (/^Skip/.test(name) ? n : 0), 0);

/** What the table says of a tool on a fixture. */
function cell({ original, compiled, flat }) {
  if (!original.ok) return 'not the original';
  const sides = [original, ...(compiled.ok ? [compiled] : []), flat];
  const fused = fusedOf(original) > 0 ? ` (fused ${sides.map(fusedOf).join(' → ')}, of these skip-norms ${sides.map(skipNormsOf).join(' → ')})` : '';
  if (compiled.ok && flat.ok) return `yes${fused}`;
  return flat.ok ? `branch-free${fused}` : compiled.ok ? 'with branches' : '**no**';
}

/** One fixture, where a tool fails or fuses something else. */
function describe({ fixture, tools: of }) {
  const lines = [fixture];
  for (const [tool, sides] of Object.entries(of)) {
    for (const [form, side] of Object.entries(sides)) if (!side.ok) lines.push(`  ${tool}, ${form}: ${side.error}`);
    if (fusedOf(sides.original) > 0) for (const [form, side] of Object.entries(sides)) if (side.ok) lines.push(`  ${tool}, ${form}: ${JSON.stringify(side.fused)}`);
  }
  return lines.join('\n');
}
