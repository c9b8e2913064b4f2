#!/usr/bin/env node
import { setFlagsFromString } from 'node:v8';

// Compiling runs each function a few thousand times, once: V8 would spend a third to half of the CPU time on optimising
// code that is not run again. It is told to wait longer, in the words of the V8 at hand; one that is not known is let be.
// Commands that run models for minutes are left alone.
const LONG = ['validate', 'sweep', 'tune', 'flops', 'merge', 'doctor'];
const LATER = [
  { from: 20, to: 21, flags: ['--interrupt-budget=4000000'] },
  { from: 22, to: 26, flags: ['--invocation-count-for-turbofan=50000', '--invocation-count-for-osr=20000', '--invocation-count-for-maglev=10000', '--invocation-count-for-maglev-osr=5000'] },
];
if (!LONG.includes(process.argv[2])) {
  const node = Number.parseInt(process.versions.node, 10);
  for (const flag of LATER.find(({ from, to }) => from <= node && node <= to)?.flags ?? []) setFlagsFromString(flag);
}

try {
  const { run } = await import('../dist/cli/main.js');
  await run(process.argv);
} catch (error) {
  // The program itself could not be loaded.
  const files = error.code === 'EMFILE' || error.code === 'ENFILE';
  const missing = error.code === 'ERR_MODULE_NOT_FOUND';
  const hint = files ? 'allow more open files (ulimit -n 256)' : missing ? 'run npm install, and in a checkout npm run build' : 'install pdrop-compile again';
  process.stderr.write(`error PD031: pdrop-compile could not be loaded: ${error.message}\n  ${hint}\n`);
  process.exitCode = 2;
}
