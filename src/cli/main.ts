/** The command line: the only place that prints or sets exit codes. */
import { Command, CommanderError } from 'commander';
import { InternalError, PdropError, UsageError } from '../diagnostics.js';
import { endOnSignals } from '../disk/temporaries.js';
import { inline, terminalText } from '../report/text.js';
import { VERSION } from '../version.js';
import { register as registerCheck } from './commands/check.js';
import { register as registerCompile } from './commands/compile.js';
import { register as registerInspect } from './commands/inspect.js';
import { flush, guardStreams, printError, printJson } from './output.js';

/** Commands that are loaded when they are called: they need libraries that compiling must not wait for. */
const LAZY: Record<string, () => Promise<{ register(program: Command): void }>> = {
  validate: () => import('./commands/validate.js'),
  flops: () => import('./commands/flops.js'),
  sweep: () => import('./commands/sweep.js'),
  tune: () => import('./commands/tune.js'),
  merge: () => import('./commands/merge.js'),
  doctor: () => import('./commands/doctor.js'),
};

/** Runs the command line and returns the exit code: 0 done, 1 a gate failed, 2 usage, 3 refused, 70 internal bug. */
export async function main(argv: readonly string[]): Promise<number> {
  const program = new Command('pdrop-compile')
    .version(VERSION)
    .description('PyramidDrop for ONNX: drops image tokens between the decoder layers of a vision-language model, inside the graph.')
    .showHelpAfterError('(see pdrop-compile --help)')
    .configureOutput({ writeOut: (text) => void process.stdout.write(terminalText(text)), writeErr: (text) => void process.stderr.write(terminalText(text)) })
    .exitOverride();
  registerCompile(program);
  registerInspect(program);
  registerCheck(program);
  const wanted = argv[2];
  const help = wanted === undefined || ['--help', '-h', 'help'].includes(wanted);
  endOnSignals(true);
  try {
    for (const [name, load] of Object.entries(LAZY)) if (help || wanted === name) (await load()).register(program);
    for (const command of program.commands) command.exitOverride();
    process.exitCode = 0;
    await program.parseAsync([...argv]);
    return typeof process.exitCode === 'number' ? process.exitCode : 0;
  } catch (error) {
    return report(error, argv.includes('--json'));
  } finally {
    endOnSignals(false);
  }
}

/** What the operating system refused and nobody closer to it has put into words: no descriptors, no space, no memory. */
function systemError(error: unknown): UsageError | undefined {
  const { syscall, code, message } = error as NodeJS.ErrnoException;
  if (!(error instanceof Error) || syscall === undefined || code === undefined) return undefined;
  const hint = code === 'EMFILE' || code === 'ENFILE' ? 'allow more open files (ulimit -n 256)' : 'see what the message says about the path or the device';
  return new UsageError({ code: 'PD031', message: `the system refused ${syscall}: ${message}`, hint }, { cause: error });
}

function report(error: unknown, json: boolean): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  const known = error instanceof PdropError ? error : (systemError(error) ?? new InternalError(error instanceof Error ? error.message : String(error), undefined, { cause: error }));
  if (json) printJson({ error: known.toJSON() });
  printError([`error ${known.code}: ${inline(known.message)}`, ...(known.culprit ? [`  at: ${inline(known.culprit)}`] : []), `  ${inline(known.hint)}`, `  see docs/errors.md#${known.code.toLowerCase()}, or pdrop-compile --explain ${known.code}`].join('\n'));
  if (known.exitCode === 70 && process.env.PDROP_DEBUG) printError((error as Error).stack ?? '');
  return known.exitCode;
}

/** What the executable does: runs the command line and leaves its exit code, whatever becomes of the output. */
export async function run(argv: readonly string[]): Promise<void> {
  guardStreams();
  process.exitCode = await main(argv);
  await flush();
}
