/** The loops of docs/running.md, as they stand, on every fixture that the page says they run: the tokens of the goldens. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import * as ort from 'onnxruntime-node';
import { compile } from '../../dist/src/index.js';
import { likeliest, tensorOf } from './reference.mjs';

/** Caches by the names of transformers.js that start empty, one-dimensional positions, no inputs of the model's own; graphs for the CPU. */
function claimed(root, fixture) {
  const path = join(root, 'fixtures', fixture, 'fixture.json');
  if (!existsSync(path) || !existsSync(join(root, 'fixtures', fixture, 'golden.bin'))) return undefined;
  const info = JSON.parse(readFileSync(path, 'utf8'));
  const scenario = info.scenarios.find((s) => s.kind === 'prefill');
  if (!scenario || !info.cache[0]?.past?.startsWith('past_key_values.') || (info.execution_provider ?? 'cpu') !== 'cpu') return undefined;
  const { position_ids: positions, token_type_ids: types, 'past_key_values.0.key': ring } = scenario.runs[0].feeds;
  return types || ring || positions?.shape.length > 2 ? undefined : { info, scenario };
}

/** One case a fixture: the compiled graph, chunks as files, the expected tokens. */
export async function loopCases(root, folder) {
  const cases = [];
  for (const fixture of readdirSync(join(root, 'fixtures')).sort()) {
    const found = claimed(root, fixture);
    if (!found) continue;
    const { info, scenario } = found;
    const golden = readFileSync(join(root, 'fixtures', fixture, 'golden.bin'));
    const out = join(folder, fixture);
    mkdirSync(out, { recursive: true });
    const model = join(out, 'model.pdrop.onnx');
    const { layers, keep, positions, imageMask } = info.plans[scenario.plan];
    await compile(join(root, 'fixtures', fixture, 'model.onnx'), { layers, keep, positions, imageMask, output: model, force: true });
    const tensor = ({ dtype, shape, offset, bytes }) => tensorOf(ort, dtype, new Uint8Array(golden.subarray(offset, offset + bytes)).slice(), shape);
    const chunks = scenario.runs.map(({ feeds }) => {
      const name = feeds.inputs_embeds ? 'inputs_embeds' : 'input_ids';
      return { name, ...feeds[name] };
    });
    const marks = scenario.runs[0].feeds.image_token_mask;
    cases.push({
      fixture,
      model,
      golden: join(root, 'fixtures', fixture, 'golden.bin'),
      chunks,
      tensors: chunks.map((c) => ({ [c.name]: tensor(c) })),
      flags: marks ? Array.from(tensor(marks).data, Number) : new Array(chunks[0].shape[1]).fill(0),
      want: scenario.runs.map((r) => likeliest(tensor(r.expect.logits))),
    });
  }
  return cases;
}

const code = (root, language) => new RegExp(`\`\`\`${language}\n([\\s\\S]*?)\`\`\``).exec(readFileSync(join(root, 'docs', 'running.md'), 'utf8'))[1];

/** The Node loop; tokens of each case, or what went wrong. */
export async function nodeLoop(root, cases) {
  const runtime = pathToFileURL(createRequire(import.meta.url).resolve('onnxruntime-node')).href;
  const got = [];
  for (const c of cases) {
    const script = `${c.model}.mjs`;
    writeFileSync(script, code(root, 'js').replace("import * as ort from 'onnxruntime-node';", `import ort from '${runtime}';`).replace("'model.pdrop.onnx'", JSON.stringify(c.model)));
    try {
      const { generate } = await import(pathToFileURL(script).href);
      let step = 1;
      got.push(await generate(c.tensors[0], c.flags, () => c.tensors[step++], c.want.length, -1));
    } catch (error) {
      got.push(error.message.split('\n')[0]);
    }
  }
  return got;
}

/** The Python loop, in one process for all cases. */
export function pythonLoop(root, cases, python, folder) {
  const request = join(folder, 'loops.json');
  writeFileSync(request, JSON.stringify({ code: code(root, 'python'), cases: cases.map(({ model, golden, chunks, flags, want }) => ({ model, golden, chunks, flags, count: want.length })) }));
  const run = spawnSync(python, [join(import.meta.dirname, 'loops.py'), request], { encoding: 'utf8', maxBuffer: 1 << 26 });
  rmSync(request);
  const got = run.stdout.trim().split('\n').filter(Boolean).map((line) => JSON.parse(line));
  while (got.length < cases.length) got.push(run.stderr.trim().split('\n').at(-1) ?? 'it ended early');
  return got;
}
