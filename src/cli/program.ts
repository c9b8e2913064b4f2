/** All commands, and what becomes of their errors. */
import { existsSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { InternalError, PdropError, UsageError } from '../diagnostics.js';
import { wayOut } from '../disk/files.js';
import { endOnSignals } from '../disk/temporaries.js';
import { inline, terminalText } from '../report/text.js';
import { similar } from '../library/similar.js';
import { VERSION } from '../version.js';
import { register as registerCheck } from './commands/check.js';
import { register as registerCompile } from './commands/compile.js';
import { register as registerInspect } from './commands/inspect.js';
import { addHelpEnds, COMMANDS, PROGRAM_HELP } from './help.js';
import { printError, printJson } from './output.js';

/** Commands that are loaded when they are called: they need libraries that compiling must not wait for. */
const LAZY: Record<string, () => Promise<{ register(program: Command): void }>> = {
  validate: () => import('./commands/validate.js'),
  flops: () => import('./commands/flops.js'),
  sweep: () => import('./commands/sweep.js'),
  tune: () => import('./commands/tune.js'),
  merge: () => import('./commands/merge.js'),
  doctor: () => import('./commands/doctor.js'),
  completion: () => import('./commands/completion.js'),
};

/** Runs a command and returns the exit code: 0 done, 1 a gate failed, 2 usage, 3 refused, 70 internal bug. */
export async function runCommand(argv: readonly string[]): Promise<number> {
  const program = new Command('pdrop-compile')
    .version(VERSION)
    .description('PyramidDrop for ONNX: drops image tokens between the decoder layers of a vision-language model, inside the graph.')
    .configureOutput({ writeOut: (text) => void process.stdout.write(terminalText(text)), writeErr: (text) => void process.stderr.write(terminalText(text)), outputError: () => {} })
    .exitOverride();
  registerCompile(program);
  registerInspect(program);
  registerCheck(program);
  const wanted = argv[2];
  // What lists all commands has to know all of them.
  const help = wanted === undefined || ['--help', '-h', 'help', 'completion'].includes(wanted);
  endOnSignals(true);
  try {
    requireCommand(wanted);
    for (const [name, load] of Object.entries(LAZY)) if (help || wanted === name) (await load()).register(program);
    program.addHelpText('after', PROGRAM_HELP);
    addHelpEnds(program);
    for (const command of program.commands) command.exitOverride();
    process.exitCode = 0;
    await program.parseAsync([...argv]);
    return typeof process.exitCode === 'number' ? process.exitCode : 0;
  } catch (error) {
    return report(error, argv.includes('--json'), wanted);
  } finally {
    endOnSignals(false);
  }
}

/** What the operating system refused and nobody closer to it has put into words: no descriptors, no space, no memory. */
function systemError(error: unknown): UsageError | undefined {
  const { syscall, code, message } = error as NodeJS.ErrnoException;
  if (!(error instanceof Error) || syscall === undefined || code === undefined) return undefined;
  const hint = wayOut(error, 'see what the message says about the path or the device');
  return new UsageError({ code: 'PD031', message: `the system refused ${syscall}: ${message}`, hint }, { cause: error });
}

/** @throws {UsageError} PD001 for what is neither a file nor a command, but nearly one: its options would be those of compile. */
function requireCommand(wanted: string | undefined): void {
  if (wanted === undefined || wanted.startsWith('-') || (COMMANDS as readonly string[]).includes(wanted) || wanted === 'help') return;
  const meant = similar(wanted, COMMANDS);
  if (meant && !existsSync(wanted)) throw new UsageError({ code: 'PD001', message: `there is no command "${wanted}"; did you mean ${meant}?`, culprit: wanted, hint: `pdrop-compile ${meant} --help` });
}

/** What commander does not understand, as every other error is said. */
function commandLineError(error: CommanderError, wanted: string | undefined): UsageError {
  const [what = '', ...more] = error.message.replace(/^error: /, '').split('\n');
  const meant = /\(Did you mean (.*)\?\)/s.exec(more.join('\n'))?.[1];
  return new UsageError({ code: 'PD001', message: meant ? `${what}; did you mean ${meant}?` : what, hint: `see pdrop-compile ${COMMANDS.find((c) => c === wanted) ?? 'compile'} --help` }, { cause: error });
}

function report(error: unknown, json: boolean, wanted: string | undefined): number {
  if (error instanceof CommanderError && error.exitCode === 0) return 0;
  const known = error instanceof CommanderError ? commandLineError(error, wanted) : error instanceof PdropError ? error : (systemError(error) ?? new InternalError(error instanceof Error ? error.message : String(error), undefined, { cause: error }));
  if (json) printJson({ error: known.toJSON() });
  printError([`error ${known.code}: ${inline(known.message)}`, ...(known.culprit ? [`  at: ${inline(known.culprit)}`] : []), `  ${inline(known.hint)}`, `  see docs/errors.md#${known.code.toLowerCase()}, or pdrop-compile --explain ${known.code}`].join('\n'));
  if (known.exitCode === 70 && process.env.PDROP_DEBUG) printError((error as Error).stack ?? '');
  return known.exitCode;
}
