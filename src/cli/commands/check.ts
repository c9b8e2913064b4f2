/** `pdrop-compile check <out.onnx>`: is a compiled model sound, and does it do what its plan says? */
import type { Command } from 'commander';
import { check } from '../../check/check-file.js';

export function register(program: Command): void {
  program
    .command('check')
    .summary('verify a compiled model: structure, types, lengths, and that it follows its plan')
    .argument('<model>', 'path of a compiled .onnx file')
    .option('--json', 'print as JSON')
    .action(async (model: string, flags: { json?: boolean }) => {
      const report = await check(model);
      if (flags.json) process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
      else {
        for (const c of report.checks) {
          process.stdout.write(`${c.problems.length === 0 ? 'ok  ' : 'FAIL'}  ${c.name}\n`);
          for (const p of c.problems.slice(0, 5)) process.stdout.write(`      ${p}\n`);
        }
        process.stdout.write(`${report.ok ? 'the model is sound and follows its plan' : 'the model is not what its plan says: do not ship it'}\n`);
      }
      if (!report.ok) process.exitCode = 1;
    });
}
