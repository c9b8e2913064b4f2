/** `pdrop-compile check <out.onnx>`: is a compiled model sound, and does it do what its plan says? */
import type { Command } from 'commander';
import { check } from '../../check/check-file.js';
import { print, printJson } from '../output.js';
import { whileShowing } from '../progress.js';

export function register(program: Command): void {
  program
    .command('check')
    .summary('verify a compiled model: structure, types, lengths, and that it follows its plan')
    .argument('<model>', 'path of a compiled .onnx file')
    .option('--strict', 'read the model a second time, with another reader (onnx-proto), and compare')
    .option('--json', 'print as JSON')
    .action(async (model: string, flags: { strict?: boolean; json?: boolean }) => {
      const report = await whileShowing(`checking ${model}`, () => check(model, { strict: flags.strict }));
      if (flags.json) printJson(report);
      else {
        for (const c of report.checks) {
          print(`${c.problems.length === 0 ? 'ok  ' : 'FAIL'}  ${c.name}`);
          for (const p of c.problems.slice(0, 5)) print(`      ${p}`);
        }
        print(`${report.ok ? 'the model is sound and follows its plan' : 'the model is not what its plan says: do not ship it'}`);
      }
      if (!report.ok) process.exitCode = 1;
    });
}
