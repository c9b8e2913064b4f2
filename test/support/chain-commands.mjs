/**
 * Runs inspect, compile, check and flops on models, one after another, in one process: `node chain-commands.mjs CASES.json`, a
 * list of { model, out, options }, or of `only` some of them. Prints, as JSON, the exit code, what was said and the seconds of each. With --steps also
 * how many look-ups in maps and sets were made, and how many elements of lists were gone through or moved.
 */
import { readFileSync, rmSync } from 'node:fs';

let steps = 0;
if (process.argv.includes('--steps')) {
  for (const [type, name] of [Map, Set].flatMap((type) => ['get', 'has', 'set', 'add', 'delete'].map((name) => [type, name]))) {
    const own = type.prototype[name];
    if (!own) continue;
    type.prototype[name] = function (...args) {
      steps++;
      return own.apply(this, args);
    };
  }
  for (const name of ['filter', 'map', 'flatMap', 'some', 'every', 'find', 'findIndex', 'findLast', 'indexOf', 'includes', 'lastIndexOf', 'forEach', 'slice', 'splice', 'shift', 'unshift', 'reverse', 'sort', 'concat', 'join', 'reduce']) {
    const own = Array.prototype[name];
    Array.prototype[name] = function (...args) {
      // What is behind a place is moved; what is before it is not looked at.
      steps += name === 'splice' ? this.length - args[0] : this.length;
      return own.apply(this, args);
    };
  }
}
const { main } = await import('../../dist/src/cli/main.js');

const results = [];
const write = process.stdout.write.bind(process.stdout);
for (const { model, out, options, only } of JSON.parse(readFileSync(process.argv[2], 'utf8'))) {
  const ran = {};
  const run = async (name, ...args) => {
    if (only && !only.includes(name)) return 1;
    let said = '';
    process.stdout.write = (chunk) => {
      said += chunk;
      return true;
    };
    process.stderr.write = process.stdout.write;
    const started = performance.now();
    steps = 0;
    const code = await main(['node', 'pdrop-compile', ...args]);
    ran[name] = { code, said: said.slice(-2000), seconds: (performance.now() - started) / 1000, steps };
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
