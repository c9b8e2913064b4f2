/** The command line: the only place that prints or sets exit codes. */
import { VERSION } from '../version.js';
import { flush, guardStreams, print } from './output.js';

/** Runs the command line and returns the exit code: 0 done, 1 a gate failed, 2 usage, 3 refused, 70 internal bug. */
export async function main(argv: readonly string[]): Promise<number> {
  if (argv.length === 3 && ['--version', '-V'].includes(argv[2] as string)) {
    // Asked by scripts before anything else: no command has to be known for it.
    print(VERSION);
    return 0;
  }
  return (await import('./program.js')).runCommand(argv);
}

/** What the executable does: runs the command line and leaves its exit code, whatever becomes of the output. */
export async function run(argv: readonly string[]): Promise<void> {
  guardStreams();
  process.exitCode = await main(argv);
  await flush();
}
