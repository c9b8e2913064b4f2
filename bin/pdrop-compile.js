#!/usr/bin/env node
import { setFlagsFromString } from 'node:v8';

// Compiling runs each function a few thousand times, once: V8 would spend a third of the CPU time on optimising code
// that is not run again. It is told to wait longer (Node 22 and later have other flags for it). Commands that run
// models for minutes are left alone.
const LONG = ['validate', 'sweep', 'flops', 'merge', 'doctor'];
if (Number.parseInt(process.versions.node, 10) < 22 && !LONG.includes(process.argv[2])) setFlagsFromString('--interrupt-budget=4000000');

const { main } = await import('../dist/src/cli/main.js');
process.exitCode = await main(process.argv);
