/** The command line: the only place that prints or sets exit codes. */
import { Command, CommanderError } from 'commander';
import { InternalError, PdropError } from '../diagnostics.js';
import { endOnSignals } from '../disk/temporaries.js';
import { VERSION } from '../version.js';
import { register as registerCheck } from './commands/check.js';
import { register as registerCompile } from './commands/compile.js';
import { register as registerInspect } from './commands/inspect.js';

/** Commands that are loaded when they are called: they need libraries that compiling must not wait for. */
const LAZY: Record<string, () => Promise<{ register(program: Command): void }>> = {
  validate: () => import('./commands/validate.js'),
  flops: () => import('./commands/flops.js'),
  sweep: () => import('./commands/sweep.js'),
  merge: () => import('./commands/merge.js'),
  doctor: () => import('./commands/doctor.js'),
};

/** Runs the command line and returns the exit code: 0 done, 1 a gate failed, 2 usage, 3 refused, 70 internal bug. */
export async function main(argv: readonly string[]): Promise<number> {
  const program = new Command('pdrop-compile')
    .version(VERSION)
    .description('PyramidDrop for ONNX: drops image tokens between the decoder layers of a vision-language model, inside the graph.')
    .showHelpAfterError('(see pdrop-compile --help)')
    .exitOverride();
  registerCompile(program);
  registerInspect(program);
  registerCheck(program);
  const wanted = argv[2];
  const help = wanted === undefined || ['--help', '-h', 'help'].includes(wanted);
  for (const [name, load] of Object.entries(LAZY)) if (help || wanted === name) (await load()).register(program);
  for (const command of program.commands) command.exitOverride();
  endOnSignals(true);
  try {
    process.exitCode = 0;
    await program.parseAsync([...argv]);
    return typeof process.exitCode === 'number' ? process.exitCode : 0;
  } catch (error) {
    return report(error, argv.includes('--json'));
  } finally {
    endOnSignals(false);
  }
}

function report(error: unknown, json: boolean): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  const known = error instanceof PdropError ? error : new InternalError(error instanceof Error ? error.message : String(error), undefined, { cause: error });
  if (json) process.stdout.write(`${JSON.stringify({ error: known.toJSON() }, null, 2)}\n`);
  process.stderr.write(`error ${known.code}: ${known.message}\n${known.culprit ? `  at: ${known.culprit}\n` : ''}  ${known.hint}\n`);
  if (known.exitCode === 70 && process.env.PDROP_DEBUG) process.stderr.write(`${(error as Error).stack ?? ''}\n`);
  return known.exitCode;
}
