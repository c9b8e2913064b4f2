#!/usr/bin/env node
import { setFlagsFromString } from 'node:v8';

// Compiling runs each function a few thousand times, once: V8 would spend a third of the CPU time on optimising code
// that is not run again. It is told to wait longer (Node 22 and later have other flags for it). Commands that run
// models for minutes are left alone.
const LONG = ['validate', 'sweep', 'tune', 'flops', 'merge', 'doctor'];
if (Number.parseInt(process.versions.node, 10) < 22 && !LONG.includes(process.argv[2])) setFlagsFromString('--interrupt-budget=4000000');

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
