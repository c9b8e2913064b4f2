/** Runs cases of one kind, one after the other. Before anything that may take the process down it says what it is doing. */
import { openSync, writeSync } from 'node:fs';
import { following } from './random.mjs';

const [kind, state, seed, first, jobs, options] = JSON.parse(process.argv[2]);
const { runCase } = await import(`./${kind}/case.mjs`);
// A file keeps what was said when the process dies in the next instant; a message may not.
const fd = openSync(state, 'r+');
const say = (number, phase) => writeSync(fd, `${number} ${phase}`.padEnd(60), 0);

for (let number = first; ; number = following(number, jobs)) {
  say(number, 'start');
  let result;
  try {
    result = await runCase(seed, number, { note: (phase) => say(number, phase), ...options });
  } catch (error) {
    result = { verdict: 'harness', detail: `the harness threw ${error.message}`, stack: error.stack };
  }
  process.send({ number, result });
  if (number % 64 === 0) await new Promise((resolve) => setImmediate(resolve));
}
