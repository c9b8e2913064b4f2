/**
 * What onnxruntime warns of when it loads and runs fixtures and what was compiled of them: `node warnings.mjs FIXTURE|FILE.onnx…` (a file is only loaded). The library writes to
 * the process's error stream, so this is a process of its own: there, lines of onnxruntime come between lines "== FIXTURE FORM".
 */
import { mkdtempSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import ort from 'onnxruntime-node';
import { compile } from '../../dist/src/index.js';
import { Fixture } from '../../fuzz/fixtures.mjs';

const folder = mkdtempSync(join(tmpdir(), 'pdrop-warnings-'));
const open = (model) => ort.InferenceSession.create(model, { intraOpNumThreads: 1, interOpNumThreads: 1, logSeverityLevel: 2 });
const title = (text) => writeSync(2, `== ${text}\n`);
for (const name of process.argv.slice(2)) {
  if (name.endsWith('.onnx')) {
    title(name);
    await (await open(name)).release();
    continue;
  }
  const fixture = new Fixture(name);
  const source = join(import.meta.dirname, '..', '..', 'fixtures', name, 'model.onnx');
  const models = { original: source };
  for (const [plan, { layers, keep, positions, imageMask }] of Object.entries(fixture.info.plans)) {
    for (const [form, options] of Object.entries({ compiled: {}, ...(plan === 'default' && { flat: { controlFlow: false } }) })) {
      const output = join(folder, `${name}-${plan}-${form}.onnx`);
      await compile(source, { layers, keep, positions, imageMask, ...options, output });
      models[`${plan}-${form}`] = output;
    }
  }
  for (const [form, model] of Object.entries(models)) {
    title(`${name} ${form}`);
    const session = await open(model);
    for (const scenario of fixture.info.scenarios) {
      if (form === 'original' ? !fixture.runsUncompiled(scenario) : !form.startsWith(`${scenario.plan}-`)) continue;
      await fixture.run(session, { ...scenario, runs: scenario.runs.slice(0, 2) });
    }
    await session.release();
  }
}
title('end');
rmSync(folder, { recursive: true });
