/** Where the command line's text leaves the process, and what happens when it can't. */
import { UsageError } from '../diagnostics.js';
import { removeUnfinished } from '../disk/temporaries.js';
import { jsonText, terminalText } from '../report/text.js';
import { hasColours, painted } from './colour.js';

const shown = (text: string, stream: NodeJS.WriteStream): string => (hasColours(stream) ? painted(terminalText(text)) : terminalText(text));

/** To standard output, with a line break behind it. */
export function print(text: string): void {
  process.stdout.write(`${shown(text, process.stdout)}\n`);
}

export function printJson(value: unknown, indent = 2, replacer?: (key: string, value: unknown) => unknown): void {
  process.stdout.write(`${jsonText(value, indent, replacer)}\n`);
}

/** To the error stream, with a line break behind it. */
export function printError(text: string): void {
  process.stderr.write(`${shown(text, process.stderr)}\n`);
}

/** What a shell reports of a program that SIGPIPE ended: 128 + 13. */
const BROKEN_PIPE = 141;

/**
 * Output that cannot be written: a reader that went away ends the process silently, as it does `cat`; anything else
 * (a full disk) is said and is exit code 2. An error stream that is gone changes nothing.
 */
export function guardStreams(): void {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    removeUnfinished();
    if (error.code === 'EPIPE') process.exit(BROKEN_PIPE);
    const known = new UsageError({ code: 'PD030', message: `standard output cannot be written: ${error.message}`, hint: 'free some space, or send the output elsewhere; files that were to be written are in place or as before' });
    printError(`error ${known.code}: ${known.message}\n  ${known.hint}`);
    process.exit(known.exitCode);
  });
  process.stderr.on('error', () => {});
}

/** Waits until what was printed has left the process, or failed to. */
export async function flush(): Promise<void> {
  for (const stream of [process.stdout, process.stderr]) if (stream.writableLength > 0) await new Promise((resolve) => stream.write('', resolve));
  // Errors of synchronous writes are told on the next tick.
  await new Promise((resolve) => setImmediate(resolve));
}
