/**
 * Runs inspect, compile, check and flops on models, one after another, in one process: `node chain-commands.mjs CASES.json`, a
 * list of { model, out, options }. Prints, as JSON, the exit code, what was said and the seconds of each.
 */
import { readFileSync, rmSync } from 'node:fs';
import { main } from '../../dist/src/cli/main.js';

const results = [];
const write = process.stdout.write.bind(process.stdout);
for (const { model, out, options } of JSON.parse(readFileSync(process.argv[2], 'utf8'))) {
  const ran = {};
  const run = async (name, ...args) => {
    let said = '';
    process.stdout.write = (chunk) => {
      said += chunk;
      return true;
    };
    process.stderr.write = process.stdout.write;
    const started = performance.now();
    const code = await main(['node', 'pdrop-compile', ...args]);
    ran[name] = { code, said: said.slice(-2000), seconds: (performance.now() - started) / 1000 };
    return code;
  };
  await run('inspect', 'inspect', model);
  if ((await run('compile', 'compile', model, '-o', out, '--force', ...options)) === 0) {
    await run('check', 'check', out);
    await run('flops', 'flops', out);
  }
  rmSync(out, { force: true });
  results.push(ran);
}
process.exitCode = 0;
write(JSON.stringify(results));
